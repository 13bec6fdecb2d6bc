"""The shape of the embedded store's file: its tables, their order on disk, and rows on their way in and out."""

# ruff: noqa: S608 - queries are put together from constants of these modules; values are always bound

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cloud.telemetry import duckdb_rollups
from cloud.telemetry.duckdb_rollups import registered
from cloud.telemetry.positions import extents
from cloud.telemetry.store import HOUR_MS, Arrival, Ints, Points, StoreUnavailable

__all__ = [
    "GROWN",
    "ORDERS",
    "SCHEMA",
    "beside",
    "filled",
    "floats",
    "insert",
    "ints",
    "loose_table",
    "open_file",
    "pack_table",
    "points_of",
    "reading_table",
    "record_conflicts",
]

SCHEMA = (
    "create table if not exists reading (series integer, t bigint, v double, q utinyint)",
    """create table if not exists pack
       (gateway varchar, epoch varchar, first bigint, last bigint, digest ubigint, received bigint,
        position bigint, low bigint, high bigint)""",
    "create table if not exists loose (gateway varchar, low bigint, high bigint, position bigint, received bigint)",
    "create table if not exists conflict (series integer, t bigint, kept double, refused double, received bigint)",
    "create table if not exists cut (series integer, t bigint)",
    *duckdb_rollups.SCHEMA,
)
# A file of before positions were counted, or receipts of readings without a number: its rows have none.
GROWN = (
    *(f"alter table pack add column if not exists {name} bigint" for name in ("position", "low", "high")),
    "alter table loose add column if not exists received bigint",
)
ORDERS = {
    # A day's readings lie together, and in it a series' readings: short questions of either kind read little. Every
    # second series lies backward: where one ends the next begins at nearly the same time, which packs a fifth smaller
    # than a step back over the whole day in every block.
    "reading": f"t // {24 * HOUR_MS}, series, case when series % 2 = 0 then t else -t end",
    "pack": "gateway, epoch, first",
    "loose": "position",
    "conflict": "received",
    "cut": "series",
    "dirty": "hour",
    "hour": f"hour // {24 * 30}, series, hour",
}


def beside(path: Path) -> Path:
    """Where a compaction writes before the swap."""
    return path.with_name(path.name + ".compact")


def open_file(path: Path | None, memory_mb: int, threads: int) -> duckdb.DuckDBPyConnection:
    """The database in this file, made where it is missing (None: in memory). Raises `StoreUnavailable`."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    config: dict[str, str | bool | int | float | list[str]] = {"memory_limit": f"{memory_mb}MB", "threads": threads}
    try:
        return duckdb.connect(":memory:" if path is None else str(path), config=config)
    except duckdb.Error as why:
        raise StoreUnavailable(
            f"{path} cannot be opened ({str(why).splitlines()[0]}); one process at a time may own it: run ingest and"
            " API in one process, or use InfluxDB"
        ) from why


def insert(cursor: duckdb.DuckDBPyConnection, name: str, rows: Any) -> None:
    """Add an Arrow table to a table of these columns."""
    with registered(cursor, incoming=rows):
        cursor.execute(f"insert into {name} select * from incoming").fetchall()


def reading_table(points: Points) -> Any:
    """Readings as rows of `reading`; no value is NULL."""
    order = np.lexsort((points.time_ms, points.series))  # neighbours compress: a series' readings lie together
    return pa.table(
        {
            "series": pa.array(points.series[order].astype(np.int32)),
            "t": pa.array(points.time_ms[order]),
            "v": pa.array(points.value[order], from_pandas=True),  # NaN becomes NULL
            "q": pa.array(points.quality[order]),
        }
    )


def pack_table(placed: Sequence[tuple[Arrival, int]]) -> Any:
    """One row or more for each arrival at its position; every arrival has a key."""
    rows: list[tuple[str, str, int, int, int | None, int, int, int | None, int | None]] = []
    spans = extents([arrival for arrival, _ in placed])
    for (arrival, position), (low, high) in zip(placed, spans, strict=True):
        assert arrival.key is not None  # noqa: S101 - the caller has looked
        gateway, epoch, seq = arrival.key.gateway, arrival.key.epoch, arrival.key.seq
        digest = int.from_bytes(arrival.digest[:8], "big")
        rows.append((gateway, epoch, seq, seq, digest, arrival.received_ms, position, low, high))
        if arrival.skips is not None:
            rows.append((gateway, epoch, *arrival.skips, None, arrival.received_ms, position, None, None))
    kinds = (pa.string(), pa.string(), pa.int64(), pa.int64(), pa.uint64(), *[pa.int64()] * 4)
    names = ("gateway", "epoch", "first", "last", "digest", "received", "position", "low", "high")
    cells = list(zip(*rows, strict=True))
    return pa.table({name: pa.array(cell, kind) for name, kind, cell in zip(names, kinds, cells, strict=True)})


def loose_table(rows: Sequence[tuple[str, int, int, int, int]]) -> Any:
    """Rows of (sender, first, last time, position, received) of readings that came without a number."""
    gateway, *numbers = zip(*rows, strict=True)
    names = ["gateway", "low", "high", "position", "received"]
    return pa.table([pa.array(gateway), *map(pa.array, numbers)], names=names)


def record_conflicts(cursor: duckdb.DuckDBPyConnection, points: Points, kept: Any, received: Ints) -> None:
    """Keep second values that were refused, each value once however often it comes."""
    rows = pa.table(
        {
            "series": pa.array(points.series.astype(np.int32)),
            "t": pa.array(points.time_ms),
            "kept": pa.array(kept, from_pandas=True),
            "refused": pa.array(points.value, from_pandas=True),
            "received": pa.array(received),
        }
    )
    with registered(cursor, clash=rows):
        cursor.execute(
            "insert into conflict select series, t, any_value(kept), refused, min(received) from clash c"
            " where not exists (select 1 from conflict o where o.series = c.series and o.t = c.t"
            " and o.refused is not distinct from c.refused) group by series, t, refused"
        ).fetchall()


def filled(column: Any) -> NDArray[np.float64]:
    """A column as floats, NULL as NaN."""
    return np.asarray(np.ma.filled(column.astype(np.float64), np.nan), dtype=np.float64)


def ints(column: Any) -> Ints:
    """A column as integers."""
    return np.asarray(column, dtype=np.int64)


def floats(rows: Mapping[str, Any], *names: str) -> Iterator[NDArray[np.float64]]:
    """These columns as floats, NULL as NaN."""
    return (filled(rows[name]) for name in names)


def points_of(result: duckdb.DuckDBPyConnection) -> Points:
    """What a query of series, t, v, q found."""
    rows = result.fetchnumpy()
    return Points(ints(rows["series"]), ints(rows["t"]), filled(rows["v"]), np.asarray(rows["q"], dtype=np.uint8))
