"""How much land is really abandoned: a stratified random sample of parcels, and an area with its interval.

The strata are what the map shows (and closed cases on their own); within a stratum every parcel has the same chance.
The estimate is the separate ratio estimator of Cochran 1977, §6.11: parcels differ in size and the total area of each
stratum is known. Where few visits say one thing, the sample's own variance is no guide: at none it is zero, and yet
nothing is certain; at a few, one large field decides. So it is at least that of the share (hits + 2) / (visits + 4) of
Agresti and Coull 1998, with the mean square of the visited areas.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cloud.problems import Invalid

__all__ = ["Interval", "Stratum", "abandoned_area", "draw"]

_Z95: Final = 1.959964
_FEWEST: Final = 2


@dataclass(frozen=True, slots=True)
class Interval:
    """An area in m2 and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Stratum:
    """`parcels` and `area_m2` of the whole stratum; the visited ones as (area in m2, found abandoned)."""

    parcels: int
    area_m2: float
    visits: tuple[tuple[float, bool], ...]


def draw(strata: Mapping[str, Sequence[str]], per_stratum: int, seed: int) -> list[tuple[str, str]]:
    """(stratum, parcel) of a sample, in an order that tells nothing. The same seed draws the same parcels.

    At least two of each stratum, or all of it where it holds fewer.
    """
    chance = random.Random(seed)  # noqa: S311 - a seed anybody can repeat is the point
    drawn = [
        (name, parcel)
        for name in sorted(strata)
        for parcel in chance.sample(sorted(strata[name]), min(len(strata[name]), max(per_stratum, _FEWEST)))
    ]
    chance.shuffle(drawn)
    return drawn


def abandoned_area(strata: Sequence[Stratum]) -> Interval:
    """The abandoned area over all strata. Raises `Invalid` while a stratum has too few visits to say anything."""
    value = variance = 0.0
    for stratum in strata:
        count = len(stratum.visits)
        if count < min(_FEWEST, stratum.parcels):
            raise Invalid(f"a stratum of {stratum.parcels} parcels has {count} visits; two are needed")
        if count:
            part, spread = _one(stratum, count)
            value, variance = value + part, variance + spread
    reach = _Z95 * math.sqrt(variance)
    total = sum(stratum.area_m2 for stratum in strata)
    return Interval(value, max(0.0, value - reach), min(total, value + reach))


def _one(stratum: Stratum, count: int) -> tuple[float, float]:
    visited_m2 = sum(area for area, _ in stratum.visits)
    hits = sum(hit for _, hit in stratum.visits)
    ratio = sum(area for area, hit in stratum.visits if hit) / visited_m2
    left = 1 - count / stratum.parcels
    if count == stratum.parcels:
        return stratum.area_m2 * ratio, 0.0
    spread = sum((area * (hit - ratio)) ** 2 for area, hit in stratum.visits) / (count - 1) if count > 1 else 0.0
    share = (hits + 2) / (count + 4)
    spread = max(spread, sum(area**2 for area, _ in stratum.visits) / count * share * (1 - share))
    return stratum.area_m2 * ratio, stratum.parcels**2 * left * spread / count
