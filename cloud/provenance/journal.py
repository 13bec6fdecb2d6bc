"""The log's journal in the relational store: an entry and the rows of its event in one transaction.

This is an `EntryStore` (`traceability.stores` says what it promises). A batch brings its events' rows as companion; a
batch whose event is already known is refused as `Known`, with the place the event has, and harms nobody else's batch.

Everything of a group waits for its one transaction, so what is written here is written as the driver takes it, many
rows a call: compiling a statement anew for each group costs more than the rows themselves.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Dialect, Engine, Table, func, insert, select
from sqlalchemy.exc import SQLAlchemyError

from cloud.provenance.schemas import CaptureJob
from cloud.provenance.store import CARRIES, ENTRY, EVENT, JOB, LEFT, THING, USED
from traceability import TraceError
from traceability.merkle import leaf_hash
from traceability.stores import Batch, Stored, StoreError

__all__ = ["Companion", "EventRow", "Known", "SqlJournal"]


_ASK = "SELECT event_id, declares FROM chain_event WHERE event_id = ANY(%s)"
_ASK_SQLITE = "SELECT event_id, declares FROM chain_event WHERE event_id IN (SELECT value FROM json_each(?))"


class Known(TraceError):
    """The event is already in the log."""

    default_code = "known_event"


@dataclass(frozen=True, slots=True)
class EventRow:
    """What is stored beside the log's entry of one event. `uses` and `makes` are identifiers."""

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
    uses: tuple[str, ...]
    makes: tuple[str, ...]
    carrier: str | None

    def columns(self, place: int) -> tuple[Any, ...]:
        """Row of the event table, in the order of its columns."""
        return (
            place,
            self.event_id,
            self.declares,
            self.chain,
            self.kind,
            self.step,
            self.when_ms,
            self.recorded_ms,
            self.captured_by,
            self.body,
            self.context,
            self.secrets,
        )

    @property
    def key(self) -> tuple[str, int]:
        """What makes the event one: its id, and whether it declares the event of that id wrong."""
        return self.event_id, self.declares

    def things(self, place: int) -> list[tuple[str, int, int]]:
        """Rows of the thing table: thing, place, role."""
        roles = dict.fromkeys(self.uses, USED) | dict.fromkeys(self.makes, LEFT)
        if self.carrier is not None:
            roles[self.carrier] = CARRIES
        return [(thing, place, role) for thing, role in roles.items()]


@dataclass(frozen=True, slots=True)
class Companion:
    """What goes into the journal's transaction with a batch: a row for each entry, and the capture's own job."""

    rows: tuple[EventRow, ...]
    job: CaptureJob | None = None


class SqlJournal:
    """Entries of the log in a relational store. One process writes; any may read."""

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
        return [bytes(row.entry) for row in rows]

    def close(self) -> None:
        """See `EntryStore`; the engine belongs to whoever opened it."""


def _count(db: Connection) -> int:
    highest = db.execute(select(func.max(ENTRY.c.place))).scalar()
    return 0 if highest is None else int(highest) + 1


class _Group:
    """One transaction's worth of batches."""

    def __init__(self, db: Connection, batches: Sequence[Batch]) -> None:
        self._db = db
        self._batches = batches
        self._next = _count(db)
        self._entries: list[tuple[Any, ...]] = []
        self._events: list[tuple[Any, ...]] = []
        self._things: list[tuple[Any, ...]] = []
        self._jobs: list[tuple[Any, ...]] = []

    def write(self) -> Sequence[Stored]:
        """Decide on every batch, then insert everything at once."""
        self._ids = self._known_events([row.event_id for batch in self._batches for row in _rows(batch)])
        # The salts of an event make its entry like no other, so only entries without one can be there already.
        bare = [leaf_hash(entry) for batch in self._batches if not _rows(batch) for entry in batch.entries]
        self._places = self._known_leaves(bare)
        stored = [self._place(batch) for batch in self._batches]
        new = ((ENTRY, self._entries), (EVENT, self._events), (THING, self._things), (JOB, self._jobs))
        for table, values in new:
            if values:
                self._db.exec_driver_sql(_insertion(table, self._db.dialect), values)
        return stored

    def _known_leaves(self, wanted: Sequence[bytes]) -> dict[bytes, int]:
        found: dict[bytes, int] = {}
        for at in range(0, len(wanted), 500):
            query = select(ENTRY.c.leaf, ENTRY.c.place).where(ENTRY.c.leaf.in_(wanted[at : at + 500]))
            found |= {bytes(row[0]): int(row[1]) for row in self._db.execute(query)}
        return found

    def _known_events(self, wanted: Sequence[str]) -> set[tuple[str, int]]:
        if not wanted:
            return set()
        rows = self._db.exec_driver_sql(*_asked(self._db.dialect.name, wanted))
        return {(row[0], int(row[1])) for row in rows}

    def _place(self, batch: Batch) -> Stored:
        rows = _rows(batch)
        if rows and len(rows) != len(batch.entries):
            return StoreError("a batch with event rows needs one for each entry")
        ids = [row.key for row in rows]
        if len(set(ids)) != len(ids) or self._ids.intersection(ids):
            return Known("an event of this batch is already in the log")
        self._ids.update(ids)
        places = tuple(map(self._entry, batch.entries))
        for place, row in zip(places, rows, strict=False):
            self._events.append(row.columns(place))
            self._things += row.things(place)
        if isinstance(batch.companion, Companion) and batch.companion.job is not None:
            self._jobs.append(_job(batch.companion.job))
        return places

    def _entry(self, entry: bytes) -> int:
        leaf = leaf_hash(entry)
        place = self._places.get(leaf)
        if place is None:
            place = self._places[leaf] = self._next
            self._entries.append((place, leaf, entry))
            self._next += 1
        return place


def _rows(batch: Batch) -> tuple[EventRow, ...]:
    return batch.companion.rows if isinstance(batch.companion, Companion) else ()


def _job(job: CaptureJob) -> tuple[Any, ...]:
    return job.id, job.created_ms, job.finished_ms, job.success, job.behaviour, json.dumps(job.errors)


@lru_cache(maxsize=16)
def _insertion(table: Table, dialect: Dialect) -> str:
    """The statement that inserts whole rows of `table`, parameters by their place, as the driver wants it."""
    return re.sub(r"%\(\w+\)s", "%s", str(insert(table).compile(dialect=dialect)))


def _asked(dialect: str, ids: Sequence[str]) -> tuple[str, tuple[Any, ...]]:
    """One statement for any number of ids: which of them are there."""
    if dialect == "sqlite":
        return _ASK_SQLITE, (json.dumps(ids),)
    return _ASK, (list(ids),)
