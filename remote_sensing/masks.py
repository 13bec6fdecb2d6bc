"""What may be believed of a date: clouds from its class layer, shadows from hill and sun, and where it really lies.

A terrace in the shade of a ridge looks like flooded or bare soil, and one that lies half a pixel aside borrows its
neighbour's crop. So shade is masked from the height model and the sun of the date, and the shift of every date
against the median of all is measured and reported; nothing is moved.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rasterio
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError
from rasterio.warp import Resampling, reproject
from skimage.registration import phase_cross_correlation

from remote_sensing.cubes import MISSING, LandError

MASK_CLEAR: Mapping[str, tuple[int, ...]] = {
    "clear": (1,),
    "fmask": (0, 1),
    "qa": (0, 1),
    "scl": (4, 5, 6, 7),
    "cloud_mask": (0,),
    "cloudmask": (0,),
    "clm": (0,),
}
"""Mask by name -> the values that mean "a usable look of land or water"."""
QA_PIXEL_BAD = 0b111111
"""Landsat Collection 2 ``QA_PIXEL`` bits 0..5: fill, dilated cloud, cirrus, cloud, cloud shadow, snow."""
LEAST_SIDE, LEAST_CLEAR = 16, 0.5
"""Pixels a side and share of clear pixels from which a date's shift is measured."""
FINENESS = 20
"""Shifts are measured in steps of 1/20 pixel."""


def clear_sky(values: NDArray[np.integer], kind: str) -> NDArray[np.bool_]:
    """True where a class layer of this kind (a key of ``MASK_CLEAR``, or ``qa_pixel``) says land or water is seen.

    Raises ``LandError("unknown_mask")``. Sources: Sentinel-2 L2A scene classification, Fmask, USGS QA_PIXEL.
    """
    if kind == "qa_pixel":
        return np.asarray((values.astype(np.int64) & QA_PIXEL_BAD) == 0)
    if kind not in MASK_CLEAR:
        raise LandError("unknown_mask", f"mask {kind!r}: known are {', '.join(MASK_CLEAR)}, qa_pixel")
    return np.isin(values, MASK_CLEAR[kind])


def cast_shadow(
    height_m: NDArray[np.floating], pixel_m: float, elevation_deg: float, azimuth_deg: float
) -> NDArray[np.bool_]:
    """True (y, x) where higher ground stands between a pixel and the sun; row 0 is north.

    ``height_m`` metres, NaN = unknown (casts no shade, is not in shade); ``pixel_m`` > 0; the sun's elevation
    above the horizon and azimuth from north over east, degrees. Walks toward the sun pixel by pixel with
    bilinear heights until nothing on the map could reach that high. A sun at or below the horizon shades all.
    Raises ``LandError("bad_setting")`` when a number makes no sense.
    """
    if not (pixel_m > 0 and -90 <= elevation_deg <= 90 and np.isfinite(azimuth_deg)):  # noqa: PLR2004 - the sky's range
        raise LandError("bad_setting", f"pixel {pixel_m} m, sun {elevation_deg} deg up, {azimuth_deg} deg round")
    height = np.asarray(height_m, np.float64)
    if elevation_deg <= 0:
        return np.ones(height.shape, bool)
    shade = np.zeros(height.shape, bool)
    if not np.isfinite(height).any():
        return shade
    rise = pixel_m * np.tan(np.radians(elevation_deg))
    # rounded: sin(180 degrees) is not quite 0 and would ask for heights beyond the border
    east, north = (round(float(turn(np.radians(azimuth_deg))), 12) for turn in (np.sin, np.cos))
    span = float(np.nanmax(height) - np.nanmin(height))
    for step in range(1, min(int(span / rise) + 1, int(np.hypot(*height.shape)) + 1) + 1):
        seen = _moved(height, -north * step, east * step)
        shade |= np.greater(seen - height, rise * step)
    return shade


def _moved(height: NDArray[np.float64], down: float, right: float) -> NDArray[np.float64]:
    """Height at (row + down, column + right) of every pixel, bilinear; NaN outside."""
    rows, columns = height.shape
    r0, c0 = int(np.floor(down)), int(np.floor(right))
    fr, fc = down - r0, right - c0
    out = np.zeros(height.shape)
    for dr, weight_r in ((0, 1 - fr), (1, fr)):
        for dc, weight_c in ((0, 1 - fc), (1, fc)):
            if weight_r * weight_c == 0:
                continue
            part = np.full(height.shape, np.nan)
            a, b = r0 + dr, c0 + dc
            to = (slice(max(0, -a), min(rows, rows - a)), slice(max(0, -b), min(columns, columns - b)))
            if to[0].start < to[0].stop and to[1].start < to[1].stop:
                part[to] = height[to[0].start + a : to[0].stop + a, to[1].start + b : to[1].stop + b]
            out += weight_r * weight_c * part
    return out


def heights_on(path: Path, grid: GeoBox) -> NDArray[np.float32]:
    """A height model laid on a grid, bilinear, metres; NaN where it says nothing. Raises ``LandError``."""
    if not path.exists():
        raise LandError("no_file", f"{path}: no such file")
    heights = np.full(grid.shape, np.nan, np.float32)
    try:
        with rasterio.open(path) as file:
            if file.crs is None:
                raise LandError("wrong_crs", f"{path.name}: the height model has no CRS")
            reproject(
                rasterio.band(file, 1),
                heights,
                dst_transform=grid.transform,
                dst_crs=rasterio.crs.CRS.from_user_input(str(grid.crs)),
                dst_nodata=np.nan,
                resampling=Resampling.bilinear,
            )
    except RasterioError as why:
        raise LandError("truncated", f"{path.name}: cannot be read ({str(why).splitlines()[0][:80]})") from why
    if not np.isfinite(heights).any():
        raise LandError("outside", f"{path.name}: the height model does not cover the scenes")
    return heights


def shade_hidden(cube: xr.Dataset, heights: NDArray[np.floating], pixel_m: float) -> tuple[xr.Dataset, tuple[str, ...]]:
    """The cube with looks in cast shadow no longer clear, and a note of how many.

    Needs ``sun_elevation`` and ``sun_azimuth`` (time) in degrees; dates without them (NaN) are left and counted.
    """
    if not {"sun_elevation", "sun_azimuth"} <= set(cube.coords):
        return cube, ("no sun position with the scenes: cast shadow is not masked",)
    clear = cube["clear"].to_numpy().copy()
    before, unknown = int(clear.sum()), 0
    suns = zip(cube["sun_elevation"].to_numpy(), cube["sun_azimuth"].to_numpy(), strict=True)
    for n, (up, around) in enumerate(suns):
        if np.isfinite(up) and np.isfinite(around):
            clear[n] &= ~cast_shadow(heights, pixel_m, float(up), float(around))
        else:
            unknown += 1
    notes = [f"{before - int(clear.sum())} looks lie in cast shadow: masked"]
    if unknown:
        notes.append(f"{unknown} dates have no sun position: cast shadow is not masked there")
    return cube.assign(clear=(("time", "y", "x"), clear)), tuple(notes)


def registration(cube: xr.Dataset) -> pd.DataFrame:
    """How far each date lies from the median of all: columns ``date``, ``shift_y_px``, ``shift_x_px``, ``clear_share``.

    Sub-pixel phase correlation of the near infrared (or NDVI); a positive shift means the date's ground lies
    further down (right). NaN where the date is less than half clear, flat, or the cube narrower than 16 pixels.
    Gaps take the median only for this measurement; the cube itself is not touched.
    """
    band = cube["nir" if "nir" in cube else "ndvi" if "ndvi" in cube else "red"].transpose("time", "y", "x").to_numpy()
    good = cube["clear"].transpose("time", "y", "x").to_numpy() & (band != MISSING)
    shares = good.mean(axis=(1, 2))
    found = np.full((band.shape[0], 2), np.nan)
    usable = np.flatnonzero(shares >= LEAST_CLEAR)
    if min(band.shape[1:]) >= LEAST_SIDE and usable.size >= 2:  # noqa: PLR2004 - one date lies where it lies
        some = usable[:: max(1, usable.size // 40)]
        middle = _middle(band[some], good[some])
        for n in usable:
            found[n] = _shift(middle, band[n], good[n])
    dates = cube["time"].to_numpy().astype("datetime64[D]").astype(str)
    return pd.DataFrame(
        {"date": dates, "shift_y_px": found[:, 0], "shift_x_px": found[:, 1], "clear_share": shares.round(4)}
    )


def _middle(band: NDArray[np.int16], good: NDArray[np.bool_]) -> NDArray[np.float64]:
    values = np.ma.masked_array(band, ~good)
    whole: Any = np.ma.median(values, axis=0)  # type: ignore[no-untyped-call]
    middle: NDArray[np.float64] = whole.filled(float(np.median(band[good])))
    return middle


def _shift(middle: NDArray[np.float64], band: NDArray[np.int16], good: NDArray[np.bool_]) -> NDArray[np.float64]:
    there = np.where(good, band, middle)
    if np.ptp(there) == 0 or np.ptp(middle) == 0:
        return np.full(2, np.nan)
    window = np.outer(np.hanning(there.shape[0]), np.hanning(there.shape[1]))
    moved = phase_cross_correlation(  # type: ignore[no-untyped-call]
        (middle - middle.mean()) * window, (there - there.mean()) * window, upsample_factor=FINENESS, normalization=None
    )[0]
    return -np.asarray(moved, np.float64)
