"""The log's journal in the relational store: an entry and the rows of its event in one transaction.

This is an `EntryStore` (`traceability.stores` says what it promises). A batch brings its events' rows as companion; a
batch whose event is already known is refused as `Known`, with the place the event has, and harms nobody else's batch.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, Engine, func, insert, select
from sqlalchemy.exc import SQLAlchemyError

from cloud.provenance.schemas import CaptureJob
from cloud.provenance.store import CARRIES, ENTRY, EVENT, JOB, LEFT, THING, USED
from traceability import TraceError
from traceability.merkle import leaf_hash
from traceability.stores import Batch, Stored, StoreError

__all__ = ["Companion", "EventRow", "Known", "SqlJournal"]


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

    def columns(self, place: int) -> dict[str, Any]:
        """Row of the event table."""
        return {
            "place": place,
            "event_id": self.event_id,
            "declares": self.declares,
            "chain": self.chain,
            "kind": self.kind,
            "step": self.step,
            "when_ms": self.when_ms,
            "recorded_ms": self.recorded_ms,
            "captured_by": self.captured_by,
            "body": self.body,
            "context": self.context,
            "secrets": self.secrets,
        }

    @property
    def key(self) -> tuple[str, int]:
        """What makes the event one: its id, and whether it declares the event of that id wrong."""
        return self.event_id, self.declares

    def things(self, place: int) -> list[dict[str, Any]]:
        """Rows of the thing table."""
        roles = dict.fromkeys(self.uses, USED) | dict.fromkeys(self.makes, LEFT)
        if self.carrier is not None:
            roles[self.carrier] = CARRIES
        return [{"thing": thing, "place": place, "role": role} for thing, role in roles.items()]


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
        self._entries: list[dict[str, Any]] = []
        self._events: list[dict[str, Any]] = []
        self._things: list[dict[str, Any]] = []
        self._jobs: list[dict[str, Any]] = []

    def write(self) -> Sequence[Stored]:
        """Decide on every batch, then insert everything at once."""
        rows = [row for batch in self._batches for row in _rows(batch)]
        leaves = [leaf_hash(entry) for batch in self._batches for entry in batch.entries]
        self._ids = self._known_events([row.event_id for row in rows])
        self._places = self._known(ENTRY.c.leaf, leaves)
        stored = [self._place(batch) for batch in self._batches]
        new = ((ENTRY, self._entries), (EVENT, self._events), (THING, self._things), (JOB, self._jobs))
        for table, values in new:
            if values:
                self._db.execute(insert(table), values)
        return stored

    def _known(self, column: Any, wanted: Sequence[Any]) -> dict[Any, int]:
        found: dict[Any, int] = {}
        for at in range(0, len(wanted), 500):
            query = select(column, column.table.c.place).where(column.in_(wanted[at : at + 500]))
            found |= {row[0]: int(row[1]) for row in self._db.execute(query)}
        return found

    def _known_events(self, wanted: Sequence[str]) -> set[tuple[str, int]]:
        found: set[tuple[str, int]] = set()
        for at in range(0, len(wanted), 500):
            query = select(EVENT.c.event_id, EVENT.c.declares).where(EVENT.c.event_id.in_(wanted[at : at + 500]))
            found |= {(row[0], int(row[1])) for row in self._db.execute(query)}
        return found

    def _place(self, batch: Batch) -> Stored:
        rows = _rows(batch)
        if rows and len(rows) != len(batch.entries):
            return StoreError("a batch with event rows needs one for each entry")
        ids = [row.key for row in rows]
        if len(set(ids)) != len(ids) or self._ids.intersection(ids):
            return Known("an event of this batch is already in the log")
        self._ids.update(ids)
        places = tuple(self._entry(entry) for entry in batch.entries)
        for place, row in zip(places, rows, strict=False):
            self._events.append(row.columns(place))
            self._things += row.things(place)
        if isinstance(batch.companion, Companion) and batch.companion.job is not None:
            self._jobs.append(asdict(batch.companion.job))
        return places

    def _entry(self, entry: bytes) -> int:
        leaf = leaf_hash(entry)
        if leaf not in self._places:
            self._places[leaf] = self._next
            self._entries.append({"place": self._next, "leaf": leaf, "entry": entry})
            self._next += 1
        return self._places[leaf]


def _rows(batch: Batch) -> tuple[EventRow, ...]:
    return batch.companion.rows if isinstance(batch.companion, Companion) else ()
