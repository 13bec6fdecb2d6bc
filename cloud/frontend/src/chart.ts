// One series as a chart. The server has already drawn the same points as SVG and listed the gaps in words;
// this island replaces the drawing by one that can be zoomed. Gaps stay gaps: a missing value is null, and
// lines are never drawn across it.
//
//   <figure data-chart="URL"><svg>…</svg></figure>
//   URL -> {label, unit, times: [s], values, lows, highs, doubtful: [number|null]}; lows and highs where values are
//   means of a stretch, doubtful the readings that are not to be trusted wholly

import uPlot from "uplot";

interface Series {
  readonly label: string;
  readonly unit: string;
  readonly times: number[];
  readonly values: Column;
  readonly lows: Column;
  readonly highs: Column;
  readonly doubtful: Column;
}

type Column = (number | null)[];


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
  const plot = new uPlot(options(series, place.clientWidth, figure), [series.times, series.values, series.lows, series.highs, series.doubtful], place);
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
  const ranged = series.lows.some((one) => one !== null);
  const edge: uPlot.Series = { show: ranged, width: 0, spanGaps: false, points: { show: false } };
  const spread = (plot: uPlot, low: number | null, at: number | null): string => {
    const high = at === null ? null : plot.data[3]?.[at];
    return low === null || high === null || high === undefined ? "–" : `${said(low, "")}… ${said(high, series.unit)}`;
  };
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
        value: (_plot, value, _series, at) =>
          at === null ? "–" : value === null ? (figure.dataset["gap"] ?? "") : said(value, series.unit),
      },
      { ...edge, label: figure.dataset["range"] ?? "", value: (plot, low, _series, at) => spread(plot, low, at) },
      { ...edge, class: "u-off" },
      {
        label: figure.dataset["doubtful"] ?? "",
        stroke: "#c98712",
        width: 0,
        show: series.doubtful.some((one) => one !== null),
        points: { show: true, size: 6, fill: "#c98712" },
        value: (_plot, value) => (value === null ? "–" : said(value, series.unit)),
      },
    ],
    bands: [{ series: [3, 2], fill: "rgba(47, 107, 74, 0.16)" }],
  };
}

function said(value: number, unit: string): string {
  return `${String(Math.round(value * 1000) / 1000)} ${unit}`;
}
