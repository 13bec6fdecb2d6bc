"""How far a value may be trusted, judged at the door: flagged, never deleted.

A value outside the physical range is bad. A line that stays flat where nature never is, and a single leap that is
gone with the next value, are uncertain: both are seen only in the light of the values before.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

from edge.quantities import quantity_of
from edge.wire import Quality, Reading

_FLAT_VALUES = 60
_FLAT_MS = 2 * 3_600_000
_SPIKE_SHARE = 0.25  # of the physical range, between two values a few minutes apart
_NEAR_MS = 15 * 60_000
# Counters, switches and set figures stand still by nature; a gas may rest at zero and leap when a door opens.
_STEADY = frozenset(
    {"count", "power_present", "day_length", "water_volume", "rainfall", "rain_intensity", "battery_level"}
    | {"battery_voltage", "output", "weight", "feed_mass", "leaf_wetness", "illuminance", "solar_radiation", "par"}
    | {"ammonia", "carbon_monoxide", "hydrogen_sulfide", "nitrite", "wind_speed", "wind_gust", "wind_direction"}
)


def judge(
    name: str,
    time_ms: int,
    value: float | None,
    unit: str,
    quality: Quality = Quality.GOOD,
    calibration: str | None = None,
) -> Reading:
    """The value as a reading: out of the physical range or missing is said, the value itself is kept.

    Raises ``WireError`` for a name or time that no reading can have, and for NaN and infinity.
    """
    if value is None and quality < Quality.DEVICE_ERROR:
        quality = Quality.DEVICE_ERROR
    known = quantity_of(name)
    if known is not None and value is not None and not known.holds(value) and quality < Quality.DEVICE_ERROR:
        quality = Quality.OUT_OF_RANGE
    return Reading(name, time_ms, value, unit, quality, calibration)


@dataclass(slots=True)
class _Past:
    last: deque[float] = field(default_factory=lambda: deque(maxlen=2))
    last_ms: int = 0
    same: int = 0
    same_since_ms: int = 0


class Doubt:
    """Remembers a little of each series and marks good readings uncertain where they are not believable."""

    def __init__(self) -> None:
        self._past: dict[str, _Past] = {}

    def look(self, reading: Reading) -> Reading:
        """The reading, marked where it stands on a flat line or leaps; readings of the past pass as they are."""
        known = quantity_of(reading.name)
        if known is None or known.name in _STEADY or reading.value is None or reading.quality >= Quality.DEVICE_ERROR:
            return reading
        past = self._past.get(reading.name)
        if past is None:
            past = self._past[reading.name] = _Past(same_since_ms=reading.time_ms)
        if reading.time_ms <= past.last_ms:
            return reading
        doubtful = self._flat(past, reading) | self._leaps(past, reading, known.high - known.low)
        past.last.append(reading.value)
        past.last_ms = reading.time_ms
        return replace(reading, quality=max(reading.quality, Quality.UNCERTAIN)) if doubtful else reading

    def _flat(self, past: _Past, reading: Reading) -> bool:
        if past.last and reading.value == past.last[-1]:
            past.same += 1
        else:
            past.same, past.same_since_ms = 1, reading.time_ms
        return past.same >= _FLAT_VALUES and reading.time_ms - past.same_since_ms >= _FLAT_MS

    def _leaps(self, past: _Past, reading: Reading, span: float) -> bool:
        """Far from the two values before, which agree with each other."""
        if len(past.last) < 2 or reading.time_ms - past.last_ms > _NEAR_MS or reading.value is None:  # noqa: PLR2004
            return False
        before, last = past.last
        return abs(reading.value - last) > _SPIKE_SHARE * span and abs(last - before) < _SPIKE_SHARE * span / 5
