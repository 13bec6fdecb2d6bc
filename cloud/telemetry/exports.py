"""Readings to take away: CSV for a spreadsheet, Parquet for a program. A day at a time, so size is no matter."""

import csv
import io
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cloud.telemetry.registry import Series
from cloud.telemetry.store import Points, ReadingsStore

__all__ = ["as_csv", "as_parquet"]

_DAY_MS = 86_400_000
_HEAD = ("gateway", "series", "unit", "time", "time_ms", "value", "quality")
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


def as_csv(readings: ReadingsStore, series: Mapping[int, Series], start_ms: int, end_ms: int) -> Iterator[bytes]:
    """Lines with a header, in pieces; values exactly as stored, an empty cell for none."""
    yield (",".join(_HEAD) + "\r\n").encode()
    for points in _days(readings, series, start_ms, end_ms):
        out = io.StringIO()
        lines = csv.writer(out)
        columns = (points.series.tolist(), points.time_ms.tolist(), points.value.tolist(), points.quality.tolist())
        for one, at, value, quality in zip(*columns, strict=True):
            when = datetime.fromtimestamp(at // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{at % 1000:03d}Z"
            shown = "" if np.isnan(value) else repr(value)
            lines.writerow([series[one].gateway, series[one].name, series[one].unit, when, at, shown, quality])
        yield out.getvalue().encode()


def as_parquet(readings: ReadingsStore, series: Mapping[int, Series], start_ms: int, end_ms: int, path: Path) -> None:
    """The same as a file; names are dictionaries, missing values are null."""
    with pq.ParquetWriter(path, _SCHEMA, compression="zstd") as writer:
        for points in _days(readings, series, start_ms, end_ms):
            rows = [series[one] for one in points.series.tolist()]
            texts = ([one.gateway for one in rows], [one.name for one in rows], [one.unit for one in rows])
            columns = [pa.array(text).dictionary_encode() for text in texts]
            columns += [pa.array(points.time_ms, _SCHEMA.field("time").type)]
            columns += [pa.array(points.value, from_pandas=True), pa.array(points.quality)]
            writer.write_table(pa.table(columns, schema=_SCHEMA))


def _days(readings: ReadingsStore, series: Mapping[int, Series], start_ms: int, end_ms: int) -> Iterator[Points]:
    ids = np.array(sorted(series), dtype=np.int64)
    newest = readings.last(ids).time_ms
    end_ms = min(end_ms, int(newest.max()) + 1) if len(newest) else start_ms
    for day in range(start_ms, end_ms, _DAY_MS):
        points = readings.range(ids, day, min(day + _DAY_MS, end_ms))
        if len(points):
            yield points
