"""Is this photo evidence for this parcel? Hard faults refuse it; soft ones are left to the reviewer's eye.

Hard: datum unknown, position absurd or too vague, position outside the parcel by more than the tolerance, a camera
that looks away from it, a time that cannot be. Soft: everything that may be innocent. A soft flag never refuses.
"""

import json
import math
from dataclasses import dataclass
from typing import Final

from shapely.affinity import affine_transform
from shapely.geometry import Point, Polygon, shape
from shapely.geometry.base import BaseGeometry

from cloud.land.datums import to_wgs84
from cloud.land.model import Claim, LandRules
from cloud.problems import Invalid, Refused

__all__ = ["Place", "check_place", "check_time"]

_METRES_PER_DEGREE: Final = 111_320.0
_AHEAD_MS: Final = 300_000  # a phone's clock may run this far ahead
_DAY_MS: Final = 86_400_000
_MOST_ACCURACY_HELP_M: Final = 20.0


@dataclass(frozen=True, slots=True)
class Place:
    """A checked position: WGS84, metres from the parcel (0 inside), hints for the reviewer."""

    lon: float
    lat: float
    datum: str
    distance_m: float
    flags: tuple[str, ...]


def check_place(claim: Claim, geometry: str, rules: LandRules) -> Place:
    """Hold a claimed position against a parcel's outline (GeoJSON). Raises `Invalid` or `Refused`."""
    lon, lat, datum = to_wgs84(claim.lon, claim.lat, claim.datum)
    flags = []
    if datum in {"gcj02", "bd09"}:
        flags.append(f"converted_from_{datum}")
    if claim.accuracy_m is None:
        flags.append("accuracy_unknown")
    elif claim.accuracy_m > rules.largest_accuracy_m:
        raise Invalid(
            f"the receiver was sure to {claim.accuracy_m:.0f} m only; {rules.largest_accuracy_m:.0f} m are needed: "
            "wait for a better fix",
            code="position_vague",
            pointer="/accuracy_m",
        )
    # Around the camera the Earth is flat enough: metres east and north of it.
    east = _METRES_PER_DEGREE * math.cos(math.radians(lat))
    parcel = affine_transform(
        shape(json.loads(geometry)), [east, 0, 0, _METRES_PER_DEGREE, -lon * east, -lat * _METRES_PER_DEGREE]
    )
    distance_m = float(parcel.distance(Point(0, 0)))
    allowed_m = rules.position_tolerance_m + min(claim.accuracy_m or 0.0, _MOST_ACCURACY_HELP_M)
    if distance_m > allowed_m:
        raise Refused(
            f"the photo was taken {distance_m:.0f} m from the parcel; {allowed_m:.0f} m are allowed",
            code="position_outside",
            rule="L5",
            distance_m=round(distance_m, 1),
        )
    if distance_m > 0:
        flags.append("from_outside")
        _check_view(claim, parcel, rules, flags)
    return Place(lon, lat, datum, distance_m, tuple(flags))


def check_time(claim: Claim, now_ms: int, rules: LandRules, *, not_before_ms: int | None = None) -> None:
    """Refuse photos from the future, from too long ago, or from before what they shall prove."""
    if claim.taken_ms > now_ms + _AHEAD_MS:
        raise Invalid(
            "the photo was taken in the future: set the phone's clock", code="time_ahead", pointer="/taken_ms"
        )
    if claim.taken_ms < now_ms - rules.evidence_age_days * _DAY_MS:
        raise Refused(f"the photo is older than {rules.evidence_age_days} days", code="photo_old", rule="L5")
    if not_before_ms is not None and claim.taken_ms < not_before_ms:
        raise Refused("the photo was taken before the remedy began: it cannot show its result", rule="L5")


def _check_view(claim: Claim, parcel: BaseGeometry, rules: LandRules, flags: list[str]) -> None:
    if claim.azimuth_deg is None:
        flags.append("direction_unknown")
        return
    if not _view(claim.azimuth_deg, rules).intersects(parcel):
        raise Refused("the camera looked away from the parcel", code="view_misses", rule="L5")


def _view(azimuth_deg: float, rules: LandRules) -> Polygon:
    """The ground that a camera at (0, 0) sees, metres."""
    half, rays = rules.view_half_angle_deg, 8
    turns = [azimuth_deg - half + 2 * half * step / rays for step in range(rays + 1)]
    rim = [
        (rules.view_range_m * math.sin(math.radians(turn)), rules.view_range_m * math.cos(math.radians(turn)))
        for turn in turns
    ]
    return Polygon([(0.0, 0.0), *rim])
