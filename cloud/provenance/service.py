"""The chain's service: capture an event, judge it, seal it into the log, and tell whoever scans a code.

Capture is: read, judge by the chain's rules, seal, and append: entry and event are one transaction, so an event is in
the log or nowhere. A rule that says no stops the event before anything of it is written except the attempt itself.
"""

import json
import logging
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Engine

from cloud.problems import CloudError, Conflict, Invalid, NotFound, TooLarge
from cloud.provenance.capture import Intake, Neighbours, Pending, Terms
from cloud.provenance.codes import Codes
from cloud.provenance.leaves import LeafOf
from cloud.provenance.log import LogBook
from cloud.provenance.query import EventQuery
from cloud.provenance.records import event_of
from cloud.provenance.rulings import Rulings, trade_item
from cloud.provenance.schemas import Captured, CaptureJob, Consumer, Item, LogState, Lot, RefusalView, WarningView
from cloud.provenance.store import EventStore, Stored
from cloud.provenance.tracing import Tracer
from traceability import TraceError
from traceability.chain_rules import CHAINS, Facts
from traceability.codes import gtin
from traceability.digital_link import DigitalLink, LinkError, parse_link
from traceability.epc_uris import canonical_name
from traceability.events import Event, parse_document, parse_each
from traceability.labels import png, svg, symbol
from traceability.packs import Pack
from traceability.story import tell

__all__ = ["Provenance"]

_LOG = logging.getLogger(__name__)
RECORDS_EVERY_S = 2.0
LATE_MS = 600_000  # a record younger than this is on time: gateways send every few minutes
Clock = Callable[[], int]
# Identifiers in events are in GS1's canonical form; only printed codes carry an address of ours.
CANONICAL = "https://id.gs1.org"
LONGEST_REPORT = 1_000
_LOT = ("01", "10")
_NOBODY = Neighbours()
VOCABULARY = "https://gs1.org/voc/"


@dataclass(frozen=True, slots=True)
class _LinkType:
    target: str
    title: str
    media: str
    of_items: bool = True  # whether a product has it, or a code of which no event tells yet


LINK_TYPES = {
    "gs1:defaultLink": _LinkType("{path}", "追溯页 Provenance", "text/html"),
    "gs1:pip": _LinkType("{path}", "商品信息 Product information", "text/html"),
    "gs1:traceability": _LinkType(
        "/api/v1/trace/pack?path={path}", "证明包 Proof pack", "application/tianmai-pack+json", of_items=False
    ),
    "gs1:certificationInfo": _LinkType("{path}#facts", "承诺达标合格证 Conformity", "text/html", of_items=False),
    "gs1:recallStatus": _LinkType("{path}#verdict", "召回状态 Recall status", "text/html", of_items=False),
}


class Provenance:
    """Events in, proofs out. One instance owns the log; its methods may be called from any thread."""

    def __init__(
        self,
        engine: Engine,
        log: LogBook,
        *,
        site: str,
        clock: Clock,
        neighbours: Neighbours = _NOBODY,
        serial_key: bytes | None = None,
    ) -> None:
        self._store = EventStore(engine)
        self._gateway = neighbours.gateway
        self._missing = neighbours.missing
        self._rulings = Rulings(engine)
        self.codes = Codes(engine, self._store, clock, serial_key)
        self._intake = Intake(self._store, self._rulings, log, clock, self.codes, neighbours)
        self.tracer = Tracer(self._store, clock)
        self._log = log
        self._site = site
        self._clock = clock

    def close(self) -> None:
        """Give the log's files back."""
        self._log.close()

    # -- capture ---------------------------------------------------------------------------------------------------

    def capture(
        self, document: Mapping[str, Any], *, chain: str | None, by: str, facts: Facts | None = None
    ) -> list[Captured]:
        """Take a document or one event: all of its events or none.

        Rules come with the trade items and places of the events (`give_chain`) and with what their things were before;
        `chain` names the rule pack (pork, eggs, citrus, fish) where neither says it. Events no rule pack knows are
        taken as they are, except that no lot gives more than was made of it.
        The same event twice gives the same receipt. Raises `TraceError` for what is not EPCIS, `Refused` with the
        rule, its source and the earliest legal date for what a rule forbids.
        """
        return self._intake.take(parse_document(document), Terms(chain, by, facts))

    def capture_job(
        self, document: Mapping[str, Any], *, chain: str | None, by: str, proceed: bool
    ) -> tuple[CaptureJob, list[Captured]]:
        """Capture a document and keep what came of it as a job that can be asked for.

        `proceed` takes every event that can be taken and lists the others; otherwise it is all or nothing, and what
        refuses an event is raised.
        """
        terms = Terms(chain, by)
        if proceed:
            return self._intake.take_each(*parse_each(document), terms)
        return self._intake.take_whole(parse_document(document), terms)

    def hand_in(self, document: Mapping[str, Any], *, chain: str | None, by: str) -> Pending | None:
        """As `capture_job`, for who must not wait.

        None where the store must be asked first (a named chain, declarations of error, mass taken from lots): then
        `capture_job` is to be called, as it is after `Known` and `Ruled`. Raises as that does.
        """
        return self._intake.hand_in(parse_document(document), Terms(chain, by))

    def give_chain(self, name: str, chain: str | None) -> str:
        """Put a trade item (GTIN or Digital Link) or a place (URI) under the rules of a chain; None takes it away.

        Returns the name as it is kept. Raises `Invalid` for a chain without a rule pack.
        """
        if chain is not None and chain not in CHAINS:
            raise Invalid(f"no rule pack for the chain {chain!r}; there are: {', '.join(CHAINS)}", pointer="/chain")
        kept = f"{CANONICAL}/01/{gtin(name)}" if name.isdigit() else canonical_name(name)
        self._rulings.give(trade_item(kept) or kept, chain)
        return trade_item(kept) or kept

    def given_chains(self) -> dict[str, str]:
        """Trade items and places that somebody put under a chain."""
        return self._rulings.given()

    def job(self, id: str) -> CaptureJob:  # noqa: A002 - the word of the standard
        """A capture job. Raises `NotFound`."""
        found = self._store.job(id)
        if found is None:
            raise NotFound(f"no capture job {id[:40]}")
        return found

    def jobs(self, limit: int = 30) -> list[CaptureJob]:
        """Capture jobs, newest first."""
        return self._store.jobs(limit)

    def keep_query(self, name: str, parameters: Mapping[str, str]) -> None:
        """Keep a named query. Raises `Invalid` where it is none, `Conflict` where the name is taken."""
        EventQuery.parse({key: [value] for key, value in parameters.items()})
        if not self._store.keep_query(name, dict(parameters)):
            raise Conflict(f"a query named {name} exists: delete it first, or choose another name")

    def queries(self) -> dict[str, dict[str, str]]:
        """Named queries by name."""
        return self._store.queries()

    def named_query(self, name: str) -> dict[str, str]:
        """Parameters of a named query. Raises `NotFound`."""
        found = self._store.queries().get(name)
        if found is None:
            raise NotFound(f"no query named {name[:60]}")
        return found

    def forget_query(self, name: str) -> None:
        """Delete a named query. Raises `NotFound`."""
        self.named_query(name)
        self._store.forget_query(name)

    def take_records(self) -> int:
        """Make events of the farm records that wait; returns how many. One that cannot become one is kept with why."""
        waiting = self._store.waiting_records()
        for record in waiting:
            site, farm = self._gateway(str(record["gateway"]))
            try:
                event = event_of(record, site=site, farm=farm)
                (receipt,) = self.capture(event, chain=None, by=f"gateway {record['gateway']}")
            except (CloudError, TraceError) as why:
                self._store.settle_record(record, why=str(why))
            else:
                self._store.settle_record(record, event_id=receipt.event_id)
        return len(waiting)

    def watch_records(self, stop: threading.Event) -> None:
        """Take records as they come, until `stop`. A store that does not answer is asked again."""
        while not stop.wait(RECORDS_EVERY_S):
            try:
                self.take_records()
            except Exception:  # noqa: BLE001 - whatever it is, the records are kept and the next round tries again
                _LOG.exception("farm records wait")

    def records(self, limit: int = 50) -> list[dict[str, Any]]:
        """Farm records, newest first, with the event each became or why it did not.

        `late_ms`: how long after the deed it arrived, 0 below ten minutes. `missing`: how many messages of its gateway,
        numbered before it in the same spool, have not come yet.
        """
        rows = self._store.records(limit)
        gaps = {gateway: self._missing(gateway) for gateway in {str(row["gateway"]) for row in rows}}
        return [_told(row, gaps[str(row["gateway"])]) for row in rows]

    # -- questions -------------------------------------------------------------------------------------------------

    def consumer(self, path: str, *, count_scan: bool = True, exactly: bool = False) -> Consumer:
        """What the page of a code shows, with its proof pack.

        A pack of which nothing is known is answered with its lot, and the answer says so (`level`), unless `exactly`
        this code was asked for. Raises `NotFound` where neither is known.
        """
        asked = self._link(path)
        subject, rows = self._finest(asked, exactly=exactly)
        if not rows:
            raise NotFound(f"no event is known for the code {path}: mistyped, or not ours", code="unknown_code")
        name = canonical_name(asked.canonical)
        events = [Event(json.loads(LeafOf.load(row.entry, row.secrets).view)) for row in rows]
        now = self._clock()
        scans, first = self._store.scanned(name, now) if count_scan else (0, now)
        zh, en = self._store.product_names().get(asked.gtin or "", ("", ""))
        return Consumer(
            subject=subject,
            path=path,
            level="unit" if asked.serial and subject == name else "lot",
            serial=asked.serial or "",
            product_zh=zh,
            product_en=en,
            chain=rows[-1].chain,
            story=tell(
                events,
                subject=_as_written(events, subject),
                proven=frozenset(str(event.id) for event in events),
                now_ms=now,
            ),
            pack=self._pack(subject, rows).encode().decode(),
            policy=self._log.policy_text,
            fingerprint=self._log.fingerprint,
            scans=scans,
            first_scan_ms=first,
            recalled=any(_recalled(event) for event in events),
            code=self.codes.look(name),
            codes_of_lot=self.codes.count(asked.gtin or "", asked.lot or "") if asked.serial and asked.lot else 0,
        )

    def _finest(self, asked: DigitalLink, *, exactly: bool) -> tuple[str, list[Stored]]:
        """The finest thing of a link that any event names, with its history; nothing where no event names any."""
        lot = tuple(element for element in asked.path if element[0] in _LOT)
        for path in (asked.path,) if exactly or asked.lot is None else (asked.path, lot):
            subject = canonical_name(DigitalLink(path).canonical)
            if len(path) > 1 and (rows := self._store.history([subject])):  # a trade item alone has no history
                return subject, rows
        return "", []

    def item(self, path: str) -> Item:
        """A trade item's names and newest packs. Raises `NotFound` for one of which nothing is known."""
        gtin = self._link(path).gtin or ""
        lots = self.lots(gtin=gtin)
        zh, en = self._store.product_names().get(gtin, ("", ""))
        if not (lots or zh):
            raise NotFound(f"nothing is known of the trade item {gtin}", code="unknown_code")
        return Item(path, gtin, zh, en, lots)

    def linkset(self, path: str) -> dict[str, Any]:
        """All links of a code as an RFC 9264 linkset; those of its lot or its product where nothing finer is known.

        Raises `NotFound` where none of them is.
        """
        known, told = self._known_as(path)
        links = {
            VOCABULARY + name.removeprefix("gs1:"): [
                {"href": self._site + link.target.format(path=known), "title": link.title, "type": link.media}
                | {"hreflang": ["zh", "en"]}
            ]
            for name, link in LINK_TYPES.items()
            if link.of_items or told
        }
        return {"linkset": [{"anchor": CANONICAL + known, "itemDescription": self._described(known), **links}]}

    def link(self, path: str, link_type: str) -> str:
        """The address of one kind of link (`gs1:pip`, or its whole address). Raises `NotFound` naming those there are.

        Found as `linkset` finds them.
        """
        known, told = self._known_as(path)
        name = "gs1:" + link_type.removeprefix("gs1:").rpartition("/voc/")[2]
        link = LINK_TYPES.get(name)
        if link is None or not (link.of_items or told):
            there = [each for each, kind in LINK_TYPES.items() if kind.of_items or told]
            known_types = ", ".join((*there, "linkset", "all"))
            raise NotFound(f"no link of type {link_type[:80]}; there are: {known_types}", code="unknown_link_type")
        return self._site + link.target.format(path=known)

    def _known_as(self, path: str) -> tuple[str, bool]:
        """The path itself, or that of its lot or its product: the finest of which anything is known; has it events?"""
        asked = self._link(path)
        subject, rows = self._finest(asked, exactly=False)
        if rows:
            return path if subject == canonical_name(asked.canonical) else path.partition("/21/")[0], True
        if self.codes.look(canonical_name(asked.canonical)) is not None:
            return path, False
        item = f"/01/{asked.gtin or ''}"
        self.item(item)
        return item, False

    def _described(self, path: str) -> str:
        zh, en = self._store.product_names().get(self._link(path).gtin or "", ("", ""))
        return " / ".join(filter(None, (zh, en)))

    def label(self, path: str, *, kind: str, width_mm: float = 25.0, dpi: int = 300) -> bytes:
        """The QR label of a code as `svg` or `png`: link, human-readable line, fingerprint of the log's key.

        Raises `NotFound` for a code nobody issued, `TraceError` where the printer cannot draw three dots a module.
        """
        subject = self._subject(path)
        if self.codes.look(subject) is None and not self._store.history([subject]):
            raise NotFound(f"no event is known for the code {path}, and it was not issued", code="unknown_code")
        drawn = symbol(self._site + path)
        caption = (path.rsplit("/", 1)[-1], f"key {self._log.fingerprint}")
        if kind == "svg":
            return svg(drawn, caption, width_mm).encode()
        return png(drawn, caption, width_mm, dpi)

    def report(self, path: str, text: str) -> str:
        """Keep what a consumer found wrong; returns a receipt number to quote."""
        words = text.strip()
        if not 1 <= len(words) <= LONGEST_REPORT:
            raise Invalid(f"a report has 1 to {LONGEST_REPORT} characters, not {len(words)}", pointer="/text")
        receipt = "R" + secrets.token_hex(4).upper()
        self._store.report(receipt, self._subject(path), words, self._clock())
        return receipt

    def lots(self, *, gtin: str | None = None) -> list[Lot]:
        """The codes a consumer may scan, newest first, one for each serial number; of one trade item if asked."""
        names = self._store.product_names()
        found = []
        for thing, row in self._store.serials(gtin):
            try:
                link = parse_link(_as_written([_event(row)], thing))
            except LinkError:
                continue  # a name that only looks like one of ours: nobody can scan it
            zh, en = names.get(link.gtin or "", ("", ""))
            found.append(Lot(row.chain, thing, link.canonical.removeprefix(CANONICAL), zh, en, row.when_ms))
        return found

    def name_product(self, gtin: str, zh: str, en: str) -> None:
        """Give a trade item (14-digit GTIN) the names a consumer reads."""
        self._store.name_product(gtin, zh, en)

    def search(self, query: EventQuery) -> tuple[list[Stored], str | None]:
        """One page of a query's answer, and the token of the next one. Raises `TooLarge` past the asker's own limit."""
        if query.most is not None and query.after is None:
            whole, _ = self._store.search(replace(query, per_page=query.most + 1))
            if len(whole) > query.most:
                raise TooLarge(f"more than {query.most} events answer the query", code="query_too_large")
        left = query.per_page if query.limit is None else min(query.per_page, query.limit - query.seen)
        if left <= 0:
            return [], None
        rows, after = self._store.search(replace(query, per_page=left))
        seen = query.seen + len(rows)
        if after is None or (query.limit is not None and seen >= query.limit):
            return rows, None
        return rows, f"{after[0]}.{after[1]}.{seen}"

    def names(self, of: str, after: str, limit: int) -> tuple[list[str], str | None]:
        """One page of the different names of one kind (as `EventStore.names`), and the token of the next one."""
        found = self._store.names(of, after, limit + 1)
        return found[:limit], found[limit - 1] if len(found) > limit else None

    def events(self, limit: int, before: int | None = None, chain: str | None = None) -> list[Stored]:
        """Captured events, newest capture first."""
        return self._store.newest(limit, before, chain)

    def refusals(self, limit: int = 50) -> list[RefusalView]:
        """Attempts that a rule refused, newest first."""
        return [
            RefusalView(
                row.number, row.event_id, row.chain, row.tried_ms, row.tried_by, row.times, json.loads(row.findings)
            )
            for row in self._store.refusals(limit)
        ]

    def warnings(self, limit: int = 50) -> list[WarningView]:
        """Events that a rule let pass with a warning, newest first."""
        return [
            WarningView(row.place, row.event_id, row.chain, row.recorded_ms, json.loads(findings))
            for row, findings in self._store.warnings(limit)
        ]

    def log_state(self) -> LogState:
        """Health of the log."""
        return self._log.state()

    @property
    def policy_text(self) -> str:
        """The policy file a reader may start from: this log's keys. He should compare their fingerprint elsewhere."""
        return self._log.policy_text

    def log_file(self, path: str) -> bytes:
        """A static file of the log (checkpoint, tile, list of shards). Raises `NotFound`."""
        return self._log.file(path)

    def _subject(self, path: str) -> str:
        return canonical_name(self._link(path).canonical)

    def _link(self, path: str) -> DigitalLink:
        return parse_link(CANONICAL + path)

    def _pack(self, subject: str, rows: Sequence[Stored]) -> Pack:
        return self._log.pack(subject, [(LeafOf.load(row.entry, row.secrets).shown, row.place) for row in rows])


def _told(row: Mapping[str, Any], gaps: Sequence[tuple[str, int, int]]) -> dict[str, Any]:
    late = int(row["received_ms"]) - int(row["when_ms"])
    before = [(first, min(last, int(row["seq"]) - 1)) for epoch, first, last in gaps if epoch == row["epoch"]]
    shown = {name: value for name, value in row.items() if name != "payload"}
    missing = sum(max(0, last - first + 1) for first, last in before)
    return shown | {"late_ms": late if late >= LATE_MS else 0, "missing": missing}


def _event(row: Stored) -> Event:
    return Event(json.loads(row.body))


def _as_written(events: Sequence[Event], name: str) -> str:
    """The link by which the newest of the events names a thing: with its lot, where it has one.

    The canonical name itself where no event writes it as a link: EPC URNs name the same things.
    """
    written = (thing for event in reversed(events) for thing in event.things if canonical_name(thing) == name)
    return next((thing for thing in written if thing[:4].lower() == "http"), name)


def _recalled(event: Event) -> bool:
    lasting = event.body.get("persistentDisposition") or {}
    return event.disposition == "recalled" or "recalled" in (lasting.get("set") or ())
