"""What an EPCIS 2.0 document must look like, as a table of small checks put together from few kinds.

A check takes a value and answers with what is wrong in it, each complaint with a JSON pointer to the exact
spot, or with nothing. Pointers are built on the way back from a complaint, so a good event costs no string
work: that is what makes checking fast enough to stand in front of every capture.

The table is our own reading of GS1 EPCIS 2.0 §§7.3-7.4 and CBV 2.0; GS1's schema file is a test oracle only.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from typing import Any, Final

from traceability import epcis_vocabulary as words

__all__ = ["EVENT_KINDS", "Problem", "check_document_shape", "check_event_shape", "read_time"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where (RFC 6901 pointer, empty for the whole) and what."""

    pointer: str
    message: str

    def under(self, key: str | int) -> "Problem":
        """The same complaint seen from one level up."""
        step = key.replace("~", "~0").replace("/", "~1") if isinstance(key, str) else key
        return Problem(f"/{step}{self.pointer}", self.message)


Found = list[Problem] | None
Check = Callable[[Any], Found]

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:(?:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})*")
_TIME = re.compile(
    r"(\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])[Tt](?:[01]\d|2[0-3]):[0-5]\d):([0-5]\d|60)"
    r"(\.\d+)?([Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)"
)
_CBV_PREFIXES = ("urn:epcglobal:cbv", "http://ns.gs1.org/cbv/", "https://ns.gs1.org/cbv/")
_VOC_PREFIXES = tuple(f"{s}://{h}gs1.org/voc/" for s in ("http", "https") for h in ("", "www."))
_MANY: Final = 100  # complaints about one document; nobody reads more


def _say(message: str) -> list[Problem]:
    return [Problem("", message)]


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - a line of a report


def _uri(value: Any) -> Found:
    if isinstance(value, str) and _URI.fullmatch(value):
        return None
    return _say(f"must be a full web address or name (URI), not {_show(value)}")


def _text(value: Any) -> Found:
    return None if isinstance(value, str) else _say(f"must be text, not {_show(value)}")


def _number(value: Any) -> Found:
    if type(value) is int or (type(value) is float and isfinite(value)):
        return None
    return _say(f"must be a number, not {_show(value)}")


def _boolean(value: Any) -> Found:
    return None if isinstance(value, bool) else _say(f"must be true or false, not {_show(value)}")


def read_time(text: str) -> datetime:
    """A time stamp with its zone (RFC 3339; a leap second counts as the second before). Raises ``ValueError``."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no date and time with a zone, such as 2026-11-22T08:00:00+08:00")
    head, second, fraction, zone = match.groups()
    return datetime.fromisoformat(f"{head}:{min(second, '59')}{(fraction or '')[:7]}{zone.upper()}".replace("t", "T"))


def _time(value: Any) -> Found:
    try:
        read_time(value)
    except (ValueError, TypeError):
        return _say(f"must be a date and time with a zone (RFC 3339), not {_show(value)}")
    return None


def _matching(pattern: str, what: str) -> Check:
    match = re.compile(pattern).fullmatch

    def check(value: Any) -> Found:
        if isinstance(value, str) and match(value):
            return None
        return _say(f"must be {what}, not {_show(value)}")

    return check


def _word(allowed: frozenset[str], what: str, reserved: tuple[str, ...] | None = _CBV_PREFIXES) -> Check:
    """One of a closed list; or, when ``reserved`` is given, a URI of one's own outside the standard's namespaces."""

    def check(value: Any) -> Found:
        if not isinstance(value, str):
            return _say(f"must be text, not {_show(value)}")
        if value in allowed:
            return None
        if reserved is None:
            return _say(f"must be one of {', '.join(sorted(allowed))}, not {_show(value)}")
        if _URI.fullmatch(value) and not value.startswith(reserved):
            return None
        return _say(f"{_show(value)} is no {what} of the standard and no URI of your own")

    return check


def _list(item: Check, *, least: int = 0, distinct: bool = False) -> Check:
    def check(value: Any) -> Found:
        if not isinstance(value, list):
            return _say(f"must be a list, not {_show(value)}")
        if len(value) < least:
            return _say("must not be empty")
        out: list[Problem] = []
        for index, each in enumerate(value):
            if found := item(each):
                out += [p.under(index) for p in found]
        if distinct and not out and len({repr(each) for each in value}) != len(value):
            return _say("holds the same entry twice")
        return out or None

    return check


def _either(first: Check, second: Check, what: str) -> Check:
    def check(value: Any) -> Found:
        return _say(f"must be {what}") if first(value) and second(value) else None

    return check


def _object(fields: Mapping[str, Check], required: Iterable[str] = (), *, others: str = "any") -> Check:
    """An object; ``others`` says what else it may hold: ``any`` key, keys that are a ``uri``, or ``none``."""
    needed = tuple(required)

    def check(value: Any) -> Found:
        if not isinstance(value, dict):
            return _say(f"must be an object, not {_show(value)}")
        out = [Problem(f"/{key}", "is missing") for key in needed if key not in value]
        for key, each in value.items():
            known = fields.get(key)
            if known is not None:
                if found := known(each):
                    out += [p.under(key) for p in found]
            elif others != "any" and (others == "none" or _uri(key)):
                out.append(Problem("", "is not part of the standard; own fields need a namespace").under(key))
        return out or None

    return check


_anything: Final[Check] = lambda _value: None  # noqa: E731 - one name for "not ours to judge"

_named = _object({"id": _uri}, ["id"])
_quantity = _object(
    {"epcClass": _uri, "quantity": _number, "uom": _matching("[A-Z0-9]{2,3}", "a unit code such as KGM")},
    ["epcClass"],
    others="none",
)
_step = _word(words.BIZ_STEPS, "business step")
_disposition = _word(words.DISPOSITIONS, "disposition")
_party = _word(words.PARTY_TYPES, "source or destination type")


def _persistent(value: Any) -> Found:
    names = _list(_disposition, least=1, distinct=True)
    found = _object({"set": names, "unset": names}, others="none")(value)
    if found is None and not value:
        return _say("must hold set or unset")
    return found


_device: Final[dict[str, Check]] = {
    "deviceID": _uri,
    "deviceMetadata": _uri,
    "rawData": _uri,
    "dataProcessingMethod": _uri,
    "bizRules": _uri,
    "time": _time,
}
_report = _object(
    _device
    | {
        "type": _word(words.MEASUREMENTS, "measurement type", _VOC_PREFIXES),
        "exception": _word(words.SENSOR_ALERTS, "sensor alert", _VOC_PREFIXES),
        "microorganism": _uri,
        "chemicalSubstance": _uri,
        "coordinateReferenceSystem": _uri,
        "component": _word(words.COMPONENTS, "component"),
        "stringValue": _text,
        "booleanValue": _boolean,
        "hexBinaryValue": _matching("[A-Fa-f0-9]+", "hexadecimal digits"),
        "uriValue": _uri,
        "uom": _text,
    }
    | dict.fromkeys(
        ("value", "minValue", "maxValue", "meanValue", "sDev", "percRank", "percValue"),
        _number,
    ),
    ["type"],
    others="uri",
)
_sensor_element = _object(
    {
        "sensorMetadata": _object(_device | {"startTime": _time, "endTime": _time}, others="uri"),
        "sensorReport": _list(_report, least=1),
    },
    ["sensorReport"],
    others="uri",
)
_context = _either(
    _either(_uri, _object({}), ""),
    _list(_either(_uri, _object({}), "a URI or an object"), distinct=True),
    "a URI, an object or a list of these, none twice",
)

_common: Final[dict[str, Check]] = {
    "@context": _context,
    "type": _text,
    "eventTime": _time,
    "recordTime": _time,
    "eventTimeZoneOffset": _matching(
        r"[+-](?:(?:0\d|1[0-3]):[0-5]\d|14:00)", "an offset such as +08:00, at most 14 hours"
    ),
    "eventID": _uri,
    "certificationInfo": _either(_uri, _list(_uri), "a URI or a list of URIs"),
    "errorDeclaration": _object(
        {
            "declarationTime": _time,
            "reason": _word(words.ERROR_REASONS, "error reason"),
            "correctiveEventIDs": _list(_uri),
        },
        ["declarationTime"],
        others="uri",
    ),
}
_business: Final[dict[str, Check]] = {
    "bizStep": _step,
    "disposition": _disposition,
    "readPoint": _named,
    "bizLocation": _named,
    "bizTransactionList": _list(
        _object(
            {"type": _word(words.TRANSACTION_TYPES, "business transaction type"), "bizTransaction": _uri},
            ["bizTransaction"],
            others="none",
        )
    ),
    "sourceList": _list(
        _object({"type": _party, "source": _uri}, ["type", "source"], others="none"),
    ),
    "destinationList": _list(_object({"type": _party, "destination": _uri}, ["type", "destination"], others="none")),
    "sensorElementList": _list(_sensor_element),
}
_ilmd = _object({}, others="uri")
_action: Final[dict[str, Check]] = {"action": _word(words.ACTIONS, "action", None)}
_ids, _distinct_ids, _quantities = _list(_uri), _list(_uri, distinct=True), _list(_quantity)
_family: Final[dict[str, Check]] = {
    "parentID": _uri,
    "childEPCs": _ids,
    "childQuantityList": _quantities,
}
_needed: Final = ("type", "eventTime", "eventTimeZoneOffset")


def _event(fields: Mapping[str, Check], required: Iterable[str] = ()) -> Check:
    return _object({**_common, **_business, **fields}, (*_needed, *required), others="uri")


_FIELDS: Final[dict[str, Check]] = {
    "ObjectEvent": _event(
        _action
        | {
            "epcList": _distinct_ids,
            "quantityList": _quantities,
            "persistentDisposition": _persistent,
            "ilmd": _ilmd,
        },
        ["action"],
    ),
    "AggregationEvent": _event(_action | _family, ["action"]),
    "TransactionEvent": _event(
        _action | {"parentID": _uri, "epcList": _ids, "quantityList": _quantities},
        ["action", "bizTransactionList"],
    ),
    "TransformationEvent": _event(
        {
            "inputEPCList": _distinct_ids,
            "inputQuantityList": _quantities,
            "outputEPCList": _distinct_ids,
            "outputQuantityList": _quantities,
            "transformationID": _uri,
            "persistentDisposition": _persistent,
            "ilmd": _ilmd,
        }
    ),
    "AssociationEvent": _event(_action | _family, ["action", "parentID"]),
}
EVENT_KINDS: Final = tuple(_FIELDS)
_extended = _object(_common | {"type": _uri}, _needed)


def _object_whole(event: Mapping[str, Any]) -> Found:
    out: list[Problem] = []
    reported = event.get("sensorElementList") and "readPoint" in event
    if "epcList" not in event and not event.get("quantityList") and not reported:
        out.append(Problem("/epcList", "is missing: say which things by epcList or quantityList, or report a sensor"))
    if "ilmd" in event and event.get("action") != "ADD":
        out.append(Problem("/ilmd", "describes new things and goes with action ADD only"))
    return out or None


def _family_whole(event: Mapping[str, Any]) -> Found:
    if event.get("childEPCs") or event.get("childQuantityList") or event.get("action") == "DELETE":
        return None
    return [Problem("/childEPCs", "is missing: an ADD or OBSERVE names children")]


def _transaction_whole(event: Mapping[str, Any]) -> Found:
    if event.get("bizTransactionList") == []:
        return [Problem("/bizTransactionList", "must not be empty")]
    if "epcList" in event or event.get("quantityList") or event.get("action") == "DELETE":
        return None
    return [Problem("/epcList", "is missing: an ADD or OBSERVE names things")]


def _transformation_whole(event: Mapping[str, Any]) -> Found:
    took = event.get("inputEPCList") or event.get("inputQuantityList")
    made = event.get("outputEPCList") or event.get("outputQuantityList")
    if took and made:
        return None
    if "transformationID" not in event:
        side = "/outputEPCList" if took else "/inputEPCList"
        return [Problem(side, "is missing; a transformation told in parts needs a transformationID")]
    return None if took or made else [Problem("/inputEPCList", "is missing, and so are the outputs")]


_WHOLE: Final[dict[str, Callable[[Mapping[str, Any]], Found]]] = {
    "ObjectEvent": _object_whole,
    "AggregationEvent": _family_whole,
    "AssociationEvent": _family_whole,
    "TransactionEvent": _transaction_whole,
    "TransformationEvent": _transformation_whole,
}


def check_event_shape(event: Any) -> Found:
    """Everything wrong with one event's form; ``None`` when nothing is."""
    kind = event.get("type") if isinstance(event, dict) else None
    if not isinstance(kind, str):
        return [Problem("/type", "is missing")] if isinstance(event, dict) else _say("must be an object")
    fields = _FIELDS.get(kind)
    if fields is None:
        return _extended(event)
    found = fields(event)
    whole = _WHOLE[kind](event)
    return whole if found is None else found + (whole or [])


_event_list = _list(check_event_shape)
_attribute = _object(
    {
        "id": _uri,
        "attribute": lambda v: (
            None if isinstance(v, int | float | str | dict) and not isinstance(v, bool) else _say("no value")
        ),
    },
    ["id"],
)
_vocabularies = _list(
    _object(
        {
            "type": _uri,
            "vocabularyElementList": _list(
                _object({"id": _uri, "attributes": _list(_attribute), "children": _ids}, ["id"])
            ),
        },
        ["type"],
    )
)
_head: Final[dict[str, Check]] = {
    "@context": _context,
    "id": _uri,
    "type": _text,
    "schemaVersion": _matching(r"\d+(\.\d+)*", "a version such as 2.0"),
    "creationDate": _time,
}
_DOCUMENTS: Final[dict[str, Check]] = {
    "EPCISDocument": _object(
        _head
        | {
            "instanceIdentifier": _text,
            "sender": _text,
            "receiver": _text,
            "epcisHeader": _object(
                {"epcisMasterData": _object({"vocabularyList": _vocabularies})},
                others="uri",
            ),
            "epcisBody": _object({"eventList": _event_list}, ["eventList"]),
        },
        ["@context", "type", "schemaVersion", "creationDate", "epcisBody"],
        others="uri",
    ),
    "EPCISQueryDocument": _object(
        _head
        | {
            "epcisBody": _object(
                {
                    "queryResults": _object(
                        {
                            "queryName": _text,
                            "subscriptionID": _text,
                            "resultsBody": _object(
                                {"eventList": _event_list, "vocabularyList": _vocabularies},
                                ["eventList"],
                                others="uri",
                            ),
                        },
                        ["queryName", "resultsBody"],
                        others="uri",
                    )
                },
                ["queryResults"],
                others="uri",
            )
        },
        ["@context", "type", "epcisBody"],
        others="uri",
    ),
}


def check_document_shape(value: Any) -> Found:
    """Everything wrong with a document, a query answer or a single event that stands alone (which needs a context)."""
    kind = value.get("type") if isinstance(value, dict) else None
    document = _DOCUMENTS.get(kind) if isinstance(kind, str) else None
    if document is not None:
        found = document(value)
    else:
        found = check_event_shape(value)
        if isinstance(value, dict) and "@context" not in value:
            found = (found or []) + [Problem("/@context", "is missing")]
    return found[:_MANY] if found else None
