"""STAC items, on disk or from an API, -> one cube on one grid; a bad scene is left out and listed, the rest goes on.

The grid is that of the finest band of the first good scene (cut to the box that was asked for), so a band loaded on
its own grid equals its file exactly. Scenes of one solar day are one date, and are read day by day: the floats of
one day are all that is held beside the cube. Another zone's scene is laid on the grid; one that does not touch it is
left out. Every layer is opened before it is loaded: silent layers of nothing are not allowed.
"""

from __future__ import annotations

import datetime as dt
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import odc.stac
import pystac
import rasterio
import requests
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from odc.geo.geom import box as rectangle
from pystac_client import Client
from pystac_client.exceptions import APIError
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from remote_sensing.cubes import MISSING, OPTICAL, RADAR, RADAR_SCALE, LandError, pack_values
from remote_sensing.masks import clear_sky
from remote_sensing.sensors import Meaning, inside, is_radar, layers_in, meaning, sun_of

_NEVER_REAL = (-9999, -32768)
_ABSURD_SHARE = 0.5
_WAIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to take from a catalogue; nothing said means all.

    ``collections``: ids. ``bbox``: west, south, east, north in WGS84 degrees; it also cuts the grid. ``first``,
    ``last``: dates, both ends included.
    """

    collections: tuple[str, ...] = ()
    bbox: tuple[float, float, float, float] | None = None
    first: dt.date | None = None
    last: dt.date | None = None

    def holds(self, item: pystac.Item) -> bool:
        """Whether an item is among what is wanted; an item without a date or box is (it is named later)."""
        if self.collections and item.collection_id not in self.collections:
            return False
        when = _when(item)
        if when and ((self.first and when.date() < self.first) or (self.last and when.date() > self.last)):
            return False
        if self.bbox is None or item.bbox is None:
            return True
        west, south, east, north = self.bbox
        left, low, right, high = _edges(item.bbox)
        return bool(left <= east and right >= west and low <= north and high >= south)


def _edges(bbox: Sequence[float]) -> tuple[float, float, float, float]:
    """West, south, east, north of a STAC box, whether flat or with heights."""
    half = len(bbox) // 2
    return bbox[0], bbox[1], bbox[half], bbox[half + 1]


def is_catalogue(path: Path) -> bool:
    """Whether a path is a STAC catalogue, collection or item collection on disk."""
    if path.is_dir():
        return (path / "catalog.json").exists() or (path / "collection.json").exists()
    return path.suffix.lower() == ".json"


def local_items(path: Path, wanted: Wanted | None = None) -> list[pystac.Item]:
    """Items of a catalogue or item collection on disk. Raises ``LandError("truncated")`` naming the file."""
    file = (
        path if path.is_file() else next(path / n for n in ("catalog.json", "collection.json") if (path / n).exists())
    )
    try:
        held = pystac.read_file(str(file)) if path.is_dir() else _read_any(file)
        items = held.items if isinstance(held, pystac.ItemCollection) else _all_items(held)
        return [item for item in items if wanted is None or wanted.holds(item)]
    except (pystac.STACError, ValueError, KeyError, TypeError, AttributeError, OSError) as why:
        raise LandError("truncated", f"{file.name}: no STAC catalogue can be read from it ({str(why)[:100]})") from why


def _read_any(file: Path) -> Any:
    try:
        return pystac.read_file(str(file))
    except pystac.STACTypeError:
        return pystac.ItemCollection.from_file(str(file))


def _all_items(held: pystac.STACObject | pystac.Catalog) -> list[pystac.Item]:
    if isinstance(held, pystac.Item):
        return [held]
    return list(pystac.Catalog.get_items(held, recursive=True)) if isinstance(held, pystac.Catalog) else []


def search(url: str, wanted: Wanted) -> list[pystac.Item]:
    """Items of a STAC API, all pages of the answer; a static catalogue behind a URL is walked through instead.

    Raises ``LandError("no_catalogue")`` when nobody answers or what answers is no STAC.
    """
    ends = [str(day) if day else ".." for day in (wanted.first, wanted.last)]
    try:
        client = Client.open(url, timeout=_WAIT_S)
        if not client.conforms_to("ITEM_SEARCH"):
            return [item for item in client.get_items(recursive=True) if wanted.holds(item)]
        found = client.search(
            collections=list(wanted.collections) or None,
            bbox=wanted.bbox,
            datetime="/".join(ends) if wanted.first or wanted.last else None,
        )
        return list(found.items())
    except (APIError, requests.RequestException, pystac.STACError, ValueError, KeyError, TypeError, OSError) as why:
        said = " ".join(str(why).split())[:120]
        raise LandError("no_catalogue", f"{url}: no STAC catalogue answers ({said})") from why


@dataclass(slots=True)
class _Scene:
    """One item that can be used: where its layers lie and what their numbers mean."""

    item: pystac.Item
    layers: dict[str, str]
    meanings: dict[str, Meaning]
    dtypes: dict[str, str]
    box: GeoBox

    @property
    def kind(self) -> tuple[str, bool]:
        return self.item.collection_id or "", is_radar(self.layers)

    @property
    def solar_day(self) -> dt.date:
        west, _, east, _ = self.box.extent.to_crs("EPSG:4326").boundingbox.bbox
        when = _when(self.item)
        if when is None:
            raise LandError("no_dates", f"{self.item.id}: no date")
        return (when + dt.timedelta(hours=int((west + east) / 2 / 15))).date()


@dataclass(slots=True)
class _Made:
    """One date on the grid."""

    day: dt.date
    bands: dict[str, NDArray[np.int16]]
    clear: NDArray[np.bool_]
    sun: tuple[float, float]
    maskless: bool


@dataclass(slots=True)
class _Loading:
    """What was refused on the way."""

    left_out: list[str] = field(default_factory=list)

    def refuse(self, item: pystac.Item, why: str) -> None:
        self.left_out.append(f"left out {item.id}: {why}")


def load_items(items: Sequence[pystac.Item], wanted: Wanted | None = None) -> tuple[xr.Dataset, tuple[str, ...]]:
    """Load items as a checked cube on one grid; returns it and one line for every scene left out.

    Optical scenes go to ``time``, radar (Sentinel-1 RTC: linear power, or decibel where the item says so) to
    ``time_radar``. Raises ``LandError("missing_band")`` when no optical scene can be used, ``outside``.
    """
    notes = _Loading()
    scenes = _complete(list(_opened(items, notes)), notes)
    if not any(not is_radar(scene.layers) for scene in scenes):
        _nothing(notes)
    asked = wanted or Wanted()
    grid = _grid(scenes, asked.bbox)
    usual = _usual_pixels(scenes)
    scenes = list(_on_grid(scenes, grid, notes))
    for scene in scenes:
        if _pixel(scene) != usual[scene.kind]:
            size = f"pixels of {_pixel(scene):g}, the others {usual[scene.kind]:g}"
            notes.left_out.append(f"{scene.item.id}: {size}: laid on the grid by the nearest pixel")
    bands = _shared_bands(scenes)
    made: dict[bool, list[_Made]] = {False: [], True: []}
    for (radar, _), day in groupby(sorted(scenes, key=_order), key=_order):
        made[radar] += _one_date(list(day), grid, bands, notes)
    if not made[False]:
        _nothing(notes)
    cube = _cube(made[False], made[True], grid)
    days = [made[False][n].day for n in (0, -1)]
    cube.attrs["period"] = [str(min(asked.first or days[0], days[0])), str(max(asked.last or days[1], days[1]))]
    if any(one.maskless for one in made[False]):
        notes.left_out.append("scenes without a cloud mask: every value present there counts as a clear look")
    return cube, tuple(notes.left_out)


def _order(scene: _Scene) -> tuple[bool, dt.date]:
    return is_radar(scene.layers), scene.solar_day


def _nothing(notes: _Loading) -> None:
    reason = notes.left_out[0] if notes.left_out else "the catalogue holds no such items"
    raise LandError("missing_band", f"no scene can be used; {reason}")


def _when(item: pystac.Item) -> dt.datetime | None:
    return item.datetime or item.common_metadata.start_datetime


def _opened(items: Sequence[pystac.Item], notes: _Loading) -> Iterator[_Scene]:
    """The items whose layers can be opened; the first of a name counts."""
    known: set[tuple[str, str]] = set()
    for item in sorted(items, key=lambda one: str(_when(one))):
        name = (item.collection_id or "", item.id)
        if _when(item) is None:
            notes.refuse(item, "has no date")
        elif name in known:
            notes.refuse(item, f"appears twice in {name[0] or 'the catalogue'}; the first is kept")
        else:
            known.add(name)
            try:
                yield _scene(item)
            except LandError as why:
                notes.refuse(item, str(why))


def _scene(item: pystac.Item) -> _Scene:
    """Open every layer of an item. Raises ``LandError`` naming the band."""
    layers = layers_in(item)
    radar = is_radar(layers)
    if not layers or (not radar and "ndvi" not in layers and not {"red", "nir"} <= layers.keys()):
        lacking = [band for band in ("red", "nir") if band not in layers]
        raise LandError("missing_band", f"lacks band {', '.join(lacking)}" if layers else "no raster assets")
    meanings, dtypes, boxes = {}, {}, []
    for band, key in layers.items():
        href = item.assets[key].get_absolute_href() or item.assets[key].href
        try:
            # a file cut short inside its head has lost its place, which is told below, once
            with (
                warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning),
                rasterio.open(href) as file,
            ):
                if file.crs is None:
                    raise LandError("wrong_crs", f"band {key} has no CRS")
                if file.count != 1:
                    raise LandError(
                        "bad_dims", f"band {key} is a file of {file.count} bands: one band a file is wanted"
                    )
                # the last block: a file that was cut short opens well and ends in nothing
                file.read(1, window=((file.height - 1, file.height), (file.width - 1, file.width)))
                boxes.append(GeoBox((file.height, file.width), file.transform, file.crs))
                meanings[band] = meaning(item, key, (file.scales[0], file.offsets[0], file.nodata))
                dtypes[band] = str(file.dtypes[0])
        except (RasterioError, OSError) as why:
            said = str(why).splitlines()[0][:80]
            raise LandError("truncated", f"band {key} cannot be read ({said})") from why
        if boxes[-1].crs != boxes[0].crs:
            raise LandError("wrong_crs", f"band {key} has CRS {_short(boxes[-1])}, its others {_short(boxes[0])}")
    finest = min(boxes, key=lambda one: abs(float(one.transform.a)))
    return _Scene(item, layers, meanings, dtypes, finest)


def _complete(scenes: list[_Scene], notes: _Loading) -> list[_Scene]:
    """The scenes that have all bands that most of their collection have."""
    kinds = Counter(scene.kind for scene in scenes)
    held = Counter((scene.kind, band) for scene in scenes for band in scene.layers)
    good = []
    for scene in scenes:
        usual = {band for (kind, band), count in held.items() if kind == scene.kind and count * 2 > kinds[kind]}
        lacking = sorted(usual - scene.layers.keys())
        if lacking:
            notes.refuse(scene.item, f"lacks band {', '.join(lacking)}")
        else:
            good.append(scene)
    return good


def _grid(scenes: Sequence[_Scene], bbox: tuple[float, float, float, float] | None) -> GeoBox:
    """The grid of the first scene with the finest usual pixel, cut to the box on whole pixels.

    The usual pixel is the commonest of a collection; a scene that claims a place far from where its numbers lie does
    not set the grid, unless all do.
    """
    optical = [scene for scene in scenes if not is_radar(scene.layers)]
    honest = [scene for scene in optical if _is_where_it_says(scene)] or optical
    finest = _usual_pixels(honest)
    step = min(finest.values())
    grid = next(scene.box for scene in honest if finest[scene.kind] == step and _pixel(scene) == step)
    if bbox is None or grid.crs is None:
        return grid
    asked = rectangle(*bbox, "EPSG:4326").to_crs(grid.crs)
    tied: GeoBox = grid.enclosing(asked)
    return tied


def _pixel(scene: _Scene) -> float:
    return round(abs(float(scene.box.transform.a)), 9)


def _usual_pixels(scenes: Sequence[_Scene]) -> dict[tuple[str, bool], float]:
    """The commonest pixel size of each kind of scene, in the units of its CRS."""
    counts: dict[tuple[str, bool], Counter[float]] = {}
    for scene in scenes:
        counts.setdefault(scene.kind, Counter())[_pixel(scene)] += 1
    return {kind: count.most_common(1)[0][0] for kind, count in counts.items()}


def _is_where_it_says(scene: _Scene) -> bool:
    if scene.item.bbox is None:
        return True
    west, south, east, north = _edges(scene.item.bbox)
    said = rectangle(west, south, east, north, "EPSG:4326")
    return bool(said.intersects(scene.box.extent.to_crs("EPSG:4326")))


def _on_grid(scenes: Sequence[_Scene], grid: GeoBox, notes: _Loading) -> Iterator[_Scene]:
    for scene in scenes:
        try:
            outline, place = (box.extent.to_crs("EPSG:4326") for box in (scene.box, grid))
            touches = outline.intersects(place)
        except (ValueError, RuntimeError):
            touches = False
        band = next(iter(scene.layers.values()))
        if touches:
            yield scene
        elif scene.box.crs != grid.crs:
            notes.refuse(
                scene.item, f"band {band} has CRS {_short(scene.box)}, the others {_short(grid)}, and lies elsewhere"
            )
        else:
            notes.refuse(scene.item, f"band {band} lies outside the grid of the others")


def _shared_bands(scenes: Sequence[_Scene]) -> dict[bool, tuple[str, ...]]:
    """Bands that every kind of scene has, optical and radar."""
    shared: dict[bool, tuple[str, ...]] = {}
    for radar, known in ((False, OPTICAL), (True, RADAR)):
        held = [scene.layers.keys() for scene in scenes if is_radar(scene.layers) == radar]
        shared[radar] = tuple(band for band in known if held and all(band in one for one in held))
    return shared


def _short(box: GeoBox) -> str:
    code = box.crs.to_epsg() if box.crs else None
    return f"EPSG:{code}" if code else "unnamed"


def _one_date(
    scenes: list[_Scene], grid: GeoBox, bands: Mapping[bool, tuple[str, ...]], notes: _Loading
) -> list[_Made]:
    """The scenes of one solar day as one date: what the first does not see clearly the next may."""
    whole: _Made | None = None
    for _, alike in groupby(sorted(scenes, key=_alike), key=_alike):
        group = list(alike)
        try:
            part = _loaded(group, grid, bands[is_radar(group[0].layers)])
        except LandError as why:
            for scene in group:
                notes.refuse(scene.item, str(why))
            continue
        whole = part if whole is None else _merged(whole, part)
    return [] if whole is None else [whole]


def _alike(scene: _Scene) -> str:
    """Scenes that may be loaded in one call: same layers, meaning and type."""
    return repr((scene.layers, scene.meanings, scene.dtypes))


def _merged(first: _Made, second: _Made) -> _Made:
    take = second.clear & ~first.clear
    for name, values in first.bands.items():
        first.bands[name] = np.where(take | (values == MISSING), second.bands[name], values)
    return _Made(first.day, first.bands, first.clear | second.clear, first.sun, first.maskless or second.maskless)


def _loaded(group: list[_Scene], grid: GeoBox, bands: tuple[str, ...]) -> _Made:
    """One day's scenes of one kind on the grid. Raises ``LandError`` naming band and value."""
    lead = group[0]
    raw = {band: _raw(group, band, grid) for band in (*bands, *(["mask"] if "mask" in lead.layers else []))}
    packed, known = {}, np.ones(grid.shape, bool)
    zero = np.logical_and.reduce([raw[band] == 0 for band in bands])
    for band in bands:
        packed[band] = _checked_values(raw[band], lead, band, zero)
        known &= packed[band] != MISSING
    if "mask" in lead.layers:
        known &= clear_sky(raw["mask"], lead.layers["mask"].lower())
    radar = is_radar(lead.layers)
    return _Made(lead.solar_day, packed, known, sun_of(lead.item), not radar and "mask" not in lead.layers)


def _raw(group: list[_Scene], band: str, grid: GeoBox) -> NDArray[Any]:
    """The numbers of one layer of one solar day, nearest neighbour, on the grid."""
    lead = group[0]
    fill = lead.meanings[band].fill
    try:
        data = odc.stac.load(
            [_placed(scene) for scene in group],
            bands=[lead.layers[band]],
            geobox=grid,
            groupby="solar_day",
            dtype=lead.dtypes[band],
            nodata=fill,
            chunks=None,
        )
    except (RasterioError, OSError, ValueError, RuntimeError) as why:
        said = str(why).splitlines()[0][:80]
        raise LandError("truncated", f"band {lead.layers[band]} cannot be read ({said})") from why
    values: NDArray[Any] = data[lead.layers[band]].to_numpy()[0]
    return values


def _checked_values(raw: NDArray[Any], scene: _Scene, band: str, zero: NDArray[np.bool_]) -> NDArray[np.int16]:
    """Numbers of one layer as int16 steps; fills, zeros in every band and what is physically absurd are missing."""
    told, key = scene.meanings[band], scene.layers[band]
    known = np.isfinite(raw) & ~np.isin(raw, _NEVER_REAL) & ~zero
    if told.fill is not None:
        known &= raw != told.fill
    if not known.any():
        raise LandError("absurd_values", f"band {key}: nothing but fill values ({raw.flat[0]})")
    real = _decibel(raw, known) if band in RADAR else raw.astype(np.float32) * told.scale + told.offset
    good = known & inside(real.astype(np.float32), band)
    strange = known & ~good
    if strange.sum() > _ABSURD_SHARE * known.sum():
        share = strange.sum() / known.sum()
        raise LandError(
            "absurd_values", f"band {key}: value {raw[strange][0]} (scale {told.scale:g}) and {share:.0%} are no {band}"
        )
    return pack_values(np.where(good, real, np.nan), RADAR_SCALE if band in RADAR else 1e-4)


def _decibel(raw: NDArray[Any], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Backscatter in decibel: linear power is never below zero, decibel over land nearly always."""
    values = raw.astype(np.float32)
    if float(np.median(values[known])) < 0:
        return values
    with np.errstate(divide="ignore", invalid="ignore"):
        logs: NDArray[np.float32] = (10 * np.log10(np.where(known & (values > 0), values, np.nan))).astype(np.float32)
    return logs


def _placed(scene: _Scene) -> pystac.Item:
    """The item with the footprint of its own raster: a sloppy geometry would load as a layer of nothing."""
    clone = scene.item.clone()
    clone.assets = {key: scene.item.assets[key].clone() for key in scene.layers.values()}
    for key, asset in clone.assets.items():
        asset.href = scene.item.assets[key].get_absolute_href() or asset.href
    outline = scene.box.extent.to_crs("EPSG:4326")
    clone.geometry, clone.bbox = outline.json, list(outline.boundingbox.bbox)
    return clone


def _cube(optical: list[_Made], radar: list[_Made], grid: GeoBox) -> xr.Dataset:
    dims = ("time", "y", "x")
    held: dict[str, Any] = {name: (dims, np.stack([one.bands[name] for one in optical])) for name in optical[0].bands}
    held["clear"] = (dims, np.stack([one.clear for one in optical]))
    suns = np.array([one.sun for one in optical], float)
    axes = {name: axis.values for name, axis in grid.coordinates.items()}
    x, y = (next(axes[name] for name in names if name in axes) for names in (("x", "longitude"), ("y", "latitude")))
    coords: dict[str, Any] = {
        "time": np.array([one.day for one in optical], "datetime64[s]"),
        "y": y,
        "x": x,
        "sun_elevation": ("time", suns[:, 0]),
        "sun_azimuth": ("time", suns[:, 1]),
    }
    if radar:
        coords["time_radar"] = np.array([one.day for one in radar], "datetime64[s]")
        for name in radar[0].bands:
            held[name] = (("time_radar", "y", "x"), np.stack([one.bands[name] for one in radar]))
    code = grid.crs.to_epsg() if grid.crs else None
    attrs = {"crs": f"EPSG:{code}" if code else str(grid.crs), "title": "STAC scenes"}
    return xr.Dataset(held, coords, attrs)
