"""What an EPCIS 2.0 document, event or query must look like: a table put together from `epcis_checks`.

The table is our own reading of GS1 EPCIS 2.0 §§7.3-7.4 and CBV 2.0; GS1's schema file is a test oracle only.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from traceability import epcis_vocabulary as words
from traceability.epcis_checks import (
    VOC_PREFIXES,
    Check,
    Found,
    Problem,
    boolean,
    context,
    either,
    list_of,
    matching,
    number,
    record,
    say,
    text,
    time_stamp,
    uri,
    word,
)

__all__ = ["EVENT_KINDS", "check_document_shape", "check_event_shape", "check_query"]

_MANY: Final = 100  # complaints about one document; nobody reads more

_named = record({"id": uri}, ["id"])
_quantity = record(
    {"epcClass": uri, "quantity": number, "uom": matching("[A-Z0-9]{2,3}", "a unit code such as KGM")},
    ["epcClass"],
    others="none",
)
_step = word(words.BIZ_STEPS, "business step")
_disposition = word(words.DISPOSITIONS, "disposition")
_party = word(words.PARTY_TYPES, "source or destination type")


_disposition_set = list_of(_disposition, least=1, distinct=True)
_persistent_fields = record({"set": _disposition_set, "unset": _disposition_set}, others="none")


def _persistent(value: Any) -> Found:
    found = _persistent_fields(value)
    if found is None and not value:
        return say("must hold set or unset")
    return found


_device: Final[dict[str, Check]] = {
    "deviceID": uri,
    "deviceMetadata": uri,
    "rawData": uri,
    "dataProcessingMethod": uri,
    "bizRules": uri,
    "time": time_stamp,
}
_report = record(
    _device
    | {
        "type": word(words.MEASUREMENTS, "measurement type", VOC_PREFIXES),
        "exception": word(words.SENSOR_ALERTS, "sensor alert", VOC_PREFIXES),
        "microorganism": uri,
        "chemicalSubstance": uri,
        "coordinateReferenceSystem": uri,
        "component": word(words.COMPONENTS, "component"),
        "stringValue": text,
        "booleanValue": boolean,
        "hexBinaryValue": matching("[A-Fa-f0-9]+", "hexadecimal digits"),
        "uriValue": uri,
        "uom": text,
    }
    | dict.fromkeys(
        ("value", "minValue", "maxValue", "meanValue", "sDev", "percRank", "percValue"),
        number,
    ),
    ["type"],
    others="uri",
)
_sensor_element = record(
    {
        "sensorMetadata": record(_device | {"startTime": time_stamp, "endTime": time_stamp}, others="uri"),
        "sensorReport": list_of(_report, least=1),
    },
    ["sensorReport"],
    others="uri",
)
_common: Final[dict[str, Check]] = {
    "@context": context,
    "type": text,
    "eventTime": time_stamp,
    "recordTime": time_stamp,
    "eventTimeZoneOffset": matching(
        r"[+-](?:(?:0\d|1[0-3]):[0-5]\d|14:00)", "an offset such as +08:00, at most 14 hours"
    ),
    "eventID": uri,
    "certificationInfo": either(uri, list_of(uri), "a URI or a list of URIs"),
    "errorDeclaration": record(
        {
            "declarationTime": time_stamp,
            "reason": word(words.ERROR_REASONS, "error reason"),
            "correctiveEventIDs": list_of(uri),
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
    "bizTransactionList": list_of(
        record(
            {"type": word(words.TRANSACTION_TYPES, "business transaction type"), "bizTransaction": uri},
            ["bizTransaction"],
            others="none",
        )
    ),
    "sourceList": list_of(
        record({"type": _party, "source": uri}, ["type", "source"], others="none"),
    ),
    "destinationList": list_of(record({"type": _party, "destination": uri}, ["type", "destination"], others="none")),
    "sensorElementList": list_of(_sensor_element),
}
_ilmd = record({}, others="uri")
_action: Final[dict[str, Check]] = {"action": word(words.ACTIONS, "action", None)}
_ids, _distinct_ids, _quantities = list_of(uri), list_of(uri, distinct=True), list_of(_quantity)
_family: Final[dict[str, Check]] = {
    "parentID": uri,
    "childEPCs": _ids,
    "childQuantityList": _quantities,
}
_needed: Final = ("type", "eventTime", "eventTimeZoneOffset")


def _event(fields: Mapping[str, Check], required: Iterable[str] = ()) -> Check:
    return record({**_common, **_business, **fields}, (*_needed, *required), others="uri")


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
        _action | {"parentID": uri, "epcList": _ids, "quantityList": _quantities},
        ["action", "bizTransactionList"],
    ),
    "TransformationEvent": _event(
        {
            "inputEPCList": _distinct_ids,
            "inputQuantityList": _quantities,
            "outputEPCList": _distinct_ids,
            "outputQuantityList": _quantities,
            "transformationID": uri,
            "persistentDisposition": _persistent,
            "ilmd": _ilmd,
        }
    ),
    "AssociationEvent": _event(_action | _family, ["action", "parentID"]),
}
EVENT_KINDS: Final = tuple(_FIELDS)
_extended = record(_common | {"type": uri}, _needed)


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
        return [Problem("/type", "is missing")] if isinstance(event, dict) else say("must be an object")
    fields = _FIELDS.get(kind)
    if fields is None:
        return _extended(event)
    found = fields(event)
    whole = _WHOLE[kind](event)
    return whole if found is None else found + (whole or [])


_event_list = list_of(check_event_shape)
_attribute = record(
    {
        "id": uri,
        "attribute": lambda v: (
            None if isinstance(v, int | float | str | dict) and not isinstance(v, bool) else say("no value")
        ),
    },
    ["id"],
)
_vocabularies = list_of(
    record(
        {
            "type": uri,
            "vocabularyElementList": list_of(
                record({"id": uri, "attributes": list_of(_attribute), "children": _ids}, ["id"])
            ),
        },
        ["type"],
    )
)
_head: Final[dict[str, Check]] = {
    "@context": context,
    "id": uri,
    "type": text,
    "schemaVersion": matching(r"\d+(\.\d+)*", "a version such as 2.0"),
    "creationDate": time_stamp,
}
_DOCUMENTS: Final[dict[str, Check]] = {
    "EPCISDocument": record(
        _head
        | {
            "instanceIdentifier": text,
            "sender": text,
            "receiver": text,
            "epcisHeader": record(
                {"epcisMasterData": record({"vocabularyList": _vocabularies})},
                others="uri",
            ),
            "epcisBody": record({"eventList": _event_list}, ["eventList"]),
        },
        ["@context", "type", "schemaVersion", "creationDate", "epcisBody"],
        others="uri",
    ),
    "EPCISQueryDocument": record(
        _head
        | {
            "epcisBody": record(
                {
                    "queryResults": record(
                        {
                            "queryName": text,
                            "subscriptionID": text,
                            "resultsBody": record(
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


def _count(value: Any) -> Found:
    return None if type(value) is int and value >= 0 else say("must be a whole number, not below 0")


def _flag(value: Any) -> Found:
    return None if value is None or type(value) is int else say("must be a whole number or null")


_numbers, _texts = list_of(number), list_of(text)
_comparable = either(number, time_stamp, "a number or a date and time")
_comparable_or_texts = either(_texts, _comparable, "a list of texts, a number or a date and time")
_QUERY: Final[dict[str, Check]] = {
    "@context": context,
    "eventType": list_of(either(word(frozenset(EVENT_KINDS), "event type", None), uri, "an event type or a URI")),
    "EQ_action": list_of(_action["action"]),
    "EQ_bizStep": list_of(_step),
    "EQ_errorReason": list_of(word(words.ERROR_REASONS, "error reason")),
    "EQ_type": list_of(word(words.MEASUREMENTS, "measurement type", VOC_PREFIXES)),
    "orderBy": text,
    "orderDirection": word(frozenset({"ASC", "DESC"}), "direction", None),
    "EQ_booleanValue": boolean,
    "EQ_quantity": _numbers,
    **dict.fromkeys(("eventCountLimit", "maxEventCount", "perPage"), _count),
    **dict.fromkeys(("EXISTS_errorDeclaration", "EXISTS_sensorElementList"), _flag),
    **dict.fromkeys(("EQ_stringValue", "EQ_hexBinaryValue"), _texts),
    **dict.fromkeys(
        ("EQ_disposition", "EQ_persistentDisposition_set", "EQ_persistentDisposition_unset"), list_of(_disposition)
    ),
    **{
        f"{comparison}_{name}": time_stamp
        for comparison in ("GE", "LT")
        for name in ("eventTime", "recordTime", "errorDeclaration_Time", "time", "startTime", "endTime")
    },
    **{f"{c}_{name}": number for c in ("GT", "GE", "LT", "LE") for name in ("quantity", "percRank")},
    **{
        f"{comparison}_{name}": _ids
        for comparison, names in {
            "EQ": "readPoint bizLocation transformationID eventID correctiveEventID deviceID dataProcessingMethod "
            "microorganism chemicalSubstance bizRules uriValue",
            "WD": "readPoint bizLocation",
            "MATCH": "epc parentID inputEPC outputEPC anyEPC epcClass inputEPCClass outputEPCClass anyEPCClass",
        }.items()
        for name in names.split()
    },
}
# Parameters whose name holds a name of the asker's own: (comparison, rest of the name) -> what the value must be.
_OWN: Final = r"[a-z][a-zA-Z0-9]*:\w+"
_INSIDE: Final = (
    r"(?:INNER_)?(?:ILMD_|ERROR_DECLARATION_|SENSORELEMENT_|SENSORMETADATA_|SENSORREPORT_|readPoint_|bizLocation_)?"
)
_OPEN_QUERY: Final = (
    (re.compile(r"EQ_(?:bizTransaction|source|destination)_[a-z][a-zA-Z0-9_]+"), _ids),
    (re.compile(r"EQ_(?:value|quantity)_[A-Z0-9]{2,4}"), _numbers),
    (
        re.compile(r"(?:GT|GE|LT|LE)_(?:value|minValue|maxValue|meanValue|sDev|percValue|quantity)_[A-Z0-9]{2,4}"),
        number,
    ),
    (re.compile(rf"EQ_{_INSIDE}{_OWN}"), _comparable_or_texts),
    (re.compile(rf"(?:GT|GE|LT|LE)_{_INSIDE}{_OWN}"), _comparable),
    (re.compile(rf"EXISTS_{_INSIDE}{_OWN}"), _flag),
    (re.compile(rf"HASATTR_{_OWN}"), _texts),
    (re.compile(r"EQ_ATTR_\w+_\w+"), _comparable_or_texts),
)


def check_query(value: Any) -> Found:
    """Everything wrong with the parameters of a simple event query (EPCIS 2.0 §8.2.7); ``None`` when nothing is.

    A parameter nobody knows is refused, not ignored: a misspelt filter that matches everything is how wrong recalls
    are made.
    """
    if not isinstance(value, dict):
        return say("must be an object")
    out: list[Problem] = []
    for name, each in value.items():
        check = _QUERY.get(name) or next((c for pattern, c in _OPEN_QUERY if pattern.fullmatch(name)), None)
        found = say("is no query parameter") if check is None else check(each)
        out += [p.under(name) for p in found or ()]
    return out or None
