"""How right is the map, and how much land is it really: numbers with intervals, or no numbers at all.

Counting pixels of a map is not measuring area: the map errs, and errs unevenly. A stratified random sample,
judged by people, gives accuracies and areas with confidence intervals. Olofsson et al. 2014 (the map's classes
are the strata); Stehman 2014 (strata need not be the map's classes).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remote_sensing.cubes import LandError

Z95 = 1.959964
"""Standard normal quantile of a 95 % interval."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its standard error; ``low``/``high`` bound the 95 % interval."""

    value: float
    se: float

    @property
    def low(self) -> float:
        """Lower bound."""
        return self.value - Z95 * self.se

    @property
    def high(self) -> float:
        """Upper bound."""
        return self.value + Z95 * self.se


@dataclass(frozen=True, slots=True)
class Assessment:
    """What a sample says of a map. ``area`` per class in the unit of the strata's sizes; shares 0..1.

    ``matrix``: map class -> reference class -> share of the whole area, 0..1, all together 1: the error matrix of
    Olofsson 2014 in estimated area proportions, not in counts of the sample.
    """

    classes: tuple[str, ...]
    overall: Estimate
    users: Mapping[str, Estimate]
    producers: Mapping[str, Estimate]
    area: Mapping[str, Estimate]
    matrix: Mapping[str, Mapping[str, float]]
    samples: int

    def f1(self, name: str) -> float:
        """Area-adjusted F1 of one class: harmonic mean of user's and producer's accuracy."""
        users, producers = self.users[name].value, self.producers[name].value
        return 2 * users * producers / (users + producers) if users + producers else 0.0


def assess(
    strata: Sequence[str],
    mapped: Sequence[str],
    reference: Sequence[str],
    sizes: Mapping[str, float],
) -> Assessment:
    """Stehman 2014: accuracies and areas from a stratified random sample; strata may differ from map classes.

    ``strata``, ``mapped``, ``reference``: one word per sample unit. ``sizes``: size of each stratum (pixels,
    m2, ...); areas come out in that unit. Where the strata are the map's classes this equals Olofsson 2014.
    Raises ``LandError`` (``bad_sample``): unequal lengths, a stratum without a size or with fewer than two units.
    """
    if not len(strata) == len(mapped) == len(reference) or not len(strata):
        raise LandError("bad_sample", f"{len(strata)} strata, {len(mapped)} mapped, {len(reference)} reference")
    of_unit, said, true = (np.asarray(part, dtype=object) for part in (strata, mapped, reference))
    for name in sizes:
        count = int((of_unit == name).sum())
        if count < 2:  # noqa: PLR2004 - a variance needs two
            raise LandError("bad_sample", f"stratum {name}: {count} units, needs at least 2")
    unknown = set(of_unit) - set(sizes)
    if unknown:
        raise LandError("bad_sample", f"stratum {min(unknown)}: no size given")
    classes = tuple(sorted(set(said) | set(true)))
    design = _Design(of_unit, sizes)
    users, producers, area = {}, {}, {}
    for name in classes:
        both = ((said == name) & (true == name)).astype(float)
        users[name] = design.ratio(both, (said == name).astype(float))
        producers[name] = design.ratio(both, (true == name).astype(float))
        share = design.mean((true == name).astype(float))
        area[name] = Estimate(share.value * design.total, share.se * design.total)
    overall = design.mean((said == true).astype(float))
    matrix = {
        row: {name: design.mean(((said == row) & (true == name)).astype(float)).value for name in classes}
        for row in classes
    }
    return Assessment(classes, overall, users, producers, area, matrix, len(of_unit))


class _Design:
    """Stratified estimators of a mean and of a ratio of two means."""

    def __init__(self, of_unit: NDArray[np.object_], sizes: Mapping[str, float]) -> None:
        self.parts = [(size, np.flatnonzero(of_unit == name)) for name, size in sizes.items()]
        self.total = float(sum(sizes.values()))

    def mean(self, y: NDArray[np.float64]) -> Estimate:
        value = sum(size * float(y[rows].mean()) for size, rows in self.parts) / self.total
        spread = sum(
            size**2 * (1 - rows.size / size) * float(y[rows].var(ddof=1)) / rows.size for size, rows in self.parts
        )
        return Estimate(value, float(np.sqrt(max(spread, 0.0))) / self.total)

    def ratio(self, y: NDArray[np.float64], x: NDArray[np.float64]) -> Estimate:
        below = sum(size * float(x[rows].mean()) for size, rows in self.parts)
        if below <= 0:
            return Estimate(float("nan"), float("nan"))
        value = sum(size * float(y[rows].mean()) for size, rows in self.parts) / below
        spread = 0.0
        for size, rows in self.parts:
            both = float(np.cov(x[rows], y[rows])[0, 1])
            part = float(y[rows].var(ddof=1)) + value**2 * float(x[rows].var(ddof=1)) - 2 * value * both
            spread += size**2 * (1 - rows.size / size) * part / rows.size
        return Estimate(value, float(np.sqrt(max(spread, 0.0))) / below)


def design_sample(
    sizes: Mapping[str, float],
    expected_users: Mapping[str, float],
    *,
    target_se: float = 0.01,
    least: int = 50,
) -> dict[str, int]:
    """How many units to visit in each stratum: Cochran's total, rare strata kept at ``least``.

    ``expected_users``: guessed user's accuracy per stratum, 0..1; ``target_se``: wanted standard error of the
    overall accuracy. Raises ``LandError("bad_sample")``. Source: Olofsson et al. 2014, equation 13.
    """
    total = float(sum(sizes.values()))
    if not sizes or total <= 0 or not 0 < target_se < 1 or set(sizes) != set(expected_users):
        raise LandError("bad_sample", "strata need sizes > 0, a guessed accuracy each, and 0 < target_se < 1")
    guess = {name: min(max(expected_users[name], 0.0), 1.0) for name in sizes}
    spread = sum(size / total * np.sqrt(guess[name] * (1 - guess[name])) for name, size in sizes.items())
    wanted = (spread / target_se) ** 2
    rare = {name for name, size in sizes.items() if wanted * size / total < least}
    rest = max(wanted - least * len(rare), 0.0)
    common = sum(size for name, size in sizes.items() if name not in rare)
    return {
        name: int(min(size, least if name in rare else max(least, round(rest * size / common))))
        for name, size in sizes.items()
    }


def draw_sample(strata: Sequence[str], counts: Mapping[str, int], *, seed: int) -> NDArray[np.int64]:
    """Positions of a stratified simple random sample without replacement, shuffled so that no order tells."""
    rng = np.random.default_rng(seed)
    names = np.asarray(strata, dtype=object)
    picked = []
    for name, count in counts.items():
        rows = np.flatnonzero(names == name)
        if rows.size < count:
            raise LandError("bad_sample", f"stratum {name}: {rows.size} units, {count} wanted")
        picked.append(rng.choice(rows, count, replace=False))
    return rng.permutation(np.concatenate(picked)).astype(np.int64)


def calibration_error(chance: NDArray[np.floating], truth: NDArray[np.bool_], bins: int = 10) -> float:
    """Expected calibration error over equal-width bins: mean |stated - observed|, weighted; 0..1."""
    slot = np.minimum((np.asarray(chance) * bins).astype(int), bins - 1)
    total = 0.0
    for one in range(bins):
        here = slot == one
        if here.any():
            total += float(here.mean()) * abs(float(chance[here].mean()) - float(truth[here].mean()))
    return total


@dataclass(frozen=True, slots=True)
class BlockCalibration:
    """Calibration error 0..1 of one block of places: ``row`` from the south, ``column`` from the west, both from 1."""

    row: int
    column: int
    samples: int
    error: float


def calibration_by_block(
    chance: NDArray[np.floating], truth: NDArray[np.bool_], at: NDArray[np.floating], parts: int = 3
) -> tuple[BlockCalibration, ...]:
    """``calibration_error`` apart for each block of a ``parts`` x ``parts`` grid over the sample's extent.

    ``chance`` (N,) 0..1, ``truth`` (N,), ``at`` (N, 2) x and y of each unit in any unit of length or degrees. Blocks
    without a unit are not among the answers. A probability may be right in the mean and wrong in every valley; but in a
    block of few units chance alone makes an error of about 0.5 / sqrt(units). Raises ``LandError("bad_sample")``.
    """
    if not len(chance) == len(truth) == len(at) or not len(chance) or not np.isfinite(at).all():
        raise LandError("bad_sample", f"{len(chance)} chances, {len(truth)} truths, {len(at)} places: must agree")
    low, high = at.min(axis=0), at.max(axis=0)
    cell = np.minimum(((at - low) / np.maximum(high - low, 1e-12) * parts).astype(int), parts - 1)
    found = []
    for column, row in sorted({(int(x), int(y)) for x, y in cell}):
        here = (cell == (column, row)).all(axis=1)
        found.append(
            BlockCalibration(row + 1, column + 1, int(here.sum()), calibration_error(chance[here], truth[here]))
        )
    return tuple(found)
