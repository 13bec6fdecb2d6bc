"""How green a synthetic field is on each day: double logistics, weeds that make idle land *greener*, drought.

All of it is invented within published bounds (calendar days are textbook values, amplitudes follow real
series); nothing made from it may be shown without the word synthetic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remote_sensing import states as st
from remote_sensing.cubes import Float

YEAR_DAYS = 365.2425

(
    RICE,
    RAPE_RICE,
    MAIZE_POTATO,
    VEGETABLES,
    CITRUS,
    FOREST,
    BUILT,
    GRASS,
    GREENHOUSE,
    SOLAR,
    DECIDUOUS,
    MEADOW,
    WATER,
    RUBBLE,
    GARDEN,
) = range(15)
KINDS = (
    "rice",
    "rape_rice",
    "maize_potato",
    "vegetables",
    "citrus",
    "forest",
    "built",
    "grass",
    "greenhouse",
    "solar",
    "deciduous",
    "meadow",
    "water",
    "rubble",
    "garden",
)
"""``vegetables`` keep the calendar of a textbook, ``garden`` is vegetables or tobacco that keep none."""
CROPS = (RICE, RAPE_RICE, MAIZE_POTATO, VEGETABLES, GARDEN)


@dataclass(frozen=True, slots=True)
class Season:
    """A green wave: NDVI rises by ``gain`` around day ``start`` and falls around ``end`` (days since 1 October)."""

    start: float
    end: float
    gain: float
    rise_days: float = 9.0
    fall_days: float = 6.0


_BASE = {
    RICE: 0.15,
    RAPE_RICE: 0.18,
    MAIZE_POTATO: 0.20,
    VEGETABLES: 0.20,
    CITRUS: 0.60,
    FOREST: 0.70,
    BUILT: 0.14,
    GRASS: 0.38,
    GREENHOUSE: 0.14,
    SOLAR: 0.16,
    DECIDUOUS: 0.45,
    MEADOW: 0.45,
    WATER: 0.16,
    RUBBLE: 0.13,
    GARDEN: 0.20,
}
_SEASONS: dict[int, tuple[Season, ...]] = {
    RICE: (Season(221, 326, 0.68),),
    RAPE_RICE: (Season(40, 216, 0.55, 18, 7), Season(236, 336, 0.64)),
    MAIZE_POTATO: (Season(186, 291, 0.52), Season(270, 391, 0.42, 10, 8)),
    VEGETABLES: (Season(20, 110, 0.45), Season(160, 235, 0.5), Season(255, 330, 0.5)),
    CITRUS: (Season(180, 360, 0.14, 25, 25),),
    FOREST: (Season(170, 385, 0.15, 20, 25),),
    BUILT: (),
    GRASS: (Season(170, 385, 0.38, 22, 25),),
    GREENHOUSE: (),
    SOLAR: (Season(180, 380, 0.08, 25, 25),),
    DECIDUOUS: (Season(212, 390, 0.38, 9, 12),),
    MEADOW: (Season(185, 255, 0.32, 14, 4), Season(268, 400, 0.28, 12, 20)),
    WATER: (),
    RUBBLE: (Season(180, 380, 0.06, 25, 25),),
    GARDEN: (),
}
WEED_BASE = (0.35, 0.45, 0.50, 0.55, 0.575, 0.60)
"""Lowest NDVI of idle land by years since the last crop; weeds fill quickly in a humid climate."""
WEED_PEAK = (0.72, 0.77, 0.80, 0.82, 0.83, 0.84)
FLOODED = {RICE: ((35.0, 225.0, 0.75),), RAPE_RICE: ((219.0, 240.0, 0.65),)}
"""Days (from, to) a paddy stands under water and the share of water seen; winter paddy is not abandonment."""
FLOWERING = {RAPE_RICE: (153.0, 181.0, 0.10)}
"""Days (from, to) a crop stands in flower, March, and how far NDVI dips."""
YOUNG_ORCHARD = 0.35


@dataclass(frozen=True, slots=True)
class Plan:
    """What each cell carries each year: ``kinds``, ``states``, ``ages`` int (Y, P); age counts years in a state."""

    kinds: NDArray[np.int64]
    states: NDArray[np.int64]
    ages: NDArray[np.int64]
    drought: tuple[int, ...] = ()


def wave(days: NDArray[np.floating], season: Season) -> NDArray[np.floating]:
    """The double logistic of one season at ``days``, before the gain: 0..1."""
    rise = 1 / (1 + np.exp(-np.clip((days - season.start) / season.rise_days, -40, 40)))
    fall = 1 / (1 + np.exp(-np.clip((days - season.end) / season.fall_days, -40, 40)))
    green: NDArray[np.floating] = rise - fall
    return green


def habit(kind: int, state: int, age: int) -> tuple[float, tuple[Season, ...]]:
    """Base NDVI and seasons of one cell in one year."""
    if state in {st.FALLOW, st.YOUNG, st.OLD}:
        step = min(age, len(WEED_BASE) - 1)
        base = WEED_BASE[step]
        return base, (Season(165, 385, WEED_PEAK[step] - base, 25, 30),)
    if state == st.SEASONAL and len(_SEASONS[kind]) > 1:
        return _BASE[kind] + 0.06, _SEASONS[kind][1:]
    if state == st.ORCHARD and kind != CITRUS:
        return min(YOUNG_ORCHARD + 0.08 * age, _BASE[CITRUS]), _SEASONS[CITRUS]
    return _BASE[kind], _SEASONS[kind]


def greenness(days: NDArray[np.floating], plan: Plan, rng: np.random.Generator) -> Float:
    """NDVI (T, P) on ``days`` (T,) since the first 1 October, for every cell of a plan.

    Jitter: season dates sd 7 days per cell and 5 days common to a year, amplitude sd 12 %; a drought year
    loses a quarter of every peak. Gardens keep no calendar at all.
    """
    years, cells = plan.kinds.shape
    total = np.zeros((days.size, cells), np.float32)
    for year in range(years):
        since = days - year * YEAR_DAYS
        inside = _soft(since, year, years)
        common = rng.normal(0, 5)
        loss = 0.75 if year in plan.drought else 1.0
        for kind, state, age in sorted(
            set(zip(plan.kinds[year].tolist(), plan.states[year].tolist(), plan.ages[year].tolist(), strict=True))
        ):
            who = np.flatnonzero((plan.kinds[year] == kind) & (plan.states[year] == state) & (plan.ages[year] == age))
            base, seasons = habit(kind, state, age)
            total[:, who] += (inside * base)[:, None]
            if kind == GARDEN and state in {st.CULTIVATED, st.SEASONAL}:
                left_out = int(state == st.SEASONAL)
                total[:, who] += _gardens(since, common, who.size, left_out, rng) * np.float32(loss)
            for season in seasons:
                total[:, who] += _waves(since, season, common, who.size, rng) * np.float32(loss)
    for kind, (_, _, dip) in FLOWERING.items():
        total -= np.float32(dip) * flowering(days, plan, kind)
    return total


def _soft(since: NDArray[np.floating], year: int, years: int) -> NDArray[np.floating]:
    """Weight of a year's base: 1 inside, changing over within some ten days at its borders."""
    early = 1 / (1 + np.exp(-np.clip((since - 6) / 5, -40, 40))) if year else np.ones_like(since)
    late = 1 / (1 + np.exp(-np.clip((since - YEAR_DAYS - 6) / 5, -40, 40))) if year < years - 1 else 0.0
    return early - late


def _waves(since: NDArray[np.floating], season: Season, common: float, cells: int, rng: np.random.Generator) -> Float:
    start = season.start + common + rng.normal(0, 7, cells)
    end = np.maximum(season.end + common + rng.normal(0, 7, cells), start + 40)
    gain = season.gain * np.clip(rng.normal(1, 0.12, cells), 0.5, 1.4)
    near = np.flatnonzero((since > season.start - 90) & (since < season.end + 150))
    out = np.zeros((since.size, cells), np.float32)
    moved = Season(0, 0, 0, season.rise_days, season.fall_days)
    at = since[near, None]
    rise = wave_edge(at - start, moved.rise_days)
    fall = wave_edge(at - end, moved.fall_days)
    out[near] = (rise - fall) * gain
    return out


def _gardens(since: NDArray[np.floating], common: float, cells: int, left_out: int, rng: np.random.Generator) -> Float:
    """Vegetables or tobacco: two or three waves a year to NDVI 0.6 - 0.8, whenever it suits the gardener.

    ``left_out``: so many of the first are not sown.
    """
    out = np.zeros((since.size, cells), np.float32)
    for cell in range(cells):
        cycles = int(rng.integers(2, 4))
        room = YEAR_DAYS / cycles
        for cycle in range(left_out, cycles):
            lasts = rng.uniform(60, min(110, room - 20))
            begin = cycle * room + rng.uniform(0, room - lasts - 10) + common
            gain = rng.uniform(0.6, 0.8) - _BASE[GARDEN]
            out[:, cell] += gain * (wave_edge(since - begin, 9.0) - wave_edge(since - begin - lasts, 6.0))
    return out


def flowering(days: NDArray[np.floating], plan: Plan, kind: int) -> Float:
    """Share of a ``kind``'s cells in flower (T, P), 0..1; only a crop that was sown flowers."""
    out = np.zeros((days.size, plan.kinds.shape[1]), np.float32)
    begin, end, _ = FLOWERING[kind]
    for year in range(plan.kinds.shape[0]):
        since = days - year * YEAR_DAYS
        window = wave_edge(since - begin, 4.0) - wave_edge(since - end, 4.0)
        sown = (plan.kinds[year] == kind) & (plan.states[year] == st.CULTIVATED)
        out[:, sown] += window[:, None].astype(np.float32)
    return out


def wave_edge(days: NDArray[np.floating], scale: float) -> NDArray[np.floating]:
    """One logistic edge, 0..1."""
    edge: NDArray[np.floating] = 1 / (1 + np.exp(-np.clip(days / scale, -40, 40)))
    return edge


def flooding(days: NDArray[np.floating], plan: Plan) -> Float:
    """Share of water seen (T, P), 0..1; only worked paddies are flooded."""
    out = np.zeros((days.size, plan.kinds.shape[1]), np.float32)
    for year in range(plan.kinds.shape[0]):
        since = days - year * YEAR_DAYS
        for kind, spells in FLOODED.items():
            wet = (plan.kinds[year] == kind) & np.isin(plan.states[year], (st.CULTIVATED, st.SEASONAL))
            for begin, end, share in spells:
                window = wave_edge(since - begin, 4.0) - wave_edge(since - end, 3.0)
                out[:, wet] += (share * window)[:, None].astype(np.float32)
    return out
