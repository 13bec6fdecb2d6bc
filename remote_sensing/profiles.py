"""When is land "abandoned"? There is no single legal definition, so it is a named parameter of every figure.

Published definitions differ by a factor of five (one season to five years). A profile turns the posterior
of the states into administrative classes, so each can be recomputed without touching an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from remote_sensing.cubes import LandError


@dataclass(frozen=True, slots=True)
class Profile:
    """A definition: ``min_years`` whole crop years in a row without cultivation make land abandoned (1..20)."""

    id: str
    min_years: int
    title_zh: str
    title_en: str
    source: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.min_years <= 20:  # noqa: PLR2004 - the range the docstring promises
            raise LandError("bad_profile", f"profile {self.id}: min_years {self.min_years} is not in 1..20")


CN_ADMIN = Profile(
    id="cn_admin",
    min_years=2,
    title_zh="连续两年以上未耕种",
    title_en="not cultivated for at least two crop years in a row",
    source="Rural Land Contract Law, the two-year rule",
)
ONE_YEAR = Profile(
    id="one_year",
    min_years=1,
    title_zh="整年未耕种",
    title_en="not cultivated for one whole crop year",
    source="regional practice: idle for one full year",
)
YIN2020 = Profile(
    id="yin2020",
    min_years=5,
    title_zh="连续五年以上未耕种",
    title_en="not cultivated for at least five crop years in a row",
    source="Yin et al. 2020, Remote Sensing of Environment 246",
)
PROFILES = {profile.id: profile for profile in (CN_ADMIN, ONE_YEAR, YIN2020)}

Run = tuple[int, int, float]
"""Crop year in which an idle run begins, crop year in which it still lasts, and the probability of that, 0..1."""


def years_abandoned(runs: Sequence[Run], crop_years: Sequence[int], profile: Profile) -> tuple[float, ...]:
    """P(the year lies in a run of at least ``profile.min_years`` idle years) per crop year, 0..1, without an image.

    ``runs`` as kept with every detection: all begins and lasts of one parcel, what is too unlikely left out.
    """
    chance = {(begin, last): share for begin, last, share in runs}
    out = []
    for year in crop_years:
        begins = (begin for begin in crop_years if begin <= year)
        total = sum(chance.get((begin, max(year, begin + profile.min_years - 1)), 0.0) for begin in begins)
        out.append(min(total, 1.0))
    return tuple(out)
