"""How long single readings are kept and how much room they may take, by class of quantity.

The sums of their hours stay where the store has them. Age and size both forget the oldest first; size a tenth of a
class at a time, so that the file is not written anew every day.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cloud.problems import Invalid
from cloud.telemetry.registry import Registry
from cloud.telemetry.store import HOUR_MS, Ints, ReadingsStore

__all__ = ["Keep", "forget_old", "parse_keep"]

_LOG = logging.getLogger(__name__)
_DAY_MS = 86_400_000
_MB = 1_000_000
# Forgotten rows leave holes in a file; past this share of it the holes are worth writing it anew.
_COMPACT_SHARE = 0.1
# What is left of a class that took too much room.
_LEAVE_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class Keep:
    """Days and megabytes (10**6 bytes) by quantity; `*` stands for all others, together where it is about room."""

    days: Mapping[str, int]
    mb: Mapping[str, int]


def parse_keep(days: str, mb: str = "") -> Keep | None:
    """`"*=400 rssi=30"` and `"*=20000 rssi=500"` as one; None where both are empty. Raises `Invalid`."""
    keep = Keep(_classes("keep_days", days), _classes("keep_mb", mb))
    return keep if keep.days or keep.mb else None


def _classes(setting: str, text: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for part in text.split():
        quantity, _, number = part.partition("=")
        if not quantity or not number.isdecimal() or int(number) < 1:
            raise Invalid(
                f"{setting}: {part!r} is not QUANTITY=NUMBER, for example '*=400 rssi=30'", code=f"bad_{setting}"
            )
        found[quantity] = int(number)
    return found


def forget_old(readings: ReadingsStore, registry: Registry, keep: Keep, now_ms: int) -> int:
    """Forget what is too old, then what takes too much room; how many readings.

    Gives the space back where it is much, and whenever room was the reason. Raises `StoreUnavailable`.
    """
    before = readings.health().readings
    aged = sum(
        readings.delete_before(_members(registry, keep.days, name), now_ms - days * _DAY_MS)
        for name, days in keep.days.items()
    )
    if aged and aged > _COMPACT_SHARE * before:
        readings.compact()
    sized = sum(_shrink(readings, _members(registry, keep.mb, name), name, mb * _MB) for name, mb in keep.mb.items())
    if sized:
        readings.compact()
    return aged + sized


def _members(registry: Registry, classes: Mapping[str, int], name: str) -> Ints:
    """The series of one class: those of its quantity, or of every quantity that has no class of its own."""
    return np.array([one.id for one in registry.series() if _class_of(one.name, classes) == name], dtype=np.int64)


def _class_of(series: str, classes: Mapping[str, int]) -> str:
    quantity = series.rpartition("/")[2].partition(".")[0]
    return quantity if quantity in classes else "*"


def _shrink(readings: ReadingsStore, series: Ints, name: str, most_bytes: int) -> int:
    """Forget the oldest whole hours of a class that takes more than `most_bytes`; how many readings."""
    health = readings.health()
    if not health.bytes or not health.readings:
        _LOG.debug("the readings store does not say how much room it takes; keep_mb has no effect")
        return 0
    hours, counts = readings.count_by_hour(series)
    room = most_bytes * health.readings // health.bytes
    if int(counts.sum()) <= room:
        return 0
    gone = readings.delete_before(series, _cut(hours, counts, int(_LEAVE_SHARE * room)) * HOUR_MS)
    _LOG.warning(
        "readings of class %s took more than %d MB: the oldest %d are forgotten", name, most_bytes // _MB, gone
    )
    return gone


def _cut(hours: Ints, counts: Ints, leave: int) -> int:
    """The first hour to stay, so that at most `leave` readings do; the newest hour always stays."""
    newer: Sequence[int] = np.cumsum(counts[::-1])[::-1].tolist()
    return next((hour for hour, n in zip(hours.tolist(), newer, strict=True) if n <= leave), int(hours[-1]))
