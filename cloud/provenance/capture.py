"""Taking events in: known or new, judged by the rules of their chain, sealed, and put into the log in one step."""

import contextlib
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any, NoReturn, Protocol

from cloud.problems import CloudError, Conflict, Invalid, Refused, Unavailable
from cloud.provenance.balance import lots_taken, overdrawn
from cloud.provenance.codes import Codes
from cloud.provenance.journal import Companion, EventRow, Known, Relied, Ruled, Stale
from cloud.provenance.leaves import LeafOf, captured, flow, fresh_salts, json_text, seal
from cloud.provenance.log import LogBook
from cloud.provenance.rulings import Ruling, Rulings, chain_for, grounds
from cloud.provenance.schemas import Captured, CaptureJob
from cloud.provenance.store import EventStore, id_key
from traceability import TraceError
from traceability.chain_rules import CHAINS, Facts, Verdict, judge
from traceability.custody import CyclicCustody, Genealogy
from traceability.epc_uris import canonical_event_id, canonical_name
from traceability.events import CONTEXT, Document, Event, EventError
from traceability.hashing import event_id
from traceability.ledger import Receipt
from traceability.renaming import with_names

__all__ = ["DailyMean", "Intake", "Neighbours", "Pending", "Terms"]

Key = tuple[str, int]
YEAR_MS = 366 * 86_400_000
_NO_CHAIN = "other"
# Each try fails only because somebody else's succeeded meanwhile.
_TRIES = 50


class DailyMean(Protocol):
    """Daily mean water temperatures of a pond's own probe, in degrees Celsius by China-time day (ISO date)."""

    def __call__(self, place: str, start_ms: int, end_ms: int) -> Mapping[str, float]:
        """Means of the days that have enough readings; others are absent."""
        ...


@dataclass(frozen=True, slots=True)
class Neighbours:
    """What the chain asks of other contexts; each may be absent.

    `daily_mean`: the pond's own thermometer. `gateway`: site and name of a farm for a gateway's id. `county_known`: as
    in `traceability.chain_rules.Facts`. `missing`: for a gateway's id, closed ranges (epoch, first, last) of messages
    below its newest that have not come.
    """

    daily_mean: DailyMean | None = None
    gateway: Callable[[str], tuple[str, str]] = lambda _name: ("", "")
    county_known: Callable[[str, date | None], bool | None] | None = None
    missing: Callable[[str], list[tuple[str, int, int]]] = lambda _name: []


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms events are taken: who brings them, and facts beside the chain.

    `chain` is whose rules judge them where neither their trade items nor their places say it.
    """

    chain: str | None
    by: str
    facts: Facts | None = None

    def __post_init__(self) -> None:
        if self.chain is not None and self.chain not in CHAINS:
            raise Invalid(f"no rule pack for the chain {self.chain!r}; there are: {', '.join(CHAINS)}")


@dataclass(frozen=True, slots=True)
class Pending:
    """A capture on its way into the log.

    `places` are known once the events are durable and provable; `Known` comes from it for what is in the log already,
    `Ruled` for what must be judged first.
    """

    job: CaptureJob
    places: Future[tuple[Receipt, ...]]
    events: tuple[Event, ...]

    def receipts(self, places: tuple[Receipt, ...]) -> list[Captured]:
        """What the caller gets, of the answer that `places` gave."""
        return _receipts(self.events, places)


@dataclass(slots=True)
class _Judged:
    """Events with the chain that judged and admitted each, what it warned of, and the things that were looked at."""

    things: set[str]
    events: list[tuple[Event, str]] = field(default_factory=list)
    warned: dict[Key, list[dict[str, Any]]] = field(default_factory=dict)


class Intake:
    """The way into the log. Safe to use from any thread."""

    def __init__(
        self,
        store: EventStore,
        rulings: Rulings,
        log: LogBook,
        clock: Callable[[], int],
        codes: Codes,
        neighbours: Neighbours,
    ) -> None:
        self._store = store
        self._rulings = rulings
        self._log = log
        self._clock = clock
        self._codes = codes
        self._salt = fresh_salts()
        self._ask = neighbours

    def take(self, document: Document, terms: Terms, job: CaptureJob | None = None) -> list[Captured]:
        """All events of a document or none; `job` is kept with them. Raises what `Provenance.capture` says."""
        events = _with_ids(document)
        if self._simple(events, terms):
            with contextlib.suppress(Known, Ruled):
                return _receipts(events, self._submit(events, terms, job).result())
        for _ in range(_TRIES):
            with contextlib.suppress(Known, Stale):  # somebody was faster: look again
                return self._look_and_take(events, terms, job)
        raise Unavailable("too much happens to these things at once: try again", code="busy")

    def hand_in(self, document: Document, terms: Terms) -> "Pending | None":
        """As `take_whole`, without waiting; None where something must be asked first, and `take_whole` does that.

        Nothing is asked here. What the events rely on, the journal asks in its own transaction: after `Known` or
        `Ruled` from `Pending.places`, `take_whole` is to be called as well.
        """
        events = _with_ids(document)
        if not self._simple(events, terms):
            return None
        job = self._job()
        return Pending(job, self._submit(events, terms, job), tuple(events))

    def _simple(self, events: Sequence[Event], terms: Terms) -> bool:
        """Whether nothing needs to be looked up for these events, as far as can be seen from them alone."""
        if terms.chain is not None or not events or len({_key(each) for each in events}) < len(events):
            return False
        return not any(
            _declares(each) or _packs(each) or self._codes.concerned(each) or lots_taken(each) for each in events
        )

    def _submit(self, events: Sequence[Event], terms: Terms, job: CaptureJob | None) -> Future[tuple[Receipt, ...]]:
        rows, entries = self._sealed([(event, _NO_CHAIN) for event in events], terms.by)
        return self._log.submit(entries, Companion(rows, job))

    def _look_and_take(self, events: Sequence[Event], terms: Terms, job: CaptureJob | None) -> list[Captured]:
        """Look at what is stored, judge, and append what is new.

        What was looked at goes along, so that the journal can refuse (`Stale`) what was judged by an outdated past.
        """
        entries = self._log.size
        known = self._known(events)
        fresh = [event for event in _each_once(events) if _key(event) not in known]
        judged = self._judged(fresh, terms)
        if judged.events:
            rows, sealed = self._sealed(judged.events, terms.by)
            relied = Relied(frozenset(judged.things), entries)
            warned = {number: judged.warned.get(row.key) for number, row in enumerate(rows)}
            told = {number: json.dumps(findings, ensure_ascii=False) for number, findings in warned.items() if findings}
            places = self._log.append(sealed, Companion(rows, job, relied, told))
            known |= {row.key: place for row, place in zip(rows, places, strict=True)}
        elif job is not None:
            self._store.keep_job(job)
        return [Captured(str(event.id), known[_key(event)], judged.warned.get(_key(event), [])) for event in events]

    def _judged(self, events: Sequence[Event], terms: Terms) -> "_Judged":
        flows = [flow(event) for event in events]
        judged = _Judged(things={thing for sides in flows for side in sides for thing in side})
        names = {name for event, sides in zip(events, flows, strict=True) for name in _grounds(event, sides)}
        rulings = self._rulings.of(judged.things | names)
        for number, (event, sides) in enumerate(zip(events, flows, strict=True)):
            self._admit(event, events[:number])
            chain = chain_for(event, rulings, terms.chain)
            if not _declares(event):
                self._codes.vet(event)
                judged.things |= self._refuse_cycle(event, events[:number])
                self._weigh(event, events[:number], chain or _NO_CHAIN, terms)
            if chain is not None and not _declares(event):
                judged.warned[_key(event)], looked_at = self._judge(event, events[:number], chain, terms)
                judged.things |= looked_at
            if chain is not None:  # what comes later in the document stands under it as well
                newest = Ruling(chain, self._log.size + number)
                rulings |= {thing: newest for side in sides for thing in side if not _by_person(rulings.get(thing))}
            judged.events.append((event, chain or _NO_CHAIN))
        return judged

    def _job(self) -> CaptureJob:
        now = self._clock()
        return CaptureJob(secrets.token_hex(16), now, now, success=True, behaviour="rollback")

    def take_whole(self, document: Document, terms: Terms) -> tuple[CaptureJob, list[Captured]]:
        """All or nothing, as a job."""
        job = self._job()
        return job, self.take(document, terms, job)

    def take_each(
        self, document: Document, wrong: Mapping[int, EventError], terms: Terms
    ) -> tuple[CaptureJob, list[Captured]]:
        """Every event that can be taken, as a job that lists the others: also those of a wrong form, by their number.

        `document` holds the events of a right form, in the order of the list that they came in.
        """
        started = self._clock()
        receipts: list[Captured] = []
        errors: list[dict[str, Any]] = []
        at, good = _list_at(document), iter(document.events)
        for number in range(len(document.events) + len(wrong)):
            try:
                if number in wrong:
                    raise wrong[number]
                receipts += self.take(replace(document, events=(next(good),)), terms)
            except EventError as why:
                errors.append(_error(f"{at}/{number}{why.problems[0].pointer}", why))
            except (CloudError, TraceError) as why:
                errors.append(_error(f"{at}/{number}{getattr(why, 'pointer', None) or ''}", why))
        job = CaptureJob(secrets.token_hex(16), started, self._clock(), not errors, "proceed", errors)
        self._store.keep_job(job)
        return job, receipts

    def _known(self, events: Sequence[Event]) -> dict[Key, int]:
        """Places of those events that are already stored. Raises `Conflict` where an id stands for other content."""
        stored = {(row.event_id, row.declares): row for row in self._store.by_ids([_key(event)[0] for event in events])}
        for event in events:
            row = stored.get(_key(event))
            if row is not None and not _same(_content(json.loads(row.body)), _content(event.body)):
                raise Conflict(
                    f"the event {event.id} is stored with other content: correct it by an error declaration",
                    code="event_differs",
                )
        return {key: row.place for key, row in stored.items()}

    def _admit(self, event: Event, earlier: Sequence[Event]) -> None:
        """A declaration must be of an event that is there, and repeat it (EPCIS 2.0 §7.4.1.2)."""
        if not _declares(event):
            return
        rows = self._store.by_ids([_key(event)[0]])
        stored = [Event(json.loads(row.body), tuple(json.loads(row.context))) for row in rows]
        declared = next((each for each in (*earlier, *stored) if _key(each) == (_key(event)[0], 0)), None)
        if declared is None:
            raise Invalid(
                f"{event.id} is declared wrong, and no such event was captured",
                code="unknown_event",
                pointer="/errorDeclaration",
            )
        if (where := _difference(declared, event)) is not None:
            raise Conflict(
                f"a declaration of error repeats the event {event.id} as it was captured, and {where} differs",
                code="declaration_differs",
                pointer=f"/{where}",
            )

    def _sealed(self, events: Sequence[tuple[Event, str]], by: str) -> tuple[tuple[EventRow, ...], list[bytes]]:
        """Rows and entries of events, each with its chain."""
        now = self._clock()
        contexts = {id(event.context): event.context for event, _ in events}  # of a document there is one
        written = {which: json_text(context) for which, context in contexts.items()}
        taken = {which: captured(by, now, context) for which, context in written.items()}
        leaves = [seal(event, chain, self._salt, capture=taken[id(event.context)]) for event, chain in events]
        rows = tuple(
            _row(event, leaf, chain, now, by, written[id(event.context)])
            for (event, chain), leaf in zip(events, leaves, strict=True)
        )
        return rows, [leaf.entry for leaf in leaves]

    def _refuse_cycle(self, event: Event, earlier: Sequence[Event]) -> set[str]:
        """The things that were looked at. A thing that would hold itself, however deep, would make its traces wrong.

        Raises `Invalid` for one.
        """
        if not _packs(event):
            return set()
        rows = self._store.packings([canonical_name(child) for child in event.children])
        inside = [Event(json.loads(row.body)) for row in rows]
        known = Genealogy(same=canonical_name)
        for each in sorted([*inside, *filter(_packs, earlier)], key=lambda one: one.time_ms):
            with contextlib.suppress(CyclicCustody):  # from a time when nobody asked
                known.add(each)
        try:
            known.add(event)
        except CyclicCustody as why:
            raise Invalid(str(why), code=why.code, pointer="/parentID") from why
        return {thing for each in inside for side in flow(each) for thing in side}

    def _weigh(self, event: Event, earlier: Sequence[Event], chain: str, terms: Terms) -> None:
        """No lot gives more than was made of it, over all events."""
        lots = lots_taken(event)
        if not lots:
            return
        past = [Event(json.loads(row.body)) for row in self._store.taking(lots)]
        findings = [found.to_dict() for found in overdrawn(event, [*past, *earlier])]
        if findings:
            self._refuse(event, chain, findings, terms)

    def _judge(
        self, event: Event, earlier: Sequence[Event], chain: str, terms: Terms
    ) -> tuple[list[dict[str, Any]], set[str]]:
        """What the rules warn of, and the things whose past they looked at. Raises `Refused` for what they forbid."""
        uses, makes = flow(event)
        history = [Event(json.loads(row.body)) for row in self._store.history((*uses, *makes))]
        facts = self._with_registers(terms.facts or Facts(), event)
        this, *past = (with_names(each, canonical_name) for each in (event, *history, *earlier))
        verdict = judge(chain, this, past, facts, self._clock())
        findings = _findings(verdict)
        if verdict.refused:
            self._refuse(event, chain, findings, terms)
        return findings, {thing for past in history for side in flow(past) for thing in side}

    def _refuse(self, event: Event, chain: str, findings: Sequence[dict[str, Any]], terms: Terms) -> NoReturn:
        """Keep the attempt, and say why it is one."""
        self._store.refuse(
            {
                "event_id": str(event.id),
                "chain": chain,
                "tried_ms": self._clock(),
                "tried_by": terms.by,
                "findings": json.dumps(findings, ensure_ascii=False),
                "body": json.dumps(event.body, ensure_ascii=False),
            }
        )
        first = findings[0]
        raise Refused(f"{first['zh']} / {first['en']}", code="rule_refused", findings=findings, **first)

    def _with_registers(self, facts: Facts, event: Event) -> Facts:
        """Facts with our register of regions and the pond's own thermometer, where nobody said otherwise."""
        if facts.county_known is None and self._ask.county_known is not None:
            facts = replace(facts, county_known=self._ask.county_known)
        place = event.read_point
        if self._ask.daily_mean is None or place is None or place in facts.daily_water_celsius:
            return facts
        measured = self._ask.daily_mean(place, event.time_ms - YEAR_MS, self._clock())
        return replace(facts, daily_water_celsius={**facts.daily_water_celsius, place: measured}) if measured else facts


def _list_at(document: Document) -> str:
    """JSON pointer of the document's list of events."""
    inside = "queryResults/resultsBody/" if document.kind == "EPCISQueryDocument" else ""
    return f"/epcisBody/{inside}eventList"


def _error(pointer: str, why: CloudError | TraceError) -> dict[str, Any]:
    return {"pointer": pointer, "code": why.code, "detail": str(why)}


def _with_ids(document: Document) -> list[Event]:
    """The events, each with an id: its own, or the hash of its content."""
    return [
        event
        if event.id is not None
        else Event({**event.body, "eventID": event_id(event.body, event.context or CONTEXT)}, event.context)
        for event in document.events
    ]


def _each_once(events: Sequence[Event]) -> list[Event]:
    """The events without repeats. Raises `Conflict` where one id stands for two contents."""
    found: dict[Key, Event] = {}
    for event in events:
        first = found.setdefault(_key(event), event)
        if first is not event and not _same(_content(first.body), _content(event.body)):
            raise Conflict(f"two different events of this document have the id {event.id}", code="event_differs")
    return list(found.values())


def _receipts(events: Sequence[Event], places: Sequence[Receipt]) -> list[Captured]:
    return [Captured(str(event.id), receipt.place) for event, receipt in zip(events, places, strict=True)]


def _by_person(ruling: Ruling | None) -> bool:
    return ruling is not None and ruling.place is None


def _grounds(event: Event, sides: tuple[tuple[str, ...], tuple[str, ...]]) -> tuple[str, ...]:
    return grounds(event, (*sides[1], *sides[0]))


def _declares(event: Event) -> bool:
    return "errorDeclaration" in event.body


def _packs(event: Event) -> bool:
    return event.kind in {"AggregationEvent", "AssociationEvent"} and event.action != "DELETE" and bool(event.parent)


def _key(event: Event) -> tuple[str, int]:
    return canonical_event_id(str(event.id)), int(_declares(event))


def _content(body: Mapping[str, Any]) -> dict[str, Any]:
    """What must be equal for two captures to be of one event; when it was written down is not part of it."""
    return {name: value for name, value in body.items() if name not in {"recordTime", "eventID", "@context"}}


def _difference(one: Event, other: Event) -> str | None:
    """The first field in which two events differ, beside the declaration; None where only their spelling does."""
    first, second = ({**_content(each.body), "errorDeclaration": None} for each in (one, other))
    names = sorted(name for name in first | second if not _same(first.get(name), second.get(name)))
    if not names or _hash_of(one) == _hash_of(other):
        return None
    return names[0]


def _hash_of(event: Event) -> str:
    """The hash of an event, which says nothing of its kind, with its kind."""
    return f"{event.kind} {event_id(event.body, event.context or CONTEXT)}"


def _same(one: Any, other: Any) -> bool:
    """Whether two values are one in canonical JSON (RFC 8785): 1 and 1.0 are, 1 and true are not."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return isinstance(one, bool) is isinstance(other, bool) and bool(one == other)


def _row(event: Event, leaf: LeafOf, chain: str, now_ms: int, by: str, context: str) -> EventRow:
    event_id, declares = _key(event)
    return EventRow(
        event_id=event_id,
        declares=declares,
        chain=chain,
        kind=event.kind,
        step=event.step or "",
        when_ms=event.time_ms,
        recorded_ms=now_ms,
        captured_by=by,
        body=json_text(event.body),
        context=context,
        secrets=leaf.secrets,
        id_key=id_key(event_id),
        uses=leaf.uses,
        makes=leaf.makes,
        carrier=leaf.carrier,
        grounds=_grounds(event, (leaf.uses, leaf.makes)),
    )


def _findings(verdict: Verdict) -> list[dict[str, Any]]:
    return [finding.to_dict() for finding in verdict.findings]
