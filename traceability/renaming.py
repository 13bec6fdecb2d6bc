"""An event with its things under other names: so that two spellings of one thing are one thing to a rule or a graph."""

from collections.abc import Callable
from typing import Any, Final

from traceability.events import Event

__all__ = ["with_names"]

_SINGLE: Final = ("epcList", "childEPCs", "inputEPCList", "outputEPCList")
_LOTS: Final = ("quantityList", "childQuantityList", "inputQuantityList", "outputQuantityList")


def with_names(event: Event, name: Callable[[str], str]) -> Event:
    """The event with each thing it names called by `name`; the event itself where nothing changes."""
    if all(name(thing) == thing for thing in (*event.things, *_origin(event))):
        return event
    body: dict[str, Any] = dict(event.body)
    if event.parent is not None:
        body["parentID"] = name(event.parent)
    for field in _SINGLE:
        if field in body:
            body[field] = [name(thing) for thing in body[field]]
    for field in _LOTS:
        if field in body:
            body[field] = [{**each, "epcClass": name(each["epcClass"])} for each in body[field]]
    if _origin(event):
        body["ilmd"] = {**body["ilmd"], "tm:origin": [name(thing) for thing in _origin(event)]}
    return Event(body, event.context)


def _origin(event: Event) -> list[str]:
    inside = event.body.get("ilmd")
    named = inside.get("tm:origin") if isinstance(inside, dict) else None
    return named if isinstance(named, list) and all(isinstance(thing, str) for thing in named) else []
