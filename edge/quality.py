"""How far a value may be trusted, judged at the door: flagged, never deleted."""

from __future__ import annotations

from edge.quantities import quantity_of
from edge.wire import Quality, Reading


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
