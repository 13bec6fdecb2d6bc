"""Where in the order of storing something stands: what whoever follows the store (the alarms) has seen of it.

Every `append` that stores something new takes the next position. Nothing is written for it but a few more columns of
the pack ledger's rows; only arrivals without a number of their own get a row, one for each sender and call.
"""

from collections.abc import Sequence

import numpy as np

from cloud.telemetry.store import Arrival, Stored

__all__ = ["DAY_MS", "extents", "heard_of", "loose_extents"]

DAY_MS = 86_400_000


def extents(arrivals: Sequence[Arrival]) -> list[tuple[int, int] | tuple[None, None]]:
    """First and last time (ms) of each arrival's readings; (None, None) for one without readings."""
    found: list[tuple[int, int] | tuple[None, None]] = [(None, None)] * len(arrivals)
    full = [nth for nth, arrival in enumerate(arrivals) if len(arrival.points)]
    if not full:
        return found
    times = np.concatenate([arrivals[nth].points.time_ms for nth in full])
    starts = np.cumsum([0, *(len(arrivals[nth].points) for nth in full[:-1])])
    lows, highs = np.minimum.reduceat(times, starts), np.maximum.reduceat(times, starts)
    for nth, low, high in zip(full, lows.tolist(), highs.tolist(), strict=True):
        found[nth] = (low, high)
    return found


def heard_of(arrivals: Sequence[Arrival]) -> dict[str, int]:
    """When the latest of each gateway's arrivals was received (ms UTC)."""
    held: dict[str, int] = {}
    for arrival in arrivals:
        name = arrival.key.gateway if arrival.key is not None else arrival.sender
        if name:
            held[name] = max(held.get(name, 0), arrival.received_ms)
    return held


def loose_extents(arrivals: Sequence[Arrival]) -> list[Stored]:
    """One row for each sender of readings that came without a number."""
    held: dict[str, list[int]] = {}
    for arrival in arrivals:
        if arrival.key is None and len(arrival.points):
            held.setdefault(arrival.sender, []).extend(
                (int(arrival.points.time_ms.min()), int(arrival.points.time_ms.max()))
            )
    return [Stored(sender, min(times), max(times)) for sender, times in held.items()]
