"""The life of printed codes: issued, activated, sold, then retired or void; and the layer that is scratched off.

A code is registered when its label is printed. From then on two things move it: a person (`move`), and the events of
the chain that name the pack: commissioning activates it, retail sale sells it, decommissioning or destruction retires
it, a return brings it back. Nothing is derived twice: `look` takes what was last moved by hand and lets the events that
came after it go on from there. Every move by hand is kept with who, when and why.

The characters under the scratch layer are told once, when the codes are issued. What is stored of them is a keyed hash:
forty bits are soon guessed from a plain one, and the key lies beside the database, not in it.
"""

import hashlib
import hmac
import os
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    func,
    insert,
    select,
    update,
)

from cloud.problems import Conflict, Invalid, NotFound
from cloud.provenance.schemas import CodeState
from cloud.provenance.store import EventStore, metadata
from traceability.chain_rules.lifecycle import speaks_of_the_end
from traceability.digital_link import CANONICAL_DOMAIN, LinkError, build_link, parse_link
from traceability.epc_uris import canonical_name
from traceability.events import Event
from traceability.serials import SerialError, issue, next_state, read_scratch, scratch_code

__all__ = ["Codes", "IssuedCode", "Scratched", "serial_key"]

MOST_CODES: Final = 10_000  # a request
_AT_ONCE: Final = 500
_UNIT: Final = "/21/"  # in the canonical name of every single pack
_NEED_A_REASON: Final = frozenset({"void", "retire"})
_LONGEST_REASON: Final = 300
_KEY_BYTES: Final = 32

_CODE = Table(
    "chain_code",
    metadata,
    Column("code", String(300), primary_key=True),  # canonical name of the unit
    Column("gtin", String(14), nullable=False),
    Column("lot", String(20), nullable=False),
    Column("serial", String(20), nullable=False),
    Column("state", String(10), nullable=False),  # as last moved by hand
    Column("issued_ms", BigInteger, nullable=False),
    Column("moved_ms", BigInteger),  # NULL: never by hand
    Column("reason", Text, nullable=False),  # of the last move
    Column("scratch", LargeBinary(32)),  # keyed hash; NULL: this label has no scratch layer
    Column("scratch_first_ms", BigInteger),
    Column("scratch_right", Integer, nullable=False),
    Column("scratch_wrong", Integer, nullable=False),
    Index("chain_code_lot", "gtin", "lot"),
)
_MOVE = Table(
    "chain_code_move",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("code", String(300), nullable=False, index=True),
    Column("move", String(10), nullable=False),
    Column("before", String(10), nullable=False),
    Column("after", String(10), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("moved_by", String(120), nullable=False),
    Column("reason", Text, nullable=False),
)


@dataclass(frozen=True, slots=True)
class IssuedCode:
    """A new code. `scratch` is told here and never again; empty where the label has no scratch layer."""

    path: str
    serial: str
    scratch: str


@dataclass(frozen=True, slots=True)
class Scratched:
    """What came of a scratch code: right or not, how often it was right with this time, ms of the first."""

    right: bool
    times: int
    first_ms: int | None


class Codes:
    """Registered codes. Safe to use from any thread; one process writes."""

    def __init__(self, engine: Engine, store: EventStore, clock: Callable[[], int], key: bytes | None) -> None:
        self._engine = engine
        self._store = store
        self._clock = clock
        self._key = key
        with engine.connect().execution_options(reading=True) as db:
            self._any = db.execute(select(_CODE.c.code).limit(1)).first() is not None

    # -- printing ------------------------------------------------------------------------------------------------------

    def issue(self, gtin: str, lot: str, count: int, *, by: str) -> list[IssuedCode]:
        """New serials with scratch codes for one lot. Raises `Invalid`, `LinkError` for a lot that cannot be one."""
        if not 1 <= count <= MOST_CODES:
            raise Invalid(f"1 to {MOST_CODES} codes can be issued at once, not {count}", pointer="/count")
        key, context = self._secret(), f"{gtin}/{lot}"
        self._check_lot(gtin, lot)
        with self._engine.begin() as db:
            serials: list[str] = []
            while len(serials) < count:
                fresh = {_named(gtin, serial): serial for serial in issue(key, context, count - len(serials))}
                for taken in _registered(db, fresh):
                    del fresh[taken["code"]]
                serials += fresh.values()
            made = [
                IssuedCode(_path(gtin, lot, serial), serial, scratch_code(key, context, serial)) for serial in serials
            ]
            self._enter(db, gtin, lot, {each.serial: each.scratch for each in made}, by)
        return made

    def register(self, gtin: str, lot: str, serials: Sequence[str], *, by: str) -> list[IssuedCode]:
        """Enter codes whose labels were printed elsewhere, without scratch codes. Raises `Invalid`, `Conflict`."""
        if not 1 <= len(serials) <= MOST_CODES:
            raise Invalid(f"1 to {MOST_CODES} codes can be registered at once", pointer="/serials")
        if len(set(serials)) != len(serials):
            raise Invalid("a serial stands twice", pointer="/serials")
        self._check_lot(gtin, lot)
        for number, serial in enumerate(serials):
            try:
                build_link([("01", gtin), ("10", lot), ("21", serial)])
            except LinkError as why:
                raise Invalid(str(why), code="bad_serial", pointer=f"/serials/{number}") from why
        with self._engine.begin() as db:
            taken = _registered(db, [_named(gtin, serial) for serial in serials])
            if taken:
                raise Conflict(f"the serial {taken[0]['serial']} of this trade item is registered", code="code_exists")
            self._enter(db, gtin, lot, dict.fromkeys(serials, ""), by)
        return [IssuedCode(_path(gtin, lot, serial), serial, "") for serial in serials]

    def _enter(self, db: Connection, gtin: str, lot: str, scratches: Mapping[str, str], by: str) -> None:
        now = self._clock()
        rows, moves = [], []
        for serial, scratch in scratches.items():
            code = _named(gtin, serial)
            rows.append(
                {
                    "code": code,
                    "gtin": gtin,
                    "lot": lot,
                    "serial": serial,
                    "state": "issued",
                    "issued_ms": now,
                    "reason": "",
                    "scratch": self._hash(code, scratch) if scratch else None,
                    "scratch_right": 0,
                    "scratch_wrong": 0,
                }
            )
            moves.append(_moved(code, "issue", "", "issued", now, by, ""))
        for at in range(0, len(rows), _AT_ONCE):
            db.execute(insert(_CODE), rows[at : at + _AT_ONCE])
            db.execute(insert(_MOVE), moves[at : at + _AT_ONCE])
        self._any = True

    def _check_lot(self, gtin: str, lot: str) -> None:
        try:
            build_link([("01", gtin), ("10", lot)])
        except LinkError as why:
            raise Invalid(str(why), code="bad_link", pointer="/lot") from why

    def _secret(self) -> bytes:
        if self._key is None:
            raise Conflict("this process has no key for serials", code="no_serial_key")
        return self._key

    def _hash(self, code: str, scratch: str) -> bytes:
        message = b"\0".join((b"stored scratch", code.encode(), scratch.encode()))
        return hmac.new(self._secret(), message, hashlib.sha256).digest()

    # -- moving --------------------------------------------------------------------------------------------------------

    def move(self, paths: Sequence[str], move: str, *, by: str, reason: str = "") -> list[CodeState]:
        """Move all of the codes or none: activate, sell, take_back, retire, void.

        Raises `NotFound` for a code that is not registered, `Conflict` for one whose state does not allow it, `Invalid`
        for retiring or voiding without a reason.
        """
        why = reason.strip()
        if len(why) > _LONGEST_REASON or (move in _NEED_A_REASON and not why):
            raise Invalid(f"to {move} needs a reason of 1 to {_LONGEST_REASON} characters", pointer="/reason")
        if not 1 <= len(paths) <= MOST_CODES:
            raise Invalid(f"1 to {MOST_CODES} codes can be moved at once", pointer="/paths")
        names = {self._name(path, number): number for number, path in enumerate(paths)}
        with self._engine.begin() as db:
            now, states = self._clock(), self._states(db, list(names), lock=True)
            for name, number in names.items():
                if name not in states:
                    raise NotFound(
                        f"{paths[number][:120]} is no registered code", code="unknown_code", pointer=f"/paths/{number}"
                    )
                try:
                    after = next_state(states[name].state, move)
                except SerialError as refused:
                    raise Conflict(
                        f"{states[name].path}: {refused}", code="code_state", pointer=f"/paths/{number}"
                    ) from refused
                db.execute(update(_CODE).where(_CODE.c.code == name).values(state=after, moved_ms=now, reason=why))
                db.execute(insert(_MOVE).values(**_moved(name, move, states[name].state, after, now, by, why)))
            after_all = self._states(db, list(names))
        return [after_all[name] for name in names]

    def look(self, name: str) -> CodeState | None:
        """Where the code of a canonical name stands; None where it is not registered."""
        with self._engine.connect().execution_options(reading=True) as db:
            return self._states(db, [name]).get(name)

    def at(self, path: str) -> CodeState | None:
        """As `look`, of the path of a link. Raises `Invalid` for what is none."""
        return self.look(self._name(path, None))

    def of_lot(self, gtin: str, lot: str, limit: int = 1_000) -> list[CodeState]:
        """The registered codes of a lot, by serial."""
        query = select(_CODE.c.code).where(_CODE.c.gtin == gtin, _CODE.c.lot == lot)
        with self._engine.connect().execution_options(reading=True) as db:
            names = list(db.execute(query.order_by(_CODE.c.serial).limit(limit)).scalars())
            states = self._states(db, names)
        return [states[name] for name in names]

    def count(self, gtin: str, lot: str) -> int:
        """How many codes were registered for a lot."""
        query = select(func.count()).select_from(_CODE).where(_CODE.c.gtin == gtin, _CODE.c.lot == lot)
        with self._engine.connect().execution_options(reading=True) as db:
            return int(db.execute(query).scalar_one())

    def moves(self, path: str) -> list[dict[str, Any]]:
        """Every move of a code by hand, oldest first. Raises `NotFound`."""
        name = self._name(path, None)
        with self._engine.connect().execution_options(reading=True) as db:
            rows = db.execute(select(_MOVE).where(_MOVE.c.code == name).order_by(_MOVE.c.number)).mappings().all()
        if not rows:
            raise NotFound(f"{path[:120]} is no registered code", code="unknown_code")
        return [dict(row) for row in rows]

    def _name(self, path: str, number: int | None) -> str:
        try:
            return canonical_name(parse_link(CANONICAL_DOMAIN + path).canonical)
        except LinkError as why:
            pointer = None if number is None else f"/paths/{number}"
            raise Invalid(str(why), code="bad_link", pointer=pointer) from why

    def _states(self, db: Connection, names: Sequence[str], *, lock: bool = False) -> dict[str, CodeState]:
        rows = _registered(db, names, lock=lock)
        told: dict[str, list[Event]] = {row["code"]: [] for row in rows}
        for thing, event in self._store.naming(db, list(told)):
            told[thing].append(event)
        return {row["code"]: _state_of(row, told[row["code"]]) for row in rows}

    # -- scratching ----------------------------------------------------------------------------------------------------

    def scratched(self, path: str, text: str) -> Scratched:
        """Judge the characters under a scratch layer, and count. Raises `NotFound` where a code has none."""
        name, typed = self._name(path, None), read_scratch(text)
        with self._engine.begin() as db:
            rows = _registered(db, [name], lock=True)
            if not rows or rows[0]["scratch"] is None:
                raise NotFound(f"{path[:120]} has no scratch layer that we know of", code="no_scratch")
            row, now = rows[0], self._clock()
            right = hmac.compare_digest(row["scratch"], self._hash(name, typed))
            first = (row["scratch_first_ms"] or now) if right else row["scratch_first_ms"]
            times = row["scratch_right"] + right
            changed = {
                "scratch_right": times,
                "scratch_wrong": row["scratch_wrong"] + (not right),
                "scratch_first_ms": first,
            }
            db.execute(update(_CODE).where(_CODE.c.code == name).values(**changed))
        return Scratched(right, times, first)

    # -- events --------------------------------------------------------------------------------------------------------

    def concerned(self, event: Event) -> bool:
        """Whether an event names a pack and there are registered codes at all: then `vet` has to be asked."""
        return self._any and any(_UNIT in canonical_name(thing) for thing in event.things)

    def vet(self, event: Event) -> None:
        """Raises `Conflict` for an event about a pack whose code has ended, or was never issued in a registered lot."""
        if not self.concerned(event):
            return
        units = {canonical_name(thing): (thing, pointer) for thing, pointer in _units(event)}
        with self._engine.connect().execution_options(reading=True) as db:
            states = self._states(db, list(units))
            for name, (thing, pointer) in units.items():
                known = states.get(name)
                if known is None:
                    _refuse_unissued(db, thing, pointer)
                elif known.state == "void" or (known.state == "retired" and not speaks_of_the_end(event)):
                    raise Conflict(
                        f"the code of {thing[:200]} is {known.state}: {known.reason or 'it has left the chain'}",
                        code="code_ended",
                        pointer=pointer,
                    )


def _units(event: Event) -> Iterator[tuple[str, str]]:
    """The single packs of an event, each with its pointer."""
    if event.parent is not None and _UNIT in canonical_name(event.parent):
        yield event.parent, "/parentID"
    for name in ("epcList", "childEPCs", "inputEPCList", "outputEPCList"):
        things = event.body.get(name) or ()
        yield from ((thing, f"/{name}/{n}") for n, thing in enumerate(things) if _UNIT in canonical_name(thing))


def _refuse_unissued(db: Connection, thing: str, pointer: str) -> None:
    """A lot whose codes are registered has no others: one more is a forgery or a slip."""
    try:
        link = parse_link(thing)
    except LinkError:
        return
    if link.gtin is None or link.lot is None:
        return
    known = select(_CODE.c.code).where(_CODE.c.gtin == link.gtin, _CODE.c.lot == link.lot).limit(1)
    if db.execute(known).first() is not None:
        told = f"{thing[:200]} was never issued, and the codes of its lot are registered"
        raise Conflict(told, code="code_unissued", pointer=pointer)


def _registered(db: Connection, names: Collection[str], *, lock: bool = False) -> list[Mapping[str, Any]]:
    wanted, found = list(names), list[Mapping[str, Any]]()
    for at in range(0, len(wanted), _AT_ONCE):
        query = select(_CODE).where(_CODE.c.code.in_(wanted[at : at + _AT_ONCE]))
        found += map(dict, db.execute(query.with_for_update() if lock else query).mappings())
    return found


def _state_of(row: Mapping[str, Any], told: Iterable[Event]) -> CodeState:
    """The state as last moved by hand, gone on by the events after that."""
    state, since, reason = row["state"], row["moved_ms"] or row["issued_ms"], row["reason"]
    for event in told:
        if row["moved_ms"] is not None and event.time_ms <= row["moved_ms"]:
            continue
        for move in _moves_of(event, row["code"]):
            try:
                state, since, reason = next_state(state, move), event.time_ms, ""
            except SerialError:
                continue  # said before, or about a code that has ended: the code stays where it is
    return CodeState(
        code=row["code"],
        path=_path(row["gtin"], row["lot"], row["serial"]),
        state=state,
        since_ms=since,
        reason=reason,
        has_scratch=row["scratch"] is not None,
        scratch_first_ms=row["scratch_first_ms"],
        scratch_times=row["scratch_right"],
    )


def _moves_of(event: Event, name: str) -> tuple[str, ...]:
    """What an event does to the code of a unit it names; a sale activates too, for it stood on a shelf."""
    made = {canonical_name(thing) for thing in event.outputs}
    if event.step == "retail_selling" or event.disposition == "retail_sold":
        return "activate", "sell"
    if event.disposition == "returned":
        return ("take_back",)
    if event.step in {"decommissioning", "destroying"} or (event.kind == "ObjectEvent" and event.action == "DELETE"):
        return ("retire",)
    born = event.kind == "ObjectEvent" and event.action == "ADD"
    return ("activate",) if born or name in made else ()


def _named(gtin: str, serial: str) -> str:
    return canonical_name(build_link([("01", gtin), ("21", serial)]))


def _path(gtin: str, lot: str, serial: str) -> str:
    return build_link([("01", gtin), ("10", lot), ("21", serial)]).removeprefix(CANONICAL_DOMAIN)


def _moved(code: str, move: str, before: str, after: str, at_ms: int, by: str, reason: str) -> dict[str, Any]:
    return {
        "code": code,
        "move": move,
        "before": before,
        "after": after,
        "at_ms": at_ms,
        "moved_by": by,
        "reason": reason,
    }


def serial_key(file: Path) -> bytes:
    """The secret that serials and scratch codes are made with; made on first use, readable by its owner only.

    Raises `Invalid` for a file that is too short to be one.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            out.write(secrets.token_bytes(_KEY_BYTES))
            out.flush()
            os.fsync(out.fileno())
    except FileExistsError:
        pass
    key = file.read_bytes()
    if len(key) < _KEY_BYTES:
        raise Invalid(f"{file} holds {len(key)} bytes; a key for serials has {_KEY_BYTES}: restore it from its backup")
    return key
