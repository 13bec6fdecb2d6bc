"""The words of the land context as values. Times are milliseconds UTC, positions WGS84, areas m2 and mu."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from cloud.land.cycle import Action, State
from cloud.problems import Invalid

__all__ = [
    "ABANDONED",
    "CURRENT",
    "MU_M2",
    "Case",
    "CaseDetail",
    "Claim",
    "Evidence",
    "LandRules",
    "Page",
    "Recovery",
    "Status",
    "Step",
    "Verdict",
    "VerdictKind",
]

MU_M2: Final = 666.67
_DAY_MS: Final = 86_400_000


class Status(StrEnum):
    """What the map shows for a parcel. `ABANDONED` and `EXCUSED` exist by a person's verdict only."""

    CULTIVATED = "cultivated"
    FALLOW = "fallow"
    ABANDONED = "abandoned"
    SUSPECTED = "suspected"
    CONVERTED = "converted"
    NATURAL = "natural"  # seen from above as forest, shrub or water that never was a field in the series
    EXCUSED = "excused"  # unsuitable, force majeure, boundary error
    NOT_OBSERVABLE = "not_observable"  # too small or too narrow for the pixels
    UNKNOWN = "unknown"  # observable, but too few clear looks


class VerdictKind(StrEnum):
    """What a person found on the spot."""

    CULTIVATED = "cultivated"
    SEASONAL_IDLE = "seasonal_idle"
    ABANDONED_1Y = "abandoned_1y"
    ABANDONED_LONG = "abandoned_long"  # two crop years or more
    PLANNED_FALLOW = "planned_fallow"
    CONVERTED = "converted"
    UNSUITABLE = "unsuitable"
    FORCE_MAJEURE = "force_majeure"
    BOUNDARY_ERROR = "boundary_error"


ABANDONED: Final = frozenset({VerdictKind.ABANDONED_1Y, VerdictKind.ABANDONED_LONG})


class Recovery(StrEnum):
    """What grows again. Fruit, herbs and forage will do in the hills, but not on permanent basic farmland."""

    GRAIN = "grain"
    TILLAGE_CROP = "tillage_crop"
    GREEN_MANURE = "green_manure"
    FORAGE = "forage"
    FRUIT = "fruit"
    HERB = "herb"


@dataclass(frozen=True, slots=True)
class LandRules:
    """The numbers of the loop. They are local parameters, not law; the source of each is the domain reference.

    Lengths in metres, ages in days, terms in working days, probability in 0..1.
    """

    candidate_probability: float = 0.5
    position_tolerance_m: float = 30.0
    largest_accuracy_m: float = 50.0
    view_half_angle_deg: float = 35.0
    view_range_m: float = 300.0
    evidence_age_days: int = 180
    reuse_days: int = 60
    photo_bytes: int = 15_000_000
    photo_shortest_side_px: int = 240
    near_duplicate_bits: int = 5
    visit_days: int = 10
    remedy_days: int = 120
    review_days: int = 5
    recheck_days: int = 180
    issues_per_region_month: int = 60
    holidays: frozenset[str] = frozenset()
    """ISO days on which nobody works, beside Saturdays and Sundays."""
    extra_workdays: frozenset[str] = frozenset()
    """ISO weekend days on which people do work."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a collector says about a photo: where it was taken (in which datum), when, of what.

    `view` is "overview" or "close"; `azimuth_deg` clockwise from north, 0..360; `accuracy_m` as the receiver gave it.
    """

    lon: float
    lat: float
    datum: str
    taken_ms: int
    view: str = "overview"
    accuracy_m: float | None = None
    azimuth_deg: float | None = None
    origin: str = "visit"

    def __post_init__(self) -> None:
        if self.view not in {"overview", "close"}:
            raise Invalid(f"view {self.view!r}: a photo is an overview or a close view", pointer="/view")
        if self.azimuth_deg is not None and not 0 <= self.azimuth_deg <= 360:  # noqa: PLR2004 - a full turn
            raise Invalid(f"azimuth {self.azimuth_deg}: expected 0..360 degrees", pointer="/azimuth_deg")
        if self.accuracy_m is not None and not self.accuracy_m >= 0:
            raise Invalid(f"accuracy {self.accuracy_m}: expected metres, 0 or more", pointer="/accuracy_m")


@dataclass(frozen=True, slots=True)
class Case:
    """One case as it stands. `id` is its number: region, year, serial; `reminder` above 0 means it is late."""

    id: str
    parcel: str
    region: str
    state: State
    crop_year: int
    detection: str | None
    issuer: str | None
    collector: str | None
    opened_ms: int
    changed_ms: int
    due_ms: int | None
    closed_ms: int | None
    recheck_ms: int | None
    merged_into: str | None
    verdict: VerdictKind | None
    reminder: int
    synthetic: bool
    area_m2: float
    probability: float | None
    version: int

    @property
    def area_mu(self) -> float:
        """Area of the parcel in mu."""
        return self.area_m2 / MU_M2


@dataclass(frozen=True, slots=True)
class Step:
    """One entry in a case's history."""

    seq: int
    at_ms: int
    who: str
    action: str
    before: str
    after: str
    note: str
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Evidence:
    """A photo with its place and time, both checked.

    `phase` is the state of the case when it was filed; a photo of a blind audit visit has phase "audit" and no case.
    `flags` are hints for the reviewer, and none of them rejects.
    """

    id: str
    case: str | None
    parcel: str
    collector: str
    taken_ms: int
    received_ms: int
    lon: float
    lat: float
    datum: str
    accuracy_m: float | None
    azimuth_deg: float | None
    view: str
    origin: str
    phase: str
    photo_sha256: str
    media_type: str
    width: int
    height: int
    distance_m: float
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a person signed. `digest` covers everything else, the photos' hashes included."""

    id: str
    case: str
    parcel: str
    signer: str
    at_ms: int
    kind: VerdictKind
    crop_year: int
    evidence: tuple[str, ...]
    note: str
    digest: str
    withdrawn_ms: int | None


@dataclass(frozen=True, slots=True)
class CaseDetail:
    """A case with all that belongs to it, and what the asker may do next."""

    case: Case
    steps: tuple[Step, ...]
    evidence: tuple[Evidence, ...]
    verdicts: tuple[Verdict, ...]
    actions: tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """Some items and where to go on; `next` is None at the end."""

    items: tuple[Case, ...] = field(default_factory=tuple)
    next: str | None = None


CURRENT: Final[Mapping[VerdictKind, Status]] = {
    VerdictKind.CULTIVATED: Status.CULTIVATED,
    VerdictKind.SEASONAL_IDLE: Status.CULTIVATED,
    VerdictKind.ABANDONED_1Y: Status.ABANDONED,
    VerdictKind.ABANDONED_LONG: Status.ABANDONED,
    VerdictKind.PLANNED_FALLOW: Status.FALLOW,
    VerdictKind.CONVERTED: Status.CONVERTED,
    VerdictKind.UNSUITABLE: Status.EXCUSED,
    VerdictKind.FORCE_MAJEURE: Status.EXCUSED,
    VerdictKind.BOUNDARY_ERROR: Status.EXCUSED,
}
"""A verdict as the map shows it."""
