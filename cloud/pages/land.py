"""Parcels and cases as the console shows them. A detection stays a clue in every word of these pages."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cloud.pages.legend import CLASS_COLOURS, Share, shares
from cloud.pages.words import Language, Words

if TYPE_CHECKING:
    from cloud.land import Case, Land
    from cloud.who import Who

__all__ = [
    "LandView",
    "ParcelRow",
    "ParcelView",
    "land_view",
    "latest_case",
    "light_parcels",
    "parcel_rows",
    "parcel_view",
]


@dataclass(frozen=True, slots=True)
class LandView:
    """All parcels in one glance."""

    total: int
    shares: tuple[Share, ...]
    synthetic: bool
    cases: dict[str, int]


@dataclass(frozen=True, slots=True)
class ParcelRow:
    """One line of the list under the map."""

    id: str
    status: str
    p_abandoned: float | None
    crop_year: int | None
    area_m2: float


@dataclass(frozen=True, slots=True)
class Chance:
    """Probability of one class."""

    name: str
    share: float
    colour: str


@dataclass(frozen=True, slots=True)
class Year:
    """Probability of abandonment in one crop year; None where it was not judged."""

    year: int
    share: float | None


@dataclass(frozen=True, slots=True)
class CaseLink:
    """A case of this parcel."""

    id: str
    state: str


@dataclass(frozen=True, slots=True)
class ParcelView:
    """Why the system thinks so, for one parcel."""

    id: str
    status: str
    verified: bool
    synthetic: bool
    validated: bool
    area_m2: float
    region: str
    crop_year: int | None
    observability: str
    pure_pixels: int
    onset: Mapping[str, int] | None
    chances: tuple[Chance, ...]
    years: tuple[Year, ...]
    years_text: str
    looks_text: str
    reasons: tuple[str, ...]
    profile: str
    model: str
    calibration: str
    cases: tuple[CaseLink, ...]


NameOf = Callable[[str], str]
_MOST = 20_000
_CANDIDATE = "candidate"


def land_view(land: "Land", who: "Who") -> LandView:
    """Counts of parcels by status and of cases by state, in the asker's regions."""
    counts = land.counts(who)
    parcels = counts["parcels"]
    any_parcel = land.parcels(who, limit=1)["features"] if parcels else []
    synthetic = any(feature["properties"]["synthetic"] for feature in any_parcel)
    return LandView(sum(parcels.values()), shares(parcels), synthetic, counts["cases"])


def latest_case(land: "Land", who: "Who", states: Collection[str]) -> "Case | None":
    """The case that people moved last; a mere candidate only where there is nothing else."""
    moved = [state for state in states if state != _CANDIDATE] or list(states)
    newest = [case for state in moved for case in land.cases(who, state=state, limit=1).items]
    return max(newest, key=lambda case: case.changed_ms, default=None)


def light_parcels(land: "Land", who: "Who") -> dict[str, Any]:
    """Outlines with id and status alone: a thousand reasons are not sent to draw a thousand outlines.

    Corners are rounded to a hundred-thousandth of a degree, about a metre: for drawing only.
    """
    whole = land.parcels(who, limit=_MOST)
    features = [
        {
            "type": "Feature",
            "id": feature["id"],
            "geometry": feature["geometry"] | {"coordinates": _rounded(feature["geometry"]["coordinates"])},
            "properties": {"status": feature["properties"]["status"]},
        }
        for feature in whole["features"]
    ]
    return {"type": "FeatureCollection", "features": features}


def _rounded(coordinates: Any) -> Any:
    if isinstance(coordinates, list):
        return [_rounded(item) for item in coordinates]
    return round(coordinates, 5)


def parcel_rows(
    land: "Land", who: "Who", *, status: str | None, after: str | None, limit: int
) -> tuple[list[ParcelRow], str | None]:
    """One page of the list, and where the next begins."""
    found = land.parcels(who, status=status, limit=limit, after=after)
    return [_row(feature["properties"]) for feature in found["features"]], found.get("next")


def parcel_view(body: Mapping[str, Any], words: Words, region_name: NameOf) -> ParcelView:
    """One parcel for its page or panel, from what the land service says about it."""
    found: Mapping[str, Any] = body["findings"][0] if body["findings"] else {}
    years = _years(found)
    chinese = words.language is Language.ZH
    return ParcelView(
        id=body["parcel"],
        status=body["status"],
        verified=bool(body["verified"]),
        synthetic=body["synthetic"],
        validated="not validated" not in str(found.get("accuracy", "not validated")),
        area_m2=body["area_m2"],
        region=region_name(body["region"]),
        crop_year=found.get("crop_year"),
        observability=str(found.get("observability") or "not_observable"),
        pure_pixels=int(found.get("pure_pixels") or 0),
        onset=_onset(found.get("onset")),
        chances=_chances(found.get("probabilities") or {}),
        years=years,
        years_text=words("punctuation.list").join(_year_text(year, words) for year in years),
        looks_text=_looks(found, words),
        reasons=tuple(found.get("reasons_zh" if chinese else "reasons_en") or ()),
        profile=str(found.get("profile", "")),
        model=str(found.get("model", "")),
        calibration=str(found.get("calibration", "")),
        cases=tuple(CaseLink(case["id"], case["state"]) for case in body["cases"]),
    )


def _row(shown: Mapping[str, Any]) -> ParcelRow:
    return ParcelRow(shown["parcel"], shown["status"], shown["probability"], shown["crop_year"], shown["area_m2"])


def _onset(said: Mapping[str, Any] | None) -> dict[str, int] | None:
    return {name: int(said[name]) for name in ("p05", "p50", "p95")} if said else None


def _chances(probabilities: Mapping[str, float]) -> tuple[Chance, ...]:
    order = sorted(probabilities.items(), key=lambda item: -item[1])
    return tuple(Chance(name, share, CLASS_COLOURS.get(name, "#8a918c")) for name, share in order)


def _years(found: Mapping[str, Any]) -> tuple[Year, ...]:
    return tuple(
        Year(year, share)
        for year, share in zip(found.get("crop_years") or (), found.get("p_abandoned") or (), strict=False)
    )


def _year_text(year: Year, words: Words) -> str:
    if year.share is None:
        return words("parcel.year_none", year=year.year)
    return words("parcel.year_value", year=year.year, value=f"{year.share:.0%}")


def _looks(found: Mapping[str, Any], words: Words) -> str:
    pairs: Sequence[tuple[int, int]] = list(zip(found.get("crop_years") or (), found.get("looks") or (), strict=False))
    return words("punctuation.list").join(words("parcel.looks_value", year=year, n=n) for year, n in pairs)
