"""One labelled cube on one grid: the only thing the science ever looks at.

A *cube* is an ``xarray.Dataset`` with dims ``(time, y, x)``: bands as int16 (value = number x 1e-4, missing
= -32768), a boolean ``clear`` (True = a usable look), radar (``vv``, ``vh``: decibel x 100) on its own dim
``time_radar``, and ``attrs["crs"]``. ``scenes.py`` makes such cubes from files, ``synthetic.py`` from
random numbers; ``stack_of`` checks one at the door and hands plain time-major arrays to the kernels.
Missing stays missing: nothing here or later fills a gap.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

SCALE = 1e-4
"""Reflectance or index per integer step."""
RADAR_SCALE = 1e-2
"""Decibel per integer step of ``vv`` and ``vh``."""
MISSING = -32768
"""The integer that means "no value" in every band."""
OPTICAL = ("blue", "green", "red", "nir", "swir1", "swir2", "ndvi", "evi")
RADAR = ("vv", "vh")

Int16 = NDArray[np.int16]
Bool = NDArray[np.bool_]
Float = NDArray[np.float32]


class LandError(Exception):
    """Something given to the land science cannot be used; says what, where and what to do.

    ``code`` is a short stable word (``"wrong_crs"``, ``"missing_band"`` ...), the text one clear line.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Stack:
    """A checked cube as plain arrays, pixels flattened: what the kernels read.

    ``days``: (T,) days since 1970-01-01, ascending. ``bands``: name -> int16 (T, N), value x 1e-4, missing
    -32768. ``clear``: bool (T, N). ``radar_days``/``radar``: the same for decibel x 100, maybe empty.
    ``shape``: (rows, columns), N = rows x columns.
    """

    days: NDArray[np.int32]
    bands: Mapping[str, Int16]
    clear: Bool
    shape: tuple[int, int]
    radar_days: NDArray[np.int32]
    radar: Mapping[str, Int16]

    def rows(self, start: int, stop: int) -> Stack:
        """The same stack for pixels of rows ``start..stop`` (views, nothing copied)."""
        cut = slice(start * self.shape[1], stop * self.shape[1])
        return Stack(
            days=self.days,
            bands={name: band[:, cut] for name, band in self.bands.items()},
            clear=self.clear[:, cut],
            shape=(stop - start, self.shape[1]),
            radar_days=self.radar_days,
            radar={name: band[:, cut] for name, band in self.radar.items()},
        )

    def dates(self, start: int, stop: int) -> Stack:
        """The optical side of dates ``start..stop`` (views, nothing copied), without radar."""
        bands = {name: band[start:stop] for name, band in self.bands.items()}
        return Stack(self.days[start:stop], bands, self.clear[start:stop], self.shape, self.radar_days[:0], {})


def day_numbers(times: NDArray[np.datetime64]) -> NDArray[np.int32]:
    """Days since 1970-01-01 of datetime64 of any resolution (xarray hands out us and ns alike)."""
    return times.astype("datetime64[D]").astype(np.int32)


def searched_days(cube: xr.Dataset, days: NDArray[np.int32]) -> NDArray[np.int32]:
    """The days with the ends of the period that was searched, when the cube knows it.

    ``attrs["period"]`` = two ISO dates: under a winter of clouds the first look may come weeks after the
    first day that was looked at, and the year is whole all the same.
    """
    if "period" not in cube.attrs:
        return days
    ends = day_numbers(np.array([str(day) for day in cube.attrs["period"]], "datetime64[D]"))
    return np.unique(np.concatenate([days, ends])).astype(np.int32)


def pack_values(values: NDArray[np.floating], scale: float = SCALE) -> Int16:
    """Floats to int16 in steps of ``scale``; NaN and what does not fit become ``MISSING``."""
    steps = np.round(np.asarray(values, dtype=np.float32) / np.float32(scale))
    good = np.isfinite(steps) & (np.abs(steps) <= np.iinfo(np.int16).max)
    return np.where(good, steps, MISSING).astype(np.int16)


def stack_of(cube: xr.Dataset) -> Stack:
    """Check a cube and flatten it.

    Raises ``LandError``: ``missing_band`` (neither ndvi nor red and nir; no ``clear``), ``bad_dims``,
    ``bad_dtype``, ``duplicate_dates``, ``no_dates``.
    """
    if "clear" not in cube:
        raise LandError("missing_band", "cube has no 'clear' mask: say which looks are usable")
    bands = {name: _band(cube, name, "time") for name in OPTICAL if name in cube}
    if "ndvi" not in bands and not {"red", "nir"} <= bands.keys():
        raise LandError("missing_band", f"cube has {sorted(bands) or 'no bands'}: needs ndvi, or red and nir")
    days = _days(cube, "time")
    radar = {name: _band(cube, name, "time_radar") for name in RADAR if name in cube}
    radar_days = _days(cube, "time_radar") if radar else np.zeros(0, np.int32)
    clear = np.ascontiguousarray(cube["clear"].transpose("time", "y", "x").to_numpy().astype(bool))
    return Stack(
        days=days,
        bands=bands,
        clear=clear.reshape(days.size, -1),
        shape=(cube.sizes["y"], cube.sizes["x"]),
        radar_days=radar_days,
        radar=radar,
    )


def _days(cube: xr.Dataset, dim: str) -> NDArray[np.int32]:
    if cube.sizes.get(dim, 0) == 0:
        raise LandError("no_dates", f"cube has no dates on '{dim}'")
    times = cube[dim].to_numpy()
    steps = np.diff(times.astype("datetime64[s]").astype(np.int64))
    if (steps == 0).any():
        first = times[int(np.argmax(steps == 0))]
        raise LandError("duplicate_dates", f"cube has the date {np.datetime64(first, 's')} twice on '{dim}'")
    if (steps < 0).any():
        raise LandError("unsorted_dates", f"dates on '{dim}' go backward: sort the cube by time")
    return day_numbers(times)


def _band(cube: xr.Dataset, name: str, dim: str) -> Int16:
    band = cube[name]
    if set(band.dims) != {dim, "y", "x"}:
        raise LandError("bad_dims", f"band {name} has dims {band.dims}: needs ({dim}, y, x)")
    if band.dtype != np.int16:
        raise LandError("bad_dtype", f"band {name} is {band.dtype}: needs int16 in steps of {SCALE}")
    values = np.ascontiguousarray(band.transpose(dim, "y", "x").to_numpy())
    return values.reshape(values.shape[0], -1)


@dataclass(frozen=True, slots=True)
class Calendar:
    """Agricultural years: crop year Y begins on (month, day) of Y-1 unless it begins on 1 January.

    Default 1 October: rapeseed or wheat, then rice or maize, in one year (Chongqing). Mato Grosso begins in
    September, Central Asia's winter-dry fields follow the calendar year.
    """

    month: int = 10
    day: int = 1

    def start(self, crop_year: int) -> int:
        """First day of the crop year, in days since 1970-01-01."""
        begins = crop_year if (self.month, self.day) == (1, 1) else crop_year - 1
        date = dt.date(begins, self.month, self.day)
        return (date - dt.date(1970, 1, 1)).days

    def whole_years(self, days: NDArray[np.int32]) -> tuple[int, ...]:
        """Crop years wholly inside the series.

        The first (last) look may lie one usual step, at most 31 days, inside the border: a series of
        composites that starts two weeks into the year still holds that year.
        """
        if days.size == 0:
            return ()
        step = float(np.median(np.diff(np.unique(days)))) if np.unique(days).size > 1 else 0.0
        slack = min(31.0, max(16.0, 1.5 * step))
        first = 1970 + int(days[0]) // 366 - 1
        last = 1970 + int(days[-1]) // 365 + 2
        return tuple(
            year
            for year in range(first, last + 1)
            if days[0] <= self.start(year) + slack and days[-1] >= self.start(year + 1) - 1 - slack
        )

    def split(self, days: NDArray[np.int32], years: tuple[int, ...]) -> NDArray[np.int64]:
        """Positions (Y + 1,) in ``days`` where each year of ``years`` (consecutive) begins and the last ends."""
        if not years:
            return np.zeros(1, np.int64)
        borders = [self.start(year) for year in (*years, years[-1] + 1)]
        return np.searchsorted(days, borders, side="left").astype(np.int64)
