"""The event hash of CBV 2.0: one identifier for one event, whatever its spelling.

An event is turned into a string that no longer depends on the order of fields, on prefixes, on time zones or
on the way identifiers are written (`pre_hash`), and the SHA-256 of that string is its name:
``ni:///sha-256;...?ver=CBV2.0``. A gateway that was offline can therefore send the same event twice and it is
stored once.

The method is GS1 CBV 2.0 §8.9; where its text leaves room, we do what the public reference vectors do:

- standard fields come first, in a fixed order; inside a list equal names are sorted by their text;
- own fields inside a standard structure stay at the end of that structure, if their namespace ends in a slash;
- whatever is left over (the typed lists, ``ilmd``, own fields of the event) follows, sorted by its text;
- short names (``ex:thing``) are spelled out in values as in names, where the document declares their prefix;
- numbers lose leading and trailing zeros through an IEEE double, times become UTC with three decimals.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, timedelta
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final, NamedTuple

from traceability import epcis_vocabulary as words
from traceability.epc_uris import canonical_name
from traceability.epcis_checks import read_time
from traceability.events import CONTEXT, Document

__all__ = ["document_event_ids", "event_id", "pre_hash"]

Order = Mapping[str, "Order | None"]

_CBV: Final = "https://ref.gs1.org/cbv/"
_VOC: Final = "https://gs1.org/voc/"
_IGNORED: Final = frozenset({"recordTime", "eventID", "type", "errorDeclaration", "@context"})
_COMMENTS: Final = frozenset({"rdfs:comment", "comment", "#text"})
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_URN_WORDS: Final = {
    "urn:epcglobal:cbv:bizstep:": f"{_CBV}BizStep-",
    "urn:epcglobal:cbv:disp:": f"{_CBV}Disp-",
    "urn:epcglobal:cbv:btt:": f"{_CBV}BTT-",
    "urn:epcglobal:cbv:sdt:": f"{_CBV}SDT-",
    "urn:epcglobal:cbv:er:": f"{_CBV}ER-",
}

_EPCS: Final[Order] = {"epc": None}
_LOTS: Final[Order] = {"quantityElement": {"epcClass": None, "quantity": None, "uom": None}}
_DEVICE: Final = ("deviceID", "deviceMetadata", "rawData", "dataProcessingMethod")
_REPORT: Final = (
    "type", "exception", *_DEVICE, "time", "microorganism", "chemicalSubstance", "value", "component", "stringValue",
    "booleanValue", "hexBinaryValue", "uriValue", "minValue", "maxValue", "meanValue", "sDev", "percRank", "percValue",
    "uom", "coordinateReferenceSystem",
)  # fmt: skip
_ORDER: Final[Order] = {
    "eventTime": None,
    "eventTimeZoneOffset": None,
    "certificationInfo": None,
    "parentID": None,
    "epcList": _EPCS,
    "inputEPCList": _EPCS,
    "childEPCs": _EPCS,
    "quantityList": _LOTS,
    "childQuantityList": _LOTS,
    "inputQuantityList": _LOTS,
    "outputEPCList": _EPCS,
    "outputQuantityList": _LOTS,
    "action": None,
    "transformationID": None,
    "bizStep": None,
    "disposition": None,
    "persistentDisposition": {"set": None, "unset": None},
    "readPoint": {"id": None},
    "bizLocation": {"id": None},
    "sensorElementList": {
        "sensorElement": {
            "sensorMetadata": dict.fromkeys(("time", "startTime", "endTime", *_DEVICE, "bizRules")),
            "sensorReport": dict.fromkeys(_REPORT),
        }
    },
}
_ITEM_NAMES: Final = {
    "epcList": "epc",
    "inputEPCList": "epc",
    "childEPCs": "epc",
    "outputEPCList": "epc",
    "quantityList": "quantityElement",
    "childQuantityList": "quantityElement",
    "inputQuantityList": "quantityElement",
    "outputQuantityList": "quantityElement",
    "sensorElementList": "sensorElement",
}
_TYPED: Final = {
    "bizTransactionList": ("bizTransaction", "BTT-", words.TRANSACTION_TYPES),
    "sourceList": ("source", "SDT-", words.PARTY_TYPES),
    "destinationList": ("destination", "SDT-", words.PARTY_TYPES),
}
# field -> (its bare words, the address they stand for)
_BARE: Final = {
    "bizStep": (words.BIZ_STEPS, f"{_CBV}BizStep-"),
    "disposition": (words.DISPOSITIONS, f"{_CBV}Disp-"),
    "set": (words.DISPOSITIONS, f"{_CBV}Disp-"),
    "unset": (words.DISPOSITIONS, f"{_CBV}Disp-"),
    "type": (words.MEASUREMENTS, _VOC),
    "exception": (words.SENSOR_ALERTS, _VOC),
    "component": (words.COMPONENTS, f"{_CBV}Comp-"),
}


class _Node(NamedTuple):
    name: str
    text: str
    children: list["_Node"]


def event_id(event: Mapping[str, Any], context: Iterable[Any] = CONTEXT, ignore: Collection[str] = ()) -> str:
    """The name of an event, ``ni:///sha-256;<hex>?ver=CBV2.0``.

    ``context``: that of the document (an event's own comes on top). ``ignore``: further fields of the event
    that take no part, as written in it. Never part of it: recordTime, eventID, errorDeclaration, comments.
    """
    digest = sha256(pre_hash(event, context, ignore).encode()).hexdigest()
    return f"ni:///sha-256;{digest}?ver=CBV2.0"


def document_event_ids(document: Document) -> tuple[str, ...]:
    """The names of all events of a document, in order; a document may list fields of its events to leave out."""
    ignore = _ignored_by(document.body)
    return tuple(event_id(event.body, document.context, ignore) for event in document.events)


def _ignored_by(body: Mapping[str, Any]) -> frozenset[str]:
    inner = body.get("epcisBody")
    answer = inner.get("queryResults") if isinstance(inner, dict) else None
    found: set[str] = set()
    for level in (body, answer):
        for name, value in (level or {}).items():
            if name.endswith(":ignoreFields"):
                found.update(value if isinstance(value, list | dict) else [value])
    return frozenset(found)


def pre_hash(event: Mapping[str, Any], context: Iterable[Any] = CONTEXT, ignore: Collection[str] = ()) -> str:
    """The text that is hashed; equal for every spelling of the same event."""
    prefixes = _prefixes([*context, event.get("@context")])
    skipped = _COMMENTS.union(ignore)
    children = [
        node
        for name, value in event.items()
        if name not in _IGNORED and name not in skipped
        for node in _nodes(name, value, prefixes)
    ]
    text, rest = _ordered(children, _ORDER, inner=False)
    return f"eventType={event['type']}{text}{_generic(rest)}"


def _prefixes(context: Iterable[Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in context:
        for each in entry if isinstance(entry, list) else (entry,):
            if isinstance(each, dict):
                found.update({k: v for k, v in each.items() if isinstance(v, str)})
    return found


def _nodes(name: str, value: Any, prefixes: Mapping[str, str]) -> list[_Node]:
    """One JSON member as nodes: lists repeat the name, except the standard's lists, which wrap named items."""
    if name in _ITEM_NAMES and isinstance(value, list):
        item = _ITEM_NAMES[name]
        if item == "epc":
            things = [_canonical(_spelled_out(str(each).strip(), prefixes)) for each in value if each]
            return [_Node(name, "", [_Node("", f"epc={thing}", []) for thing in things])]
        return [_Node(name, "", [node for each in value for node in _nodes(item, each, prefixes)])]
    if name in _TYPED and isinstance(value, list):
        return [_Node(name, "", [_typed(name, each, prefixes) for each in value])]
    if isinstance(value, list):
        return [node for each in value for node in _nodes(name, each, prefixes)]
    full = _full(name, prefixes)
    if isinstance(value, dict):
        inside = [node for k, v in value.items() if k not in _COMMENTS for node in _nodes(k, v, prefixes)]
        text = value.get("#text")
        return [_Node(full, "" if text is None else _text(name, text, prefixes), inside)]
    return [_Node(full, _text(name, value, prefixes), [])]


def _full(name: str, prefixes: Mapping[str, str]) -> str:
    prefix, colon, local = name.partition(":")
    return f"{{{prefixes[prefix]}}}{local}" if colon and prefix in prefixes else name


def _typed(list_name: str, entry: Mapping[str, Any], prefixes: Mapping[str, str]) -> _Node:
    """A transaction, source or destination as one item whose text is already complete, its type in front."""
    value_name, prefix, known = _TYPED[list_name]
    kind = entry.get("type")
    front = ""
    if kind is not None:
        front = "type=" + (f"{_CBV}{prefix}{kind}" if kind in known else _canonical(_spelled_out(kind, prefixes)))
    return _Node("", f"{front}{value_name}={_canonical(_spelled_out(str(entry[value_name]), prefixes))}", [])


def _text(name: str, value: Any, prefixes: Mapping[str, str]) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    if name in _BARE:
        known, address = _BARE[name]
        if text in known:
            return address + text
    return _spelled_out(text, prefixes).strip()


def _spelled_out(text: str, prefixes: Mapping[str, str]) -> str:
    prefix, colon, local = text.partition(":")
    return prefixes[prefix] + local if colon and prefix in prefixes else text


@lru_cache(maxsize=65_536)
def _canonical(text: str) -> str:
    if text.startswith("urn:epcglobal:cbv:"):
        for urn, address in _URN_WORDS.items():
            text = text.replace(urn, address)
        return text
    if _NUMBER.fullmatch(text):
        number = float(text)
        return str(int(number)) if number.is_integer() else str(number)
    return canonical_name(text)


def _utc(text: str) -> str:
    try:
        moment = read_time(text).astimezone(UTC)
    except ValueError:
        return text
    millis = (moment.microsecond + 500) // 1000
    moment = moment.replace(microsecond=0) + timedelta(milliseconds=millis)
    return moment.isoformat(timespec="milliseconds")[:-6] + "Z"


def _ordered(children: list[_Node], order: Order, *, inner: bool) -> tuple[str, list[_Node]]:
    """The text of the children that ``order`` knows, and the nodes left over."""
    own: list[_Node] = []
    if inner and len(children) > 1:
        own = [node for node in children if node.name.startswith("{") and "/}" in node.name]
        children = [node for node in children if node not in own] if own else children
    rest: list[_Node] = []
    named: dict[str, list[_Node]] = {}
    for node in children:
        if node.name in order:
            named.setdefault(node.name, []).append(node)
        else:
            rest.append(node)
    text = ""
    for name in order:
        if name not in named:
            continue
        pieces = []
        for node in named[name]:
            piece, left = _known(node, order[name])
            pieces.append(piece)
            if left:
                rest.append(_Node(name, "", left))
        pieces.sort()
        text += "".join(pieces)
    return text + (_generic(own) if own else ""), rest


def _known(node: _Node, order: Order | None) -> tuple[str, list[_Node]]:
    if order is _EPCS:
        names = sorted(child.text for child in node.children)
        return (node.name + "".join(names) if names else ""), []
    inside, left = ("", node.children) if order is None else _ordered(node.children, order, inner=True)
    text = node.text
    if text:
        time = "time" in node.name.lower() and "offset" not in node.name.lower()
        text = "=" + (_utc(text) if time else _canonical(text))
    return (f"{node.name}{text}{inside}" if text or inside else ""), left


def _generic(nodes: Iterable[_Node]) -> str:
    """Whatever has no fixed place: each with what is inside it, sorted by the text that results."""
    pieces = []
    for node in nodes:
        if not node.name:
            pieces.append(node.text)
        else:
            text = "=" + _canonical(node.text) if node.text else ""
            pieces.append(f"{node.name}{text}{_generic(node.children)}")
    pieces.sort()
    return "".join(pieces)
