"""The log's journal in the relational store: an entry and the rows of its event in one transaction.

This is an `EntryStore` (`traceability.stores` says what it promises). A batch brings its events' rows as companion, and
with them what its sender relied on. Whether that still holds is asked here, inside the transaction, where nobody can be
faster: an event that is in the log already (`Known`), things that stand under rules nobody judged the event by
(`Ruled`), things that something happened to since the event was judged (`Stale`). Such a batch is refused and harms
nobody else's; its sender looks again.

Everything of a group waits for its one transaction, so what is written here is written as the driver takes it, many
rows a statement: compiling one anew for each group costs more than the rows themselves.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain as chained
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Engine, Table, func, select
from sqlalchemy.exc import SQLAlchemyError

from cloud.provenance.rulings import among, rulings_among
from cloud.provenance.schemas import CaptureJob
from cloud.provenance.store import CARRIES, ENTRY, EVENT, JOB, LEFT, RULED, THING, USED, WARNING
from traceability import TraceError
from traceability.chain_rules import CHAINS
from traceability.stores import Batch, Stored, StoreError

__all__ = ["Companion", "EventRow", "Known", "Relied", "Ruled", "SqlJournal", "Stale", "entry_bytes"]

_COLUMNS: Final = 12  # of an `EventRow`
_KNOWN = "SELECT event_id, declares FROM chain_event WHERE id_key IN ({})"
_TOUCHED = "SELECT 1 FROM chain_thing WHERE place >= ? AND thing IN ({}) LIMIT 1"
_NEWER: Final = (
    " ON CONFLICT (name) DO UPDATE SET chain = excluded.chain, place = excluded.place "
    "WHERE chain_ruled.place IS NOT NULL"
)
# Rows a statement. A driver gives the interpreter away at every statement, or at every row of an `executemany`, and has
# to wait for it again while others seal their events: a group is two statements a table, whole hundreds and the rest.
_HUNDRED: Final = 100
_MOST: Final = 1_000


class Known(TraceError):
    """The event is already in the log."""

    default_code = "known_event"


class Ruled(TraceError):
    """Rules apply to these things, and the event was not judged by them."""

    default_code = "ruled"


class Stale(TraceError):
    """Something happened to these things since the event was judged."""

    default_code = "stale"


class EventRow(NamedTuple):
    """What is stored beside the log's entry of one event; the first twelve are columns in their order.

    `uses` and `makes` are identifiers, `grounds` trade items and places that may bring rules with them.
    """

    event_id: str
    declares: int
    chain: str
    kind: str
    step: str
    when_ms: int
    recorded_ms: int
    captured_by: str
    body: str
    context: str
    secrets: str
    id_key: int
    uses: tuple[str, ...]
    makes: tuple[str, ...]
    carrier: str | None
    grounds: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, int]:
        """What makes the event one: its id, and whether it declares the event of that id wrong."""
        return self.event_id, self.declares

    def things(self, place: int) -> list[tuple[str, int, int]]:
        """Rows of the thing table: thing, place, role."""
        if not self.uses and self.carrier is None:  # as of most events
            return [(thing, place, LEFT) for thing in dict.fromkeys(self.makes)]
        roles = dict.fromkeys(self.uses, USED) | dict.fromkeys(self.makes, LEFT)
        if self.carrier is not None:
            roles[self.carrier] = CARRIES
        return [(thing, place, role) for thing, role in roles.items()]


@dataclass(frozen=True, slots=True)
class Relied:
    """The things whose past an event was judged by, and how many entries the log had before anybody looked."""

    things: frozenset[str]
    entries: int


@dataclass(frozen=True, slots=True)
class Companion:
    """What goes into the journal's transaction with a batch: a row for each entry, and the capture's own job.

    `relied`: what the events were judged against; None where nobody judged them. `warned`: what the rules warned of,
    JSON text by the number of the row.
    """

    rows: tuple[EventRow, ...]
    job: CaptureJob | None = None
    relied: Relied | None = None
    warned: Mapping[int, str] = field(default_factory=dict)


class SqlJournal:
    """Entries of the log in a relational store. One process writes; any may read.

    An entry with a row is an event, and its id makes it one (`Known`); any other is known again by its leaf hash.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def append(self, batches: Sequence[Batch]) -> Sequence[Stored]:
        """See `EntryStore`. A companion is a `Companion`; entries that are no events have none."""
        try:
            with self._engine.begin() as db:
                return _Group(db, batches).write()
        except SQLAlchemyError as why:
            raise StoreError(f"the journal could not be written: {type(why).__name__}") from why

    def count(self) -> int:
        """See `EntryStore`."""
        with self._engine.connect().execution_options(reading=True) as db:
            return _count(db)

    def read(self, start: int, stop: int) -> Sequence[bytes]:
        """See `EntryStore`."""
        query = select(ENTRY.c.place, ENTRY.c.entry).where(ENTRY.c.place >= start, ENTRY.c.place < stop)
        with self._engine.connect().execution_options(reading=True) as db:
            rows = db.execute(query.order_by(ENTRY.c.place)).all()
        for wanted, row in enumerate(rows, start):
            if row.place != wanted:
                raise StoreError(f"entry {wanted} of the journal is missing")
        if len(rows) != stop - start:
            raise StoreError(f"entry {start + len(rows)} of the journal is missing")
        return [entry_bytes(row.entry) for row in rows]

    def close(self) -> None:
        """See `EntryStore`; the engine belongs to whoever opened it."""


def entry_bytes(stored: bytes | memoryview | str) -> bytes:
    """An entry as it is stored; SQLite gives back as text what some other hand put in as text."""
    return stored.encode() if isinstance(stored, str) else bytes(stored)


def _count(db: Connection) -> int:
    highest = db.execute(select(func.max(ENTRY.c.place))).scalar()
    return 0 if highest is None else int(highest) + 1


class _Group:
    """One transaction's worth of batches. What runs here runs for every event while nobody else can be sealed."""

    def __init__(self, db: Connection, batches: Sequence[Batch]) -> None:
        self._db = db
        self._batches = batches
        self._next = _count(db)
        self._entries: list[tuple[Any, ...]] = []
        self._events: list[tuple[Any, ...]] = []
        self._things: list[tuple[Any, ...]] = []
        self._jobs: list[tuple[Any, ...]] = []
        self._warnings: list[tuple[int, str]] = []
        self._rulings: dict[str, tuple[str, int]] = {}
        self._touched: set[str] = set()

    def write(self) -> Sequence[Stored]:
        """Decide on every batch, then insert everything at once."""
        self._ids = self._known_events([row.id_key for batch in self._batches for row in _rows(batch)])
        bare = [leaf for batch in self._batches if not _rows(batch) for leaf in batch.leaves]
        self._places = self._known_leaves(bare)
        unjudged = [row for batch in self._batches if _relied(batch) is None for row in _rows(batch)]
        names: set[str] = set()
        for row in unjudged:
            names.update(row.uses, row.makes, row.grounds)
        self._ruled = set(rulings_among(self._db, list(names)))
        stored = [self._place(batch) for batch in self._batches]
        _insert(self._db, ENTRY, self._entries)
        _insert(self._db, EVENT, self._events)
        _insert(self._db, THING, self._things)
        _insert(self._db, JOB, self._jobs)
        _insert(self._db, WARNING, self._warnings)
        _insert(self._db, RULED, [(name, *ruling) for name, ruling in self._rulings.items()], _NEWER)
        return stored

    def _known_leaves(self, wanted: Sequence[bytes]) -> dict[bytes, int]:
        found: dict[bytes, int] = {}
        for at in range(0, len(wanted), 500):
            query = select(ENTRY.c.leaf, ENTRY.c.place).where(ENTRY.c.leaf.in_(wanted[at : at + 500]))
            found |= {bytes(row[0]): int(row[1]) for row in self._db.execute(query)}
        return found

    def _known_events(self, wanted: Sequence[int]) -> set[tuple[str, int]]:
        if not wanted:
            return set()
        return {(row[0], int(row[1])) for row in among(self._db, _KNOWN, wanted)}

    def _place(self, batch: Batch) -> Stored:
        rows = _rows(batch)
        if not rows:
            places = tuple(map(self._bare, batch.entries, batch.leaves))
        else:
            if (why := self._refusal(batch, rows)) is not None:
                return why
            places = tuple(range(self._next, self._next + len(rows)))
            self._take(batch, rows, places)
            self._warnings += [(places[number], text) for number, text in _warned(batch).items()]
        if isinstance(batch.companion, Companion) and batch.companion.job is not None:
            self._jobs.append(_job(batch.companion.job))
        return places

    def _refusal(self, batch: Batch, rows: Sequence[EventRow]) -> TraceError | None:
        if len(rows) != len(batch.entries):
            return StoreError("a batch with event rows needs one for each entry")
        ids = {(row.event_id, row.declares) for row in rows}
        if len(ids) != len(rows) or not self._ids.isdisjoint(ids):
            return Known("an event of this batch is already in the log")
        if (why := self._no_longer_so(rows, _relied(batch))) is not None:
            return why
        self._ids |= ids
        return None

    def _no_longer_so(self, rows: Sequence[EventRow], relied: Relied | None) -> TraceError | None:
        """Why events must be looked at again before they may be taken; None where all is as their sender saw it."""
        if relied is None:
            for row in rows if self._ruled else ():
                if not self._ruled.isdisjoint((*row.uses, *row.makes, *row.grounds)):
                    return Ruled(f"the event {row.event_id} is about things that rules apply to")
        elif relied.things and (
            not self._touched.isdisjoint(relied.things)
            or among(self._db, _TOUCHED, list(relied.things), relied.entries)
        ):
            return Stale("something happened to these things since the event was judged")
        return None

    def _take(self, batch: Batch, rows: Sequence[EventRow], places: Sequence[int]) -> None:
        self._next += len(rows)
        self._entries += [(place, None, entry) for place, entry in zip(places, batch.entries, strict=True)]
        self._events += [(place, *row[:_COLUMNS]) for place, row in zip(places, rows, strict=True)]
        for place, row in zip(places, rows, strict=True):
            self._things += row.things(place)
            self._touched.update(row.uses, row.makes)
            if row.chain in CHAINS:
                self._rulings |= dict.fromkeys((*row.uses, *row.makes), (row.chain, place))
                self._ruled.update(row.uses, row.makes)

    def _bare(self, entry: bytes, leaf: bytes) -> int:
        """The place of an entry that is no event: the one it has already, or the next."""
        place = self._places.get(leaf)
        if place is None:
            place = self._places[leaf] = self._next
            self._entries.append((place, leaf, entry))
            self._next += 1
        return place


def _rows(batch: Batch) -> tuple[EventRow, ...]:
    return batch.companion.rows if isinstance(batch.companion, Companion) else ()


def _relied(batch: Batch) -> Relied | None:
    return batch.companion.relied if isinstance(batch.companion, Companion) else None


def _warned(batch: Batch) -> Mapping[int, str]:
    return batch.companion.warned if isinstance(batch.companion, Companion) else {}


def _job(job: CaptureJob) -> tuple[Any, ...]:
    return job.id, job.created_ms, job.finished_ms, job.success, job.behaviour, json.dumps(job.errors)


def _insert(db: Connection, table: Table, rows: Sequence[tuple[Any, ...]], ending: str = "") -> None:
    """Insert whole rows, as many as possible with each statement."""
    at = 0
    while (left := len(rows) - at) > 0:
        size = left if left < _HUNDRED else min(left - left % _HUNDRED, _MOST)
        values = tuple(chained.from_iterable(rows[at : at + size]))
        db.exec_driver_sql(_insertion(table, size, db.dialect.name) + ending, values)
        at += size


@lru_cache(maxsize=256)
def _insertion(table: Table, rows: int, dialect: str) -> str:
    """The statement that inserts so many whole rows of `table`, parameters by their place, as the driver wants it."""
    mark = "?" if dialect == "sqlite" else "%s"
    row = f"({', '.join([mark] * len(table.columns))})"
    return f"INSERT INTO {table.name} ({', '.join(table.columns.keys())}) VALUES {', '.join([row] * rows)}"  # noqa: S608 - names of our own
