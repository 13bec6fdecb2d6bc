"""A year of observations becomes a few numbers that say "was this worked?".

Not the fall of a curve but the habits of cultivation: soil laid bare or flooded, a steep rise, a harvest's
sharp fall, the number of cycles. Abandoned land in a humid climate turns *greener*; waiting for a fall fails.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remote_sensing.cubes import MISSING, RADAR_SCALE, Calendar, Float, Stack
from remote_sensing.indices import available, made_of, packed_for
from remote_sensing.kernels import PER_LAYER, SHARED, TERMS, WINDOWS, annual_evidence

LOW, HIGH, SOIL = 0.35, 0.55, 0.25
"""Hysteresis marks on NDVI, dimensionless: a crop cycle rises over HIGH and falls under LOW; soil shows under SOIL."""
RIDGE = np.array([0.02, 0.08, 0.08, 0.3, 0.3, 0.7, 0.7], np.float32)
"""(noise 0.05 / expected size of the term)^2: without looks a term shrinks to zero instead of running away."""
_MARKS = np.array([LOW, HIGH, SOIL], np.float32)
PIXELS = 2048
"""Pixels whose layers are made at a time."""
MIN_LOOKS = 5
"""A crop year with fewer clear looks (optical and radar dates together) stays undecided."""
FAINT = 3
"""A crop year with fewer says nothing at all; from here to ``MIN_LOOKS`` it is heard, faintly, but never judged."""

_PER_LAYER_NAMES = ("mean", "cos1", "sin1", "cos2", "sin2", "cos3", "sin3", "rmse")
_SPREAD_NAMES = ("low", "middle", "high", "rise", "fall")
_WINDOW_NAMES = tuple(f"window{place:02d}" for place in range(1, WINDOWS + 1))
RADAR_LAYERS = ("vv", "vh")


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the years say, one column a pixel.

    ``values``: float32 (F, Y, N), named by ``names`` ("looks", "cycles", "soil", "flooded", then
    "<layer>.<number>"); NaN = not observed. ``looks``, ``radar_looks``: int16 (Y, N), clear dates; radar that is
    not among the layers was not looked at.
    """

    names: tuple[str, ...]
    years: tuple[int, ...]
    values: Float
    looks: NDArray[np.int16]
    radar_looks: NDArray[np.int16]

    @property
    def all_looks(self) -> NDArray[np.int16]:
        """Optical and radar dates together (Y, N)."""
        return self.looks + self.radar_looks

    @property
    def heard(self) -> NDArray[np.bool_]:
        """Years (Y, N) with looks enough to say anything."""
        return self.all_looks >= FAINT

    def get(self, name: str) -> Float:
        """One number (Y, N) by name."""
        picked: Float = self.values[self.names.index(name)]
        return picked


def design_matrix(days: NDArray[np.int32], calendar: Calendar) -> Float:
    """Harmonic design (T, TERMS) with phase 0 at the start of the agricultural year."""
    start = calendar.start(2001)
    angle = 2 * np.pi * ((days - start) % 365.2425) / 365.2425
    columns = [np.ones_like(angle)]
    for cycles in (1, 2, 3):
        columns += [np.cos(cycles * angle), np.sin(cycles * angle)]
    return np.stack(columns, axis=1).astype(np.float32)


def _calendar_arrays(
    days: NDArray[np.int32], calendar: Calendar, years: tuple[int, ...]
) -> tuple[Float, NDArray[np.int64], NDArray[np.int64]]:
    borders = calendar.split(days, years)
    starts = np.array([calendar.start(year) for year in years])
    year = np.minimum(np.searchsorted(borders[1:], np.arange(days.size), side="right"), len(years) - 1)
    window = ((days - starts[year]) / 365.2425 * WINDOWS).astype(np.int64)
    return design_matrix(days, calendar), np.clip(window, 0, WINDOWS - 1), borders


def feature_names(layers: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the evidence of these layers, in the order of ``Evidence.values``."""
    each = (*_PER_LAYER_NAMES, *_SPREAD_NAMES, *_WINDOW_NAMES)
    return ("looks", "cycles", "soil", "flooded", *(f"{layer}.{name}" for layer in layers for name in each))


def gather(stack: Stack, calendar: Calendar, years: tuple[int, ...], layers: tuple[str, ...] | None = None) -> Evidence:
    """Annual evidence of a stack (T, N) for the given consecutive crop years.

    ``layers`` defaults to greenness and, where the bands allow, wetness. The first layer must be ``ndvi``, radar
    layers (``vv``, ``vh``) come last.
    Missing stays missing. Raises ``LandError("missing_band")``.
    """
    chosen = layers or tuple(name for name in available(stack.bands) if name in {"ndvi", "wetness"})
    optical = tuple(name for name in chosen if name not in RADAR_LAYERS)
    values = _optical_evidence(stack, calendar, years, optical)
    looks = values[0].astype(np.int16)
    if len(optical) < len(chosen):
        values = np.concatenate([values, _radar_evidence(stack, calendar, years, chosen[len(optical) :])])
    radar = _radar_looks(stack, calendar, years, chosen[len(optical) :])
    return Evidence(feature_names(chosen), years, values, looks, radar)


def _optical_evidence(stack: Stack, calendar: Calendar, years: tuple[int, ...], names: tuple[str, ...]) -> Float:
    """Year by year and block by block, so that the layers of what is at work stay in the cache."""
    design, window, borders = _calendar_arrays(stack.days, calendar, years)
    wet = names.index("wetness") if "wetness" in names and "swir1" in stack.bands else -1
    pixels = stack.clear.shape[1]
    values = np.empty((SHARED + PER_LAYER * len(names), len(years), pixels), np.float32)
    needs = made_of(names, stack.bands)
    for left in range(0, pixels, PIXELS):
        for year, (begin, end) in enumerate(itertools.pairwise(borders)):
            cut = (slice(begin, end), slice(left, min(left + PIXELS, pixels)))
            packed, made = packed_for(needs, {name: band[cut] for name, band in stack.bands.items()})
            clear = np.ascontiguousarray(stack.clear[cut])
            dates = (design[begin:end], window[begin:end], np.array([0, end - begin], np.int64))
            annual_evidence(packed, made, clear, dates, RIDGE, _MARKS, wet, (values, year, left))
    return values


def _radar_evidence(stack: Stack, calendar: Calendar, years: tuple[int, ...], names: tuple[str, ...]) -> Float:
    """The same numbers of the radar layers, -30..0 dB mapped to 0..1; a layer that is not there is all NaN.

    Only its windows hold means: no cloud was missed in them, and of two or three looks through speckle the median
    throws away what the mean keeps (over two sets of synthetic scenes of four looks a year that nobody is judged on, F1
    was lower by 0.02 and 0.04 with medians).
    """
    if not set(names) <= stack.radar.keys():
        return np.full((PER_LAYER * len(names), len(years), stack.clear.shape[1]), np.nan, np.float32)
    raw = np.stack([stack.radar[name] for name in names])
    scaled = (raw.astype(np.float32) * np.float32(RADAR_SCALE) + np.float32(30)) / np.float32(30)
    there = (raw != MISSING).all(axis=0)
    scaled += np.where(there, np.float32(0), np.float32(np.nan))
    arrays = _calendar_arrays(stack.radar_days, calendar, years)
    seen = np.empty((SHARED + PER_LAYER * len(names), len(years), scaled.shape[2]), np.float32)
    step = np.array([(RADAR_SCALE / 30, 1.0)] * len(names), np.float32)
    as_they_are = np.array([(place, -1) for place in range(len(names))], np.int64)
    annual_evidence(raw, (as_they_are, step), there, arrays, RIDGE, _MARKS, -1, (seen, 0, 0))
    each = seen[SHARED:].reshape(len(names), PER_LAYER, *seen.shape[1:])
    each[:, -WINDOWS:] = _window_means(scaled, arrays[1], arrays[2])
    return each.reshape(-1, *seen.shape[1:])


def _window_means(layers: Float, window: NDArray[np.int64], borders: NDArray[np.int64]) -> Float:
    """Mean of the looks of layers (L, T, N) in every window: (L, WINDOWS, Y, N), NaN where there is none."""
    out = np.full((layers.shape[0], WINDOWS, len(borders) - 1, layers.shape[2]), np.nan, np.float32)
    for year, (begin, end) in enumerate(itertools.pairwise(borders)):
        for slot in np.unique(window[begin:end]):
            part = layers[:, begin:end][:, window[begin:end] == slot]
            looks = np.isfinite(part).sum(axis=1)
            np.divide(np.nansum(part, axis=1), looks, out=out[:, slot, year], where=looks > 0)
    return out


def _radar_looks(stack: Stack, calendar: Calendar, years: tuple[int, ...], names: tuple[str, ...]) -> NDArray[np.int16]:
    """Dates (Y, N) on which all of the radar layers ``names`` were seen; none asked for, none seen."""
    pixels = stack.clear.shape[1]
    if not names or not set(names) <= stack.radar.keys():
        return np.zeros((len(years), pixels), np.int16)
    borders = calendar.split(stack.radar_days, years)
    seen: NDArray[np.bool_] = np.logical_and.reduce([stack.radar[name] != MISSING for name in names])
    return np.stack([seen[a:b].sum(axis=0) for a, b in itertools.pairwise(borders)]).astype(np.int16)


__all__ = ["FAINT", "MIN_LOOKS", "TERMS", "Evidence", "design_matrix", "feature_names", "gather"]
