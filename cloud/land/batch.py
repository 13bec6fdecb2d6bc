"""Findings as they come from remote sensing: a GeoJSON feature collection, checked feature by feature.

One bad feature is left out and listed; the rest goes on. What is checked is what the loop rests on: an outline on
Earth that does not cross itself, a class and an observability that exist, probabilities that are probabilities, and
that what cannot be seen was not called anything.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import shapely
from shapely.geometry import shape

from cloud.land.model import LandRules, Status
from cloud.problems import CloudError, Invalid

__all__ = ["Batch", "Finding", "Imported", "status_of"]

_CLASSES: Final = {
    "cultivated": Status.CULTIVATED,
    "idle_season": Status.CULTIVATED,  # one empty season is normal where one crop a year is (trap T5)
    "abandoned": Status.SUSPECTED,
    "converted": Status.CONVERTED,
    "natural": Status.NATURAL,
    "undecided": Status.UNKNOWN,
}
_OBSERVABILITY: Final = frozenset({"observable", "partly", "not_observable"})
_METRES_PER_DEGREE: Final = 111_320.0
_SUM_TOLERANCE: Final = 0.02
_WORLD: Final = (-180.0, -90.0, 180.0, 90.0)
_YEARS: Final = range(1970, 2200)


@dataclass(frozen=True, slots=True)
class Finding:
    """One parcel as judged from above, checked."""

    parcel: str
    region: str
    geometry: str
    box: tuple[float, float, float, float]
    area_m2: float
    basic_farmland: bool
    crop_year: int
    class_name: str
    observability: str
    probability: float | None
    record: str

    @property
    def id(self) -> str:
        """SHA-256 of the record: the same finding is the same finding, whichever batch brings it."""
        return sha256(self.record.encode()).hexdigest()

    @property
    def outline(self) -> str:
        """SHA-256 of the outline."""
        return sha256(self.geometry.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did; `refused` names each feature that was left out, and why."""

    batch: str
    parcels: int
    detections: int
    known: int
    candidates: int
    reopened: int
    refused: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """The result of one detection run. `region` is used for features that do not name their own."""

    features: Sequence[Mapping[str, Any]]
    region: str | None
    profile: str
    model: str
    calibration: str
    accuracy: str
    synthetic: bool

    @classmethod
    def from_geojson(cls, source: Path | Mapping[str, Any], *, region: str | None = None) -> "Batch":
        """A batch from a file or from a collection in memory. Raises `Invalid` when it is no feature collection."""
        name = source.name if isinstance(source, Path) else "feature collection"
        try:
            body = json.loads(source.read_text("utf-8")) if isinstance(source, Path) else source
        except (OSError, ValueError) as why:
            raise Invalid(f"{name}: cannot be read as GeoJSON ({why})") from why
        if not isinstance(body, Mapping) or body.get("type") != "FeatureCollection":
            raise Invalid(f"{name}: not a GeoJSON FeatureCollection")
        features = body.get("features")
        if not isinstance(features, Sequence) or isinstance(features, str):
            raise Invalid(f"{name}: the collection has no list of features")
        return cls(
            features=features,
            region=region,
            profile=str(body.get("profile", "")),
            model=str(body.get("model", "")),
            calibration=str(body.get("calibration", "")),
            accuracy=str(body.get("accuracy") or "not validated 未验证"),
            synthetic=bool(body.get("synthetic", False)),
        )

    def findings(self, refused: list[str]) -> Iterator[Finding]:
        """The good features one by one; a line for each bad one is added to `refused`."""
        seen: set[str] = set()
        for number, feature in enumerate(self.features):
            try:
                finding = self._finding(feature)
                if finding.parcel in seen:
                    raise Invalid(f"parcel {finding.parcel} stands twice in one batch")
            except CloudError as why:
                refused.append(f"feature {number}: {why.detail}")
            except (KeyError, TypeError, ValueError, shapely.errors.ShapelyError) as why:
                refused.append(f"feature {number}: {type(why).__name__} {why}")
            else:
                seen.add(finding.parcel)
                yield finding

    def _finding(self, feature: Mapping[str, Any]) -> Finding:
        record = dict(feature["properties"])
        parcel = str(record["parcel"])
        geometry = _canonical(feature["geometry"])
        box, area_m2 = _measured(feature["geometry"], parcel)
        class_name, observability = str(record["class_name"]), str(record["observability"])
        if class_name not in _CLASSES or observability not in _OBSERVABILITY:
            raise Invalid(f"parcel {parcel}: class {class_name!r} or observability {observability!r} is unknown")
        if observability == "not_observable" and class_name != "undecided":
            raise Invalid(f"parcel {parcel} is not observable and yet called {class_name!r}")
        crop_year = int(record["crop_year"])
        if crop_year not in _YEARS:
            raise Invalid(f"parcel {parcel}: crop year {crop_year} is absurd")
        region = str(record.get("region") or self.region or "")
        if not region:
            raise Invalid(f"parcel {parcel}: no region in the feature nor for the batch")
        return Finding(
            parcel=parcel,
            region=region,
            geometry=geometry,
            box=box,
            area_m2=float(record.get("area_m2") or area_m2),
            basic_farmland=bool(record.get("basic_farmland", False)),
            crop_year=crop_year,
            class_name=class_name,
            observability=observability,
            probability=_probability(record.get("probabilities") or {}, class_name, parcel),
            record=_canonical(record),
        )


def status_of(class_name: str, observability: str) -> Status:
    """What the map shows for a finding that no person has looked at."""
    return Status.NOT_OBSERVABLE if observability == "not_observable" else _CLASSES[class_name]


def is_candidate(finding: Finding, rules: LandRules) -> bool:
    """Whether a finding is worth a person's way: abandoned, seen well enough, probable enough."""
    return (
        finding.class_name == "abandoned"
        and finding.observability == "observable"
        and finding.probability is not None
        and finding.probability >= rules.candidate_probability
    )


def _measured(geometry: Mapping[str, Any], parcel: str) -> tuple[tuple[float, float, float, float], float]:
    polygon = shape(dict(geometry))
    if polygon.geom_type not in {"Polygon", "MultiPolygon"} or polygon.is_empty:
        raise Invalid(f"parcel {parcel}: outline is {polygon.geom_type}, a polygon is needed")
    west, south, east, north = polygon.bounds
    if not (_WORLD[0] <= west <= east <= _WORLD[2] and _WORLD[1] <= south <= north <= _WORLD[3]):
        raise Invalid(f"parcel {parcel}: coordinates {polygon.bounds} are no longitude and latitude")
    if not polygon.is_valid:
        raise Invalid(f"parcel {parcel}: outline crosses itself ({shapely.is_valid_reason(polygon)})")
    scale = math.cos(math.radians((south + north) / 2)) * _METRES_PER_DEGREE**2
    return (west, south, east, north), polygon.area * scale


def _probability(given: Mapping[str, Any], class_name: str, parcel: str) -> float | None:
    values = {str(name): float(value) for name, value in given.items()}
    if not values:
        if class_name != "undecided":
            raise Invalid(f"parcel {parcel} is called {class_name!r} without probabilities")
        return None
    if any(not 0 <= value <= 1 for value in values.values()) or abs(sum(values.values()) - 1) > _SUM_TOLERANCE:
        raise Invalid(f"parcel {parcel}: probabilities {values} are not in 0..1 with sum 1")
    return values.get("abandoned", 0.0)


def _canonical(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
