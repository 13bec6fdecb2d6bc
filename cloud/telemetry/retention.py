"""How long single readings are kept, by class of quantity. The sums of their hours stay where the store has them."""

from collections.abc import Mapping

import numpy as np

from cloud.problems import Invalid
from cloud.telemetry.registry import Registry
from cloud.telemetry.store import ReadingsStore

__all__ = ["forget_old", "parse_keep"]

_DAY_MS = 86_400_000
# Forgotten rows leave holes in a file; past this share of it the holes are worth writing it anew.
_COMPACT_SHARE = 0.1


def parse_keep(text: str) -> dict[str, int]:
    """`"*=400 rssi=30"` -> days by quantity, `*` for all others; empty: keep everything. Raises `Invalid`."""
    keep: dict[str, int] = {}
    for part in text.split():
        quantity, _, days = part.partition("=")
        if not quantity or not days.isdecimal() or int(days) < 1:
            raise Invalid(
                f"keep_days: {part!r} is not QUANTITY=DAYS, for example '*=400 rssi=30'", code="bad_keep_days"
            )
        keep[quantity] = int(days)
    return keep


def forget_old(readings: ReadingsStore, registry: Registry, keep: Mapping[str, int], now_ms: int) -> int:
    """Forget what is older than its class is kept; how many readings. Gives the space back when it is much."""
    classes: dict[int, list[int]] = {}
    for one in registry.series():
        quantity = one.name.rpartition("/")[2].partition(".")[0]
        days = keep.get(quantity, keep.get("*"))
        if days is not None:
            classes.setdefault(days, []).append(one.id)
    gone = sum(
        readings.delete_before(np.array(ids, dtype=np.int64), now_ms - days * _DAY_MS) for days, ids in classes.items()
    )
    if gone and gone > _COMPACT_SHARE * readings.health().readings:
        readings.compact()
    return gone
