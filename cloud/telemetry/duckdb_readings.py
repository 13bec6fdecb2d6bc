"""The embedded readings store: one DuckDB file, owned by one process.

Readings, pack ledger, conflicts and the marks of hours to roll up again change in one transaction, so a crash between
any two of them cannot happen. What makes it fast is what it does *not* ask the database: a reading newer than
everything its series has (97 of 100) cannot be a duplicate, so only late ones are looked up, within their own span of
time. The newest reading of each series and the ranges of known packs live in memory and are rebuilt when the file is
opened; there is exactly one writer, so they cannot go stale.

Traps of DuckDB 2.0 minded here: one cursor per query, each drained; a table registered per cursor; times as BIGINT
milliseconds (TIMESTAMPTZ needs another package); small transactions are the limit (about 85 a second), so callers who
wait for the same lock are committed together by whoever gets it.
"""

# ruff: noqa: S608 - queries are put together from constants of these modules; values are always bound

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cloud.telemetry.duckdb_file import (
    GROWN,
    ORDERS,
    SCHEMA,
    beside,
    filled,
    floats,
    insert,
    ints,
    loose_table,
    open_file,
    pack_table,
    points_of,
    reading_table,
    record_conflicts,
)
from cloud.telemetry.duckdb_rollups import (
    asking,
    hour_of,
    mark,
    marks_of,
    marks_table,
    only,
    parts,
    recompute,
    registered,
)
from cloud.telemetry.gate import Gate, sync
from cloud.telemetry.newest import Cuts, Newest
from cloud.telemetry.positions import DAY_MS, heard_of, loose_extents
from cloud.telemetry.spans import Spans
from cloud.telemetry.store import (
    HOUR_MS,
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
    StoreUnavailable,
    gather,
)

__all__ = ["DuckReadings"]

_LOG = logging.getLogger(__name__)
# Closed ranges of each epoch's numbers, merged where they touch: one row for a healthy gateway.
_ISLANDS = """
select gateway, epoch, min(first), max(last), max(max(received)) over (partition by gateway, epoch) as heard from (
  select *, sum(starts) over (partition by gateway, epoch order by first, last rows unbounded preceding) as island
  from (select *, case when first <= 1 + max(last) over (partition by gateway, epoch order by first, last
                  rows between unbounded preceding and 1 preceding) then 0 else 1 end as starts from pack))
group by gateway, epoch, island order by heard, epoch, 3
"""
_BYTE = 255
_TOGETHER = "sum(n) n, sum(total) total, min(low) low, max(high) high"
_COURSE = "arg_min(first, t) first, arg_max(last, t) last"
# Hours summed up in one transaction: a tenth of a second in which nobody else writes.
_ROLL_UP_AT_ONCE = 20_000
_STORED, _ABSORBED, _CONFLICT = 0, 1, 2


@dataclass(slots=True, eq=False)
class _Ticket:
    """One caller's arrivals on their way into a shared transaction."""

    arrivals: Sequence[Arrival]
    outcome: Appended | None = None
    error: Exception | None = None


class DuckReadings:
    """A `ReadingsStore` in one file (or in memory for `path=None`).

    `memory_mb` caps DuckDB's own memory; `threads` its parallelism. Raises `StoreUnavailable` when another process
    holds the file.
    """

    capabilities = Capabilities()

    def __init__(self, path: Path | None, *, memory_mb: int = 384, threads: int = 2) -> None:
        self._path = path
        self._limits = (memory_mb, threads)
        if path is not None:
            beside(path).unlink(missing_ok=True)  # a compaction that did not finish
        self._database = open_file(path, memory_mb, threads)
        self._gate = Gate()
        self._busy: set[duckdb.DuckDBPyConnection] = set()  # cursors that readers hold
        self._writer = self._database.cursor()
        self._write = Lock()
        self._queue = Lock()
        self._numbers = Lock()  # over `_spans` alone: whoever asks for a watermark must not wait for a disk
        self._waiting: list[_Ticket] = []
        self._broken = False  # the database has given itself up; it must be opened anew
        with self._write:
            for statement in (*SCHEMA, *GROWN):
                self._writer.execute(statement).fetchall()
            self._remember()

    # --- what is kept in memory ---------------------------------------------------------------------

    def _remember(self) -> None:
        self._spans: dict[str, dict[str, Spans]] = {}
        for gateway, epoch, first, last, _ in self._writer.execute(_ISLANDS).fetchall():
            self._spans.setdefault(gateway, {}).setdefault(epoch, Spans()).add(first, last)
        newest = "select series, max(t) t, arg_max_null(v, t) v, arg_max(q, t) q from reading group by series"
        points = points_of(self._writer.execute(newest))
        self._newest = Newest()
        self._newest.update(points)
        latest = "select greatest(0, (select max(position) from pack), (select max(position) from loose))"
        heard = "select gateway, received from pack union all select gateway, received from loose"
        heard = f"select gateway, max(received) from ({heard}) where received is not null group by gateway"
        self._heard: dict[str, int] = dict(self._writer.execute(heard).fetchall())
        self._position: int = self._writer.execute(latest).fetchall()[0][0]
        self._cuts = Cuts(self._writer.execute("select series, max(t) from cut group by series").fetchall())
        self._dirty = {mark(*row) for row in self._writer.execute("select series, hour from dirty").fetchall()}

    # --- writing ------------------------------------------------------------------------------------

    def append(self, arrivals: Sequence[Arrival]) -> Appended:
        """See `ReadingsStore.append`. Callers who wait together are committed together."""
        gather(arrivals)  # one caller's unstorable reading must not fail the others
        ticket = _Ticket(arrivals)
        with self._queue:
            self._waiting.append(ticket)
        with self._write:
            if ticket.outcome is None and ticket.error is None:
                with self._queue:
                    tickets, self._waiting = self._waiting, []
                self._commit(tickets)
        if ticket.error is not None:
            raise StoreUnavailable(f"the readings store could not commit: {ticket.error}") from ticket.error
        assert ticket.outcome is not None  # noqa: S101 - _commit sets one of the two
        return ticket.outcome

    def _commit(self, tickets: list[_Ticket]) -> None:
        try:
            if self._broken:
                self._reopen()
            outcomes = self._store([ticket.arrivals for ticket in tickets])
        except (duckdb.Error, StoreUnavailable) as why:
            self._broken |= isinstance(why, duckdb.FatalException)
            for ticket in tickets:
                ticket.error = why
            return
        for ticket, outcome in zip(tickets, outcomes, strict=True):
            ticket.outcome = outcome

    def _reopen(self) -> None:
        """Open the file anew: after a checkpoint that found the disk full, DuckDB answers nothing until then."""
        with self._gate.alone():
            with suppress(duckdb.Error):
                self._writer.close()
                self._database.close()
            self._database = open_file(self._path, *self._limits)
            self._writer = self._database.cursor()
        self._remember()
        self._broken = False
        _LOG.warning("%s was opened anew", self._path)

    def _store(self, batches: list[Sequence[Arrival]]) -> list[Appended]:
        fresh, reused = self._screen([arrival for batch in batches for arrival in batch])
        taken = {id(arrival) for arrival in fresh}
        positions, tables = self._placed(batches, taken)
        points, received = gather(fresh)
        outcome, reference = self._judge(points)
        new = points.take(outcome == _STORED)
        clash = np.flatnonzero(outcome == _CONFLICT)
        marks = sorted(set(marks_of(new).tolist()) - self._dirty)
        with self._transaction() as cursor:
            if len(new):
                insert(cursor, "reading", reading_table(new))
            for name, rows in tables:
                insert(cursor, name, rows)
            if marks:
                insert(cursor, "dirty", marks_table(marks))
            if len(clash):
                record_conflicts(cursor, points.take(clash), reference[clash], received[clash])
        self._dirty.update(marks)
        self._newest.update(new)
        with self._numbers:
            for arrival in fresh:
                self._account(arrival)
            for name, at in heard_of(fresh).items():
                self._heard[name] = max(at, self._heard.get(name, 0))
        self._position = max((self._position, *positions))
        shares = _shares(batches, taken, outcome, reused)
        return [replace(share, position=at) for share, at in zip(shares, positions, strict=True)]

    def _placed(self, batches: list[Sequence[Arrival]], taken: set[int]) -> tuple[list[int], list[tuple[str, Any]]]:
        """The position of each batch (0: it brings nothing new), and the rows that say so, by table."""
        positions: list[int] = []
        placed: list[tuple[int, list[Arrival]]] = []
        latest = self._position
        for batch in batches:
            fresh = [one for one in batch if id(one) in taken and (one.key is not None or len(one.points))]
            latest += bool(fresh)
            positions.append(latest if fresh else 0)
            placed.append((latest, fresh))
        loose: list[tuple[str, int, int, int, int]] = []
        for at, fresh in placed:
            heard = heard_of([one for one in fresh if one.key is None])
            loose += [(*row, at, heard.get(row.gateway, 0)) for row in loose_extents(fresh)]
        numbered = [(arrival, at) for at, fresh in placed for arrival in fresh if arrival.key is not None]
        tables = [("pack", pack_table(numbered))] if numbered else []
        return positions, [*tables, *([("loose", loose_table(loose))] if loose else [])]

    def heard(self) -> Mapping[str, int]:
        """See `ReadingsStore.heard`."""
        with self._numbers:
            return dict(self._heard)

    def position(self) -> int:
        """See `ReadingsStore.position`; known without asking the file."""
        return self._position

    def stored(self, after: int, upto: int) -> Sequence[Stored]:
        """See `ReadingsStore.stored`."""
        sql = (
            "select gateway, min(low), max(high) from (select gateway, low, high, position from pack union all"
            " select gateway, low, high, position from loose) where position > ? and position <= ?"
            f" and low is not null group by gateway, low // {DAY_MS}"
        )
        with self._reading() as cursor:
            return [Stored(*row) for row in cursor.execute(sql, [after, upto]).fetchall()]

    def _account(self, arrival: Arrival) -> None:
        if arrival.key is None:
            return
        epochs = self._spans.setdefault(arrival.key.gateway, {})
        spans = epochs[arrival.key.epoch] = epochs.pop(arrival.key.epoch, Spans())  # the last heard of is the last
        spans.add(arrival.key.seq)
        if arrival.skips is not None:
            spans.add(*arrival.skips)

    def _screen(self, arrivals: Sequence[Arrival]) -> tuple[list[Arrival], set[PackKey]]:
        """Arrivals that are new, and of the known keys those that come with other content."""
        keys = {arrival.key for arrival in arrivals if arrival.key is not None}
        # A number inside a reported gap has no digest: should its pack come after all, it is stored.
        digests = self._digests({key for key in keys if self._settled(key)})
        fresh: list[Arrival] = []
        reused: set[PackKey] = set()
        for arrival in arrivals:
            key = arrival.key
            if key is None or key not in digests:
                fresh.append(arrival)
                if key is not None:
                    digests[key] = arrival.digest
            elif digests[key] != arrival.digest:
                reused.add(key)
        return fresh, reused

    def _settled(self, key: PackKey) -> bool:
        return key.seq in self._spans.get(key.gateway, {}).get(key.epoch, ())

    def _digests(self, keys: set[PackKey]) -> dict[PackKey, bytes]:
        if not keys:
            return {}
        wanted = pa.table(
            {
                "gateway": [key.gateway for key in keys],
                "epoch": [key.epoch for key in keys],
                "seq": pa.array([key.seq for key in keys], pa.int64()),
            }
        )
        with registered(self._writer, wanted=wanted):
            rows = self._writer.execute(
                "select p.gateway, p.epoch, p.first, p.digest from pack p join wanted w"
                " on p.gateway = w.gateway and p.epoch = w.epoch and p.first = w.seq where p.digest is not null"
            ).fetchall()
        return {PackKey(gateway, epoch, seq): int(digest).to_bytes(8, "big") for gateway, epoch, seq, digest in rows}

    def _judge(self, points: Points) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """For each reading what becomes of it, and the value that is (or will be) stored at its place."""
        order = np.lexsort((points.time_ms, points.series))
        series, time_ms, value = points.series[order], points.time_ms[order], points.value[order]
        head = np.ones(len(order), dtype=np.bool_)
        head[1:] = (series[1:] != series[:-1]) | (time_ms[1:] != time_ms[:-1])
        heads = np.flatnonzero(head)
        stored, found = self._stored(series[heads], time_ms[heads])
        run = np.cumsum(head) - 1
        reference = np.where(found, stored, value[heads])[run]
        equal = (reference == value) | (np.isnan(reference) & np.isnan(value))
        outcome = np.where(equal, _ABSORBED, _CONFLICT).astype(np.uint8)
        outcome[heads[~found]] = _STORED
        outcome[time_ms < self._cuts.of(series)] = _ABSORBED
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return outcome[back], reference[back]

    def _stored(self, series: Ints, time_ms: Ints) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        value = np.full(len(series), np.nan)
        found = np.zeros(len(series), dtype=np.bool_)
        late = np.flatnonzero(time_ms <= self._newest.times(series))
        if not len(late):
            return value, found
        asked = pa.table({"i": late, "series": pa.array(series[late].astype(np.int32)), "t": pa.array(time_ms[late])})
        with registered(self._writer, asked=asked):
            rows = self._writer.execute(
                "select a.i, r.v from asked a join reading r on r.series = a.series and r.t = a.t"
                " where r.t between ? and ?",
                [int(time_ms[late].min()), int(time_ms[late].max())],
            ).fetchnumpy()
        at = np.asarray(rows["i"], dtype=np.intp)
        value[at] = filled(rows["v"])
        found[at] = True
        return value, found

    @contextmanager
    def _transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        self._writer.execute("begin").fetchall()
        try:
            yield self._writer
            self._writer.execute("commit").fetchall()
        except BaseException:
            with suppress(duckdb.Error):
                self._writer.execute("rollback").fetchall()
            raise

    def delete_before(self, series: Ints, time_ms: int) -> int:
        """See `ReadingsStore.delete_before`. The file shrinks only when it is compacted."""
        time_ms -= time_ms % HOUR_MS
        self.roll_up(time_ms)  # the sums of these hours outlive their readings
        series = np.unique(series)
        series = series[self._cuts.of(series) < time_ms]
        with self._write, registered(self._writer, gone=pa.table({"series": series.astype(np.int32)})):
            with self._transaction() as cursor:
                row = cursor.execute(
                    "delete from reading where t < ? and series in (select series from gone)", [time_ms]
                ).fetchone()
                cursor.execute("delete from cut where series in (select series from gone)").fetchall()
                cursor.execute("insert into cut select series, ? from gone", [time_ms]).fetchall()
            self._newest.forget(series, time_ms)
            self._cuts.move(series, time_ms)
        return int(row[0]) if row else 0

    def roll_up(self, before_ms: int) -> int:
        """See `ReadingsStore.roll_up`."""
        with self._write:
            marks = np.fromiter(self._dirty, dtype=np.int64)
        marks = marks[(hour_of(marks) + 1) * HOUR_MS <= before_ms]
        marks = marks[np.argsort(hour_of(marks), kind="stable")]
        for at in range(0, len(marks), _ROLL_UP_AT_ONCE):
            some = marks[at : at + _ROLL_UP_AT_ONCE]
            with self._write:
                with self._transaction() as cursor:
                    recompute(cursor, some)
                self._dirty.difference_update(some.tolist())
        return len(marks)

    def count_by_hour(self, series: Ints) -> tuple[Ints, Ints]:
        """See `ReadingsStore.count_by_hour`."""
        sql = (
            f"select t // {HOUR_MS} as hour, count(*) as n from reading where series in (select series from asked)"
            " group by hour order by hour"
        )
        asked = pa.table({"series": np.unique(series).astype(np.int32)})
        with self._reading() as cursor, registered(cursor, asked=asked):
            rows = cursor.execute(sql).fetchnumpy()
        return ints(rows["hour"]), ints(rows["n"])

    def compact(self) -> None:
        """See `ReadingsStore.compact`: write the file anew by (day, series, time), and swap it in.

        DuckDB never gives space back by itself. Writers wait meanwhile (their callers keep their batches), readers only
        for the swap. A crash at any line leaves one whole file: the old or the new.
        """
        if self._path is None:
            return
        fresh = beside(self._path)
        with self._write:
            self._writer.execute(f"attach '{fresh}' as fresh").fetchall()
            for statement in SCHEMA:
                self._writer.execute(statement.replace("not exists ", "not exists fresh.", 1)).fetchall()
            for table, order in ORDERS.items():
                self._writer.execute(f"insert into fresh.{table} select * from {table} order by {order}").fetchall()
            self._writer.execute("detach fresh").fetchall()
            with self._gate.alone():
                self._writer.close()
                self._database.close()
                sync(fresh)
                fresh.replace(self._path)
                sync(self._path.parent)
                self._database = open_file(self._path, *self._limits)
                self._writer = self._database.cursor()

    # --- reading ------------------------------------------------------------------------------------

    def last(self, series: Ints) -> Points:
        """See `ReadingsStore.last`; answered from memory."""
        return self._newest.take(series)

    def range(self, series: Ints, start_ms: int, end_ms: int, *, limit: int | None = None) -> Points:
        """See `ReadingsStore.range`."""
        one = only(series)
        chosen = "series = ?" if one is not None else "series in (select series from asked)"
        values = [start_ms, end_ms, *([] if one is None else [one])]
        sql = f"select series, t, v, q from reading where t >= ? and t < ? and {chosen} order by series, t"
        if limit is not None:
            sql, values = sql + " limit ?", [*values, limit]
        with self._reading() as cursor, asking(cursor, series):
            return points_of(cursor.execute(sql, values))

    def downsample(self, series: int, start_ms: int, end_ms: int, step_ms: int) -> Buckets:
        """See `ReadingsStore.downsample`."""
        whole = step_ms % HOUR_MS == 0 and start_ms % HOUR_MS == 0
        with self._moment() as cursor:
            query, values = parts(cursor, start_ms, end_ms, one=series, from_hours=whole)
            sql = (
                f"select {start_ms} + (t - {start_ms}) // {step_ms} * {step_ms} as b, {_TOGETHER}, {_COURSE}"
                f" from ({query}) group by b order by b"
            )
            rows = cursor.execute(sql, values).fetchnumpy()
        return Buckets(ints(rows["b"]), ints(rows["n"]), *floats(rows, "total", "low", "high", "first", "last"))

    def group(self, series: Ints, label: Ints, start_ms: int, end_ms: int) -> Groups:
        """See `ReadingsStore.group`."""
        # Labels of one byte are summed up in a plain array instead of a hash table.
        small = label.astype(np.uint8) if len(label) and label.min() >= 0 and label.max() <= _BYTE else label
        asked = pa.table({"series": series.astype(np.int32), "label": small})
        with self._moment() as cursor, registered(cursor, asked=asked):
            query, values = parts(cursor, start_ms, end_ms)
            sql = f"select label, {_TOGETHER} from ({query}) group by label order by label"
            rows = cursor.execute(sql, values).fetchnumpy()
        return Groups(ints(rows["label"]), ints(rows["n"]), *floats(rows, "total", "low", "high"))

    def conflicts(self, *, limit: int = 1000, upto_ms: int | None = None) -> list[Conflicting]:
        """See `ReadingsStore.conflicts`."""
        with self._reading() as cursor:
            rows = cursor.execute(
                "select * from conflict where received <= coalesce(?, received)"
                " order by received desc, series, t, refused nulls last limit ?",
                [upto_ms, limit],
            ).fetchall()
        return [Conflicting(*row) for row in rows]

    def ledger(self, gateway: str) -> Mapping[str, Spans]:
        """See `ReadingsStore.ledger`."""
        with self._numbers:
            return {epoch: spans.copy() for epoch, spans in self._spans.get(gateway, {}).items()}

    def health(self) -> Health:
        """See `ReadingsStore.health`."""
        try:
            with self._reading() as cursor:
                counts = cursor.execute(
                    "select (select count(*) from reading), (select count(*) from conflict),"
                    " (select count(*) from pack), (select count(*) from dirty)"
                ).fetchone()
        except (duckdb.Error, StoreUnavailable) as why:
            return Health(ok=False, detail=str(why))
        assert counts is not None  # noqa: S101 - a select of counts has a row
        return Health(
            ok=True,
            readings=counts[0],
            conflicts=counts[1],
            bytes=sum(file.stat().st_size for file in self._files()),
            extra={"packs": counts[2], "dirty_hours": counts[3]},
        )

    def _files(self) -> list[Path]:
        if self._path is None:
            return []
        both = (self._path, self._path.with_name(self._path.name + ".wal"))
        return [file for file in both if file.exists()]

    @contextmanager
    def _reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with self._gate.shared():
            try:
                cursor = self._database.cursor()
            except duckdb.Error as why:
                raise StoreUnavailable(f"the readings store is closed: {why}") from why
            self._busy.add(cursor)
            try:
                yield cursor
            except duckdb.InterruptException as why:
                raise StoreUnavailable("the readings store is being closed") from why
            except duckdb.FatalException as why:
                self._broken = True
                raise StoreUnavailable(f"the readings store must be opened anew: {why}") from why
            finally:
                self._busy.discard(cursor)
                cursor.close()

    @contextmanager
    def _moment(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor in a transaction: several queries see the store as of one moment."""
        with self._reading() as cursor:
            cursor.execute("begin").fetchall()
            yield cursor
            cursor.execute("commit").fetchall()

    def close(self) -> None:
        """See `ReadingsStore.close`. Questions under way are broken off: `StoreUnavailable` for who asked.

        A connection that is taken away while a query runs in it ends the whole process.
        """
        with self._write:
            for cursor in tuple(self._busy):
                cursor.interrupt()
            with self._gate.alone():
                self._writer.close()
                self._database.close()


def _shares(
    batches: list[Sequence[Arrival]],
    taken: set[int],
    outcome: NDArray[np.uint8],
    reused: set[PackKey],
) -> list[Appended]:
    """Each caller's part of what one transaction did."""
    shares: list[Appended] = []
    at = 0
    for batch in batches:
        size = sum(len(arrival.points) for arrival in batch if id(arrival) in taken)
        counts = np.bincount(outcome[at : at + size], minlength=3)
        again = [arrival for arrival in batch if id(arrival) not in taken]
        keys = {arrival.key for arrival in again if arrival.key is not None}
        shares.append(
            Appended(
                int(counts[_STORED]),
                int(counts[_ABSORBED]) + sum(len(arrival.points) for arrival in again),
                int(counts[_CONFLICT]),
                frozenset(keys),
                frozenset(reused & keys),
            )
        )
        at += size
    return shares
