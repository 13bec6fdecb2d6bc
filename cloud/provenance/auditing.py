"""Is the log still what was signed, year by year, and do the rows beside it still say what its entries say?

An entry of the log is signed for; the event's body, its time and its things stand beside it in tables that anybody with
the database's password can write. So each is compared with the entry: what stands there in clear must be equal, what is
committed must open, and what was made from the body must be made from it again. Not to be checked: what a salt was
erased of; and of events from before the log committed to it the JSON-LD context, who sent them, and when they were
written down.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice, pairwise
from typing import Any, Final

from sqlalchemy import Engine, select

from cloud.problems import CloudError
from cloud.provenance.journal import SqlJournal, entry_bytes
from cloud.provenance.leaves import LeafOf, captured, committed, flow, said
from cloud.provenance.log import LogPlace, own_log
from cloud.provenance.log_keys import LogKeys
from cloud.provenance.store import CARRIES, ENTRY, EVENT, LEFT, RULED, THING, USED, id_key
from cloud.provenance.years import SqlYears
from traceability import TraceError
from traceability.audit import Finding, audit, restore
from traceability.chain_rules import CHAINS
from traceability.epc_uris import canonical_event_id
from traceability.events import Event
from traceability.notes import Checkpoint
from traceability.packs import is_leaf
from traceability.shards import TITLE, Span, previous_head, shard_origin, spans_of
from traceability.stores import DirectoryTiles, FileHead

__all__ = ["audit_log", "restore_log"]

_CHUNK: Final = 500
_MANY: Final = 20

Row = Any
"""A row of a table, its columns by name."""


def audit_log(engine: Engine, place: LogPlace) -> tuple[Finding, ...]:
    """Read journal, tiles and rows again; everything that is not as it was signed, year by year, then the rows.

    `index` of a finding is a place of the journal; of a later year the message names the log and the index in it. Of
    the rows beside the journal at most `_MANY` findings are told.
    """
    journal, spans = SqlJournal(engine), spans_of(SqlYears(engine).begun()) or (Span(0, 0),)
    listed = LogKeys.seen(place.key_file)
    joints = _Joints(engine, place.origin, spans)
    found: list[Finding] = []
    for number, span in enumerate(spans):
        public = place.public / span.name
        files, head = DirectoryTiles(public), FileHead(public / "checkpoint").read()
        kept = joints.last_heads[number : number + 1]
        signed = audit(span.of(journal), files, head, listed[0], former=listed[1:], kept=filter(None, kept))
        found += [_placed(finding, place.origin, span) for finding in signed]
    return (*found, *joints.findings, *islice(_audit_rows(engine), _MANY))


def restore_log(engine: Engine, place: LogPlace) -> tuple[str, ...]:
    """Write the public files again that are gone or differ, of every year whose journal leads to its signed head.

    Returns their names under the log's public folder. Raises `Unavailable` while another process owns the log.
    """
    journal, spans = SqlJournal(engine), spans_of(SqlYears(engine).begun()) or (Span(0, 0),)
    listed, written = LogKeys.seen(place.key_file), list[str]()
    with own_log(place.folder):
        for span in spans:
            public = place.public / span.name
            head = FileHead(public / "checkpoint").read()
            names = restore(span.of(journal), DirectoryTiles(public), head, listed[0], listed[1:])
            written += [f"{span.name}/{name}".lstrip("/") for name in names]
    return tuple(written)


def _placed(finding: Finding, log: str, span: Span) -> Finding:
    if not span.name:
        return finding
    index = None if finding.index is None else span.first + finding.index
    return replace(finding, index=index, message=f"in {shard_origin(log, span.name)}: {finding.message}")


class _Joints:
    """The entries that begin a year: where they stand, and the last head of the year before that each of them holds."""

    def __init__(self, engine: Engine, log: str, spans: Sequence[Span]) -> None:
        self.findings: list[Finding] = []
        self.last_heads: list[str | None] = []
        events = select(EVENT.c.place)
        query = select(ENTRY.c.place, ENTRY.c.entry).where(ENTRY.c.place.not_in(events)).order_by(ENTRY.c.place)
        with engine.connect().execution_options(reading=True) as db:
            bare = {int(row.place): entry_bytes(row.entry) for row in db.execute(query)}
        for before, span in pairwise(spans):
            self.last_heads.append(self._last_head(bare.pop(span.first, b""), before, span, log))
        for place, entry in bare.items():
            if entry.startswith(f"{TITLE}\n".encode()):
                self.findings.append(Finding("joint", place, "an entry that begins a year where no year begins"))

    def _last_head(self, entry: bytes, before: Span, span: Span, log: str) -> str | None:
        origin, older = (shard_origin(log, each.name) for each in (span, before))
        try:
            note = previous_head(entry)
            last = None if note is None else Checkpoint.parse(note.text)
        except TraceError as why:
            self._tell(span, f"{origin}: {why}")
            return None
        if note is None or last is None:
            self._tell(span, f"{origin} does not begin with the last head of the log before it")
            return None
        size = span.first - before.first
        if (last.origin, last.size) != (older, size):
            told = f"{origin} goes on after entry {last.size} of {last.origin}; before it lie {size} entries of {older}"
            self._tell(span, told)
        return note.whole

    def _tell(self, span: Span, told: str) -> None:
        self.findings.append(Finding("joint", span.first, told))


def _audit_rows(engine: Engine) -> Iterator[Finding]:
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
                why = self._wrong(entry_bytes(entry.entry), events.get(entry.place), things.get(entry.place, {}))
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
        if not leaf.commits_to(captured(row.captured_by, row.recorded_ms, row.context)):
            return "who sent it, when it was written down or its context is not what was committed to"
        columns = {
            "event_id": canonical_event_id(str(event.id)),
            "id_key": id_key(canonical_event_id(str(event.id))),
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
