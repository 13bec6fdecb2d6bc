"""Positions: from the datum a device declares to WGS84, or a refusal.

Chinese map services deliver positions shifted by some 300-700 m (GCJ-02), or shifted twice (BD-09). Terraces are ten
metres wide, so a position without its datum says nothing. CGCS2000 and WGS84 differ by centimetres here and count as
one. The shift has no official formula; the one below is the publicly known approximation, inverted by iteration to
well under a metre.
"""

import math
from typing import Final

from cloud.problems import Invalid

__all__ = ["bd09_from_gcj02", "gcj02_from_wgs84", "to_wgs84"]

Position = tuple[float, float]  # longitude, latitude in degrees

# Krasovsky 1940, as the shift uses it: semi-major axis in metres and first eccentricity squared.
_AXIS_M: Final = 6_378_245.0
_ECCENTRICITY2: Final = 0.006_693_421_622_965_943
_BD_TURN: Final = math.pi * 3000.0 / 180.0
_CHINA: Final = (72.004, 0.8293, 137.8347, 55.8271)  # outside this box the services do not shift
_ROUNDS: Final = 8

_NAMES: Final = {
    "wgs84": "wgs84",
    "epsg4326": "wgs84",
    "cgcs2000": "cgcs2000",
    "epsg4490": "cgcs2000",
    "gcj02": "gcj02",
    "bd09": "bd09",
    "bd09ll": "bd09",
}


def to_wgs84(lon: float, lat: float, datum: str) -> tuple[float, float, str]:
    """(longitude, latitude) in WGS84 and the datum's plain name.

    Raises `Invalid` with code `datum_unknown` where the datum is missing or not one of WGS84, CGCS2000, GCJ-02, BD-09,
    and `position_absurd` where the numbers are no place on Earth, or nobody's: (0, 0) is what a receiver without a fix
    says.
    """
    name = _NAMES.get("".join(char for char in datum.lower() if char.isalnum()))
    if name is None:
        raise Invalid(
            f"datum {datum!r} is unknown: say WGS84, CGCS2000, GCJ-02 or BD-09 (undeclared, it may be 500 m off)",
            code="datum_unknown",
            pointer="/datum",
        )
    if not (math.isfinite(lon) and math.isfinite(lat) and abs(lon) <= 180 and abs(lat) <= 90):  # noqa: PLR2004
        raise Invalid(f"position ({lon}, {lat}) is no longitude and latitude in degrees", code="position_absurd")
    if lon == 0 and lat == 0:
        raise Invalid("position (0, 0) is a receiver without a fix, not a place", code="position_absurd")
    if name == "bd09":
        lon, lat = _gcj02_from_bd09(lon, lat)
    if name in {"gcj02", "bd09"}:
        lon, lat = _wgs84_from_gcj02(lon, lat)
    return lon, lat, name


def gcj02_from_wgs84(lon: float, lat: float) -> Position:
    """Where a GCJ-02 map draws this place."""
    west, south, east, north = _CHINA
    if not (west <= lon <= east and south <= lat <= north):
        return lon, lat
    x, y = lon - 105.0, lat - 35.0
    root, shared = math.sqrt(abs(x)), 20.0 * (math.sin(6 * math.pi * x) + math.sin(2 * math.pi * x)) * 2 / 3
    north_m = -100.0 + 2 * x + 3 * y + 0.2 * y * y + 0.1 * x * y + 0.2 * root + shared
    north_m += _waves(y, (20.0, 1.0), (40.0, 1 / 3)) + _waves(y, (160.0, 1 / 12), (320.0, 1 / 30))
    east_m = 300.0 + x + 2 * y + 0.1 * x * x + 0.1 * x * y + 0.1 * root + shared
    east_m += _waves(x, (20.0, 1.0), (40.0, 1 / 3)) + _waves(x, (150.0, 1 / 12), (300.0, 1 / 30))
    phi = math.radians(lat)
    bulge = 1 - _ECCENTRICITY2 * math.sin(phi) ** 2
    meridian_m = _AXIS_M * (1 - _ECCENTRICITY2) / bulge**1.5
    parallel_m = _AXIS_M / math.sqrt(bulge) * math.cos(phi)
    return lon + math.degrees(east_m / parallel_m), lat + math.degrees(north_m / meridian_m)


def bd09_from_gcj02(lon: float, lat: float) -> Position:
    """Where a BD-09 map draws what GCJ-02 has here."""
    radius = math.hypot(lon, lat) + 0.00002 * math.sin(lat * _BD_TURN)
    angle = math.atan2(lat, lon) + 0.000003 * math.cos(lon * _BD_TURN)
    return radius * math.cos(angle) + 0.0065, radius * math.sin(angle) + 0.006


def _waves(at: float, *terms: tuple[float, float]) -> float:
    return sum(size * math.sin(math.pi * at * turns) for size, turns in terms) * 2 / 3


def _wgs84_from_gcj02(lon: float, lat: float) -> Position:
    # The shift changes by less than a thousandth of the distance moved, so this contracts very fast.
    guess_lon, guess_lat = lon, lat
    for _ in range(_ROUNDS):
        drawn_lon, drawn_lat = gcj02_from_wgs84(guess_lon, guess_lat)
        guess_lon, guess_lat = guess_lon + lon - drawn_lon, guess_lat + lat - drawn_lat
    return guess_lon, guess_lat


def _gcj02_from_bd09(lon: float, lat: float) -> Position:
    guess_lon, guess_lat = lon - 0.0065, lat - 0.006
    for _ in range(_ROUNDS):
        drawn_lon, drawn_lat = bd09_from_gcj02(guess_lon, guess_lat)
        guess_lon, guess_lat = guess_lon + lon - drawn_lon, guess_lat + lat - drawn_lat
    return guess_lon, guess_lat
