"""Following lots both ways: the genealogy of everything captured, kept in memory and brought up to the log on demand.

The pure graph (`traceability.custody`) wants its events in order of time. New events mostly are later than all before
and are added; a late one makes the graph be built anew from the store, since it may change who held what when.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from cloud.problems import NotFound
from cloud.provenance.store import EventStore
from traceability.custody import CyclicCustody, Genealogy
from traceability.epc_uris import canonical_name
from traceability.events import Event
from traceability.recall import drill

__all__ = ["Traced", "Tracer"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Traced:
    """One direction of a trace: things, nearest first, and the events that name them, by time."""

    thing: str
    things: list[str]
    events: list[dict[str, Any]]
    resolution: dict[str, Any] = field(default_factory=dict)


def _graph() -> Genealogy:
    return Genealogy(same=canonical_name)


class Tracer:
    """Questions about lots. Safe to ask from any thread; answers hold for all events captured before the question."""

    def __init__(self, store: EventStore, clock: Callable[[], int]) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._graph = _graph()
        self._names: dict[str, str] = {}
        self._next = 0
        self._last_ms = 0
        self._declared = 0

    def back(self, thing: str) -> Traced:
        """Everything a thing was made from. Raises `NotFound` for a thing no event names."""
        graph, name = self._look(thing)
        found = graph.back(name)
        resolution = graph.resolution(name)
        events = graph.events_of((name, *found))
        exact = {"candidates": self._written(resolution.candidates), "places": list(resolution.places)}
        return Traced(thing, self._written(found), [dict(event.body) for event in events], exact)

    def forward(self, thing: str) -> Traced:
        """Everything made from a thing, and what held it. Raises `NotFound`."""
        graph, name = self._look(thing)
        found = graph.forward(name)
        events = graph.events_of((name, *found))
        return Traced(thing, self._written(found), [dict(event.body) for event in events])

    def recall(self, seeds: Sequence[str], *, grade: int, known_ms: int | None = None) -> dict[str, Any]:
        """Scope of a recall with the time it took. Raises `NotFound` for a seed no event names."""
        named = [self._look(seed)[1] for seed in seeds]
        graph = self._current()
        known = self._clock() if known_ms is None else known_ms
        answered = drill(graph, named, known_ms=known, clock_ms=lambda: time.perf_counter() * 1000, grade=grade)
        scope = answered.scope
        return {
            "seeds": self._written(scope.seeds),
            "affected": [
                {"thing": self._names.get(each.thing, each.thing), "share": each.share, **each.where._asdict()}
                for each in scope.affected
            ],
            "holders": dict(scope.holders),
            "states": dict(scope.states),
            "step_back": self._written(scope.step_back),
            "start_by_ms": scope.start_by_ms,
            "answered_in_ms": round(answered.answered_in_ms, 3),
        }

    def balance(self, thing: str) -> dict[str, int]:
        """Whole grams of a lot: made, used, left. Raises `NotFound`."""
        graph, name = self._look(thing)
        account = graph.account(name)
        return {**asdict(account), "left_g": account.left_g}

    def _look(self, thing: str) -> tuple[Genealogy, str]:
        graph, name = self._current(), canonical_name(thing)
        if not graph.knows(name):
            raise NotFound(f"no event names {thing[:120]}", code="unknown_thing")
        return graph, name

    def _written(self, names: Iterable[str]) -> list[str]:
        """The things as the newest event writes them: the graph knows them by their canonical names."""
        return [self._names.get(name, name) for name in names]

    def _current(self) -> Genealogy:
        with self._lock:
            rows, declared = self._store.since(self._next)
            late = any(row.when_ms < self._last_ms for row in rows)
            if late or declared != self._declared:
                self._graph, self._names, self._last_ms = _graph(), {}, 0
                rows, declared = self._store.since(0)
            self._add(sorted(rows, key=lambda row: (row.when_ms, row.place)))
            self._next = max((row.place + 1 for row in rows), default=self._next)
            self._declared = declared
            return self._graph

    def _add(self, rows: Iterable[Any]) -> None:
        for row in rows:
            event = Event(json.loads(row.body))
            try:
                self._graph.add(event)
            except CyclicCustody:
                # One event that contradicts itself must not silence every recall; it stays in the log to be seen.
                _LOG.warning("event %s would hold itself and is left out of tracing", row.event_id)
            self._names.update({canonical_name(thing): thing for thing in event.things})
            self._last_ms = max(self._last_ms, row.when_ms)
