"""Events: who did what to which things, when, where and why, in the words of EPCIS 2.0 and CBV 2.0.

`parse_document` and `parse_event` take JSON as it came and either refuse it with a list of `Problem` (each
with a JSON pointer) or wrap it, unchanged, into an `Event` that answers in the words of the trade. The body is
never rewritten: extensions nobody here knows survive, and what goes out is equal to what came in.

The builders at the end write our own events. Our own fields stand under ``tm:`` (`CONTEXT`), our own business
steps under ``urn:tianmai:step:``, since the standard's list knows no treating, feeding or slaughtering.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

from traceability import TraceError
from traceability.epcis_checks import Problem, read_ms
from traceability.epcis_shape import EVENT_KINDS, check_document_shape, check_event_shape

__all__ = [
    "CONTEXT",
    "EVENT_KINDS",
    "STEP",
    "Document",
    "Event",
    "EventError",
    "Problem",
    "Quantity",
    "aggregation_event",
    "association_event",
    "check_document",
    "object_event",
    "parse_document",
    "parse_each",
    "parse_event",
    "transformation_event",
    "unchecked_document",
]

EPCIS_CONTEXT: Final = "https://ref.gs1.org/standards/epcis/epcis-context.jsonld"
NAMESPACE: Final = "urn:tianmai:ns:"
CONTEXT: Final[list[Any]] = [EPCIS_CONTEXT, {"tm": NAMESPACE}]
STEP: Final = "urn:tianmai:step:"
CHINA: Final = timezone(timedelta(hours=8))

_GRAMS: Final = {"KGM": 1000, "GRM": 1, "TNE": 1_000_000}
# Where events name things: single ones, and lots.
_CHILDREN: Final = (("childEPCs", "childQuantityList"),)
_TAKEN: Final = (("inputEPCList", "inputQuantityList"),)
_MADE: Final = (("outputEPCList", "outputQuantityList"),)
_NAMING: Final = (("epcList", "quantityList"), *_CHILDREN, *_TAKEN, *_MADE)


class EventError(TraceError):
    """A document or event that cannot be accepted; ``problems`` says where and why, at most 100 of them."""

    default_code = "bad_event"

    def __init__(self, problems: Sequence[Problem], *, code: str | None = None) -> None:
        first = problems[0]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(f"{first.pointer or 'document'}: {first.message}{more}", code=code)
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Quantity:
    """So much of one class of things; ``amount`` may be unknown, without a unit it counts pieces."""

    epc_class: str
    amount: int | float | None
    unit: str | None

    @property
    def grams(self) -> int | None:
        """Mass in whole grams; ``None`` when this is a count, a volume or unknown.

        Kilograms with more than three decimals are refused by the mass balance, not rounded here: ``None`` too.
        """
        factor = _GRAMS.get(self.unit or "")
        if factor is None or self.amount is None:
            return None
        grams = self.amount * factor
        return round(grams) if abs(grams - round(grams)) < 1e-6 else None  # noqa: PLR2004 - binary noise of 0.1 kg


@dataclass(frozen=True)
class Event:
    """One event. ``body`` is the JSON as it came; everything else is read from it. Missing text is ``None``."""

    body: Mapping[str, Any]
    context: tuple[Any, ...] = ()

    @property
    def kind(self) -> str:
        """``ObjectEvent``, ``AggregationEvent``, ... or the URI of an extended kind."""
        return str(self.body["type"])

    @property
    def id(self) -> str | None:
        """The eventID it brought."""
        return self.body.get("eventID")

    @property
    def time_ms(self) -> int:
        """When it happened, ms UTC."""
        held: dict[str, Any] = self.__dict__  # read once: as a `cached_property`, without that one's lock
        if "_time_ms" not in held:
            held["_time_ms"] = read_ms(self.body["eventTime"])
        return int(held["_time_ms"])

    @property
    def record_time_ms(self) -> int | None:
        """When it was written down, ms UTC, if it says so."""
        text = self.body.get("recordTime")
        return None if text is None else read_ms(text)

    @property
    def action(self) -> str | None:
        """ADD, OBSERVE or DELETE; ``None`` for a transformation."""
        return self.body.get("action")

    @property
    def step(self) -> str | None:
        """The business step: a CBV word or a URI."""
        return self.body.get("bizStep")

    @property
    def disposition(self) -> str | None:
        """The state of the things afterwards."""
        return self.body.get("disposition")

    @property
    def epcs(self) -> tuple[str, ...]:
        """Single things of an object or transaction event."""
        return tuple(self.body.get("epcList") or ())

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """Lots of an object or transaction event."""
        return self._quantities("quantityList")

    @property
    def inputs(self) -> tuple[str, ...]:
        """Single things and lots that a transformation took."""
        return tuple(self._names(_TAKEN))

    @property
    def outputs(self) -> tuple[str, ...]:
        """Single things and lots that a transformation made."""
        return tuple(self._names(_MADE))

    @property
    def input_quantities(self) -> tuple[Quantity, ...]:
        """What a transformation took, by lot."""
        return self._quantities("inputQuantityList")

    @property
    def output_quantities(self) -> tuple[Quantity, ...]:
        """What a transformation made, by lot."""
        return self._quantities("outputQuantityList")

    @property
    def parent(self) -> str | None:
        """The container, or the thing others are fixed to."""
        return self.body.get("parentID")

    @property
    def children(self) -> tuple[str, ...]:
        """What was put in, taken out or fixed: single things and lots."""
        return tuple(self._names(_CHILDREN))

    @property
    def child_quantities(self) -> tuple[Quantity, ...]:
        """Lots among the children."""
        return self._quantities("childQuantityList")

    @property
    def read_point(self) -> str | None:
        """Where it happened."""
        return (self.body.get("readPoint") or {}).get("id")

    @property
    def location(self) -> str | None:
        """Where the things are afterwards."""
        return (self.body.get("bizLocation") or {}).get("id")

    @property
    def things(self) -> tuple[str, ...]:
        """Every thing or lot the event names, once, in reading order."""
        parent = self.body.get("parentID")
        names = self._names(_NAMING)
        return tuple(dict.fromkeys(names if parent is None else (parent, *names)))

    def extension(self, name: str) -> Any:
        """The value of an own field such as ``tm:treatment``; ``None`` when it is not there."""
        return self.body.get(name)

    def _names(self, lists: tuple[tuple[str, str], ...]) -> list[str]:
        """Names in these pairs of lists; every capture comes by here, so no `Quantity` is made for a name."""
        found: list[str] = []
        body = self.body
        for singles, lots in lists:
            if singles in body:
                found += body[singles] or ()
            if lots in body:
                found += [lot["epcClass"] for lot in body[lots] or ()]
        return found

    def _quantities(self, name: str) -> tuple[Quantity, ...]:
        found = self.body.get(name)
        return tuple(Quantity(q["epcClass"], q.get("quantity"), q.get("uom")) for q in found) if found else ()


@dataclass(frozen=True)
class Document:
    """A capture document, a query answer or one event alone, with its events in order."""

    body: Mapping[str, Any]
    context: tuple[Any, ...]
    events: tuple[Event, ...]

    @property
    def kind(self) -> str:
        """``EPCISDocument``, ``EPCISQueryDocument``, or the kind of the single event."""
        return str(self.body["type"])


def check_document(value: Any) -> tuple[Problem, ...]:
    """What is wrong with a document's form; empty when nothing is."""
    return tuple(check_document_shape(value) or ())


def parse_document(value: Any) -> Document:
    """Accept an EPCISDocument, an EPCISQueryDocument or one event that brings its own context.

    ``value`` is parsed JSON and is kept as it is. Raises `EventError` with every problem and its pointer.
    """
    problems = check_document(value)
    if problems:
        raise EventError(problems)
    return unchecked_document(value)


def parse_each(value: Any) -> tuple[Document, dict[int, EventError]]:
    """As `parse_document`, but an event of a wrong form costs only itself.

    Returns the document with the events of a right form, and what is wrong with each of the others, by its number in
    the list (from 0). Raises `EventError` where the document around the events is wrong.
    """
    problems = check_document(value)
    if not problems:
        return unchecked_document(value), {}
    wrong: dict[int, EventError] = {}
    try:
        events = _events_of(value)
        for number, event in enumerate(events):
            if found := check_event_shape(event):
                wrong[number] = EventError(found)
        whole = _holding(value, [event for number, event in enumerate(events) if number not in wrong])
    except (AttributeError, KeyError, TypeError):
        whole = None
    if whole is None or check_document(whole):
        raise EventError(problems)
    return unchecked_document(whole), wrong


def unchecked_document(value: Any) -> Document:
    """The events of a document whose form somebody else vouches for: for naming or reading them, never for capture.

    Raises `EventError` only where there are no events to be found.
    """
    try:
        context = _context(value.get("@context"))
        return Document(value, context, tuple(Event(each, context) for each in _events_of(value)))
    except (AttributeError, KeyError, TypeError) as why:
        raise EventError([Problem("/epcisBody", "holds no list of events")]) from why


def parse_event(value: Any, context: Iterable[Any] = ()) -> Event:
    """Accept one event; ``context`` is that of its document, when it does not carry its own. Raises `EventError`."""
    problems = check_event_shape(value)
    if problems:
        raise EventError(problems)
    return Event(value, (*context, *_context(value.get("@context"))))


def _events_of(value: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    body = value.get("epcisBody")
    if value["type"] == "EPCISDocument" and body is not None:
        return list(body["eventList"])
    if value["type"] == "EPCISQueryDocument" and body is not None:
        return list(body["queryResults"]["resultsBody"]["eventList"])
    return [value]


def _holding(value: Mapping[str, Any], events: list[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The document with these events instead of its own; None for an event that stands alone."""
    body = value.get("epcisBody")
    if value["type"] == "EPCISDocument" and body is not None:
        return {**value, "epcisBody": {**body, "eventList": events}}
    if value["type"] == "EPCISQueryDocument" and body is not None:
        results = body["queryResults"]
        listed = {**results["resultsBody"], "eventList": events}
        return {**value, "epcisBody": {**body, "queryResults": {**results, "resultsBody": listed}}}
    return None


def _context(value: Any) -> tuple[Any, ...]:
    if value is None:
        return ()
    return tuple(value) if isinstance(value, list) else (value,)


def event_time(time_ms: int) -> str:
    """Milliseconds UTC as the standard's text, in China's zone."""
    moment = datetime.fromtimestamp(time_ms / 1000, UTC).astimezone(CHINA)
    return moment.isoformat(timespec="milliseconds")


def _build(kind: str, time_ms: int, step: str, place: str | None, fields: Mapping[str, Any]) -> dict[str, Any]:
    event: dict[str, Any] = {
        "@context": CONTEXT,
        "type": kind,
        "eventTime": event_time(time_ms),
        "eventTimeZoneOffset": "+08:00",
        "bizStep": step,
    }
    if place is not None:
        event["readPoint"] = {"id": place}
    event.update({key: value for key, value in fields.items() if value not in (None, [], {}, ())})
    parse_event(event)
    return event


def _lots(lots: Mapping[str, tuple[int | float, str | None]] | None) -> list[dict[str, Any]]:
    return [
        {"epcClass": name, "quantity": amount} | ({"uom": unit} if unit else {})
        for name, (amount, unit) in (lots or {}).items()
    ]


def object_event(
    action: str,
    step: str,
    time_ms: int,
    *,
    epcs: Sequence[str] = (),
    lots: Mapping[str, tuple[int | float, str | None]] | None = None,
    place: str | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """Something was made, seen or ended. ``lots`` maps a lot to (amount, unit or None for pieces).

    Further ``fields`` go in as they are; pass own ones by ``**{"tm:treatment": {...}}``. Raises `EventError`.
    """
    own = {"action": action, "epcList": list(epcs), "quantityList": _lots(lots), **fields}
    return _build("ObjectEvent", time_ms, step, place, own)


def aggregation_event(
    action: str,
    step: str,
    time_ms: int,
    *,
    parent: str,
    epcs: Sequence[str] = (),
    lots: Mapping[str, tuple[int | float, str | None]] | None = None,
    place: str | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """Things were put into (ADD) or taken out of (DELETE) a pen, crate or lorry. Raises `EventError`."""
    family = {"parentID": parent, "childEPCs": list(epcs), "childQuantityList": _lots(lots)}
    return _build("AggregationEvent", time_ms, step, place, {"action": action, **family, **fields})


def association_event(
    action: str,
    step: str,
    time_ms: int,
    *,
    parent: str,
    epcs: Sequence[str],
    place: str | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """A tag, hook or sensor was fixed to a thing (ADD) or removed (DELETE). Raises `EventError`."""
    family = {"parentID": parent, "childEPCs": list(epcs)}
    return _build("AssociationEvent", time_ms, step, place, {"action": action, **family, **fields})


def transformation_event(
    step: str,
    time_ms: int,
    *,
    took: Sequence[str] = (),
    took_lots: Mapping[str, tuple[int | float, str | None]] | None = None,
    made: Sequence[str] = (),
    made_lots: Mapping[str, tuple[int | float, str | None]] | None = None,
    place: str | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """Things became other things: slaughter, cutting, grading, packing. Raises `EventError`."""
    sides = {
        "inputEPCList": list(took),
        "inputQuantityList": _lots(took_lots),
        "outputEPCList": list(made),
        "outputQuantityList": _lots(made_lots),
    }
    return _build("TransformationEvent", time_ms, step, place, {**sides, **fields})
