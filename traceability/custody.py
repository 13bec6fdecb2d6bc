"""Lots followed both ways: what a thing was made from, and what was made from it.

`Genealogy` takes events in the order of their times and keeps links in both directions, so that one walk answers
"where from" and another "where to". Links come from transformations (also those told in parts under one
``transformationID``), from the ``tm:origin`` of a new lot, from containers and from things fixed to one another, and
from a serial number whose link names its lot.

A container counts only while it holds something: a crate that carried last week's pork does not join this
week's to it. Whatever is inside when the container is slaughtered, cut or packed further goes into the product
as well, at any depth.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from traceability import TraceError
from traceability.codes import EAR_TAG_URI
from traceability.events import Event, Quantity
from traceability.own_fields import origins
from traceability.renaming import with_names

__all__ = ["CyclicCustody", "Genealogy", "MassAccount", "Resolution", "Whereabouts"]

_SOLD = frozenset({"retail_sold", "dispensed"})
_GONE = frozenset({"destroyed", "disposed"})
_KNOT = "\0"  # begins the name of a knot; no thing's name can


class CyclicCustody(TraceError):
    """A thing would hold or be made from itself."""

    default_code = "cyclic_custody"


@dataclass(frozen=True, slots=True)
class Resolution:
    """How exactly a thing can be traced: to ``candidates`` single sources from ``places`` different places."""

    candidates: tuple[str, ...]
    places: tuple[str, ...]


class Whereabouts(NamedTuple):
    """The last that is known of a thing; ``state`` is on_hand, in_transit, sold, used, gone or unknown."""

    state: str
    holder: str | None
    place: str | None
    container: str | None
    time_ms: int | None


@dataclass(slots=True)
class MassAccount:
    """Whole grams of one lot: what came into being, what was taken from it. Counts of pieces are not mass."""

    made_g: int = 0
    used_g: int = 0

    @property
    def left_g(self) -> int:
        """What must still be there; below zero means that mass came from nowhere."""
        return self.made_g - self.used_g


@dataclass(slots=True)
class _Seen:
    """What was last said about a thing."""

    time_ms: int
    place: str | None
    holder: str | None
    word: str | None


@dataclass(slots=True)
class _Part:
    """A transformation told in parts, so far."""

    taken: dict[str, None]
    made: dict[str, None]


class Genealogy:
    """The links between things. Corrected events are left out by the caller; late ones may come in any order.

    `same` gives things that are one the same name (`traceability.epc_uris.canonical_name`, where events spell them in
    different ways); questions and answers then use that name.
    """

    def __init__(self, events: Iterable[Event] = (), *, same: Callable[[str], str] | None = None) -> None:
        self._same = same
        self._told: list[Event] = []
        self._sources: dict[str, dict[str, None]] = {}
        self._products: dict[str, dict[str, None]] = {}
        self._packed_in: dict[str, dict[str, None]] = {}
        self._packed: dict[str, dict[str, None]] = {}
        self._inside: dict[str, dict[str, int | float | None]] = {}
        self._outside: dict[str, str] = {}
        self._parts: dict[str, _Part] = {}
        self._events: dict[str, list[Event]] = defaultdict(list)
        self._seen: dict[str, _Seen] = {}
        self._used: dict[str, int] = {}
        self._accounts: dict[str, MassAccount] = defaultdict(MassAccount)
        self._knots = 0
        for event in sorted(events, key=lambda each: each.time_ms):
            self.add(event)

    def add(self, event: Event) -> None:
        """Take in one more event. Raises `CyclicCustody` and then changes nothing.

        One that happened before the last costs a new reading of all: what a crate held at that moment decides who is
        whose source from then on.
        """
        if self._told and event.time_ms < self._told[-1].time_ms:
            self.__dict__.update(Genealogy([*self._told, event], same=self._same).__dict__)
            return
        self._take(event)
        self._told.append(event)

    def _take(self, told: Event) -> None:
        event = told if self._same is None else with_names(told, self._same)
        if event.parent is not None and event.kind != "TransactionEvent" and event.action != "DELETE":
            self._refuse_cycle(event.parent, event.children)
        for thing in event.things:
            self._events[thing].append(told)
            self._note(thing, event)
        for thing in told.things:
            self._link_to_lot(thing)
        if event.kind == "TransformationEvent":
            self._transform(event)
        elif event.kind in {"AggregationEvent", "AssociationEvent"} and event.parent is not None:
            self._pack(event, event.parent)
        elif event.kind == "ObjectEvent":
            self._object(event)

    def back(self, thing: str) -> tuple[str, ...]:
        """Everything ``thing`` was made from (and, if it is a container, ever held), nearest first."""
        return _closure(self._sources, thing, self._packed.get(thing, ()))

    def forward(self, thing: str) -> tuple[str, ...]:
        """Everything made from ``thing``, and the containers that ever held any of it, nearest first."""
        made = _closure(self._products, thing)
        held = dict.fromkeys(c for name in (thing, *made) for c in self._packed_in.get(name, ()))
        return (*made, *(container for container in held if container not in set(made)))

    def sources(self, thing: str) -> tuple[str, ...]:
        """What ``thing`` was made from in one step."""
        return _untied(self._sources, thing)

    def products(self, thing: str) -> tuple[str, ...]:
        """What was made from ``thing`` in one step."""
        return _untied(self._products, thing)

    def shares(self, seeds: Iterable[str]) -> dict[str, float]:
        """The part of each thing's sources that is affected when ``seeds`` are, 0..1, each source weighing the same.

        Holds the seeds, all that was made from them, and the containers that held any of it (1.0: fetch them
        whole). A loop in the data counts as whole. Knots are weighed like things, so parts of parts come out right.
        """
        found = dict.fromkeys(seeds, 1.0)
        scope, queue = set(found), list(found)
        for thing in queue:
            for other in self._products.get(thing, ()):
                if other not in scope:
                    scope.add(other)
                    queue.append(other)
        for thing in queue:
            if thing not in found:
                sources = self._sources[thing]
                if len(sources) == 1 and (share := found.get(next(iter(sources)))) is not None:
                    found[thing] = share  # most things: a pack of one lot
                else:
                    self._weigh(thing, scope, found)
        containers = {c: 1.0 for thing in scope for c in self._packed_in.get(thing, ()) if c not in found}
        return {thing: share for thing, share in (found | containers).items() if not thing.startswith(_KNOT)}

    def _weigh(self, start: str, scope: set[str], found: dict[str, float]) -> None:
        stack, open_now = [start], set[str]()
        while stack:
            thing = stack[-1]
            sources = self._sources.get(thing, {})
            waiting = [s for s in sources if s in scope and s not in found and s not in open_now]
            if thing in found or not waiting:
                stack.pop()
                parts = [found.get(s, 1.0) if s in scope else 0.0 for s in sources]
                found.setdefault(thing, sum(parts) / len(parts) if parts else 1.0)
            else:
                open_now.add(thing)
                stack += waiting

    def knows(self, thing: str) -> bool:
        """Whether any event names it."""
        return thing in self._events

    def events_of(self, things: Iterable[str]) -> tuple[Event, ...]:
        """The events that name any of ``things``, once each, by time."""
        found = {id(event): event for thing in things for event in self._events.get(thing, ())}
        return tuple(sorted(found.values(), key=lambda event: event.time_ms))

    def resolution(self, thing: str, unit: Callable[[str], bool] | None = None) -> Resolution:
        """Which single units ``thing`` may come from, and their places of origin.

        ``unit`` says what counts as one (by default an animal with an ear tag); where no ancestor does, the
        first known things of the chain count.
        """
        is_unit = unit or (lambda name: name.startswith(EAR_TAG_URI))
        before = (thing, *self.back(thing))
        first = [name for name in before if is_unit(name)] or [n for n in before if not self._sources.get(n)]
        places = dict.fromkeys(place for name in first if (place := self._birthplace(name)) is not None)
        return Resolution(tuple(first), tuple(places))

    def account(self, thing: str) -> MassAccount:
        """The grams of one lot: made, used, left."""
        known = self._accounts.get(thing)
        return MassAccount() if known is None else MassAccount(known.made_g, known.used_g)

    def whereabouts(self, thing: str) -> Whereabouts:
        """Where a thing is now, as far as it or what carries it was last seen."""
        container = self._outside.get(thing)
        seen, outer = self._seen.get(thing), container
        while outer is not None:
            carried = self._seen.get(outer)
            if carried is not None and (seen is None or carried.time_ms >= seen.time_ms):
                holder = carried.holder or (seen.holder if seen else None)
                seen = _Seen(carried.time_ms, carried.place, holder, carried.word)
            outer = self._outside.get(outer)
        if seen is None:
            return Whereabouts("unknown", None, None, container, None)
        return Whereabouts(self._state(thing, seen), seen.holder, seen.place, container, seen.time_ms)

    def _state(self, thing: str, seen: _Seen) -> str:
        if seen.word in _SOLD:
            return "sold"
        if seen.word in _GONE:
            return "gone"
        if thing in self._used and self._used[thing] >= seen.time_ms and self.account(thing).left_g <= 0:
            return "used"
        return "in_transit" if seen.word == "in_transit" else "on_hand"

    def _birthplace(self, thing: str) -> str | None:
        return next((place for e in self._events.get(thing, ()) if (place := e.read_point) is not None), None)

    def _note(self, thing: str, event: Event) -> None:
        before = self._seen.get(thing)
        parties = [d for d in event.body.get("destinationList") or () if d.get("type") != "location"]
        word = event.disposition
        if event.step == "retail_selling":
            word = "retail_sold"
        elif event.step == "destroying":
            word = "destroyed"
        elif word is None and event.step in {"shipping", "departing", "transporting"}:
            word = "in_transit"
        self._seen[thing] = _Seen(
            event.time_ms,
            event.location or event.read_point or (before.place if before else None),
            parties[-1]["destination"] if parties else (before.holder if before else None),
            word if word is not None or before is None or before.word == "in_transit" else before.word,
        )

    def _link_to_lot(self, thing: str) -> None:
        lot, serial, _ = thing.rpartition("/21/")
        if not serial or "/10/" not in lot:
            return
        if self._same is not None:
            lot, thing = self._same(lot), self._same(thing)
        if lot not in self._sources.get(thing, ()):
            self._link((lot,), (thing,))

    def _link(self, taken: Iterable[str], made: Iterable[str]) -> None:
        before, after = tuple(taken), tuple(made)
        if len(before) > 1 and len(after) > 1 and not set(before) & set(after):
            # A knot between the two sides: 100 pigs into 5,000 packs are 5,100 links, not half a million.
            self._knots += 1
            knot = f"{_KNOT}{self._knots}"
            self._link(before, (knot,))
            self._link((knot,), after)
            return
        for product in after:
            known = self._sources.setdefault(product, {})
            for source in before:
                if source != product:
                    known[source] = None
                    self._products.setdefault(source, {})[product] = None

    def _transform(self, event: Event) -> None:
        taken = dict.fromkeys(self._with_contents(event.inputs))
        made = dict.fromkeys(event.outputs)
        name = event.body.get("transformationID")
        if name is None:
            self._link(taken, made)
        else:
            part = self._parts.setdefault(name, _Part({}, {}))
            self._link(taken, part.made)
            part.taken.update(taken)
            part.made.update(made)
            self._link(part.taken, made)
        self._book(event.input_quantities, event.output_quantities)
        for thing in event.inputs:
            self._used[thing] = event.time_ms

    def _object(self, event: Event) -> None:
        if event.action == "ADD":
            self._link(self._with_contents(origins(event)), event.things)
            self._book((), event.quantities)
        elif event.action == "DELETE":
            self._book(event.quantities, ())
            for thing in event.things:
                self._used[thing] = event.time_ms

    def _book(self, taken: Iterable[Quantity], made: Iterable[Quantity]) -> None:
        for quantity in taken:
            self._accounts[quantity.epc_class].used_g += quantity.grams or 0
        for quantity in made:
            self._accounts[quantity.epc_class].made_g += quantity.grams or 0

    def _pack(self, event: Event, parent: str) -> None:
        amounts = {q.epc_class: q.amount for q in event.child_quantities}
        if event.action == "DELETE":
            for child in event.children or tuple(self._inside.get(parent, ())):
                self._unpack(parent, child, amounts.get(child))
            return
        inside = self._inside.setdefault(parent, {})
        for child in event.children:
            more, before = amounts.get(child), inside.get(child)
            inside[child] = more if before is None else before + (more or 0)
            self._outside[child] = parent
            for content in self._with_contents((child,)):
                for container in self._around(child):
                    self._packed.setdefault(container, {})[content] = None
                    self._packed_in.setdefault(content, {})[container] = None

    def _unpack(self, parent: str, child: str, amount: float | None) -> None:
        inside = self._inside.get(parent, {})
        held = inside.get(child)
        if amount is not None and held is not None and held > amount:
            inside[child] = held - amount  # some of the lot stays
            return
        inside.pop(child, None)
        if self._outside.get(child) == parent:
            del self._outside[child]

    def _with_contents(self, things: Iterable[str]) -> Iterator[str]:
        todo, seen = list(things), set[str]()
        for thing in todo:
            if thing not in seen:
                seen.add(thing)
                yield thing
                todo.extend(self._inside.get(thing, ()))

    def _around(self, thing: str) -> Iterator[str]:
        outer = self._outside.get(thing)
        while outer is not None:
            yield outer
            outer = self._outside.get(outer)

    def _refuse_cycle(self, parent: str, children: Iterable[str]) -> None:
        if parent in self._with_contents(children):
            raise CyclicCustody(f"{parent} would hold itself")


def _closure(links: dict[str, dict[str, None]], start: str, more: Iterable[str] = ()) -> tuple[str, ...]:
    seen = {start: None}
    seen.update(dict.fromkeys(more))
    queue = list(seen)
    for thing in queue:
        for other in links.get(thing, ()):
            if other not in seen:
                seen[other] = None
                queue.append(other)
    del seen[start]
    return tuple(thing for thing in seen if not thing.startswith(_KNOT))


def _untied(links: dict[str, dict[str, None]], thing: str) -> tuple[str, ...]:
    """The neighbours of a thing, knots replaced by what they tie together."""
    found: dict[str, None] = {}
    for other in links.get(thing, ()):
        found.update(links[other] if other.startswith(_KNOT) else {other: None})
    return tuple(found)
