"""Readings in InfluxDB: for ingest and API in separate processes, and for more data than one file should hold.

Written by influxdb-client, one synchronous request of up to 5,000 lines that we build ourselves; the caller keeps its
batch until the server has said 204. (The client's batching mode loses points without an exception: never here.)
Read by InfluxQL over `/query`, the one language that InfluxDB 1.x, 2.x and 3 share. Always in milliseconds: 1.x takes
the `us` of the new API for nanoseconds and stores the point in 1970.

InfluxDB has no transactions, so the pack ledger is relational and written after the 204. A crash between the two
writes the same points again, which changes nothing. What it cannot do is keep the first of two values: it overwrites,
and nobody learns of it. `capabilities` says so.
"""

# ruff: noqa: S608 - InfluxQL has no bound values; only numbers of ours and constants go into the text

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from threading import Lock
from typing import Any

import httpx
import numpy as np
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.domain.write_precision import WritePrecision
from influxdb_client.rest import ApiException
from sqlalchemy import Connection, Engine, func, select, tuple_
from urllib3.exceptions import HTTPError

from cloud.telemetry import tables
from cloud.telemetry.newest import Cuts
from cloud.telemetry.positions import DAY_MS, extents, heard_of, loose_extents
from cloud.telemetry.spans import Spans
from cloud.telemetry.store import (
    HOUR_MS,
    NO_VALUE_QUALITY,
    Appended,
    Arrival,
    Buckets,
    Capabilities,
    Conflicting,
    Floats,
    Groups,
    Health,
    Ints,
    PackKey,
    Points,
    Stored,
    StoreUnavailable,
    columns,
    gather,
)
from cloud.telemetry.tables import insert_or

__all__ = ["InfluxReadings"]

_pack, _folded, _cut = tables.pack, tables.pack_folded, tables.cut
# So many appends back a process looks that has not asked yet: half an hour and more of a busy county.
_HEARD_BACK = 20_000
_loose, _position = tables.loose, tables.position

_LINES = 5000
_SERIES_AT_ONCE = 500
_FOLD_EVERY = 500
_USABLE = f"q < {NO_VALUE_QUALITY}"
_PARTIAL = 400
_MS: Any = WritePrecision.MS  # a plain text, typed as the class that holds it


class InfluxReadings:
    """A `ReadingsStore` in one InfluxDB database, with its pack ledger in a relational one.

    `url` is `http://host:port`; `token` and `org` are for 2.x. Raises `StoreUnavailable` where the server is away when
    a call needs it; opening needs no server.
    """

    capabilities = Capabilities(first_write_wins=False, records_conflicts=False, many_processes=True)

    def __init__(self, url: str, database: str, ledger: Engine, *, token: str | None = None, org: str = "-") -> None:
        self._database = database
        self._ledger = ledger
        tables.metadata.create_all(ledger, tables=[_pack, _folded, _cut, _loose, _position])
        self._writer = InfluxDBClient(url, token=token or "-", org=org, timeout=30_000)
        self._write_api = self._writer.write_api(write_options=SYNCHRONOUS)
        headers = {"Authorization": f"Token {token}"} if token else {}
        self._http = httpx.Client(base_url=url, timeout=60, headers=headers)
        self._heard: dict[str, int] = {}
        self._heard_at: int | None = None  # up to this position the ledger has been asked
        self._hearing = Lock()
        self._made = False

    # --- writing ------------------------------------------------------------------------------------

    def append(self, arrivals: Sequence[Arrival]) -> Appended:
        """See `ReadingsStore.append`. Equal and different second values of other packs are both written over."""
        gather(arrivals)
        fresh, again, reused = self._screen(arrivals)
        points, _ = gather(fresh)
        kept = self._first_of_each(points)
        kept = kept.take(kept.time_ms >= self._cuts().of(kept.series))
        rejected: list[tuple[int, int, str]] = []
        for start in range(0, len(kept), _LINES):
            rejected += self._write(_lines(kept.take(np.arange(start, min(start + _LINES, len(kept))))))
        position = self._account(fresh)
        return Appended(
            stored=len(kept) - len(rejected),
            absorbed=len(points) - len(kept) + sum(len(one.points) for one in again),
            known=frozenset(one.key for one in again if one.key),
            reused=frozenset(reused),
            rejected=tuple(rejected),
            position=position,
        )

    def _screen(self, arrivals: Sequence[Arrival]) -> tuple[list[Arrival], list[Arrival], set[PackKey]]:
        digests = self._digests({one.key for one in arrivals if one.key is not None})
        fresh: list[Arrival] = []
        again: list[Arrival] = []
        reused: set[PackKey] = set()
        for arrival in arrivals:
            if arrival.key is None or arrival.key not in digests:
                fresh.append(arrival)
                if arrival.key is not None:
                    digests[arrival.key] = arrival.digest
                continue
            again.append(arrival)
            if digests[arrival.key] != arrival.digest:
                reused.add(arrival.key)
        return fresh, again, reused

    def _digests(self, keys: Iterable[PackKey]) -> dict[PackKey, bytes]:
        wanted = [(key.gateway, key.epoch, key.seq) for key in keys]
        found: dict[PackKey, bytes] = {}
        place = tuple_(_pack.c.gateway, _pack.c.epoch, _pack.c.seq)
        with self._ledger.connect().execution_options(reading=True) as connection:
            for start in range(0, len(wanted), _SERIES_AT_ONCE):
                query = select(_pack).where(place.in_(wanted[start : start + _SERIES_AT_ONCE]))
                for row in connection.execute(query.where(_pack.c.digest.is_not(None))):
                    found[PackKey(row.gateway, row.epoch, row.seq)] = bytes(row.digest)
        return found

    def _first_of_each(self, points: Points) -> Points:
        """The first reading of each (series, time) of a batch: a server would keep the last."""
        order = np.lexsort((points.time_ms, points.series))
        head = np.ones(len(order), dtype=np.bool_)
        series, time_ms = points.series[order], points.time_ms[order]
        head[1:] = (series[1:] != series[:-1]) | (time_ms[1:] != time_ms[:-1])
        return points.take(order[head])

    def _write(self, lines: list[bytes]) -> list[tuple[int, int, str]]:
        """Write lines; the ones that the server refuses for good, with its reason."""
        if not lines:
            return []
        self._make_database()
        try:
            self._write_api.write(bucket=self._database, record=b"\n".join(lines), write_precision=_MS)
        except ApiException as why:
            if why.status == _PARTIAL:
                return self._isolate(lines, str(why.body or why.reason)[:200])
            self._made = False  # the database may have been dropped: the next try makes it again
            raise StoreUnavailable(f"InfluxDB answered {why.status}: {why.reason}") from why
        except (HTTPError, OSError) as why:
            raise StoreUnavailable(f"InfluxDB does not answer: {type(why).__name__}") from why
        return []

    def _isolate(self, lines: list[bytes], reason: str) -> list[tuple[int, int, str]]:
        """A 400 is a partial write: find the offenders by halves. Lines written twice change nothing."""
        if len(lines) == 1:
            head, _, time_ms = lines[0].rsplit(b" ", 2)
            return [(int(head.rpartition(b"=")[2]), int(time_ms), reason)]
        middle = len(lines) // 2
        return self._write(lines[:middle]) + self._write(lines[middle:])

    def _make_database(self) -> None:
        """Make the database where there is none, at the start and after trouble; what the server says is not judged.

        Not left to the 404 of the first write: the server gives it before it has read the body, and a proxy in between
        makes of that a 502 as often as not. InfluxDB 2.x and 3 refuse this statement: there the bucket is made by hand.
        """
        if self._made:
            return
        try:
            answer = self._http.post("/query", data={"q": f'CREATE DATABASE "{self._database}"'})
        except httpx.HTTPError as why:
            raise StoreUnavailable(f"InfluxDB does not answer: {type(why).__name__}") from why
        if answer.is_server_error:
            raise StoreUnavailable(f"InfluxDB answered {answer.status_code} when asked for a database")
        self._made = True

    def _account(self, arrivals: Sequence[Arrival]) -> int:
        """Write the ledger; the position under which this append stands in it."""
        rows: list[dict[str, Any]] = []
        loose = [one._asdict() for one in loose_extents(arrivals)]
        for one, (first_ms, last_ms) in zip(arrivals, extents(arrivals), strict=True):
            if one.key is None:
                continue
            place = {"gateway": one.key.gateway, "epoch": one.key.epoch, "received_ms": one.received_ms}
            place |= {"first_ms": first_ms, "last_ms": last_ms}
            rows.append({**place, "seq": one.key.seq, "last": one.key.seq, "digest": one.digest})
            if one.skips is not None:
                # A range may end where it begins: told apart from that number's own pack by its negative start.
                rows.append({**place, "seq": -one.skips[0], "last": one.skips[1], "digest": None})
        if not rows and not loose:
            return 0
        with self._hearing:
            self._hear(heard_of([one for one in arrivals if one.key is None]))
        with self._ledger.begin() as connection:
            position = _next_position(connection)
            if rows:
                rows = [{**row, "position": position} for row in rows]
                connection.execute(insert_or(connection, _pack).on_conflict_do_nothing(), rows)
            if loose:
                connection.execute(_loose.insert(), [{**row, "position": position} for row in loose])
        return position

    def heard(self) -> Mapping[str, int]:
        """See `ReadingsStore.heard`; readings without a number are known to the process that took them."""
        with self._hearing:
            upto = self.position()
            after = max(0, upto - _HEARD_BACK) if self._heard_at is None else self._heard_at
            if upto > after:
                query = select(_pack.c.gateway, func.max(_pack.c.received_ms)).group_by(_pack.c.gateway)
                query = query.where(_pack.c.position > after, _pack.c.position <= upto)
                with self._ledger.connect().execution_options(reading=True) as connection:
                    found = {row[0]: row[1] for row in connection.execute(query)}
                self._hear(found)
            self._heard_at = upto
            return dict(self._heard)

    def _hear(self, found: Mapping[str, int]) -> None:
        for name, at in found.items():
            self._heard[name] = max(at, self._heard.get(name, 0))

    def position(self) -> int:
        """See `ReadingsStore.position`."""
        with self._ledger.connect().execution_options(reading=True) as connection:
            return int(connection.execute(select(_position.c.at)).scalar() or 0)

    def stored(self, after: int, upto: int) -> Sequence[Stored]:
        """See `ReadingsStore.stored`."""
        found: list[Stored] = []
        with self._ledger.connect().execution_options(reading=True) as connection:
            for table in (_pack, _loose):
                query = select(table.c.gateway, func.min(table.c.first_ms), func.max(table.c.last_ms))
                query = query.where(table.c.position > after, table.c.position <= upto, table.c.first_ms.is_not(None))
                query = query.group_by(table.c.gateway, table.c.first_ms // DAY_MS)
                found += [Stored(*row) for row in connection.execute(query)]
        return found

    def roll_up(self, before_ms: int) -> int:  # noqa: ARG002 - the promise has it
        """See `ReadingsStore.roll_up`; questions are answered from the readings."""
        return 0

    def delete_before(self, series: Ints, time_ms: int) -> int:
        """See `ReadingsStore.delete_before`."""
        time_ms -= time_ms % HOUR_MS
        gone = 0
        for some in _chunks(np.unique(series)):
            where = f"{_among(some)} AND time < {time_ms}ms"
            for table in self._tables(f"SELECT count(q) FROM reading WHERE {where}"):
                gone += int(table["values"][0][1])
            self._ask(f"DELETE FROM reading WHERE {where}", write=True)
        with self._ledger.begin() as connection:
            for one in np.unique(series).tolist():
                insert = insert_or(connection, _cut).values(series=one, time_ms=time_ms)
                connection.execute(insert.on_conflict_do_update(index_elements=["series"], set_={"time_ms": time_ms}))
        return gone

    def _cuts(self) -> Cuts:
        with self._ledger.connect().execution_options(reading=True) as connection:
            return Cuts([(row.series, row.time_ms) for row in connection.execute(select(_cut))])

    # --- reading ------------------------------------------------------------------------------------

    def last(self, series: Ints) -> Points:
        """See `ReadingsStore.last`."""
        found: dict[int, Points] = {}
        for some in _chunks(series):
            query = f"SELECT v, q FROM reading WHERE {_among(some)} GROUP BY s ORDER BY time DESC LIMIT 1"
            found |= dict(self._series(query))
        return _joined([found[one] for one in series.tolist() if one in found])

    def range(self, series: Ints, start_ms: int, end_ms: int, *, limit: int | None = None) -> Points:
        """See `ReadingsStore.range`."""
        found: dict[int, Points] = {}
        for some in _chunks(series):
            most = "" if limit is None else f" LIMIT {limit}"
            query = f"SELECT v, q FROM reading WHERE {_among(some)} AND {_within(start_ms, end_ms)} GROUP BY s{most}"
            found |= dict(self._series(query))
        points = _joined([found[one] for one in sorted(found)])
        return points if limit is None else points.take(np.arange(min(limit, len(points))))

    def downsample(self, series: int, start_ms: int, end_ms: int, step_ms: int) -> Buckets:
        """See `ReadingsStore.downsample`; the server counts buckets from the epoch, hence the offset."""
        query = (
            "SELECT count(v), sum(v), min(v), max(v), first(v), last(v) FROM reading"
            f" WHERE s = '{series}' AND {_within(start_ms, end_ms)} AND {_USABLE}"
            f" GROUP BY time({step_ms}ms, {start_ms % step_ms}ms) fill(none)"
        )
        rows = [row for table in self._tables(query) for row in table["values"] if row[1]]
        start, n, *rest = zip(*rows, strict=True) if rows else [()] * 7
        return Buckets(_ints(start), _ints(n), *(_floats(one) for one in rest))

    def group(self, series: Ints, label: Ints, start_ms: int, end_ms: int) -> Groups:
        """See `ReadingsStore.group`."""
        labels: dict[int, list[int]] = defaultdict(list)
        for one, name in zip(series.tolist(), label.tolist(), strict=True):
            labels[one].append(name)
        held: dict[int, list[tuple[float, ...]]] = defaultdict(list)
        for some in _chunks(series):
            query = (
                "SELECT count(v), sum(v), min(v), max(v) FROM reading"
                f" WHERE {_among(some)} AND {_within(start_ms, end_ms)} AND {_USABLE} GROUP BY s"
            )
            for table in self._tables(query):
                for name in labels[int(table["tags"]["s"])]:
                    held[name].append(tuple(table["values"][0][1:]))
        names = sorted(held)
        sums = [tuple(zip(*held[name], strict=True)) for name in names]
        return Groups(
            _ints(names),
            _ints([sum(one[0]) for one in sums]),
            _floats([sum(one[1]) for one in sums]),
            _floats([min(one[2]) for one in sums]),
            _floats([max(one[3]) for one in sums]),
        )

    def count_by_hour(self, series: Ints) -> tuple[Ints, Ints]:
        """See `ReadingsStore.count_by_hour`."""
        held: dict[int, int] = defaultdict(int)
        for some in _chunks(np.unique(series)):
            query = (
                f"SELECT count(q) FROM reading WHERE {_among(some)} AND time >= 0 GROUP BY time({HOUR_MS}ms) fill(none)"
            )
            for table in self._tables(query):
                for at, n in table["values"]:
                    held[at // HOUR_MS] += n
        return _ints(sorted(held)), _ints([held[hour] for hour in sorted(held)])

    def compact(self) -> None:
        """See `ReadingsStore.compact`; the server does that by itself."""

    def conflicts(self, *, limit: int = 1000, upto_ms: int | None = None) -> list[Conflicting]:  # noqa: ARG002 - promised
        """See `ReadingsStore.conflicts`; the server overwrites, so none is ever known."""
        return []

    def ledger(self, gateway: str) -> Mapping[str, Spans]:
        """See `ReadingsStore.ledger`."""
        with self._ledger.connect().execution_options(reading=True) as connection:
            folds = connection.execute(select(_folded).where(_folded.c.gateway == gateway)).all()
            upto = {row.epoch: row.upto for row in folds}
            heard: dict[str, int] = dict.fromkeys(upto, 0)
            spans = {epoch: Spans((1, last)) for epoch, last in upto.items()}
            floor = min(upto.values(), default=0)
            query = select(_pack).where(_pack.c.gateway == gateway, _pack.c.last > floor)
            for row in connection.execute(query):
                spans.setdefault(row.epoch, Spans()).add(abs(row.seq), row.last)
                heard[row.epoch] = max(heard.get(row.epoch, 0), row.received_ms)
        for epoch, one in spans.items():
            if one.watermark - upto.get(epoch, 0) >= _FOLD_EVERY:
                self._fold(gateway, epoch, one.watermark)
        return {epoch: spans[epoch] for epoch in sorted(spans, key=lambda one: (heard[one], one))}

    def _fold(self, gateway: str, epoch: str, upto: int) -> None:
        with self._ledger.begin() as connection:
            insert = insert_or(connection, _folded).values(gateway=gateway, epoch=epoch, upto=upto)
            connection.execute(insert.on_conflict_do_update(index_elements=["gateway", "epoch"], set_={"upto": upto}))

    def health(self) -> Health:
        """See `ReadingsStore.health`."""
        try:
            answer = self._http.get("/ping", timeout=3)
        except httpx.HTTPError as why:
            return Health(ok=False, detail=f"InfluxDB does not answer: {type(why).__name__}")
        ok = answer.is_success
        return Health(ok=ok, detail="" if ok else f"InfluxDB answered {answer.status_code}")

    def close(self) -> None:
        """See `ReadingsStore.close`."""
        self._write_api.close()  # type: ignore[no-untyped-call]  # the client leaves it untyped
        self._writer.close()  # type: ignore[no-untyped-call]
        self._http.close()

    def _series(self, query: str) -> Iterator[tuple[int, Points]]:
        for table in self._tables(query):
            one = int(table["tags"]["s"])
            time_ms, value, quality = zip(*table["values"], strict=True)
            values = [float("nan") if v is None else v for v in value]
            yield one, Points(*columns([one] * len(values), time_ms, values, quality))

    def _tables(self, query: str) -> list[Mapping[str, Any]]:
        found = self._ask(query)
        return [table for result in found.get("results", ()) for table in result.get("series", ())]

    def _ask(self, query: str, *, write: bool = False) -> Mapping[str, Any]:
        about = {"db": self._database, "q": query, "epoch": "ms"}
        try:
            # A list of series can be longer than an address may be: always in the body.
            answer = self._http.post("/query", data=about)
        except httpx.HTTPError as why:
            raise StoreUnavailable(f"InfluxDB does not answer: {type(why).__name__}") from why
        if answer.status_code == httpx.codes.NOT_FOUND and not write:
            return {}
        if not answer.is_success:
            raise StoreUnavailable(f"InfluxDB answered {answer.status_code} to a question: {answer.text[:200]}")
        found: Mapping[str, Any] = answer.json()
        error = next((str(result["error"]) for result in found.get("results", ()) if "error" in result), None)
        if error is not None and "database not found" not in error:
            raise StoreUnavailable(f"InfluxDB: {error[:200]}")
        return found


def _next_position(connection: Connection) -> int:
    """The next position, held against other processes until the transaction ends."""
    first = insert_or(connection, _position).values(id=1, at=1)
    raised = first.on_conflict_do_update(index_elements=["id"], set_={"at": _position.c.at + 1})
    return int(connection.execute(raised.returning(_position.c.at)).scalar_one())


def _lines(points: Points) -> list[bytes]:
    rows = zip(*(one.tolist() for one in (points.series, points.time_ms, points.value, points.quality)), strict=True)
    return [
        b"reading,s=%d %sq=%di %d" % (one, b"" if value != value else b"v=%r," % value, quality, at)  # noqa: PLR0124 - NaN
        for one, at, value, quality in rows
    ]


def _chunks(series: Ints) -> Iterator[Ints]:
    for start in range(0, len(series), _SERIES_AT_ONCE):
        yield series[start : start + _SERIES_AT_ONCE]


def _among(series: Ints) -> str:
    return f"s =~ /^({'|'.join(map(str, series.tolist()))})$/"


def _within(start_ms: int, end_ms: int) -> str:
    return f"time >= {start_ms}ms AND time < {end_ms}ms"


def _joined(parts: Sequence[Points]) -> Points:
    if not parts:
        return Points.none()
    return Points(
        np.concatenate([part.series for part in parts]),
        np.concatenate([part.time_ms for part in parts]),
        np.concatenate([part.value for part in parts]),
        np.concatenate([part.quality for part in parts]),
    )


def _ints(values: Iterable[int]) -> Ints:
    return np.array(list(values), dtype=np.int64)


def _floats(values: Iterable[float]) -> Floats:
    return np.array(list(values), dtype=np.float64)
