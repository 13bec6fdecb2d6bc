"""What an embedded store keeps in memory about every series, so that the hot path need not ask the disk.

Both are rebuilt when the store is opened and changed only by its one writer, after the transaction committed.
"""

from collections.abc import Sequence

import numpy as np

from cloud.telemetry.store import Ints, Points

__all__ = ["Cuts", "Newest"]

_NEVER = np.iinfo(np.int64).min


class Newest:
    """The newest reading of every series, as arrays indexed by series id."""

    def __init__(self) -> None:
        self._time = np.full(1024, _NEVER, dtype=np.int64)
        self._value = np.full(1024, np.nan)
        self._quality = np.zeros(1024, dtype=np.uint8)

    def times(self, series: Ints) -> Ints:
        """Newest time of each, the smallest int64 where there is none."""
        self._reach(series)
        return self._time[series]

    def take(self, series: Ints) -> Points:
        """The newest reading of each that has one."""
        inside = series[series < len(self._time)]
        some = inside[self._time[inside] != _NEVER]
        return Points(some, self._time[some], self._value[some], self._quality[some])

    def update(self, points: Points) -> None:
        """Take over what is newer than what is known."""
        self._reach(points.series)
        order = np.lexsort((points.time_ms, points.series))
        series = points.series[order]
        tail = np.ones(len(order), dtype=np.bool_)
        tail[:-1] = series[1:] != series[:-1]
        newest = points.take(order[tail])
        newest = newest.take(newest.time_ms > self._time[newest.series])
        self._value[newest.series] = newest.value
        self._quality[newest.series] = newest.quality
        self._time[newest.series] = newest.time_ms

    def forget(self, series: Ints, time_ms: int) -> None:
        """These series hold nothing older than `time_ms` any more."""
        self._reach(series)
        self._time[series[self._time[series] < time_ms]] = _NEVER

    def _reach(self, series: Ints) -> None:
        highest = int(series.max(initial=0))
        if highest < len(self._time):
            return
        more = max(highest + 1, 2 * len(self._time)) - len(self._time)
        # The time goes last: whoever reads meanwhile takes its length for the truth.
        self._value = np.concatenate([self._value, np.full(more, np.nan)])
        self._quality = np.concatenate([self._quality, np.zeros(more, dtype=np.uint8)])
        self._time = np.concatenate([self._time, np.full(more, _NEVER, dtype=np.int64)])


class Cuts:
    """Up to when readings of a series were forgotten; what comes later for that time is absorbed."""

    def __init__(self, rows: Sequence[tuple[int, int]]) -> None:
        self._by_series = dict(rows)

    def of(self, series: Ints) -> Ints:
        """The cut of each series, the smallest int64 where nothing was ever forgotten."""
        if not self._by_series:
            return np.full(len(series), _NEVER, dtype=np.int64)
        return np.fromiter((self._by_series.get(one, _NEVER) for one in series.tolist()), np.int64, len(series))

    def move(self, series: Ints, time_ms: int) -> None:
        """Everything of these series before `time_ms` is gone."""
        self._by_series.update(dict.fromkeys(series.tolist(), time_ms))
