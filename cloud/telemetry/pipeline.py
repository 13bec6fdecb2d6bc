"""From a message to durable readings, in one fixed order.

    topic known? gateway registered? -> decode -> the payload speaks for the same gateway? -> series, unit, quota, time
    -> dead letters, records, events (relational) -> readings and pack ledger (one transaction) -> watermark

The order is the meaning. What was refused is kept *before* the pack is marked as known, so a crash between the two
makes the gateway send it again rather than lose the refused part. The watermark is read from the ledger *after* it
committed. Every relational write is idempotent by (gateway, epoch, seq) or by content, because all of it may run again.

A message that cannot be taken still settles its number in the sequence: a bad payload must never hold up the good ones
behind it. Only a failure of ours (a store that is down) leaves the number open; the gateway then sends it again.
"""

import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy.exc import DBAPIError

from cloud.problems import CloudError, Invalid
from cloud.telemetry.dead_letters import DeadLetters, Letter, Message
from cloud.telemetry.fast_packs import QuickPacks
from cloud.telemetry.registry import Gateway, Registry, Series
from cloud.telemetry.store import Appended, Arrival, PackKey, Points, ReadingsStore, StoreUnavailable, columns
from edge.quantities import quantity_of
from edge.wire import Ack, Event, Kind, Pack, Reading, Record, Status, Topic, WireError, decode_pack, parse_topic

__all__ = ["OnEvents", "OnRecord", "OnStored", "Pipeline", "RecordArrival"]

_LOG = logging.getLogger(__name__)
# A clock this far ahead cannot be a slow network: such a reading would stay "the newest" until its time comes.
MAX_AHEAD_MS = 5 * 60 * 1000
# Before mid-1978 no clock was right: readings know no earlier time either, and a board without a battery says 1970.
_EARLIEST_MS = 2**28 * 1000
# Printable ASCII without spaces, as UCUM and the SenML registry have it; and nothing that a page could take for a tag.
_UNIT = re.compile(r"[!-;=?-~]{0,40}\Z")
_NO_PARTS = frozenset({"", ".", ".."})  # between the slashes of a name: nobody could tell such series apart


@dataclass(frozen=True, slots=True)
class RecordArrival:
    """A farm record whose signature has been checked. The same (gateway, epoch, seq) may come again."""

    gateway: str
    epoch: str
    seq: int
    kind: str
    time_ms: int
    body: Mapping[str, Any]
    payload: bytes
    received_ms: int


# Durable when it returns. A `CloudError` (or one of the wiring's other refusals) puts the record among the dead
# letters; any other exception means "not now": the record is left unacknowledged and comes again.
OnRecord = Callable[[RecordArrival], None]
# Called with arrivals that are durable and new, and their position in the order of storing.
OnStored = Callable[[Sequence[Arrival], int], None]
# Called with the rows of events that are durable, before the watermark moves; the same ones may come again.
OnEvents = Callable[[Sequence[Mapping[str, Any]]], None]


class _Refused(Exception):
    """This message cannot be taken; `reason` is a stable code."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(slots=True)
class _Batch:
    """What one batch of messages comes down to."""

    arrivals: list[Arrival] = field(default_factory=list)
    letters: list[Letter] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    heard: dict[str, None] = field(default_factory=dict)  # gateways whose watermark to tell, in order
    sources: dict[PackKey, Message] = field(default_factory=dict)
    unusual: list["_Unusual"] = field(default_factory=list)

    def add(self, arrival: Arrival, message: Message) -> None:
        """Take an arrival that came of this message."""
        self.arrivals.append(arrival)
        if arrival.key is not None:
            self.sources.setdefault(arrival.key, message)
            self.heard[arrival.key.gateway] = None


@dataclass(frozen=True, slots=True)
class _Unusual:
    """A decoded pack whose series are looked up together with those of the batch's other such packs.

    `place` is where its arrival belongs among the batch's: what came first must stay first.
    """

    place: int
    message: Message
    topic: Topic
    gateway: Gateway
    pack: Pack


class Pipeline:
    """Takes messages of the wire protocol. One thread calls `take`.

    `refusals` are the exceptions by which `on_record` refuses a record for good.
    """

    def __init__(
        self,
        readings: ReadingsStore,
        registry: Registry,
        *,
        clock: Callable[[], int],
        on_record: OnRecord | None = None,
        on_stored: OnStored | None = None,
        on_events: OnEvents | None = None,
        refusals: tuple[type[Exception], ...] = (CloudError,),
    ) -> None:
        self._readings = readings
        self._registry = registry
        self._letters = DeadLetters(registry.engine)
        self._clock = clock
        self._on_record = on_record
        self._on_stored = on_stored
        self._on_events = on_events
        self._refusals = refusals
        self._quick = QuickPacks()
        self._handlers: Mapping[Kind, Callable[[Message, Topic, Gateway, _Batch], Arrival | None]] = {
            Kind.DATA: self._data,
            Kind.RECORD: self._record,
            Kind.EVENT: self._event,
            Kind.STATUS: self._status,
            Kind.META: self._meta,
        }

    def take(self, messages: Sequence[Message]) -> dict[str, Ack]:
        """Make all messages durable in one form or another; the watermarks to publish, by gateway.

        Raises `StoreUnavailable` where a store does not answer: nothing is acknowledged, take the same again later.
        """
        batch = _Batch()
        try:
            quick = self._quick.take(messages, self._clock() + MAX_AHEAD_MS, self._may_send)
            for message, arrival in zip(messages, quick, strict=True):
                if arrival is None:
                    self._sort(message, batch)
                else:
                    batch.add(arrival, message)
            self._settle(batch)
            self._letters.keep(batch.letters)
            self._keep_events(batch.events)
            done = self._readings.append(batch.arrivals)
            self._letters.keep([*self._impostors(done, batch), *_rejected(done, batch)])
            self._keep_events([_alert(key, batch.sources[key]) for key in sorted(done.reused)])
            acks = self.acks(list(batch.heard))
        except DBAPIError as why:
            raise StoreUnavailable(f"the relational store does not answer: {why.orig}") from why
        if self._on_stored is not None and done.position:
            self._on_stored(_fresh(batch.arrivals, done), done.position)
        return acks

    def _keep_events(self, events: Sequence[Mapping[str, Any]]) -> None:
        self._registry.keep_events(events)
        if self._on_events is not None and events:
            self._on_events(events)

    def acks(self, gateways: Sequence[str]) -> dict[str, Ack]:
        """The present watermark of each gateway's newest epoch; gateways without a sequence are left out."""
        now = self._clock()
        found: dict[str, Ack] = {}
        for gateway in gateways:
            ledger = self._readings.ledger(gateway)
            if ledger:
                epoch, spans = list(ledger.items())[-1]
                found[gateway] = Ack(epoch, spans.watermark, now)
        return found

    def again(self, message: Message) -> None:
        """Take a dead letter once more, without its number (long settled). Raises `Invalid` where it fails again."""
        batch = _Batch()
        try:
            topic = parse_topic(message.topic)
            handler = self._handlers.get(topic.kind, self._data)
            arrival = handler(message, topic, self._gateway(topic.gateway), batch)
        except (WireError, _Refused) as why:
            raise Invalid(str(why), code=why.code if isinstance(why, WireError) else why.reason) from why
        if arrival is None:
            self._settle(batch)
            arrival = next(iter(batch.arrivals), None)
        if batch.letters:
            raise Invalid(batch.letters[0].detail, code=batch.letters[0].reason)
        self._registry.keep_events(batch.events)
        if arrival is not None:
            self._store([replace(arrival, key=None, skips=None, sender=topic.gateway)])

    def give(
        self, gateway: Gateway, readings: Sequence[Reading], received_ms: int, *, whole: bool = False
    ) -> tuple[int, dict[str, list[str]]]:
        """Store readings that came another way, without a number; how many were taken, and why others were not.

        `whole`: all of them or none. Raises `Invalid` where one of those does not fit.
        """
        points, refused = self._named(gateway, readings)
        if whole and refused:
            reason, details = next(iter(refused.items()))
            raise Invalid(details[0], code=reason)
        self._store([Arrival(None, points, received_ms=received_ms, sender=gateway.id)])
        return len(points), refused

    def _store(self, arrivals: list[Arrival]) -> None:
        done = self._readings.append(arrivals)
        if self._on_stored is not None:
            self._on_stored(arrivals, done.position)

    def bury(self, message: Message, why: Exception) -> dict[str, Ack]:
        """Put aside a message that this program fails to handle, and settle its number all the same."""
        letter = Letter(message, "internal_error", f"{type(why).__name__}: {why}")
        try:
            topic = parse_topic(message.topic)
        except WireError:
            self._letters.keep([letter])
            return {}
        self._letters.keep([replace(letter, gateway=topic.gateway)])
        arrival = _arrival(message, topic)
        if arrival is not None and self._registry.known(topic.gateway) is not None:
            self._store([arrival])
        return self.acks([topic.gateway])

    def _impostors(self, done: Appended, batch: _Batch) -> list[Letter]:
        detail = "this sequence number was used before for other content: a copied spool, or two gateways with one id"
        return [Letter(batch.sources[key], "sequence_reused", detail, key.gateway) for key in sorted(done.reused)]

    def _sort(self, message: Message, batch: _Batch) -> None:
        topic: Topic | None = None
        try:
            topic = parse_topic(message.topic)
            handler = self._handlers.get(topic.kind)
            if handler is None:
                return  # our own words coming back: acks, commands
            gateway = self._gateway(topic.gateway)
        except (WireError, _Refused) as why:
            batch.letters.append(_letter(message, why, topic))
            return
        try:
            arrival = handler(message, topic, gateway, batch)
        except (WireError, _Refused) as why:
            batch.letters.append(_letter(message, why, topic))
            arrival = _arrival(message, topic)
        if arrival is not None:
            batch.add(arrival, message)
        batch.heard[topic.gateway] = None

    def _may_send(self, name: str) -> bool:
        gateway = self._registry.known(name)
        return gateway is not None and gateway.disabled_ms is None

    def _gateway(self, name: str) -> Gateway:
        gateway = self._registry.known(name)
        if gateway is None:
            raise _Refused("unknown_gateway", f"gateway {name} is not registered")
        if gateway.disabled_ms is not None:
            raise _Refused("disabled_gateway", f"gateway {name} was disabled")
        return gateway

    # --- one handler per kind of topic --------------------------------------------------------------

    def _data(self, message: Message, topic: Topic, gateway: Gateway, batch: _Batch) -> Arrival | None:
        pack = decode_pack(message.payload)
        if pack.gateway != topic.gateway:
            raise _Refused("wrong_gateway", f"the topic is {topic.gateway}'s, the pack says {pack.gateway}")
        self._quick.meet(topic)
        batch.unusual.append(_Unusual(len(batch.arrivals), message, topic, gateway, pack))
        return None

    def _settle(self, batch: _Batch) -> None:
        """Give the unusual packs their series, new ones in one transaction, and put them where they belong."""
        latest = self._clock() + MAX_AHEAD_MS
        units: dict[str, tuple[Gateway, dict[str, str]]] = {}
        for one in batch.unusual:
            mine = units.setdefault(one.gateway.id, (one.gateway, {}))[1]
            for reading in one.pack.readings:
                if reading.name not in mine and _unsound(reading, latest) is None:
                    mine[reading.name] = reading.unit
        self._registry.ensure_all(units.values())
        placed: list[tuple[int, Arrival]] = []
        for one in batch.unusual:
            taken, refused = self._named(one.gateway, one.pack.readings)
            for reason, details in refused.items():
                more = f" (and {len(details) - 1} more readings)" if len(details) > 1 else ""
                batch.letters.append(Letter(one.message, reason, details[0] + more, one.gateway.id))
            arrival = _arrival(one.message, one.topic, taken)
            if arrival is not None:
                placed.append((one.place, arrival))
                if arrival.key is not None:
                    batch.sources.setdefault(arrival.key, one.message)
        for place, arrival in reversed(placed):
            batch.arrivals.insert(place, arrival)

    def _named(self, owner: Gateway, readings: Sequence[Reading]) -> tuple[Points, dict[str, list[str]]]:
        """The readings that may be stored, under their series' numbers, and why the others may not."""
        latest = self._clock() + MAX_AHEAD_MS
        refused: dict[str, list[str]] = {}

        def fits(why: tuple[str, str] | None) -> bool:
            if why is not None:
                refused.setdefault(why[0], []).append(why[1])
            return why is None

        # A series is registered by its first acceptable reading: a wrong one must not decide its unit.
        sound = [reading for reading in readings if fits(_unsound(reading, latest))]
        known = self._registry.ensure_series(owner, {reading.name: reading.unit for reading in sound})
        rows: list[tuple[int, int, float, int]] = []
        for reading in sound:
            series = known.get(reading.name)
            if not fits(_misfit(reading, series, owner)) or series is None:
                continue
            if reading.calibration is not None and reading.calibration != series.calibration:
                self._registry.note_calibration(series, reading.calibration)
                known[reading.name] = self._registry.series_of(owner.id, reading.name) or series
            self._quick.learn(owner.id, reading.name, reading.unit, series.id)
            value = float("nan") if reading.value is None else reading.value
            rows.append((series.id, reading.time_ms, value, int(reading.quality)))
        return (Points(*columns(*zip(*rows, strict=True))) if rows else Points.none()), refused

    def _record(self, message: Message, topic: Topic, gateway: Gateway, _batch: _Batch) -> Arrival | None:
        record = Record.verify(message.payload, gateway.secret)
        key = _key(topic)
        if key is None or self._on_record is None:
            raise _Refused("no_reader", f"nobody takes records of kind {record.kind} here")
        arrival = RecordArrival(
            *(key.gateway, key.epoch, key.seq, record.kind, record.time_ms, record.body),
            payload=message.payload,
            received_ms=message.received_ms,
        )
        try:
            self._on_record(arrival)
        except self._refusals as why:
            raise _Refused(str(getattr(why, "code", "refused")), str(why)) from why
        except Exception:  # noqa: BLE001 - whatever it is, it is logged and the record comes again
            # Not the sender's fault: leave the number open, so that the watermark stalls and the record comes again.
            _LOG.exception("record %s of %s could not be kept; waiting for it to come again", key.seq, key.gateway)
            return None
        return _arrival(message, topic)

    def _event(self, message: Message, topic: Topic, gateway: Gateway, batch: _Batch) -> Arrival | None:
        event = Event.decode(message.payload)
        skips = _gap(event, topic) if event.kind == "gap" else None
        at, said = _when(event, message)
        batch.events.append(
            {
                "gateway": gateway.id,
                "epoch": topic.epoch,
                "seq": topic.seq,
                "kind": event.kind,
                "time_ms": at,
                "received_ms": message.received_ms,
                "body": {**event.body, **said},
            }
        )
        return _arrival(message, topic, skips=skips)

    def _status(self, message: Message, _topic: Topic, gateway: Gateway, _batch: _Batch) -> Arrival | None:
        if not message.payload:
            return None  # somebody cleared the retained message
        said = Status.verify(message.payload, gateway.secret)
        before = self._registry.status(gateway.id)
        if said.state == "offline" and before is not None and before["boot"] != said.boot:
            return None  # the will of an earlier life: another start of the agent has spoken since
        body = dict(said.body)
        if "begun_ms" not in body and before is not None and "begun_ms" in before["body"]:
            body["begun_ms"] = before["body"]["begun_ms"]  # a will knows nothing of the batch, which goes on
        self._registry.note_status(
            gateway.id,
            {
                "state": said.state,
                "boot": said.boot[:64],
                "version": said.version[:40],
                "time_ms": said.time_ms,
                "received_ms": message.received_ms,
                "body": body,
            },
        )
        return self._forgotten(said, gateway, message)

    def _forgotten(self, said: Status, gateway: Gateway, message: Message) -> Arrival | None:
        """Settle what the gateway no longer has: numbers it trimmed on a watermark that this cloud does not remember.

        That happens when the cloud's stores were restored from a backup or begun anew. Without this the watermark
        would wait for ever for packs that nobody holds.
        """
        spool = said.body.get("spool")
        if not isinstance(spool, Mapping):
            return None
        epoch, first = spool.get("epoch"), spool.get("first")
        if not isinstance(epoch, str) or not isinstance(first, int) or isinstance(first, bool) or first <= 1:
            return None
        spans = self._readings.ledger(gateway.id).get(epoch)
        if (spans.watermark if spans else 0) >= first - 1:
            return None
        key = PackKey(gateway.id, epoch, first - 1)
        _LOG.warning("%s no longer holds numbers up to %d of epoch %s; they count as lost", key.gateway, key.seq, epoch)
        return Arrival(key, Points.none(), message.digest[:8], (1, first - 1), message.received_ms)

    def _meta(self, message: Message, topic: Topic, gateway: Gateway, _batch: _Batch) -> Arrival | None:
        if not message.payload:
            return None
        body = _json_object(message.payload)
        self._registry.note_meta(gateway.id, str(topic.name), body, message.received_ms)
        return None


def _alert(key: PackKey, message: Message) -> dict[str, Any]:
    """The event that a reused number is: two gateways speak with one name, or an old spool speaks again."""
    return {
        "gateway": key.gateway,
        "epoch": key.epoch,
        "seq": key.seq,
        "kind": "sequence_reused",
        "time_ms": message.received_ms,
        "received_ms": message.received_ms,
        "body": {"severity": "critical", "dead_letter": message.digest.hex()},
    }


def _fresh(arrivals: Sequence[Arrival], done: Appended) -> list[Arrival]:
    """What was new, and a little more: a pack that came twice in one batch is known only the second time."""
    times = Counter(one.key for one in arrivals) if done.known else Counter[PackKey | None]()
    return [one for one in arrivals if one.key is None or one.key not in done.known or times[one.key] > 1]


def _rejected(done: Appended, batch: _Batch) -> list[Letter]:
    """The messages behind readings that the store's server refuses for good."""
    found: dict[PackKey, Letter] = {}
    for series, time_ms, why in done.rejected:
        for arrival in batch.arrivals:
            here = (arrival.points.series == series) & (arrival.points.time_ms == time_ms)
            if arrival.key is not None and here.any():
                detail = f"the readings store refuses series {series} at {time_ms} ms: {why}"
                found[arrival.key] = Letter(batch.sources[arrival.key], "store_refused", detail, arrival.key.gateway)
    return list(found.values())


def _unsound(reading: Reading, latest_ms: int) -> tuple[str, str] | None:
    """Why this reading could be nobody's."""
    if not _NO_PARTS.isdisjoint(reading.name.split("/")):
        return "bad_name", f"{reading.name}: every part of a name between slashes needs letters or digits"
    if _UNIT.match(reading.unit) is None:
        return "bad_unit", f"{reading.name}: {reading.unit[:60]!r} is no unit (SenML or UCUM, at most 40 characters)"
    if reading.time_ms > latest_ms:
        return "future_time", f"{reading.name}: time {reading.time_ms} ms lies more than 5 min ahead of ours"
    quantity = quantity_of(reading.name)
    if quantity is not None and reading.unit != quantity.unit:
        return "wrong_unit", f"{reading.name} is measured in {quantity.unit!r}, this one says {reading.unit!r}"
    return None


def _misfit(reading: Reading, series: Series | None, owner: Gateway) -> tuple[str, str] | None:
    """Why this reading does not belong to its series."""
    if series is None:
        return "series_quota", f"{reading.name}: no room beyond {owner.max_series} series"
    if reading.unit != series.unit:
        return "wrong_unit", f"{reading.name} is stored in {series.unit!r}, this one says {reading.unit!r}"
    return None


def _when(event: Event, message: Message) -> tuple[int, dict[str, int]]:
    """The time to count an event by, ms UTC, and what its gateway said where that is not it.

    A reading at an impossible time is put aside. An event is not: its gap must be settled and its alarm heard, so it
    counts as of its arrival, and the time it claims stays beside it as `said_ms`.
    """
    if _EARLIEST_MS <= event.time_ms <= message.received_ms + MAX_AHEAD_MS:
        return event.time_ms, {}
    return message.received_ms, {"said_ms": event.time_ms}


def _gap(event: Event, topic: Topic) -> tuple[int, int]:
    """The closed range that a gap event gives up; only numbers before its own can be lost."""
    first, last = event.body.get("first"), event.body.get("last")
    whole = (
        isinstance(first, int) and isinstance(last, int) and not isinstance(first, bool) and not isinstance(last, bool)
    )
    if not whole or topic.seq is None or not 1 <= first <= last < topic.seq:  # type: ignore[operator]  # `whole` has looked
        raise _Refused("bad_gap", f"a gap must name first <= last < {topic.seq}, not {first!r}..{last!r}"[:300])
    return int(first), int(last)  # type: ignore[arg-type]  # as above


def _key(topic: Topic) -> PackKey | None:
    if topic.epoch is None or topic.seq is None:
        return None
    return PackKey(topic.gateway, topic.epoch, topic.seq)


def _arrival(
    message: Message, topic: Topic, points: Points | None = None, *, skips: tuple[int, int] | None = None
) -> Arrival | None:
    """The message's place in the store; None where it has neither readings nor a number."""
    key = _key(topic)
    if key is None and (points is None or not len(points)):
        return None
    return Arrival(key, points or Points.none(), message.digest[:8], skips, message.received_ms)


def _letter(message: Message, why: WireError | _Refused, topic: Topic | None) -> Letter:
    reason = why.reason if isinstance(why, _Refused) else why.code
    detail = why.detail if isinstance(why, _Refused) else str(why)
    return Letter(message, reason, detail, topic.gateway if topic else None)


def _json_object(payload: bytes) -> dict[str, Any]:
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError) as why:
        raise _Refused("not_json", f"not JSON: {why}"[:200]) from why
    if not isinstance(found, dict):
        raise _Refused("bad_field", "the message is not a JSON object")
    return found
