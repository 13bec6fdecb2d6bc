// One series as a chart. The server has already drawn the same points as SVG and listed the gaps in words;
// this island replaces the drawing by one that can be zoomed. Gaps stay gaps: a missing value is null, and
// lines are never drawn across it.
//
//   <figure data-chart="URL"><svg>…</svg></figure>      URL -> {label, unit, times: [s], values: [number|null]}

import uPlot from "uplot";

interface Series {
  readonly label: string;
  readonly unit: string;
  readonly times: number[];
  readonly values: (number | null)[];
}

const ZONE = "Asia/Shanghai";

for (const figure of document.querySelectorAll<HTMLElement>("figure[data-chart]")) void draw(figure);

async function draw(figure: HTMLElement): Promise<void> {
  const url = figure.dataset["chart"];
  const drawing = figure.querySelector("svg");
  if (url === undefined || drawing === null) return;
  const answer = await fetch(url);
  if (!answer.ok) return; // the server's drawing stays
  const series = (await answer.json()) as Series;
  if (series.times.length < 2) return;
  const place = document.createElement("div");
  place.className = "chart";
  drawing.replaceWith(place);
  const plot = new uPlot(options(series, place.clientWidth, figure), [series.times, series.values], place);
  new ResizeObserver(() => plot.setSize({ width: place.clientWidth, height: 260 })).observe(place);
}

function options(series: Series, width: number, figure: HTMLElement): uPlot.Options {
  const ink = "#5c665f";
  const grid = { stroke: "#e7e5dc", width: 1 };
  const language = document.documentElement.lang || "zh-CN";
  const clock = new Intl.DateTimeFormat(language, { timeZone: ZONE, hour: "2-digit", minute: "2-digit", hour12: false });
  const exact = new Intl.DateTimeFormat(language, {
    timeZone: ZONE, month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false,
  });
  return {
    width,
    height: 260,
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), ZONE),
    cursor: { y: false },
    legend: { live: true },
    axes: [
      { stroke: ink, grid, values: (_plot, ticks) => ticks.map((tick) => clock.format(tick * 1000)) },
      { stroke: ink, grid, size: 56 },
    ],
    series: [
      {
        label: figure.dataset["time"] ?? "",
        value: (_plot, seconds) => (seconds === null ? "" : exact.format(seconds * 1000)),
      },
      {
        label: series.label,
        stroke: "#2f6b4a",
        width: 1.5,
        spanGaps: false,
        points: { show: series.times.length < 120, size: 4 },
        value: (_plot, value) => (value === null ? (figure.dataset["gap"] ?? "") : `${String(value)} ${series.unit}`),
      },
    ],
  };
}
