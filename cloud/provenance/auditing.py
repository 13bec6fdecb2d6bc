"""Do the rows beside the log still say what its entries say?

An entry of the log is signed for; the event's body, its time and its things stand beside it in tables that anybody with
the database's password can write. So each is compared with the entry: what stands there in clear must be equal, what is
committed must open, and what was made from the body must be made from it again. Not committed, and so not to be
checked: the JSON-LD context, who sent an event, and when it was written down.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Engine, select

from cloud.problems import CloudError
from cloud.provenance.leaves import LeafOf, committed, flow, said
from cloud.provenance.store import CARRIES, ENTRY, EVENT, LEFT, RULED, THING, USED, id_key
from traceability import TraceError
from traceability.audit import Finding
from traceability.chain_rules import CHAINS
from traceability.events import Event
from traceability.packs import is_leaf

__all__ = ["audit_rows"]

_CHUNK: Final = 500

Row = Any
"""A row of a table, its columns by name."""


def audit_rows(engine: Engine) -> Iterator[Finding]:
    """Every event whose rows are not what its entry says, in the log's order. Reads every row once; writes nothing."""
    auditor, clean = _Auditor(engine), True
    for finding in auditor.events():
        clean = False
        yield finding
    if clean:  # else what follows from the events would be told as wrong once more
        yield from auditor.rulings()


class _Auditor:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._expected: dict[str, tuple[str, int]] = {}
        self._end = 0

    def events(self) -> Iterator[Finding]:
        while True:
            entries, events, things = self._chunk(self._end)
            for entry in entries:
                why = self._wrong(bytes(entry.entry), events.get(entry.place), things.get(entry.place, {}))
                if why is not None:
                    yield Finding("row", entry.place, why)
            known = {entry.place for entry in entries}
            for place in sorted((events.keys() | things.keys()) - known):
                yield Finding("row", place, "rows stand beside no entry of the log")
            if not entries:
                return
            self._end = entries[-1].place + 1

    def _chunk(self, start: int) -> tuple[Sequence[Row], dict[int, Row], dict[int, dict[str, int]]]:
        query = select(ENTRY.c.place, ENTRY.c.entry).where(ENTRY.c.place >= start)
        with self._engine.connect().execution_options(reading=True) as db:
            entries = db.execute(query.order_by(ENTRY.c.place).limit(_CHUNK)).all()
            stop = entries[-1].place + 1 if entries else None
            within = [table.c.place >= start for table in (EVENT, THING)]
            rows, named = select(EVENT).where(within[0]), select(THING).where(within[1])
            if stop is not None:
                rows, named = rows.where(EVENT.c.place < stop), named.where(THING.c.place < stop)
            events = {row.place: row for row in db.execute(rows)}
            things: dict[int, dict[str, int]] = {}
            for row in db.execute(named):
                things.setdefault(row.place, {})[row.thing] = row.role
        return entries, events, things

    def _wrong(self, entry: bytes, row: Row | None, things: Mapping[str, int]) -> str | None:
        if not is_leaf(entry):
            return None if row is None else "a row stands beside an entry that is no event"
        if row is None:
            return "its row is gone"
        try:
            leaf = LeafOf.load(entry, row.secrets)
            leaf.check()
            return self._differs(leaf, row, things)
        except (TraceError, CloudError, ValueError, KeyError, TypeError, AttributeError) as why:
            return f"its row cannot be read as the entry's: {why}"

    def _differs(self, leaf: LeafOf, row: Row, things: Mapping[str, int]) -> str | None:
        body = json.loads(row.body)
        event = Event(body)
        wanted = {name: value for name, value in said(event, row.chain).items() if leaf.public.get(name) != value}
        if wanted:
            return f"{', '.join(wanted)} of its body or row is not what the entry says"
        opened = leaf.opened
        for name, value in committed(event).items():
            if name in opened and opened[name] != value:
                return f"its body is not the one committed to ({name})"
        columns = {
            "event_id": str(event.id),
            "id_key": id_key(str(event.id)),
            "declares": int("errorDeclaration" in body),
            "kind": event.kind,
            "step": event.step or "",
            "when_ms": event.time_ms,
        }
        for name, value in columns.items():
            if getattr(row, name) != value:
                return f"the column {name} is not what its body says"
        roles = _roles(event)
        if roles != things:
            return f"its things are not those of its body ({next(iter(roles.items() ^ things.items()))[0]})"
        if row.chain in CHAINS:
            self._expected |= dict.fromkeys(roles, (row.chain, row.place))
        return None

    def rulings(self) -> Iterator[Finding]:
        """What stands under a chain, as far as it follows from the events read."""
        with self._engine.connect().execution_options(reading=True) as db:
            held = {row.name: (row.chain, row.place) for row in db.execute(select(RULED))}
        for name, ruling in self._expected.items():
            found = held.pop(name, None)
            if found != ruling and (found is None or (found[1] is not None and found[1] < self._end)):
                yield Finding("row", ruling[1], f"{name} does not stand under the rules of {ruling[0]} any more")
        for name, (_, place) in held.items():
            if place is not None and place < self._end:
                yield Finding("row", place, f"{name} stands under rules by an event that does not name it")


def _roles(event: Event) -> dict[str, int]:
    uses, makes = flow(event)
    roles = dict.fromkeys(uses, USED) | dict.fromkeys(makes, LEFT)
    carrier = LeafOf.carrier_of(event)
    return roles | ({carrier: CARRIES} if carrier is not None else {})
