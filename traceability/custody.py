"""Lots followed both ways: what a thing was made from, and what was made from it.

Four kinds of links are read from events: a transformation (also one told in parts), a new lot's origin, a container's
contents while it holds them, and things fixed to one another. `Genealogy` keeps them in both directions, so
that one walk answers "where from" and another "where to".
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from traceability.chain_rules.exposure import origins
from traceability.codes import EAR_TAG_URI
from traceability.events import Event

__all__ = ["Genealogy", "Resolution"]


@dataclass(frozen=True, slots=True)
class Resolution:
    """How exactly a pack can be traced: it comes from ``candidates`` single sources at ``places`` different places."""

    candidates: tuple[str, ...]
    places: tuple[str, ...]


class Genealogy:
    """The links between things, built from events in any order (corrected ones left out)."""

    def __init__(self, events: Iterable[Event]) -> None:
        self._sources: dict[str, dict[str, None]] = defaultdict(dict)
        self._products: dict[str, dict[str, None]] = defaultdict(dict)
        self._events: dict[str, list[Event]] = defaultdict(list)
        parts: dict[str, tuple[dict[str, None], dict[str, None]]] = {}
        for event in events:
            for thing in event.things:
                self._events[thing].append(event)
            self._link_event(event, parts)
        for taken, made in parts.values():
            self._link(taken, made)

    def _link_event(self, event: Event, parts: dict[str, tuple[dict[str, None], dict[str, None]]]) -> None:
        if event.kind == "TransformationEvent":
            if (name := event.body.get("transformationID")) is None:
                self._link(event.inputs, event.outputs)
            else:
                taken, made = parts.setdefault(name, ({}, {}))
                taken.update(dict.fromkeys(event.inputs))
                made.update(dict.fromkeys(event.outputs))
        elif event.action == "ADD" and event.parent is not None:
            self._link(event.children, [event.parent])
        elif event.action == "ADD":
            self._link(origins(event), event.things)

    def _link(self, taken: Iterable[str], made: Iterable[str]) -> None:
        for product in made:
            for source in taken:
                if source != product:
                    self._sources[product][source] = None
                    self._products[source][product] = None

    def back(self, thing: str) -> tuple[str, ...]:
        """Everything ``thing`` was made from, nearest first."""
        return _closure(self._sources, thing)

    def forward(self, thing: str) -> tuple[str, ...]:
        """Everything made from ``thing``, nearest first."""
        return _closure(self._products, thing)

    def events_of(self, things: Iterable[str]) -> tuple[Event, ...]:
        """The events that name any of ``things``, once each, by time."""
        found = {id(event): event for thing in things for event in self._events.get(thing, ())}
        return tuple(sorted(found.values(), key=lambda event: event.time_ms))

    def resolution(self, thing: str) -> Resolution:
        """Which single animals (or, without any, which first lots) this may come from, and their places of origin."""
        before = (thing, *self.back(thing))
        animals = [name for name in before if name.startswith(EAR_TAG_URI)]
        first = animals or [name for name in before if not self._sources.get(name)]
        places = dict.fromkeys(place for name in first if (place := self._birthplace(name)) is not None)
        return Resolution(tuple(first), tuple(places))

    def _birthplace(self, thing: str) -> str | None:
        told = sorted(self._events.get(thing, ()), key=lambda event: event.time_ms)
        return next((place for event in told if (place := event.read_point) is not None), None)


def _closure(links: Mapping[str, Mapping[str, None]], start: str) -> tuple[str, ...]:
    seen = {start: None}
    queue: Sequence[str] = [start]
    while queue:
        following = dict.fromkeys(other for thing in queue for other in links.get(thing, ()) if other not in seen)
        seen.update(following)
        queue = tuple(following)
    del seen[start]
    return tuple(seen)
