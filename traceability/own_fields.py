"""The shape of our own fields (``tm:``), so that no rule and no story stumbles over one that is not what it should be.

`own` reads a field and answers ``None`` for one that is malformed: earlier events may have come in by other doors.
`malformed` names what is wrong with an event's own fields: an event that is judged must have none.
"""

from collections.abc import Mapping
from typing import Any, Final

from traceability.epcis_checks import Check, Found, Problem, boolean, list_of, record, say, text, uri
from traceability.events import Event

__all__ = ["malformed", "origins", "own"]

MANY_DAYS: Final = 3650


def _count(value: Any) -> Found:
    return None if type(value) is int and value >= 0 else say("must be a whole number, not below 0")


def _days(value: Any) -> Found:
    if type(value) is int and 0 <= value <= MANY_DAYS:
        return None
    return say(f"must be a whole number of days, 0 to {MANY_DAYS}")


_said = record({"zh": text, "en": text, "kind": text, "region": text}, ["zh", "en"])
_FIELDS: Final[Mapping[str, Check]] = {
    "tm:treatment": record(
        {"substance": text, "route": text, "product": text, "reason": text, "withdrawalDays": _days}, ["substance"]
    ),
    "tm:quarantine": record({"number": text, "kind": text, "vehicle": text, "issued": text, "tags": list_of(text)}),
    "tm:vehicle": text,
    "tm:papers": list_of(text),
    "tm:asfTest": record({"method": text, "result": text, "number": text}, ["method"]),
    "tm:destinationRegion": text,
    "tm:region": text,
    "tm:conformityPromise": record({}),
    "tm:headCount": record({"pen": uri, "count": _count}, ["pen", "count"]),
    "tm:signer": _said,
    "tm:village": _said,
    "tm:vaccine": _said,
    "tm:demonstration": boolean,
}
_ORIGIN: Final = "tm:origin"
_NEW_THINGS: Final[Mapping[str, Check]] = {_ORIGIN: list_of(uri), "tm:netGrams": _count, "tm:pieces": _count}


def own(event: Event, name: str) -> Any:
    """The value of one own field such as ``tm:treatment``; ``None`` when it is missing or malformed."""
    value = event.body.get(name)
    return None if value is None or _FIELDS[name](value) else value


def origins(event: Event) -> tuple[str, ...]:
    """What a new lot comes from while its source lives on (flock, plot, pond)."""
    value = (event.body.get("ilmd") or {}).get(_ORIGIN)
    return () if value is None or _NEW_THINGS[_ORIGIN](value) else tuple(value)


def malformed(event: Event) -> list[Problem]:
    """What is wrong with the own fields of an event, with pointers into it."""
    found = [
        p.under(name) for name, check in _FIELDS.items() if name in event.body for p in check(event.body[name]) or ()
    ]
    inside = event.body.get("ilmd") or {}
    found += [
        p.under(name).under("ilmd")
        for name, check in _NEW_THINGS.items()
        if name in inside
        for p in check(inside[name]) or ()
    ]
    return found
