"""Taking events in: known or new, judged by the rules of their chain, sealed, and put into the log in one step."""

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Protocol

from cloud.problems import CloudError, Conflict, Invalid, Refused
from cloud.provenance.codes import Codes
from cloud.provenance.journal import Companion, EventRow, Known
from cloud.provenance.leaves import LeafOf, flow, fresh_salts, json_text, seal
from cloud.provenance.log import LogBook
from cloud.provenance.schemas import Captured, CaptureJob
from cloud.provenance.store import EventStore
from traceability import TraceError
from traceability.chain_rules import CHAINS, Facts, Verdict, judge
from traceability.events import CONTEXT, Document, Event
from traceability.hashing import event_id
from traceability.ledger import Receipt

__all__ = ["DailyMean", "Intake", "Neighbours", "Pending", "Terms"]

Key = tuple[str, int]
YEAR_MS = 366 * 86_400_000


class DailyMean(Protocol):
    """Daily mean water temperatures of a pond's own probe, in degrees Celsius by China-time day (ISO date)."""

    def __call__(self, place: str, start_ms: int, end_ms: int) -> Mapping[str, float]:
        """Means of the days that have enough readings; others are absent."""
        ...


@dataclass(frozen=True, slots=True)
class Neighbours:
    """What the chain asks of other contexts; each may be absent.

    `daily_mean`: the pond's own thermometer. `gateway`: site and name of a farm for a gateway's id. `county_known`: as
    in `traceability.chain_rules.Facts`.
    """

    daily_mean: DailyMean | None = None
    gateway: Callable[[str], tuple[str, str]] = lambda _name: ("", "")
    county_known: Callable[[str, date | None], bool | None] | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms events are taken: the chain whose rules judge them, who brings them, facts beside the chain."""

    chain: str | None
    by: str
    facts: Facts | None = None

    def __post_init__(self) -> None:
        if self.chain is not None and self.chain not in CHAINS:
            raise Invalid(f"no rule pack for the chain {self.chain!r}; there are: {', '.join(CHAINS)}")


@dataclass(frozen=True, slots=True)
class Pending:
    """A capture on its way into the log.

    `places` are known once the events are durable and provable; `Known` comes from it for what is in the log already.
    """

    job: CaptureJob
    places: Future[tuple[Receipt, ...]]
    ids: tuple[str, ...]

    def receipts(self, places: tuple[Receipt, ...]) -> list[Captured]:
        """What the caller gets, of the answer that `places` gave."""
        return [Captured(name, receipt.index) for name, receipt in zip(self.ids, places, strict=True)]


class Intake:
    """The way into the log. Safe to use from any thread."""

    def __init__(
        self,
        store: EventStore,
        log: LogBook,
        clock: Callable[[], int],
        codes: Codes,
        neighbours: Neighbours,
    ) -> None:
        self._store = store
        self._log = log
        self._clock = clock
        self._codes = codes
        self._ask = neighbours

    def take(self, document: Document, terms: Terms, job: CaptureJob | None = None) -> list[Captured]:
        """All events of a document or none; `job` is kept with them. Raises what `Provenance.capture` says."""
        events = _with_ids(document)
        terms = self._ruled(events, terms)
        # Without rules to be judged by, nothing is asked beforehand: the journal itself says what it knows already.
        asks = terms.chain is not None or any(_declares(event) or self._codes.concerned(event) for event in events)
        known = self._known(events) if asks else {}
        fresh = [event for event in _each_once(events) if _key(event) not in known]
        warned: dict[Key, list[dict[str, Any]]] = {}
        for number, event in enumerate(fresh):
            self._admit(event, fresh[:number])
            if not _declares(event):
                self._codes.vet(event)
            if terms.chain is not None and not _declares(event):
                warned[_key(event)] = self._judge(event, fresh[:number], terms)
        known |= self._append(fresh, terms, job)
        self._store.warn({known[key]: findings for key, findings in warned.items() if findings})
        return [Captured(str(event.id), known[_key(event)], warned.get(_key(event), [])) for event in events]

    def hand_in(self, document: Document, terms: Terms) -> "Pending | None":
        """As `take_whole`, without waiting; None where something must be asked first, and `take_whole` does that."""
        events = _with_ids(document)
        if terms.chain is not None or not events or len({_key(each) for each in events}) < len(events):
            return None
        if any(_declares(event) or self._codes.concerned(event) for event in events):
            return None
        if self._ruled(events, terms).chain is not None:
            return None
        job = self._job()
        rows, entries = self._sealed(events, terms)
        return Pending(job, self._log.submit(entries, Companion(rows, job)), tuple(row.event_id for row in rows))

    def _ruled(self, events: Sequence[Event], terms: Terms) -> Terms:
        """The terms with the chain that these things already belong to: nobody leaves its rules by not naming it."""
        if terms.chain is not None:
            return terms
        things = {thing for event in events for side in flow(event) for thing in side}
        return replace(terms, chain=self._store.chain_of(things, CHAINS))

    def _job(self) -> CaptureJob:
        now = self._clock()
        return CaptureJob(secrets.token_hex(16), now, now, success=True, behaviour="rollback")

    def take_whole(self, document: Document, terms: Terms) -> tuple[CaptureJob, list[Captured]]:
        """All or nothing, as a job."""
        job = self._job()
        return job, self.take(document, terms, job)

    def take_each(self, document: Document, terms: Terms) -> tuple[CaptureJob, list[Captured]]:
        """Every event that can be taken, as a job that lists the others."""
        started = self._clock()
        receipts: list[Captured] = []
        errors: list[dict[str, Any]] = []
        for number, event in enumerate(document.events):
            try:
                receipts += self.take(replace(document, events=(event,)), terms)
            except (CloudError, TraceError) as why:
                code = getattr(why, "code", "invalid")
                errors.append({"pointer": f"/epcisBody/eventList/{number}", "code": code, "detail": str(why)})
        job = CaptureJob(secrets.token_hex(16), started, self._clock(), not errors, "proceed", errors)
        self._store.keep_job(job)
        return job, receipts

    def _known(self, events: Sequence[Event]) -> dict[Key, int]:
        """Places of those events that are already stored. Raises `Conflict` where an id stands for other content."""
        stored = {(row.event_id, row.declares): row for row in self._store.by_ids([str(event.id) for event in events])}
        for event in events:
            row = stored.get(_key(event))
            if row is not None and _content(json.loads(row.body)) != _content(event.body):
                raise Conflict(
                    f"the event {event.id} is stored with other content: correct it by an error declaration",
                    code="event_differs",
                )
        return {key: row.place for key, row in stored.items()}

    def _admit(self, event: Event, earlier: Sequence[Event]) -> None:
        """A declaration must be of an event that is there."""
        if not _declares(event) or any(event.id == each.id for each in earlier):
            return
        if not self._store.by_ids([str(event.id)]):
            raise Invalid(
                f"{event.id} is declared wrong, and no such event was captured",
                code="unknown_event",
                pointer="/errorDeclaration",
            )

    def _append(self, events: Sequence[Event], terms: Terms, job: CaptureJob | None) -> dict[Key, int]:
        if not events:
            if job is not None:
                self._store.keep_job(job)
            return {}
        rows, entries = self._sealed(events, terms)
        try:
            places = self._log.append(entries, Companion(rows, job))
        except Known:
            # Somebody else captured one of them between our look and our write: take what is there, add the rest.
            known = self._known(events)
            return known | self._append([event for event in events if _key(event) not in known], terms, job)
        return {row.key: place for row, place in zip(rows, places, strict=True)}

    def _sealed(self, events: Sequence[Event], terms: Terms) -> tuple[tuple[EventRow, ...], list[bytes]]:
        """Rows and entries of the events."""
        now, chain, salt = self._clock(), terms.chain or "other", fresh_salts()
        leaves = [seal(event, chain, salt) for event in events]
        rows = tuple(_row(event, leaf, chain, now, terms.by) for event, leaf in zip(events, leaves, strict=True))
        return rows, [leaf.entry for leaf in leaves]

    def _judge(self, event: Event, earlier: Sequence[Event], terms: Terms) -> list[dict[str, Any]]:
        """What the rules warn of. Raises `Refused` for what they forbid, and keeps the attempt."""
        chain = terms.chain or ""
        uses, makes = flow(event)
        history = [Event(json.loads(row.body)) for row in self._store.history((*uses, *makes))]
        facts = self._with_registers(terms.facts or Facts(), event)
        verdict = judge(chain, event, [*history, *earlier], facts, self._clock())
        findings = _findings(verdict)
        if not verdict.refused:
            return findings
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
        if first is not event and _content(first.body) != _content(event.body):
            raise Conflict(f"two different events of this document have the id {event.id}", code="event_differs")
    return list(found.values())


def _declares(event: Event) -> bool:
    return "errorDeclaration" in event.body


def _key(event: Event) -> tuple[str, int]:
    return str(event.id), int(_declares(event))


def _content(body: Mapping[str, Any]) -> dict[str, Any]:
    """What must be equal for two captures to be of one event; when it was written down is not part of it."""
    return {name: value for name, value in body.items() if name not in {"recordTime", "eventID", "@context"}}


def _row(event: Event, leaf: LeafOf, chain: str, now_ms: int, by: str) -> EventRow:
    return EventRow(
        event_id=str(event.id),
        declares=int(_declares(event)),
        chain=chain,
        kind=event.kind,
        step=event.step or "",
        when_ms=event.time_ms,
        recorded_ms=now_ms,
        captured_by=by,
        body=json_text(event.body),
        context=json_text(event.context),
        secrets=leaf.secrets,
        uses=leaf.uses,
        makes=leaf.makes,
        carrier=leaf.carrier,
    )


def _findings(verdict: Verdict) -> list[dict[str, Any]]:
    return [finding.to_dict() for finding in verdict.findings]
