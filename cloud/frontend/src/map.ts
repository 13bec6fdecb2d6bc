// The parcel map. It mounts on a page that is already complete: the list under the map holds the same
// parcels, and every parcel has its own page. A map that fails leaves all of that in place.
//
//   <div id="map" data-parcels="URL of GeoJSON" data-panel="URL with {id}" data-select="parcel id"></div>
//   <aside id="parcel" aria-live="polite">…</aside>
//
// Without a panel, as on the overview, a click leads to `data-open`.
//
// Features carry `id` and `status`; what a parcel means is fetched as HTML from `data-panel`.

import Feature from "ol/Feature";
import Map from "ol/Map";
import View from "ol/View";
import ScaleLine from "ol/control/ScaleLine";
import Zoom from "ol/control/Zoom";
import { isEmpty } from "ol/extent";
import GeoJSON from "ol/format/GeoJSON";
import type Geometry from "ol/geom/Geometry";
import VectorLayer from "ol/layer/Vector";
import VectorSource from "ol/source/Vector";

import { selected, styles } from "./palette";

type Parcel = Feature<Geometry>;

const box = document.getElementById("map");
if (box !== null) void mount(box);

async function mount(target: HTMLElement): Promise<void> {
  try {
    const source = await load(target.dataset["parcels"] ?? "");
    target.replaceChildren(); // what said that the map is coming
    new ParcelMap(target, source).open(target.dataset["select"]);
  } catch {
    target.classList.add("map-failed");
    target.textContent = target.dataset["failed"] ?? "";
  }
}

async function load(url: string): Promise<VectorSource<Parcel>> {
  const answer = await fetch(url, { headers: { Accept: "application/geo+json" } });
  if (!answer.ok) throw new Error(String(answer.status));
  const format = new GeoJSON({ dataProjection: "EPSG:4326", featureProjection: "EPSG:3857" });
  return new VectorSource<Parcel>({ features: format.readFeatures(await answer.json()) });
}

class ParcelMap {
  readonly #target: HTMLElement;
  readonly #source: VectorSource<Parcel>;
  readonly #layer: VectorLayer<VectorSource<Parcel>>;
  readonly #mark = new VectorSource<Parcel>();
  readonly #map: Map;
  #hidden = new Set<string>();

  constructor(target: HTMLElement, source: VectorSource<Parcel>) {
    this.#target = target;
    this.#source = source;
    const styleOf = styles(window.devicePixelRatio || 1);
    this.#layer = new VectorLayer({
      source,
      style: (feature) => {
        const status = String(feature.get("status"));
        return this.#hidden.has(status) ? [] : styleOf(status);
      },
    });
    const words = target.dataset;
    this.#map = new Map({
      target,
      layers: [this.#layer, new VectorLayer({ source: this.#mark, style: selected() })],
      controls: [
        new Zoom({ zoomInTipLabel: words["zoomIn"] ?? "+", zoomOutTipLabel: words["zoomOut"] ?? "-" }),
        new ScaleLine(),
      ],
      view: new View({ maxZoom: 18, constrainResolution: false }),
    });
    this.#fit();
    this.#map.on("singleclick", (event) => {
      const hit = this.#map.forEachFeatureAtPixel(event.pixel, (feature) => feature.getId(), {
        layerFilter: (layer) => layer === this.#layer,
      });
      if (hit !== undefined) void this.#choose(String(hit), false);
    });
    this.#map.on("pointermove", (event) => {
      if (!event.dragging) target.style.cursor = this.#map.hasFeatureAtPixel(event.pixel) ? "pointer" : "";
    });
    this.#listen();
    this.#map.once("rendercomplete", () => {
      target.dataset["ready"] = String(source.getFeatures().length);
    });
  }

  /** Open the parcel the address names, if any. */
  open(id: string | undefined): void {
    if (id) void this.#choose(id, true);
  }

  #fit(): void {
    const extent = this.#source.getExtent();
    if (extent !== null && !isEmpty(extent)) this.#map.getView().fit(extent, { padding: [24, 24, 24, 24] });
  }

  #listen(): void {
    // The list's links keep working as links; beside the map they open the panel instead of a new page.
    for (const link of document.querySelectorAll<HTMLAnchorElement>("a[data-parcel]")) {
      link.addEventListener("click", (event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        void this.#choose(link.dataset["parcel"] ?? "", true);
      });
    }
    for (const toggle of document.querySelectorAll<HTMLInputElement>("input[data-status]")) {
      toggle.disabled = false;
      toggle.addEventListener("change", () => {
        const status = toggle.dataset["status"] ?? "";
        if (toggle.checked) this.#hidden.delete(status);
        else this.#hidden.add(status);
        this.#layer.changed();
      });
    }
    document.getElementById("map-fit")?.addEventListener("click", () => this.#fit());
  }

  async #choose(id: string, move: boolean): Promise<void> {
    const parcel = this.#source.getFeatureById(id);
    if (parcel === null) return;
    const open = this.#target.dataset["open"];
    if (open !== undefined) {
      location.href = open.replace("{id}", encodeURIComponent(id));
      return;
    }
    this.#mark.clear();
    this.#mark.addFeature(parcel);
    const shape = parcel.getGeometry();
    if (move && shape !== undefined) {
      this.#map.getView().fit(shape.getExtent(), { padding: [80, 80, 80, 80], maxZoom: 17, duration: 250 });
      this.#target.scrollIntoView({ block: "nearest" });
    }
    await this.#panel(id);
  }

  async #panel(id: string): Promise<void> {
    const panel = document.getElementById("parcel");
    const address = this.#target.dataset["panel"];
    if (panel === null || address === undefined) return;
    panel.setAttribute("aria-busy", "true");
    try {
      const answer = await fetch(address.replace("{id}", encodeURIComponent(id)), { redirect: "error" });
      const html = new DOMParser().parseFromString(await answer.text(), "text/html");
      panel.replaceChildren(...html.body.childNodes);
    } catch {
      panel.textContent = this.#target.dataset["failed"] ?? "";
    }
    panel.setAttribute("aria-busy", "false");
    const here = new URL(location.href);
    here.searchParams.set("parcel", id);
    history.replaceState(null, "", here);
  }
}
