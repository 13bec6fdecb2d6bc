"""Readings to take away: CSV for a spreadsheet, Parquet for a program. A piece at a time, so size is no matter.

The store says first how many readings each hour has: days without any cost nothing, and days with few come together.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv

from cloud.telemetry.registry import Series
from cloud.telemetry.store import HOUR_MS, Ints, Points, ReadingsStore

__all__ = ["FORMATS", "Step", "write_readings"]

_DAY_MS = 86_400_000
_SERIES_AT_ONCE = 500
READINGS_AT_ONCE = 200_000
_SCHEMA = pa.schema(
    [
        ("gateway", pa.dictionary(pa.int32(), pa.string())),
        ("series", pa.dictionary(pa.int32(), pa.string())),
        ("unit", pa.dictionary(pa.int32(), pa.string())),
        ("time", pa.timestamp("ms", tz="UTC")),
        ("value", pa.float64()),
        ("quality", pa.uint8()),
    ]
)
_CSV_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("gateway", "series", "unit", "time")),
        ("time_ms", pa.int64()),
        ("value", pa.float64()),
        ("quality", pa.uint8()),
    ]
)
FORMATS = ("csv", "parquet")

# (share done 0..1, readings so far): called between pieces; may raise to end the writing.
Step = Callable[[float, int], None]


class _Writer(Protocol):
    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...
    def write_table(self, table: pa.Table) -> None: ...


def write_readings(
    readings: ReadingsStore,
    series: Mapping[int, Series],
    span: tuple[int, int],
    path: Path,
    step: Step,
    *,
    at_once: int = READINGS_AT_ONCE,
) -> int:
    """Readings of these series over `[start, end)` into `path`, whose ending says the format; how many there were.

    Day by day, within a day by series and time, some `at_once` in memory. Values exactly as stored; a missing one is
    null, in CSV an empty cell.
    """
    parquet = path.suffix == ".parquet"
    writer: _Writer
    writer = pq.ParquetWriter(path, _SCHEMA, compression="zstd") if parquet else csv.CSVWriter(path, _CSV_SCHEMA)
    count = 0
    with writer:
        for share, points in _pieces(readings, series, span, at_once):
            if len(points):
                writer.write_table((_parquet if parquet else _csv)(points, series))
                count += len(points)
            step(share, count)
    return count


def _names(points: Points, series: Mapping[int, Series]) -> list[pa.DictionaryArray]:
    found, index = np.unique(points.series, return_inverse=True)
    rows = [series[int(one)] for one in found]
    texts = ([one.gateway for one in rows], [one.name for one in rows], [_tame(one.unit) for one in rows])
    numbers = pa.array(index.astype(np.int32))
    return [pa.DictionaryArray.from_arrays(numbers, pa.array(text, pa.string())) for text in texts]


def _tame(text: str) -> str:
    """A unit comes from outside: a spreadsheet must not take it for a formula."""
    return f"'{text}" if text[:1] in {"=", "+", "-", "@"} else text


def _parquet(points: Points, series: Mapping[int, Series]) -> pa.Table:
    times = pa.array(points.time_ms, _SCHEMA.field("time").type)
    columns = [*_names(points, series), times, pa.array(points.value, from_pandas=True), pa.array(points.quality)]
    return pa.table(columns, schema=_SCHEMA)


def _csv(points: Points, series: Mapping[int, Series]) -> pa.Table:
    texts = [column.cast(pa.string()) for column in _names(points, series)]
    when = pc.strftime(pa.array(points.time_ms, pa.timestamp("ms")), format="%Y-%m-%dT%H:%M:%SZ")
    columns = [*texts, when, pa.array(points.time_ms), pa.array(points.value, from_pandas=True)]
    return pa.table([*columns, pa.array(points.quality)], schema=_CSV_SCHEMA)


def _pieces(
    readings: ReadingsStore, series: Mapping[int, Series], asked: tuple[int, int], at_once: int
) -> Iterator[tuple[float, Points]]:
    """(share done after it, piece), by day, series and time; only a day of a few hundred series may be larger."""
    start_ms, end_ms = asked
    ids = np.array(sorted(series), dtype=np.int64)
    groups = [ids[at : at + _SERIES_AT_ONCE] for at in range(0, len(ids), _SERIES_AT_ONCE)]
    days, counts = _days(readings, ids, start_ms, end_ms)
    done, whole = 0, max(1, int(counts.sum()))
    for first, stop in _stretches(counts, at_once):
        some = int(counts[first:stop].sum())
        span = max(start_ms, int(days[first]) * _DAY_MS), min(end_ms, (int(days[stop - 1]) + 1) * _DAY_MS)
        parts = [ids] if some <= at_once else groups
        for nth, part in enumerate(parts, 1):
            found = readings.range(part, *span)
            order = np.lexsort((found.time_ms, found.series, found.time_ms // _DAY_MS))
            yield (done + some * nth / len(parts)) / whole, found.take(order)
        done += some


def _days(readings: ReadingsStore, ids: Ints, start_ms: int, end_ms: int) -> tuple[Ints, Ints]:
    """Days (UTC, since 1970) of the span that have readings, and how many; those of an hour cut in two count whole."""
    hours, counts = readings.count_by_hour(ids)
    asked = ((hours + 1) * HOUR_MS > start_ms) & (hours * HOUR_MS < end_ms)
    days, index = np.unique(hours[asked] * HOUR_MS // _DAY_MS, return_inverse=True)
    return days, np.bincount(index, weights=counts[asked], minlength=len(days)).astype(np.int64)


def _stretches(counts: Ints, at_once: int) -> Iterator[tuple[int, int]]:
    """Half-open ranges of days that are read at once: as many as fit, one at least."""
    first, held = 0, 0
    for at, count in enumerate(counts.tolist()):
        if held and held + count > at_once:
            yield first, at
            first, held = at, 0
        held += count
    if held:
        yield first, len(counts)
