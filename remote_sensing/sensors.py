"""What the layers of a product are called and what their numbers mean: names, scale, offset, fill value.

Sentinel-2 L2A, Landsat Collection 2 and Sentinel-1 RTC as their public STAC catalogues name them, and the usual
names elsewhere. What an item says of itself comes first, then what its file says, then what its product is known for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pystac
from numpy.typing import NDArray

from remote_sensing.cubes import OPTICAL, RADAR, SCALE

ALIASES: Mapping[str, tuple[str, ...]] = {
    "blue": ("blue", "b02", "b2", "sr_b2_blue"),
    "green": ("green", "b03", "b3"),
    "red": ("red", "b04", "b4"),
    "nir": ("nir", "b08", "b8", "nir08", "b8a"),
    "swir1": ("swir1", "b11", "swir16", "swir"),
    "swir2": ("swir2", "b12", "swir22", "mir"),
    "ndvi": ("ndvi",),
    "evi": ("evi",),
    "vv": ("vv",),
    "vh": ("vh",),
}
"""Band of a cube -> what it is called in files, most trusted first."""
MASKS = ("scl", "fmask", "qa_pixel", "qa", "clear", "cloud_mask", "cloudmask", "clm")
LANDSAT = (2.75e-5, -0.2)
"""Scale and offset of Landsat Collection 2 surface reflectance (USGS LSDS-1618)."""
BOA_OFFSET_SINCE = (4, 0)
"""Sentinel-2 processing baseline from which L2A numbers carry an offset of -0.1 (ESA, 25 January 2022)."""
_RANGE: Mapping[str, tuple[float, float]] = {"ndvi": (-1.0, 1.0), "evi": (-1.0, 1.5), "vv": (-60, 30), "vh": (-60, 30)}
_REFLECTANCE = (-0.2, 1.6)


def inside(real: NDArray[np.float32], band: str) -> NDArray[np.bool_]:
    """Where values (reflectance, index or decibel) lie in the physical range of a band; NaN does not."""
    low, high = _RANGE.get(band, _REFLECTANCE)
    good: NDArray[np.bool_] = (real >= low) & (real <= high)
    return good


@dataclass(frozen=True, slots=True)
class Meaning:
    """Value = number x ``scale`` + ``offset``; ``fill`` marks "nothing", None when nobody says."""

    scale: float
    offset: float
    fill: float | None


def is_raster(asset: pystac.Asset) -> bool:
    """Whether an asset is a GeoTIFF."""
    return asset.href.split("?")[0].lower().endswith((".tif", ".tiff")) or "tiff" in (asset.media_type or "")


def layers_in(item: pystac.Item) -> dict[str, str]:
    """Cube band (or "mask") -> asset key of an item: by key, else by the common name of its only band."""
    names: dict[str, str] = {}
    for key, asset in item.assets.items():
        if is_raster(asset):
            names.setdefault(key.lower(), key)
    for key, asset in item.assets.items():
        told = _bands_of(asset)
        if is_raster(asset) and len(told) == 1:
            common = str(told[0].get("common_name") or told[0].get("eo:common_name") or "").lower()
            if common:
                names.setdefault(common, key)
    found = {
        band: next(names[alias] for alias in aliases if alias in names)
        for band, aliases in ALIASES.items()
        if any(alias in names for alias in aliases)
    }
    mask = next((names[kind] for kind in MASKS if kind in names), "")
    if mask and not is_radar(found):
        found["mask"] = mask
    return found


def is_radar(layers: Mapping[str, str]) -> bool:
    """Whether the layers are of a radar scene."""
    return any(band in layers for band in RADAR) and not any(band in layers for band in OPTICAL)


def _bands_of(asset: pystac.Asset) -> list[dict[str, Any]]:
    held = asset.extra_fields.get("eo:bands") or asset.extra_fields.get("bands") or []
    return [dict(band) for band in held]


def meaning(item: pystac.Item, key: str, file: tuple[float, float, float | None]) -> Meaning:
    """What the numbers of an asset mean; ``file``: scale, offset and fill as the raster itself declares them."""
    asset = item.assets[key]
    told: dict[str, Any] = {}
    for source in (asset.extra_fields.get("bands"), asset.extra_fields.get("raster:bands")):
        told |= dict(source[0]) if source else {}
    told |= {name.removeprefix("raster:"): value for name, value in (*asset.extra_fields.items(), *told.items())}
    scale, offset = _declared(told) or _of_file(file) or _of_product(item)
    if item.properties.get("earthsearch:boa_offset_applied") is True:
        offset = 0.0
    fill = _number(told.get("nodata"))
    if fill is None:
        fill = file[2]
    return Meaning(scale, offset, fill)


def _declared(told: Mapping[str, Any]) -> tuple[float, float] | None:
    scale, offset = _number(told.get("scale")), _number(told.get("offset"))
    return None if scale is None else (scale, offset or 0.0)


def _of_file(file: tuple[float, float, float | None]) -> tuple[float, float] | None:
    scale, offset, _ = file
    return None if (scale, offset) == (1.0, 0.0) else (scale, offset)


def _of_product(item: pystac.Item) -> tuple[float, float]:
    names = {key.lower() for key in item.assets}
    if "qa_pixel" in names:
        return LANDSAT
    baseline = str(item.properties.get("s2:processing_baseline", item.properties.get("processing:version", "")))
    major, _, minor = baseline.partition(".")
    if "scl" in names and major.isdigit() and (int(major), int(minor or 0)) >= BOA_OFFSET_SINCE:
        return SCALE, -0.1
    return SCALE, 0.0


def _number(value: object) -> float | None:
    """A finite number, or None; "nan" as a fill value needs no name."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def sun_of(item: pystac.Item) -> tuple[float, float]:
    """Elevation and azimuth of the sun over an item, degrees; NaN where it does not say."""
    told = item.properties
    zenith = _number(told.get("s2:mean_solar_zenith"))
    up = _number(told.get("view:sun_elevation"))
    up = 90.0 - zenith if up is None and zenith is not None else up
    around = _number(told.get("view:sun_azimuth", told.get("s2:mean_solar_azimuth")))
    return (math.nan if up is None else up, math.nan if around is None else around)
