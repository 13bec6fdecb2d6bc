"""Hours of readings, summed up once and recomputed when late data come.

An hour that received readings is marked dirty in the transaction that stored them. `recompute` sums it up from the
readings themselves, never by adding to what was there, so that duplicates, late data and interrupted runs all end in
the same figures. A question over whole hours takes the sums of clean hours and the readings of dirty ones: its answer
does not depend on whether the recomputation has run, only its speed does.
"""

# ruff: noqa: S608 - queries are put together from constants of these modules; values are always bound

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from cloud.telemetry.store import HOUR_MS, Ints, Points

__all__ = [
    "SCHEMA",
    "asking",
    "hour_of",
    "mark",
    "marks_of",
    "marks_table",
    "only",
    "parts",
    "recompute",
    "registered",
]

_USABLE = "q < 4 and v is not null"
SCHEMA = (
    "create table if not exists dirty (series integer, hour bigint)",
    """create table if not exists hour (series integer, hour bigint,
       n bigint, total double, low double, high double, first double, last double)""",
)
_SUMS = "count(*), sum(v), min(v), max(v), arg_min(v, t), arg_max(v, t)"
_SUM_UP = f"""
insert into hour select r.series, t // {HOUR_MS} as h, {_SUMS}
from reading r join marked m on m.series = r.series and m.hour = t // {HOUR_MS}
where t between ? and ? and {_USABLE} group by r.series, h order by h, r.series
"""
# {wanted} is what `_wanted` says.
_HOURS = f"""select {{label}}h.hour * {HOUR_MS} as t, n, total, low, high, first, last
from hour h {{clean}} {{wanted}} h.hour >= $first and h.hour < $beyond"""
_DIRTY_SPAN = """select min(h.hour), max(h.hour) from dirty h {wanted} h.hour >= $first and h.hour < $beyond"""
_CLEAN = "anti join dirty d on d.series = h.series and d.hour = h.hour"
# A join with what is dirty lets the scan skip all blocks of other series; asked with `exists` it reads them.
_DIRTY = f"""select {{label}}r.t, 1 as n, v as total, v as low, v as high, v as first, v as last
from reading r join (
  select distinct {{label}}series, h.hour from dirty h {{wanted}} h.hour >= $first and h.hour < $beyond
) d
on d.series = r.series and d.hour = r.t // {HOUR_MS} where {{mine}}r.t >= $low and r.t < $high and {_USABLE}"""
# One integer per (series, hour): the year 2100 is hour 1,139,544 < 2**21.
_HOUR_BITS = 21


@contextmanager
def registered(cursor: duckdb.DuckDBPyConnection, **tables: Any) -> Iterator[None]:
    """Arrow tables under these names for this cursor, for a while."""
    for name, table in tables.items():
        cursor.register(name, table)
    try:
        yield
    finally:
        for name in tables:
            cursor.unregister(name)


def marks_of(points: Points) -> Ints:
    """The hours that these readings touch, as distinct marks."""
    return np.unique(points.series << _HOUR_BITS | points.time_ms // HOUR_MS)


def mark(series: int, hour: int) -> int:
    """One integer for one hour (since 1970) of one series."""
    return series << _HOUR_BITS | hour


def hour_of(marks: Ints) -> Ints:
    """The hours of marks."""
    return marks & (1 << _HOUR_BITS) - 1


def marks_table(marks: Sequence[int] | Ints) -> Any:
    """Marks as columns `series`, `hour`."""
    both = np.asarray(marks, dtype=np.int64)
    return pa.table({"series": pa.array((both >> _HOUR_BITS).astype(np.int32)), "hour": pa.array(hour_of(both))})


def recompute(cursor: duckdb.DuckDBPyConnection, marks: Ints) -> None:
    """Sum up these hours anew and take their marks away; the caller holds the transaction."""
    hours = hour_of(marks)
    span = [int(hours.min()), int(hours.max())]
    with registered(cursor, marked=marks_table(marks)):
        for table in ("hour", "dirty"):
            cursor.execute(
                f"delete from {table} using marked m where {table}.series = m.series"
                f" and {table}.hour = m.hour and {table}.hour between ? and ?",
                span,
            ).fetchall()
        cursor.execute(
            _SUM_UP,
            [span[0] * HOUR_MS, (span[1] + 1) * HOUR_MS - 1],
        ).fetchall()


def only(series: Ints) -> int | None:
    """The one series that is asked for; None where there are more, or none.

    It is worth a query of its own: the database skips blocks by comparison with a constant, and plans it in a quarter
    of the time that a join takes.
    """
    return int(series[0]) if len(series) == 1 else None


@contextmanager
def asking(cursor: duckdb.DuckDBPyConnection, series: Ints) -> Iterator[None]:
    """These series as the table `asked`, where there is more than `only` one."""
    if only(series) is not None:
        yield
        return
    with registered(cursor, asked=pa.table({"series": series.astype(np.int32)})):
        yield


def parts(
    cursor: duckdb.DuckDBPyConnection,
    start_ms: int,
    end_ms: int,
    *,
    one: int | None = None,
    from_hours: bool = True,
) -> tuple[str, Mapping[str, int]]:
    """A query for what covers `[start_ms, end_ms)` of one series, or of those registered as `asked`, and its values.

    Its rows (t, n, total, low, high, first, last; of several series their `label` in `asked` too) are hours where whole
    and clean, single readings elsewhere; they never overlap. Without `from_hours` all are single readings. `cursor` is
    in a transaction, so that marks, hours and readings are of one moment.
    """
    series = {} if one is None else {"one": one}
    first, beyond = -(-start_ms // HOUR_MS), end_ms // HOUR_MS
    if beyond <= first or not from_hours:
        return _raw("t >= $start and t < $end", one), {"start": start_ms, "end": end_ms, **series}
    values = {"first": first, "beyond": beyond, **series}
    span = cursor.execute(_DIRTY_SPAN.format(wanted=_wanted("h", one)), values).fetchone()
    dirty = span is not None and span[0] is not None
    words = {"label": _label(one), "wanted": _wanted("h", one)}
    pieces = [_HOURS.format(clean=_CLEAN if dirty else "", **words)]
    for low, high, bounds in (
        ("edge_a", "edge_b", (start_ms, first * HOUR_MS)),
        ("edge_c", "edge_d", (beyond * HOUR_MS, end_ms)),
    ):
        if bounds[0] < bounds[1]:
            pieces.append(_raw(f"t >= ${low} and t < ${high}", one))
            values |= {low: bounds[0], high: bounds[1]}
    if span is not None and dirty:
        pieces.append(_DIRTY.format(mine="" if one is None else "r.series = $one and ", **words))
        values |= {"low": span[0] * HOUR_MS, "high": (span[1] + 1) * HOUR_MS}
    return " union all ".join(pieces), values


def _wanted(table: str, one: int | None) -> str:
    """Of this table's rows those of the series asked for, up to a further condition."""
    return "join asked using (series) where" if one is None else f"where {table}.series = $one and"


def _label(one: int | None) -> str:
    return "label, " if one is None else ""


def _raw(where: str, one: int | None) -> str:
    return f"""select {_label(one)}t, 1 as n, v as total, v as low, v as high, v as first, v as last
    from reading r {_wanted("r", one)} {where} and {_USABLE}"""
