// Live parts of a page: the server renders them, this island only fetches them again.
//
//   <section data-live="/console/live" data-every="5" data-lost="...words...">…</section>
//
// No value is formatted here, so the page says the same with and without JavaScript. When the server
// does not answer, the part is marked as stale in words instead of showing old numbers as if fresh.

for (const part of document.querySelectorAll<HTMLElement>("[data-live]")) {
  const url = part.dataset["live"];
  if (url !== undefined) keep(part, url, Number(part.dataset["every"] ?? "5") * 1000);
}

function keep(part: HTMLElement, url: string, period: number): void {
  let failures = 0;
  const again = async (): Promise<void> => {
    if (!document.hidden) {
      try {
        const answer = await fetch(url, { headers: { Accept: "text/html" }, redirect: "error" });
        if (!answer.ok) throw new Error(String(answer.status));
        replace(part, await answer.text());
        failures = 0;
        say(part, false);
      } catch {
        failures += 1;
        say(part, failures >= 2);
      }
    }
    // Slower while the server is away: a hundred consoles must not greet its return at once.
    setTimeout(() => void again(), period * Math.min(8, 1 + failures));
  };
  setTimeout(() => void again(), period);
}

function replace(part: HTMLElement, html: string): void {
  const focused = document.activeElement?.id;
  const parsed = new DOMParser().parseFromString(html, "text/html");
  // Something has come that the page has to be made anew for: a first map, for example.
  if (parsed.querySelector("[data-reload]") !== null) location.reload();
  part.replaceChildren(...parsed.body.childNodes);
  if (focused) document.getElementById(focused)?.focus();
}

function say(part: HTMLElement, lost: boolean): void {
  part.classList.toggle("is-lost", lost);
  let line = part.previousElementSibling;
  if (!(line instanceof HTMLElement && line.classList.contains("lost-line"))) {
    if (!lost) return;
    line = document.createElement("p");
    line.className = "lost-line";
    line.setAttribute("role", "status");
    part.before(line);
  }
  line.textContent = lost ? (part.dataset["lost"] ?? "") : "";
  (line as HTMLElement).hidden = !lost;
}
