"""What readings say, whoever asks: newest values, courses, figures by region. Rights are looked at before.

Answers come as JSON or as JSON's own types: with five hundred rows in each and twenty screens that ask, an object per
row would cost more than finding them.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import orjson

from cloud.telemetry.registry import Gateway, Series
from cloud.telemetry.schemas import RegionStatistics
from cloud.telemetry.store import HOUR_MS, NO_VALUE_QUALITY, Ints, ReadingsStore
from edge.quantities import quantity_of

__all__ = ["CHINA_MS", "DAY_MS", "Answers", "maybe", "series_cells"]

DAY_MS = 24 * HOUR_MS
# A day in these pages is a day on the farm's wall, wherever the server stands.
CHINA_MS = 8 * HOUR_MS
_STEPS = (
    *(n * 1000 for n in (1, 2, 5, 10, 15, 30)),
    *(n * 60_000 for n in (1, 2, 5, 10, 15, 30)),
    *(n * HOUR_MS for n in (1, 2, 3, 4, 6, 8, 12)),
    *(n * DAY_MS for n in (1, 2, 5, 7, 14, 28)),
)
_RECENT = 200  # readings looked at to learn the usual interval


class Answers:
    """Answers about series and gateways that the asker may see."""

    def __init__(self, readings: ReadingsStore, *, clock: Callable[[], int]) -> None:
        self._readings = readings
        self._clock = clock
        self._members: dict[str, _Members] = {}
        self._usual: dict[int, tuple[int, int | None]] = {}  # by series: newest reading, usual interval

    def latest(self, owners: Sequence[Gateway], series: Sequence[Series]) -> bytes:
        """The newest readings of these series, which belong to these gateways, as a JSON array of `Latest`."""
        held = {one.id: one for one in series}
        places = {owner.id: orjson.dumps({"farm": owner.farm, "region": owner.region})[1:-1] for owner in owners}
        found = self._readings.last(np.array(list(held), dtype=np.int64))
        now = self._clock()
        columns = (found.series.tolist(), found.time_ms.tolist(), found.value.tolist(), found.quality.tolist())
        rows = [
            b'%b,%b,"time_ms":%d,"value":%b,"quality":%d,"age_ms":%d}'
            % (_begun(held[one]), places[held[one].gateway], at, _number(value), quality, now - at)
            for one, at, value, quality in zip(*columns, strict=True)
        ]
        return b"[%b]" % b",".join(rows)

    def course(self, one: Series, start_ms: int, end_ms: int, max_points: int) -> dict[str, Any]:
        """A stretch of one series as `SeriesPoints` in JSON's types; see `Telemetry.points`."""
        series = one.id
        raw = self._readings.range(np.array([series], dtype=np.int64), start_ms, end_ms, limit=max_points + 1)
        interval = self._interval_ms(series)
        if len(raw) <= max_points:
            usable = int(((raw.quality < NO_VALUE_QUALITY) & ~np.isnan(raw.value)).sum())
            rows = zip(raw.time_ms.tolist(), raw.value.tolist(), raw.quality.tolist(), strict=True)
            return {
                **_head(one, start_ms, end_ms, interval),
                "resolution": "raw",
                "step_ms": None,
                "coverage": _coverage(usable, interval, end_ms - start_ms),
                "points": [{"time_ms": at, "value": maybe(value), "quality": quality} for at, value, quality in rows],
                "buckets": [],
            }
        step = next(step for step in _STEPS if step * (max_points - 1) >= end_ms - start_ms or step == _STEPS[-1])
        start_ms = (start_ms + CHINA_MS) // step * step - CHINA_MS
        buckets = list(self._buckets(series, start_ms, end_ms, step, interval))
        return {
            **_head(one, start_ms, end_ms, interval),
            "resolution": "buckets",
            "step_ms": step,
            "coverage": _coverage(sum(bucket["n"] for bucket in buckets), interval, end_ms - start_ms),
            "points": [],
            "buckets": buckets,
        }

    def _buckets(
        self, series: int, start_ms: int, end_ms: int, step: int, interval: int | None
    ) -> Iterator[dict[str, Any]]:
        found = self._readings.downsample(series, start_ms, end_ms, step)
        columns = (column.tolist() for column in (found.start_ms, found.n, found.mean, found.low, found.high))
        held = {row[0]: row for row in zip(*columns, strict=True)}
        for at in range(start_ms, end_ms, step):
            _, n, mean, low, high = held.get(at, (at, 0, None, None, None))
            coverage = _coverage(n, interval, min(step, end_ms - at))
            yield {"time_ms": at, "n": n, "mean": mean, "low": low, "high": high, "coverage": coverage}

    def by_region(
        self, quantity: str, start_ms: int, end_ms: int, regions: Mapping[str, str], series: Sequence[Series]
    ) -> list[RegionStatistics]:
        """Figures of one quantity over `[start_ms, end_ms)`, of these series, by the region of their gateways."""
        members = self._measuring(quantity, regions, series)
        found = self._readings.group(members.series, members.label, start_ms, end_ms)
        columns = (column.tolist() for column in (found.label, found.n, found.total, found.low, found.high))
        sums = {row[0]: row[1:] for row in zip(*columns, strict=True)}
        return [
            RegionStatistics(
                region=region,
                quantity=quantity,
                unit=unit,
                series=count,
                n=sums[label][0] if label in sums else 0,
                mean=sums[label][1] / sums[label][0] if label in sums else None,
                low=sums[label][2] if label in sums else None,
                high=sums[label][3] if label in sums else None,
            )
            for label, ((region, unit), count) in enumerate(members.places)
        ]

    def _measuring(self, quantity: str, regions: Mapping[str, str], series: Sequence[Series]) -> "_Members":
        """Those of `series` that measure a quantity; found anew only where series, regions or gateways have changed."""
        held = self._members.get(quantity)
        if held is None or held.regions != regions or held.among != series:
            held = _members(quantity, regions, series)
            if held.places:  # anybody may ask for quantities that nobody measures
                self._members[quantity] = held
        return held

    def _interval_ms(self, series: int) -> int | None:
        """The usual time between readings: the median of the latest ones. None below three readings.

        Looked up anew when the newest reading is another one.
        """
        newest = self._readings.last(np.array([series], dtype=np.int64)).time_ms
        if not len(newest):
            return None
        at, held = self._usual.get(series, (-1, None))
        if held is None or at != newest[0]:
            held = self._looked_up_ms(series, int(newest[0]) + 1)
            self._usual[series] = int(newest[0]), held
        return held

    def _looked_up_ms(self, series: int, end: int) -> int | None:
        one = np.array([series], dtype=np.int64)
        for span in (HOUR_MS, DAY_MS, 30 * DAY_MS):
            times = self._readings.range(one, end - span, end).time_ms[-_RECENT:]
            if len(times) >= 3:  # noqa: PLR2004 - one difference is no habit yet
                return int(np.median(np.diff(times)))
        return None


@dataclass(frozen=True, slots=True)
class _Members:
    """The series that measure one quantity, numbered by where and in which unit: `label` is an index of `places`."""

    regions: Mapping[str, str]
    among: Sequence[Series]
    series: Ints
    label: Ints
    places: tuple[tuple[tuple[str, str], int], ...]  # (region, unit), number of series


def _members(quantity: str, regions: Mapping[str, str], among: Sequence[Series]) -> _Members:
    mine = [one for one in among if _measured(one.name) == quantity]
    # A unit is part of a quantity: what is measured differently is never averaged together.
    places = [(regions[one.gateway], one.unit) for one in mine]
    counts = sorted(Counter(places).items())
    number = {place: label for label, (place, _) in enumerate(counts)}
    ids = np.array([one.id for one in mine], dtype=np.int64)
    labels = np.array([number[place] for place in places], dtype=np.int64)
    return _Members(regions, among, ids, labels, tuple(counts))


def _head(one: Series, start_ms: int, end_ms: int, interval: int | None) -> dict[str, Any]:
    return {"series": series_cells(one), "start_ms": start_ms, "end_ms": end_ms, "interval_ms": interval}


@lru_cache(maxsize=20_000)
def series_cells(one: Series) -> dict[str, Any]:
    """The columns of `SeriesView` for one series."""
    sensor, _, quantity = one.name.rpartition("/")
    row = quantity_of(one.name)
    return {
        "id": one.id,
        "gateway": one.gateway,
        "name": one.name,
        "sensor": sensor,
        "quantity": quantity,
        "unit": one.unit,
        "zh": row.zh if row else quantity,
        "en": row.en if row else quantity,
    }


@lru_cache(maxsize=20_000)
def _begun(one: Series) -> bytes:
    """The JSON object of one series, not closed yet."""
    return orjson.dumps(series_cells(one))[:-1]


@lru_cache(maxsize=20_000)
def _measured(name: str) -> str:
    """The quantity in the name of a series."""
    return name.rpartition("/")[2].partition(".")[0]


def _number(value: float) -> bytes:
    return repr(value).encode() if math.isfinite(value) else b"null"


def _coverage(n: int, interval_ms: int | None, span_ms: int) -> float | None:
    if interval_ms is None or interval_ms <= 0:
        return None
    return min(1.0, n * interval_ms / span_ms)


def maybe(value: float) -> float | None:
    """The value as JSON can say it: no value is null."""
    return None if math.isnan(value) else value
