// The alarm board: a tick at the head of a storm ticks all of it. Without this script each alarm has its own tick.

for (const head of document.querySelectorAll<HTMLInputElement>("input[data-storm]")) {
  const ticks = [...(head.closest("details")?.querySelectorAll<HTMLInputElement>("input[name=alarm]") ?? [])];
  head.hidden = false;
  head.addEventListener("change", () => {
    for (const tick of ticks) tick.checked = head.checked;
  });
  for (const tick of ticks) {
    tick.addEventListener("change", () => {
      const ticked = ticks.filter((one) => one.checked).length;
      head.checked = ticked === ticks.length;
      head.indeterminate = ticked > 0 && ticked < ticks.length;
    });
  }
}
