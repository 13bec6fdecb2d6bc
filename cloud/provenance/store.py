"""Where captured events, refusals and scans lie: the relational side of the chain.

An event is written here first (`staged`), with the salts of its commitments, then its leaf goes into the log, then its
index comes back (`placed`). A crash between the two leaves a staged row that the next start places: the log absorbs a
leaf it already has, so nothing is lost and nothing stands twice.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import (
    BigInteger,
    Column,
    Engine,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    func,
    insert,
    select,
    update,
)

__all__ = ["EventStore", "Refusal", "Staged", "Stored", "metadata"]

# A walk through ancestors that touches more things than this is cut: no real lot has them, a cycle might.
LARGEST_HISTORY = 5_000

metadata = MetaData()
_EVENT = Table(
    "chain_event",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("event_id", String(160), nullable=False, unique=True),
    Column("chain", String(20), nullable=False),
    Column("kind", String(30), nullable=False),
    Column("step", String(80), nullable=False),
    Column("when_ms", BigInteger, nullable=False, index=True),
    Column("recorded_ms", BigInteger, nullable=False),
    Column("captured_by", String(120), nullable=False),
    Column("body", Text, nullable=False),  # the event as it came, JSON
    Column("leaf", Text, nullable=False),  # canonical JSON: the entry of the log
    Column("secrets", Text, nullable=False),  # {"field": {"salt": b64, "value": JSON}}; erasing a field keeps the proof
    Column("place", BigInteger, unique=True),  # index in the log; NULL while staged
)
_THING = Table(
    "chain_thing",
    metadata,
    Column("thing", String(300), primary_key=True),
    Column("number", Integer, ForeignKey("chain_event.number"), primary_key=True),
    # 0: was used up by the event, 1: left it, 2: left it and carries the others (crate, lorry, pen)
    Column("made", Integer, nullable=False),
    Index("chain_thing_by_event", "number"),
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
)


@dataclass(frozen=True, slots=True)
class Staged:
    """An event ready to go into the log. `uses` and `makes` are identifiers."""

    event_id: str
    chain: str
    kind: str
    step: str
    when_ms: int
    recorded_ms: int
    captured_by: str
    body: str
    leaf: str
    secrets: str
    uses: tuple[str, ...]
    makes: tuple[str, ...]
    carrier: str | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """An event as stored; `place` is its index in the log, None while it waits."""

    number: int
    event_id: str
    chain: str
    kind: str
    step: str
    when_ms: int
    recorded_ms: int
    captured_by: str
    body: str
    leaf: str
    secrets: str
    place: int | None


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

    def prepare(self) -> None:
        """Make the tables where they are missing."""
        metadata.create_all(self._engine)

    def stage(self, events: Sequence[Staged]) -> None:
        """Write events that are not yet there, all or none; one already known by its id is left as it is."""
        with self._engine.begin() as db:
            ids = [event.event_id for event in events]
            known = set(db.execute(select(_EVENT.c.event_id).where(_EVENT.c.event_id.in_(ids))).scalars())
            for event in events:
                if event.event_id in known:
                    continue
                known.add(event.event_id)
                names = [column.name for column in _EVENT.columns if column.name not in {"number", "place"}]
                row = db.execute(insert(_EVENT).values({name: getattr(event, name) for name in names}))
                (number,) = row.inserted_primary_key or (None,)
                made = dict.fromkeys(event.uses, 0) | dict.fromkeys(event.makes, 1)
                if event.carrier is not None:
                    made[event.carrier] = 2
                things = [{"thing": thing, "number": number, "made": flag} for thing, flag in made.items()]
                if things:
                    db.execute(insert(_THING), things)

    def waiting(self, limit: int = 500) -> list[Stored]:
        """Staged events in the order they were staged."""
        return self._events(select(_EVENT).where(_EVENT.c.place.is_(None)).order_by(_EVENT.c.number).limit(limit))

    def placed(self, places: Mapping[int, int]) -> None:
        """Note the log index of events: {number: place}."""
        with self._engine.begin() as db:
            for number, place in places.items():
                db.execute(update(_EVENT).where(_EVENT.c.number == number).values(place=place))

    def by_ids(self, ids: Collection[str]) -> list[Stored]:
        """Events of those ids, as far as they are known."""
        return self._events(select(_EVENT).where(_EVENT.c.event_id.in_(ids)).order_by(_EVENT.c.number))

    def newest(self, limit: int, before: int | None = None, chain: str | None = None) -> list[Stored]:
        """Events newest capture first, below the number `before`."""
        query = select(_EVENT).order_by(_EVENT.c.number.desc()).limit(limit)
        if before is not None:
            query = query.where(_EVENT.c.number < before)
        if chain is not None:
            query = query.where(_EVENT.c.chain == chain)
        return self._events(query)

    def history(self, things: Iterable[str]) -> list[Stored]:
        """All events of `things` and of everything they were made from, by time; the walk ends where nothing is new."""
        seen: set[str] = set()
        numbers: set[int] = set()
        edge = set(things)
        with self._engine.connect() as db:
            while edge and len(seen) < LARGEST_HISTORY:
                seen |= edge
                made = select(_THING.c.number, _THING.c.made).where(_THING.c.thing.in_(edge))
                rows = db.execute(made).all()
                # What only used the thing up lies downstream: its other outputs are not this thing's past.
                found = {number for number, flag in rows if flag > 0} - numbers
                numbers |= found
                used = select(_THING.c.thing).where(_THING.c.number.in_(found), _THING.c.made != 1)
                edge = set(db.execute(used).scalars()) - seen if found else set()
        return self._events(
            select(_EVENT).where(_EVENT.c.number.in_(numbers)).order_by(_EVENT.c.when_ms, _EVENT.c.number)
        )

    def serials(self, limit: int = 200) -> list[tuple[str, Stored]]:
        """Things with a serial number (AI 21) and the newest event of each, newest first."""
        newest = (
            select(_THING.c.thing, func.max(_THING.c.number).label("number"))
            .where(_THING.c.thing.like("%/01/%/21/%"))
            .group_by(_THING.c.thing)
            .order_by(func.max(_THING.c.number).desc())
            .limit(limit)
        )
        with self._engine.connect() as db:
            things = {int(row.number): str(row.thing) for row in db.execute(newest)}
        rows = {row.number: row for row in self._events(select(_EVENT).where(_EVENT.c.number.in_(things)))}
        return [(thing, rows[number]) for number, thing in things.items()]

    def count(self) -> int:
        """How many events are stored."""
        with self._engine.connect() as db:
            return int(db.execute(select(func.count()).select_from(_EVENT)).scalar_one())

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
        with self._engine.connect() as db:
            rows = db.execute(select(_REFUSAL).order_by(_REFUSAL.c.tried_ms.desc()).limit(limit)).mappings()
            return [Refusal(**dict(row)) for row in rows]

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

    def _events(self, query: object) -> list[Stored]:
        with self._engine.connect() as db:
            return [Stored(**dict(row)) for row in db.execute(query).mappings()]  # type: ignore[call-overload]
