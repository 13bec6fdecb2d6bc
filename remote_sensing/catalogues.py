"""STAC items, local or remote, -> one dataset on one grid; a bad scene is left out and listed, the rest goes on.

The grid is that of the first readable asset, so a band loaded on its own grid equals its file exactly. Items of
one solar day are one date. Silent layers of nothing are not allowed: every asset is opened before it is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import odc.stac
import pystac
import rasterio
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pystac_client import Client
from rasterio.errors import RasterioError, RasterioIOError

from remote_sensing.cubes import LandError

_MASKS = frozenset({"scl", "fmask", "qa", "clear", "cloud_mask"})
_WIDE_MASKS = frozenset({"qa_pixel"})


def is_catalogue(path: Path) -> bool:
    """Whether a path is a STAC catalogue, collection or item collection on disk."""
    if path.is_dir():
        return (path / "catalog.json").exists() or (path / "collection.json").exists()
    return path.suffix.lower() == ".json"


def local_items(path: Path) -> list[pystac.Item]:
    """Items of a catalogue or item collection on disk. Raises ``LandError("truncated")`` naming the file."""
    file = (
        path if path.is_file() else next(path / n for n in ("catalog.json", "collection.json") if (path / n).exists())
    )
    try:
        if path.is_file():
            held = pystac.ItemCollection.from_file(str(file))
            return list(held.items)
        return list(pystac.Catalog.from_file(str(file)).get_items(recursive=True))
    except (pystac.STACError, ValueError, KeyError, OSError) as why:
        raise LandError("truncated", f"{file.name}: no STAC catalogue can be read from it ({str(why)[:100]})") from why


def search(url: str, collection: str, bbox: tuple[float, float, float, float], dates: str) -> list[pystac.Item]:
    """Items of a remote STAC API; ``bbox`` WGS84 degrees, ``dates`` as "2020-10-01/2024-09-30"."""
    found = Client.open(url).search(collections=[collection], bbox=bbox, datetime=dates)
    return list(found.items())


def load_items(items: Sequence[pystac.Item]) -> tuple[xr.Dataset, tuple[str, ...]]:
    """Load items as integers on one grid; returns the dataset and one line for every scene left out.

    Raises ``LandError("missing_band")`` when no scene can be used.
    """
    good: list[pystac.Item] = []
    left_out: list[str] = []
    names: set[str] = set()
    grid: GeoBox | None = None
    for item in sorted(items, key=lambda one: str(one.datetime)):
        why, box = _checked(item, grid)
        if why:
            left_out.append(f"left out {item.id}: {why}")
            continue
        bands = {name for name, asset in item.assets.items() if _is_raster(asset)}
        if good and bands != names:
            lacking = ", ".join(sorted(names - bands)) or "bands too many"
            left_out.append(f"left out {item.id}: lacks band {lacking}")
            continue
        names, grid = bands, grid or box
        good.append(_placed(item, box))
    if not good or grid is None:
        reason = left_out[0] if left_out else "the catalogue holds no items"
        raise LandError("missing_band", f"no scene can be used; {reason}")
    kinds: dict[str, Any] = {
        name: "uint8" if name.lower() in _MASKS else "uint16" if name.lower() in _WIDE_MASKS else "int16"
        for name in names
    }
    loaded: xr.Dataset = odc.stac.load(
        good, bands=sorted(names), geobox=grid, groupby="solar_day", dtype=kinds, chunks=None
    )
    loaded = loaded.drop_vars("spatial_ref", errors="ignore")
    loaded.attrs = {"crs": str(grid.crs), "title": "STAC scenes", "scale": "reflectance*10000"}
    loaded.attrs["period"] = [str(loaded["time"].to_numpy()[n].astype("datetime64[D]")) for n in (0, -1)]
    loaded = loaded.assign_coords(_suns(good, loaded["time"].to_numpy()))
    for name in loaded.data_vars:
        loaded[name].attrs.setdefault("_FillValue", np.int16(-32768))
    return loaded, tuple(left_out)


def _suns(items: Sequence[pystac.Item], times: NDArray[np.datetime64]) -> dict[str, tuple[str, list[float]]]:
    """Sun elevation and azimuth per date (degrees) from the items' ``view:`` fields; NaN where they do not say."""
    told = {str(item.datetime)[:10]: item.properties for item in reversed(items)}
    days = [str(day) for day in times.astype("datetime64[D]")]
    return {
        angle: ("time", [float(told.get(day, {}).get(f"view:{angle}", np.nan)) for day in days])
        for angle in ("sun_elevation", "sun_azimuth")
    }


def _placed(item: pystac.Item, box: GeoBox | None) -> pystac.Item:
    """The item with the footprint of its own raster: a sloppy geometry would load as a layer of nothing."""
    clone = item.clone()
    clone.assets = {name: asset.clone() for name, asset in item.assets.items()}
    for name, asset in clone.assets.items():
        asset.href = item.assets[name].get_absolute_href() or asset.href
    if box is not None:
        outline = box.extent.to_crs("EPSG:4326")
        clone.geometry = outline.json
        clone.bbox = list(outline.boundingbox.bbox)
    return clone


def _is_raster(asset: pystac.Asset) -> bool:
    return asset.href.lower().endswith((".tif", ".tiff")) or "tiff" in (asset.media_type or "")


def _short(box: GeoBox) -> str:
    code = box.crs.to_epsg() if box.crs else None
    return f"EPSG:{code}" if code else "unnamed"


def _checked(item: pystac.Item, grid: GeoBox | None) -> tuple[str, GeoBox | None]:
    """Why an item cannot be used ("" = it can), and its grid."""
    box: GeoBox | None = None
    for name, asset in item.assets.items():
        if not _is_raster(asset):
            continue
        href = asset.get_absolute_href() or asset.href
        try:
            with rasterio.open(href) as file:
                if file.crs is None:
                    return f"band {name} has no CRS", None
                file.read(1, window=((file.height - 1, file.height), (file.width - 1, file.width)))
                box = GeoBox((file.height, file.width), file.transform, file.crs)
        except (RasterioError, RasterioIOError, OSError) as why:
            return f"band {name} cannot be read ({str(why).splitlines()[0][:80]})", None
        if grid is not None and box.crs != grid.crs:
            return f"band {name} has CRS {_short(box)}, the others {_short(grid)}", None
    return ("", box) if box is not None else ("no raster assets", None)
