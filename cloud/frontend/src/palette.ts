// Status palette "A": told apart by people with any of the three colour-vision deficiencies, and never by
// colour alone. Suspected land is hatched, verified abandoned land has a heavy outline, land that no image
// shows is dotted. Every fill has a thin dark outline, because the pale ones vanish on white.
// The legend under the map is drawn by the server from the same names (pages/legend.py).

import Fill from "ol/style/Fill";
import Stroke from "ol/style/Stroke";
import Style from "ol/style/Style";

export const COLOURS: Readonly<Record<string, string>> = {
  suspected: "#f28e2b",
  abandoned: "#8c1d18",
  cultivated: "#4d9a6a",
  fallow: "#e6d38a",
  converted: "#3b4ba3",
  natural: "#a9c7c0",
  excused: "#f4efe3",
  not_observable: "#b8bec4",
  unknown: "#e4e6e8",
};

const OUTLINE = "#333333";

/** One style per status, made once; a map of a thousand parcels shares nine of them. */
export function styles(ratio: number): (status: string) => Style {
  const made = new Map<string, Style>();
  return (status) => {
    const known = made.get(status);
    if (known !== undefined) return known;
    const style = new Style({ fill: fill(status, ratio), stroke: outline(status) });
    made.set(status, style);
    return style;
  };
}

/** The style of the parcel that is open in the panel: white halo under a dark line. */
export function selected(): Style[] {
  return [
    new Style({ stroke: new Stroke({ color: "#ffffff", width: 6 }), zIndex: 2 }),
    new Style({ stroke: new Stroke({ color: "#11251b", width: 2.5 }), zIndex: 3 }),
  ];
}

function outline(status: string): Stroke {
  return status === "abandoned" || status === "excused"
    ? new Stroke({ color: "#2b0705", width: 2.5 })
    : new Stroke({ color: OUTLINE, width: 0.75 });
}

function fill(status: string, ratio: number): Fill {
  const colour = COLOURS[status] ?? "#ffffff";
  if (status === "suspected") return pattern(colour, ratio, hatch);
  if (status === "not_observable") return pattern(colour, ratio, dots);
  if (status === "natural") return pattern(colour, ratio, lines);
  return new Fill({ color: colour });
}

type Draw = (pen: CanvasRenderingContext2D, size: number) => void;

function pattern(colour: string, ratio: number, draw: Draw): Fill {
  const size = Math.round(8 * ratio);
  const tile = document.createElement("canvas");
  tile.width = tile.height = size;
  const pen = tile.getContext("2d");
  if (pen === null) return new Fill({ color: colour });
  pen.fillStyle = colour;
  pen.fillRect(0, 0, size, size);
  draw(pen, size);
  return new Fill({ color: pen.createPattern(tile, "repeat") ?? colour });
}

function hatch(pen: CanvasRenderingContext2D, size: number): void {
  pen.strokeStyle = "#5a2c00";
  pen.lineWidth = size / 6;
  // Three strokes: the middle one and the two corners, so that tiles join without a seam.
  for (const shift of [-size, 0, size]) {
    pen.beginPath();
    pen.moveTo(shift - 1, size + 1);
    pen.lineTo(shift + size + 1, -1);
    pen.stroke();
  }
}

function dots(pen: CanvasRenderingContext2D, size: number): void {
  pen.fillStyle = "#4a5157";
  pen.beginPath();
  pen.arc(size / 2, size / 2, size / 8, 0, 2 * Math.PI);
  pen.fill();
}

function lines(pen: CanvasRenderingContext2D, size: number): void {
  pen.fillStyle = "#4c7a70";
  pen.fillRect(size / 2 - size / 16, 0, size / 8, size);
}
