"""Where events, refusals, scans and farm records lie: the relational side of the chain.

The rows of an event and its entry of the log are one transaction (`cloud.provenance.journal` writes both), so an event
is in the log or nowhere. This module holds the tables and every question asked of them.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Engine,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Select,
    String,
    Table,
    Text,
    and_,
    cast,
    collate,
    delete,
    func,
    insert,
    literal,
    select,
    tuple_,
    type_coerce,
    update,
)

from cloud.provenance.query import EventQuery
from cloud.provenance.schemas import CaptureJob
from traceability.events import Event

__all__ = [
    "CARRIES",
    "ENTRY",
    "EVENT",
    "JOB",
    "RULED",
    "SHARD",
    "THING",
    "WARNING",
    "EventStore",
    "Refusal",
    "Stored",
    "id_key",
    "metadata",
]

# A walk through ancestors that touches more things than this is cut: no real lot has them, a cycle might.
LARGEST_HISTORY = 5_000
# Rows looked at in one go while a page is filled.
SCAN = 500

# How a thing stands to an event.
USED, LEFT, CARRIES = 0, 1, 2

metadata = MetaData()
ENTRY = Table(
    "chain_entry",
    metadata,
    Column("place", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    # RFC 6962 leaf hash of an entry that is no event; NULL for one that is: its salts make it like no other, and a
    # random key in a unique index costs more than the row.
    Column("leaf", LargeBinary(32)),
    Column("entry", LargeBinary, nullable=False),  # canonical JSON
)
Index(
    "chain_entry_leaf",
    ENTRY.c.leaf,
    unique=True,
    sqlite_where=ENTRY.c.leaf.is_not(None),
    postgresql_where=ENTRY.c.leaf.is_not(None),
)
EVENT = Table(
    "chain_event",
    metadata,
    Column("place", ForeignKey("chain_entry.place"), primary_key=True, autoincrement=False),
    Column("event_id", String(160), nullable=False),
    Column("declares", Integer, nullable=False),  # 1: a declaration that the event of this id was wrong
    Column("chain", String(20), nullable=False),
    Column("kind", String(200), nullable=False),
    Column("step", String(200), nullable=False),
    Column("when_ms", BigInteger, nullable=False, index=True),
    Column("recorded_ms", BigInteger, nullable=False, index=True),
    Column("captured_by", String(120), nullable=False),
    Column("body", Text, nullable=False),  # the event as it came, JSON
    Column("context", Text, nullable=False),  # JSON-LD context of the document it came in, JSON list
    Column("secrets", Text, nullable=False),  # {"field": {"salt": b64, "value": JSON}}; erasing one keeps the proof
    Column("id_key", BigInteger, nullable=False),  # `id_key` of the event_id
    # Not unique: that an event stands here once is decided in the journal's transaction, and there is one journal.
    Index("chain_event_id", "id_key"),
)
Index("chain_event_wrong", EVENT.c.event_id, sqlite_where=EVENT.c.declares == 1, postgresql_where=EVENT.c.declares == 1)
THING = Table(
    "chain_thing",
    metadata,
    Column("thing", String(300), primary_key=True),
    Column("place", ForeignKey("chain_event.place"), primary_key=True, autoincrement=False),
    Column("role", Integer, nullable=False),  # USED up by it | LEFT it | left it and CARRIES the others
    Index("chain_thing_by_event", "place"),
)
RULED = Table(
    "chain_ruled",
    metadata,
    Column("name", String(300), primary_key=True),  # a thing, a trade item or a place
    Column("chain", String(20), nullable=False),
    Column("place", BigInteger),  # of the newest event that put the thing under the chain; NULL: a person gave it
)
SHARD = Table(
    "chain_shard",
    metadata,
    Column("year", Integer, primary_key=True, autoincrement=False),  # China's
    Column("first_place", BigInteger, nullable=False),  # of the entries that the year's log holds
)
_REFUSAL = Table(
    "chain_refusal",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("event_id", String(160), nullable=False, unique=True),
    Column("chain", String(20), nullable=False),
    Column("tried_ms", BigInteger, nullable=False),
    Column("tried_by", String(120), nullable=False),
    Column("findings", Text, nullable=False),  # JSON list: rule, zh, en, source, earliest_ms, things
    Column("body", Text, nullable=False),
    Column("times", Integer, nullable=False, default=1),
)
WARNING = Table(
    "chain_warning",
    metadata,
    Column("place", ForeignKey("chain_event.place"), primary_key=True, autoincrement=False),
    Column("findings", Text, nullable=False),  # JSON list, as of a refusal
)
_PRODUCT = Table(
    "chain_product",
    metadata,
    Column("gtin", String(14), primary_key=True),
    Column("zh", String(100), nullable=False),
    Column("en", String(100), nullable=False),
)
JOB = Table(
    "chain_capture",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("created_ms", BigInteger, nullable=False, index=True),
    Column("finished_ms", BigInteger, nullable=False),
    Column("success", Boolean, nullable=False),
    Column("behaviour", String(10), nullable=False),
    Column("errors", JSON, nullable=False),
)
_QUERY = Table(
    "chain_query",
    metadata,
    Column("name", String(60), primary_key=True),
    Column("parameters", JSON, nullable=False),
)
_SCAN = Table(
    "chain_scan",
    metadata,
    Column("code", String(300), primary_key=True),
    Column("times", Integer, nullable=False),
    Column("first_ms", BigInteger, nullable=False),
    Column("last_ms", BigInteger, nullable=False),
)
_REPORT = Table(
    "chain_report",
    metadata,
    Column("receipt", String(20), primary_key=True),
    Column("code", String(300), nullable=False),
    Column("text", Text, nullable=False),
    Column("told_ms", BigInteger, nullable=False),
)
_RECORD = Table(
    "chain_record",
    metadata,
    Column("gateway", String(36), primary_key=True),
    Column("epoch", String(32), primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("kind", String(60), nullable=False),
    Column("when_ms", BigInteger, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    Column("payload", Text, nullable=False),
    Column("body", JSON, nullable=False),
    Column("event_id", String(160)),  # of the event it became; NULL while it waits
    Column("why", Text),  # why it cannot become one; kept for a person to look at
)


def id_key(event_id: str) -> int:
    """What an event is found by: the first eight bytes of the SHA-256 of its id, as a signed number.

    Ids come in no order and are long; an index of them would be four times as large, and every new one falls on another
    page of it. Who finds an event by its key compares the id.
    """
    return int.from_bytes(sha256(event_id.encode(errors="surrogatepass")).digest()[:8], "big", signed=True)


def _of_ids(ids: Iterable[str]) -> ColumnElement[bool]:
    """Whether an event has one of these ids."""
    wanted = list(ids)
    return and_(EVENT.c.id_key.in_([id_key(each) for each in wanted]), EVENT.c.event_id.in_(wanted))


@dataclass(frozen=True, slots=True)
class Stored:
    """An event as stored. `place` is its index in the log, `entry` the log's canonical JSON of it."""

    place: int
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
    entry: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """An event that a rule refused, kept because the attempt is a fact too."""

    number: int
    event_id: str
    chain: str
    tried_ms: int
    tried_by: str
    findings: str
    body: str
    times: int


class EventStore:
    """Events, refusals, scans and farm records. Every method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def by_ids(self, ids: Collection[str]) -> list[Stored]:
        """Events of those ids, as far as they are known."""
        return self._events(_whole().where(_of_ids(ids)).order_by(EVENT.c.place))

    def newest(self, limit: int, before: int | None = None, chain: str | None = None) -> list[Stored]:
        """Events newest capture first, below the place `before`."""
        query = _whole().order_by(EVENT.c.place.desc()).limit(limit)
        if before is not None:
            query = query.where(EVENT.c.place < before)
        if chain is not None:
            query = query.where(EVENT.c.chain == chain)
        return self._events(query)

    def search(self, query: EventQuery) -> tuple[list[Stored], tuple[int, int] | None]:
        """One page of a query's answer in its order, and where the next one starts (None: this was the last)."""
        found: list[Stored] = []
        after = query.after
        while True:
            rows = self._events(_page(query, after))
            for row in rows:
                after = (getattr(row, query.by), row.place)
                if query.accepts(json.loads(row.body)):
                    found.append(row)
                    if len(found) == query.per_page:
                        return found, after
            if len(rows) < SCAN:
                return found, None

    def history(self, things: Iterable[str]) -> list[Stored]:
        """All events of `things` (canonical names) and of everything they were made from, by time.

        Events declared wrong, and their declarations, are left out; the walk ends where nothing is new.
        """
        seen: set[str] = set()
        numbers: set[int] = set()
        edge = set(things)
        with self._engine.connect().execution_options(reading=True) as db:
            while edge and len(seen) < LARGEST_HISTORY:
                seen |= edge
                made = select(THING.c.place, THING.c.role).where(THING.c.thing.in_(edge))
                rows = db.execute(made).all()
                # What only used the thing up lies downstream: its other outputs are not this thing's past.
                found = {number for number, flag in rows if flag > 0} - numbers
                numbers |= found
                used = select(THING.c.thing).where(THING.c.place.in_(found), THING.c.role != 1)
                edge = set(db.execute(used).scalars()) - seen if found else set()
        return self._events(_whole().where(EVENT.c.place.in_(numbers)).order_by(EVENT.c.when_ms, EVENT.c.place))

    def naming(self, db: Connection, things: Collection[str]) -> list[tuple[str, Event]]:
        """Standing events that name any of `things`, each with the thing, by time; on the caller's connection."""
        names, found = list(things), list[tuple[int, int, str, Event]]()
        for at in range(0, len(names), 500):
            query = select(THING.c.thing, EVENT.c.place, EVENT.c.when_ms, EVENT.c.body).join(
                EVENT, EVENT.c.place == THING.c.place
            )
            query = query.where(THING.c.thing.in_(names[at : at + 500]), _stands())
            for row in db.execute(query):
                found.append((row.when_ms, row.place, row.thing, Event(json.loads(row.body))))
        return [(thing, event) for _, _, thing, event in sorted(found, key=lambda each: each[:3])]

    def serials(self, gtin: str | None = None, limit: int = 200) -> list[tuple[str, Stored]]:
        """Things with a serial number (AI 21), of one trade item if asked, each with its newest event, newest first."""
        newest = (
            select(THING.c.thing, func.max(THING.c.place).label("place"))
            .where(THING.c.thing.like(f"%/01/{gtin or '%'}/21/%"))
            .group_by(THING.c.thing)
            .order_by(func.max(THING.c.place).desc())
            .limit(limit)
        )
        with self._engine.connect().execution_options(reading=True) as db:
            things = {int(row.place): str(row.thing) for row in db.execute(newest)}
        rows = {row.place: row for row in self._events(_whole().where(EVENT.c.place.in_(things)))}
        return [(thing, rows[place]) for place, thing in things.items()]

    def packings(self, things: Collection[str]) -> list[Stored]:
        """Standing events in which `things`, or anything they hold, carry others; by time."""
        seen: set[str] = set()
        places: set[int] = set()
        edge = set(things)
        with self._engine.connect().execution_options(reading=True) as db:
            while edge and len(seen) < LARGEST_HISTORY:
                seen |= edge
                carried = select(THING.c.place).where(THING.c.thing.in_(edge), THING.c.role == CARRIES)
                fresh = set(db.execute(carried).scalars()) - places
                places |= fresh
                held = select(THING.c.thing).where(THING.c.place.in_(fresh), THING.c.role == LEFT)
                edge = set(db.execute(held).scalars()) - seen if fresh else set()
        query = _whole().where(EVENT.c.place.in_(places), _stands())
        return self._events(query.order_by(EVENT.c.when_ms, EVENT.c.place)) if places else []

    def names(self, of: str, after: str, limit: int) -> list[str]:
        """Different names of one kind that stored events hold, in their order: eventTypes, epcs, bizSteps, and so on.

        Places and dispositions stand only in the events' JSON, so each answer about them reads all events.
        """
        if of in {"eventTypes", "epcs", "bizSteps"}:
            columns: dict[str, ColumnElement[str]] = {
                "eventTypes": EVENT.c.kind,
                "epcs": THING.c.thing,
                "bizSteps": EVENT.c.step,
            }
            column = columns[of]
        else:
            sqlite = self._engine.dialect.name == "sqlite"
            body: ColumnElement[Any] = type_coerce(EVENT.c.body, JSON) if sqlite else cast(EVENT.c.body, JSON)
            paths = {"readPoints": ("readPoint", "id"), "bizLocations": ("bizLocation", "id")}
            column = body[paths.get(of, ("disposition",))].as_string()
        found = select(column.label("name")).distinct().subquery()
        name = found.c.name if self._engine.dialect.name == "sqlite" else collate(found.c.name, "C")
        query = select(found.c.name).where(name > after).order_by(name).limit(limit)
        with self._engine.connect().execution_options(reading=True) as db:
            return list(db.execute(query).scalars())

    def taking(self, things: Iterable[str]) -> list[Stored]:
        """Events that stand and may have made or used up some of `things` (canonical names), in the log's order."""
        naming = select(THING.c.place).where(THING.c.thing.in_(list(things)))
        kinds = EVENT.c.kind.in_(("TransformationEvent", "ObjectEvent"))
        query = _whole().where(EVENT.c.place.in_(naming), kinds, _stands())
        return self._events(query.order_by(EVENT.c.place))

    def since(self, place: int) -> tuple[list[Stored], int]:
        """Events from `place` on that stand now, and how many declarations of error there are in all."""
        rows = self._events(_whole().where(EVENT.c.place >= place, _stands()).order_by(EVENT.c.place))
        with self._engine.connect().execution_options(reading=True) as db:
            wrong = EVENT.c.declares == literal(1, literal_execute=True)
            declared = db.execute(select(func.count()).select_from(EVENT).where(wrong)).scalar_one()
        return rows, int(declared)

    def count(self) -> int:
        """How many events are stored."""
        with self._engine.connect().execution_options(reading=True) as db:
            return int(db.execute(select(func.count()).select_from(EVENT)).scalar_one())

    def keep_job(self, job: CaptureJob) -> None:
        """Keep what came of a capture."""
        with self._engine.begin() as db:
            db.execute(insert(JOB).values(**asdict(job)))

    def job(self, id: str) -> CaptureJob | None:  # noqa: A002 - the word of the standard
        """A capture job, None if there is none."""
        with self._engine.connect().execution_options(reading=True) as db:
            row = db.execute(select(JOB).where(JOB.c.id == id)).mappings().first()
        return None if row is None else CaptureJob(**dict(row))

    def jobs(self, limit: int) -> list[CaptureJob]:
        """Capture jobs, newest first."""
        with self._engine.connect().execution_options(reading=True) as db:
            rows = db.execute(select(JOB).order_by(JOB.c.created_ms.desc(), JOB.c.id).limit(limit)).mappings()
            return [CaptureJob(**dict(row)) for row in rows]

    def keep_query(self, name: str, parameters: dict[str, str]) -> bool:
        """Keep a named query; False where the name is taken."""
        with self._engine.begin() as db:
            if db.execute(select(_QUERY.c.name).where(_QUERY.c.name == name)).first() is not None:
                return False
            db.execute(insert(_QUERY).values(name=name, parameters=parameters))
        return True

    def queries(self) -> dict[str, dict[str, str]]:
        """Named queries by name."""
        with self._engine.connect().execution_options(reading=True) as db:
            return {row.name: dict(row.parameters) for row in db.execute(select(_QUERY).order_by(_QUERY.c.name))}

    def forget_query(self, name: str) -> None:
        """Delete a named query."""
        with self._engine.begin() as db:
            db.execute(delete(_QUERY).where(_QUERY.c.name == name))

    def name_product(self, gtin: str, zh: str, en: str) -> None:
        """Give a trade item its names; a second call renames it."""
        same = _PRODUCT.c.gtin == gtin
        with self._engine.begin() as db:
            if db.execute(select(_PRODUCT.c.gtin).where(same)).first() is None:
                db.execute(insert(_PRODUCT).values(gtin=gtin, zh=zh, en=en))
            else:
                db.execute(update(_PRODUCT).where(same).values(zh=zh, en=en))

    def product_names(self) -> dict[str, tuple[str, str]]:
        """Names (zh, en) of every trade item by its 14-digit GTIN."""
        with self._engine.connect().execution_options(reading=True) as db:
            return {row.gtin: (row.zh, row.en) for row in db.execute(select(_PRODUCT))}

    def refuse(self, refusal: Mapping[str, object]) -> None:
        """Keep a refused attempt; the same event tried again counts once more and takes the newest reasons."""
        with self._engine.begin() as db:
            same = _REFUSAL.c.event_id == refusal["event_id"]
            known = db.execute(select(_REFUSAL.c.times).where(same)).scalar()
            if known is None:
                db.execute(insert(_REFUSAL).values(**refusal, times=1))
            else:
                db.execute(update(_REFUSAL).where(same).values(**refusal, times=known + 1))

    def refusals(self, limit: int = 50) -> list[Refusal]:
        """Refused attempts, newest first."""
        with self._engine.connect().execution_options(reading=True) as db:
            rows = db.execute(select(_REFUSAL).order_by(_REFUSAL.c.tried_ms.desc()).limit(limit)).mappings()
            return [Refusal(**dict(row)) for row in rows]

    def warnings(self, limit: int = 50) -> list[tuple[Stored, str]]:
        """Events with what the rules warned of (JSON list), newest capture first."""
        with self._engine.connect().execution_options(reading=True) as db:
            query = select(WARNING).order_by(WARNING.c.place.desc()).limit(limit)
            told = {int(row.place): str(row.findings) for row in db.execute(query)}
        rows = self._events(_whole().where(EVENT.c.place.in_(told)).order_by(EVENT.c.place.desc()))
        return [(row, told[row.place]) for row in rows]

    def scanned(self, code: str, now_ms: int) -> tuple[int, int]:
        """Count one opening of a code's page; returns (how many with this one, ms of the first)."""
        with self._engine.begin() as db:
            row = db.execute(select(_SCAN).where(_SCAN.c.code == code)).mappings().first()
            if row is None:
                db.execute(insert(_SCAN).values(code=code, times=1, first_ms=now_ms, last_ms=now_ms))
                return 1, now_ms
            db.execute(update(_SCAN).where(_SCAN.c.code == code).values(times=row["times"] + 1, last_ms=now_ms))
            return int(row["times"]) + 1, int(row["first_ms"])

    def report(self, receipt: str, code: str, text: str, now_ms: int) -> None:
        """Keep a consumer's report."""
        with self._engine.begin() as db:
            db.execute(insert(_REPORT).values(receipt=receipt, code=code, text=text, told_ms=now_ms))

    def keep_record(self, row: Mapping[str, object]) -> None:
        """Keep a gateway's signed farm record; the same (gateway, epoch, seq) again is absorbed."""
        key = [_RECORD.c[name] == row[name] for name in ("gateway", "epoch", "seq")]
        with self._engine.begin() as db:
            if db.execute(select(_RECORD.c.seq).where(*key)).first() is None:
                db.execute(insert(_RECORD).values(**row))

    def waiting_records(self, limit: int = 200) -> list[Mapping[str, object]]:
        """Farm records that have become no event yet and were not refused, oldest first."""
        query = select(_RECORD).where(_RECORD.c.event_id.is_(None), _RECORD.c.why.is_(None))
        with self._engine.connect().execution_options(reading=True) as db:
            rows = db.execute(query.order_by(_RECORD.c.received_ms, _RECORD.c.seq).limit(limit)).mappings()
            return [dict(row) for row in rows]

    def settle_record(
        self, record: Mapping[str, object], *, event_id: str | None = None, why: str | None = None
    ) -> None:
        """Note what became of a record."""
        key = [_RECORD.c[name] == record[name] for name in ("gateway", "epoch", "seq")]
        with self._engine.begin() as db:
            db.execute(update(_RECORD).where(*key).values(event_id=event_id, why=why))

    def records(self, limit: int = 50) -> list[Mapping[str, object]]:
        """Farm records, newest first, with what became of each."""
        with self._engine.connect().execution_options(reading=True) as db:
            rows = db.execute(select(_RECORD).order_by(_RECORD.c.received_ms.desc()).limit(limit)).mappings()
            return [dict(row) for row in rows]

    def _events(self, query: Select[tuple[object, ...]]) -> list[Stored]:
        with self._engine.connect().execution_options(reading=True) as db:
            return [Stored(**dict(row)) for row in db.execute(query).mappings()]


def _stands(known_before_ms: int | None = None) -> ColumnElement[bool]:
    """Whether an event is none that was declared wrong (before a time), nor such a declaration."""
    wrong = EVENT.alias()
    # Written out, not handed over: only so does SQLite see that the index of declarations holds all it is asked for.
    declared = select(wrong.c.event_id).where(wrong.c.declares == literal(1, literal_execute=True))
    if known_before_ms is not None:
        declared = declared.where(wrong.c.recorded_ms < known_before_ms)
    return and_(EVENT.c.declares == 0, EVENT.c.event_id.not_in(declared))


def _page(query: EventQuery, after: tuple[int, int] | None) -> Select[tuple[object, ...]]:
    """The part of a query that the store answers by its indexes, from `after` on."""
    column = EVENT.c[query.by]
    rows = _whole().limit(SCAN)
    if query.descending:
        rows = rows.order_by(column.desc(), EVENT.c.place.desc())
    else:
        rows = rows.order_by(column, EVENT.c.place)
    if after is not None:
        here, mark = tuple_(column, EVENT.c.place), tuple_(*map(literal, after))
        rows = rows.where(here < mark if query.descending else here > mark)
    for name, (low, high) in (("when_ms", query.when_ms), ("recorded_ms", query.recorded_ms)):
        if low is not None:
            rows = rows.where(EVENT.c[name] >= low)
        if high is not None:
            rows = rows.where(EVENT.c[name] < high)
    if query.kinds:
        rows = rows.where(EVENT.c.kind.in_(query.kinds))
    if query.ids:
        rows = rows.where(_of_ids(query.ids))
    for names in query.things:
        rows = rows.where(EVENT.c.place.in_(select(THING.c.place).where(THING.c.thing.in_(names))))
    return rows if query.mode == "all" else rows.where(_stands(query.known_before_ms))


def _whole() -> Select[tuple[object, ...]]:
    columns = [column for column in EVENT.c if column.name != "id_key"]
    return select(*columns, ENTRY.c.entry).join(ENTRY, ENTRY.c.place == EVENT.c.place)
