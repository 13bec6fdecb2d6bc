"""Which treatments a thing carries: its own, its pen's while it stood there, and those of whatever it was made from.

A group takes on what any of its members carries; one animal taken out by its ear tag carries only its own.
Every exposure has an end: the moment the thing was separated from what was treated (eggs laid, fish netted,
animal killed). Waiting longer in the store does not help: the time must have passed before that moment.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from traceability.events import STEP, Event
from traceability.own_fields import origins, own

__all__ = ["Exposure", "History"]

FOREVER: Final = 2**63
TREATING: Final = STEP + "treating"


@dataclass(frozen=True, slots=True)
class Exposure:
    """One treatment that a thing carries, and the moment (ms UTC) until which withdrawal time ran."""

    treatment: Event
    until_ms: int


@dataclass(frozen=True, slots=True)
class _Stay:
    other: str
    start_ms: int
    end_ms: int


def sources(event: Event) -> tuple[str, ...]:
    """What the things of an event were a moment before it."""
    return event.inputs or origins(event) or event.things


class History:
    """Earlier events, arranged so that exposures can be found. Corrected events are expected to be left out."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.events = sorted(events, key=lambda event: event.time_ms)
        self._treated: dict[str, list[Event]] = defaultdict(list)
        self._made: dict[str, list[tuple[int, tuple[str, ...]]]] = defaultdict(list)
        self._containers: dict[str, list[_Stay]] = defaultdict(list)
        self._members: dict[str, list[_Stay]] = defaultdict(list)
        open_transformations: dict[str, tuple[str, ...]] = {}
        for event in self.events:
            self._note(event, open_transformations)

    def _note(self, event: Event, open_transformations: dict[str, tuple[str, ...]]) -> None:
        if own(event, "tm:treatment"):
            for thing in event.things:
                self._treated[thing].append(event)
        if event.kind == "TransformationEvent":
            taken = event.inputs
            if (name := event.body.get("transformationID")) is not None:
                taken = open_transformations[name] = (*open_transformations.get(name, ()), *taken)
            for thing in event.outputs:
                self._made[thing].append((event.time_ms, taken))
        elif event.kind in {"AggregationEvent", "AssociationEvent"} and event.parent is not None:
            self._move(event, event.parent)
        elif event.action == "ADD" and (before := origins(event)):
            for thing in event.things:
                self._made[thing].append((event.time_ms, before))

    def _move(self, event: Event, parent: str) -> None:
        if event.action == "ADD":
            for child in event.children:
                self._containers[child].append(_Stay(parent, event.time_ms, FOREVER))
                self._members[parent].append(_Stay(child, event.time_ms, FOREVER))
        elif event.action == "DELETE":
            leaving = event.children or tuple(stay.other for stay in self._members[parent])
            for child in leaving:
                self._close(self._containers[child], parent, event.time_ms)
                self._close(self._members[parent], child, event.time_ms)

    @staticmethod
    def _close(stays: list[_Stay], other: str, end_ms: int) -> None:
        for index, stay in enumerate(stays):
            if stay.other == other and stay.end_ms == FOREVER:
                stays[index] = _Stay(other, stay.start_ms, end_ms)

    def members(self, container: str, at_ms: int) -> frozenset[str]:
        """What is known to be inside a pen, crate or lorry at a moment."""
        return frozenset(s.other for s in self._members[container] if s.start_ms <= at_ms < s.end_ms)

    def exposures(self, things: Iterable[str], at_ms: int) -> tuple[Exposure, ...]:
        """Every treatment that any of ``things`` carries at ``at_ms``, once, with the earliest end it has."""
        found: dict[int, Exposure] = {}
        seen: set[tuple[str, int]] = set()
        for thing in things:
            for exposure in self._of(thing, at_ms, seen):
                known = found.get(id(exposure.treatment))
                if known is None or exposure.until_ms < known.until_ms:
                    found[id(exposure.treatment)] = exposure
        return tuple(found.values())

    def _of(self, thing: str, at_ms: int, seen: set[tuple[str, int]]) -> Iterator[Exposure]:
        todo = [(thing, at_ms)]
        while todo:
            name, until = todo.pop()
            if (name, until) in seen:
                continue
            seen.add((name, until))
            yield from self._direct(name, 0, until, until)
            for stay in self._containers[name]:
                yield from self._direct(stay.other, stay.start_ms, min(stay.end_ms, until), until)
            todo += [(s.other, until) for s in self._members[name] if s.start_ms <= until < s.end_ms]
            for made_ms, taken in self._made[name]:
                if made_ms <= until:
                    todo += [(source, made_ms) for source in taken]

    def _direct(self, name: str, start_ms: int, end_ms: int, until_ms: int) -> Iterator[Exposure]:
        for treatment in self._treated[name]:
            if start_ms <= treatment.time_ms <= end_ms:
                yield Exposure(treatment, until_ms)
