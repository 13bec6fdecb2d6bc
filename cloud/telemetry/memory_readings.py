"""Readings in a dictionary: the promises of `ReadingsStore` in their plainest form.

For tests and for a demonstration that may forget. It is also the oracle: what a cleverer adapter answers must equal
what this one answers.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from threading import RLock

import numpy as np

from cloud.telemetry.positions import extents, heard_of, loose_extents
from cloud.telemetry.spans import Spans
from cloud.telemetry.store import (
    HOUR_MS,
    NO_VALUE_QUALITY,
    Appended,
    Arrival,
    Buckets,
    Capabilities,
    Conflicting,
    Groups,
    Health,
    Ints,
    PackKey,
    Points,
    Stored,
    columns,
    gather,
)

__all__ = ["MemoryReadings"]


class MemoryReadings:
    """A `ReadingsStore` that lives as long as its process."""

    capabilities = Capabilities()

    def __init__(self) -> None:
        self._lock = RLock()
        self._rows: dict[int, dict[int, tuple[float, int]]] = defaultdict(dict)
        self._packs: dict[PackKey, bytes] = {}
        self._spans: dict[str, dict[str, Spans]] = defaultdict(dict)
        self._cuts: dict[int, int] = {}
        self._conflicts: dict[tuple[int, int, float | None], Conflicting] = {}
        self._heard: dict[str, int] = {}
        self._journal: list[list[Stored]] = []  # what was stored at each position, from 1 on

    def append(self, arrivals: Sequence[Arrival]) -> Appended:
        """See `ReadingsStore.append`."""
        gather(arrivals)  # refuses the unstorable before anything is changed
        stored = absorbed = conflicts = 0
        known: set[PackKey] = set()
        reused: set[PackKey] = set()
        fresh: list[Arrival] = []
        with self._lock:
            for arrival in arrivals:
                if arrival.key is not None and self._account(arrival, known, reused):
                    absorbed += len(arrival.points)
                    continue
                fresh.append(arrival)
                for row in _rows(arrival.points):
                    outcome = self._put(*row, arrival.received_ms)
                    stored += outcome == "stored"
                    absorbed += outcome == "absorbed"
                    conflicts += outcome == "conflict"
            position = self._note(fresh)
        return Appended(stored, absorbed, conflicts, frozenset(known), frozenset(reused), position=position)

    def _note(self, fresh: Sequence[Arrival]) -> int:
        for name, at in heard_of(fresh).items():
            self._heard[name] = max(at, self._heard.get(name, 0))
        if not any(arrival.key is not None or len(arrival.points) for arrival in fresh):
            return 0
        found = loose_extents(fresh)
        for arrival, (low, high) in zip(fresh, extents(fresh), strict=True):
            if arrival.key is not None and low is not None and high is not None:
                found.append(Stored(arrival.key.gateway, low, high))
        self._journal.append(found)
        return len(self._journal)

    def _account(self, arrival: Arrival, known: set[PackKey], reused: set[PackKey]) -> bool:
        key = arrival.key
        assert key is not None  # noqa: S101 - the caller has looked
        if key in self._packs:
            known.add(key)
            if self._packs[key] != arrival.digest:
                reused.add(key)
            return True
        self._packs[key] = arrival.digest
        epochs = self._spans[key.gateway]
        spans = epochs[key.epoch] = epochs.pop(key.epoch, Spans())  # the epoch last heard of is the last
        spans.add(key.seq)
        if arrival.skips is not None:
            spans.add(*arrival.skips)
        return False

    def _put(self, series: int, time_ms: int, value: float, quality: int, received_ms: int) -> str:
        if time_ms < self._cuts.get(series, 0):
            return "absorbed"
        rows = self._rows[series]
        if time_ms not in rows:
            rows[time_ms] = (value, quality)
            return "stored"
        kept = rows[time_ms][0]
        if kept == value or (math.isnan(kept) and math.isnan(value)):
            return "absorbed"
        refused = _maybe(value)
        self._conflicts.setdefault(
            (series, time_ms, refused), Conflicting(series, time_ms, _maybe(kept), refused, received_ms)
        )
        return "conflict"

    def last(self, series: Ints) -> Points:
        """See `ReadingsStore.last`."""
        with self._lock:
            rows = [(one, max(self._rows[one])) for one in series.tolist() if self._rows.get(one)]
            return _points([(one, at, *self._rows[one][at]) for one, at in rows])

    def range(self, series: Ints, start_ms: int, end_ms: int, *, limit: int | None = None) -> Points:
        """See `ReadingsStore.range`."""
        with self._lock:
            rows = [
                (one, at, *self._rows[one][at])
                for one in sorted(set(series.tolist()))
                for at in sorted(self._rows.get(one, ()))
                if start_ms <= at < end_ms
            ]
        return _points(rows[:limit])

    def downsample(self, series: int, start_ms: int, end_ms: int, step_ms: int) -> Buckets:
        """See `ReadingsStore.downsample`."""
        held: dict[int, list[float]] = defaultdict(list)
        for at, value in self._usable(series, start_ms, end_ms):
            held[start_ms + (at - start_ms) // step_ms * step_ms].append(value)
        starts = sorted(held)
        values = [held[start] for start in starts]
        return Buckets(
            np.array(starts, dtype=np.int64),
            np.array([len(one) for one in values], dtype=np.int64),
            *(
                np.array([pick(one) for one in values], dtype=np.float64)
                for pick in (math.fsum, min, max, lambda one: one[0], lambda one: one[-1])
            ),
        )

    def group(self, series: Ints, label: Ints, start_ms: int, end_ms: int) -> Groups:
        """See `ReadingsStore.group`."""
        held: dict[int, list[float]] = defaultdict(list)
        for one, name in zip(series.tolist(), label.tolist(), strict=True):
            held[name].extend(value for _, value in self._usable(one, start_ms, end_ms))
        names = sorted(name for name, values in held.items() if values)
        values = [held[name] for name in names]
        return Groups(
            np.array(names, dtype=np.int64),
            np.array([len(one) for one in values], dtype=np.int64),
            *(np.array([pick(one) for one in values], dtype=np.float64) for pick in (math.fsum, min, max)),
        )

    def _usable(self, series: int, start_ms: int, end_ms: int) -> list[tuple[int, float]]:
        with self._lock:
            rows = sorted(self._rows.get(series, {}).items())
        return [
            (at, value)
            for at, (value, quality) in rows
            if start_ms <= at < end_ms and quality < NO_VALUE_QUALITY and not math.isnan(value)
        ]

    def roll_up(self, before_ms: int) -> int:  # noqa: ARG002 - the promise has it
        """See `ReadingsStore.roll_up`; nothing is summed up here, so nothing can be stale."""
        return 0

    def delete_before(self, series: Ints, time_ms: int) -> int:
        """See `ReadingsStore.delete_before`."""
        gone = 0
        time_ms -= time_ms % HOUR_MS
        with self._lock:
            for one in set(series.tolist()):
                self._cuts[one] = max(time_ms, self._cuts.get(one, 0))
                old = [at for at in self._rows.get(one, ()) if at < time_ms]
                for at in old:
                    del self._rows[one][at]
                gone += len(old)
        return gone

    def count_by_hour(self, series: Ints) -> tuple[Ints, Ints]:
        """See `ReadingsStore.count_by_hour`."""
        with self._lock:
            held = Counter(at // HOUR_MS for one in set(series.tolist()) for at in self._rows.get(one, ()))
        rows = sorted(held.items())
        return np.array([hour for hour, _ in rows], dtype=np.int64), np.array([n for _, n in rows], dtype=np.int64)

    def compact(self) -> None:
        """See `ReadingsStore.compact`; nothing is held back here."""

    def conflicts(self, *, limit: int = 1000, upto_ms: int | None = None) -> list[Conflicting]:
        """See `ReadingsStore.conflicts`."""
        with self._lock:
            found = [one for one in self._conflicts.values() if upto_ms is None or one.received_ms <= upto_ms]
        order = lambda one: (-one.received_ms, one.series, one.time_ms, one.refused is None, one.refused or 0.0)  # noqa: E731
        return sorted(found, key=order)[:limit]

    def ledger(self, gateway: str) -> Mapping[str, Spans]:
        """See `ReadingsStore.ledger`."""
        with self._lock:
            return {epoch: spans.copy() for epoch, spans in self._spans.get(gateway, {}).items()}

    def heard(self) -> Mapping[str, int]:
        """See `ReadingsStore.heard`."""
        with self._lock:
            return dict(self._heard)

    def position(self) -> int:
        """See `ReadingsStore.position`."""
        with self._lock:
            return len(self._journal)

    def stored(self, after: int, upto: int) -> Sequence[Stored]:
        """See `ReadingsStore.stored`."""
        with self._lock:
            return [one for found in self._journal[after:upto] for one in found]

    def health(self) -> Health:
        """See `ReadingsStore.health`."""
        with self._lock:
            return Health(
                ok=True,
                readings=sum(len(rows) for rows in self._rows.values()),
                conflicts=len(self._conflicts),
            )

    def close(self) -> None:
        """See `ReadingsStore.close`; nothing to release."""


def _rows(points: Points) -> Iterator[tuple[int, int, float, int]]:
    return zip(
        points.series.tolist(), points.time_ms.tolist(), points.value.tolist(), points.quality.tolist(), strict=True
    )


def _points(rows: Sequence[tuple[int, int, float, int]]) -> Points:
    return Points(*columns(*zip(*rows, strict=True))) if rows else Points.none()


def _maybe(value: float) -> float | None:
    return None if math.isnan(value) else value
