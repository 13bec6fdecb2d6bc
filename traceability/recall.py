"""Recall: everything that a bad lot may have gone into, who holds it, and what is already sold.

`recall_scope` answers in one call what an official needs within the legal hours: the affected things, by
holder, on the shelf or sold, how diluted the bad lot is in each, and the next step back (where else the cause
may lie). It errs on the safe side: a thing is in scope as soon as the bad lot may be in it.

Deadlines: a class I recall starts within 24 hours of knowing, class II within 48, class III within 72
(食品召回管理办法).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from traceability import TraceError
from traceability.custody import Genealogy, Whereabouts

__all__ = ["Affected", "Drill", "RecallScope", "UnknownSeed", "drill", "recall_scope"]

HOUR_MS: Final = 3_600_000
_REACHABLE: Final = frozenset({"on_hand", "in_transit"})
START_HOURS: Final = {1: 24, 2: 48, 3: 72}


class UnknownSeed(TraceError):
    """A recall was asked for things that no event names."""

    default_code = "unknown_thing"


class Affected(NamedTuple):
    """One thing in scope. ``share`` is the part of its sources that is affected, 0..1, if all mixed evenly."""

    thing: str
    where: Whereabouts
    share: float


@dataclass(frozen=True, slots=True)
class RecallScope:
    """The answer. ``holders``: party or place -> how many affected things it still has; ``start_by_ms``: ms UTC."""

    seeds: tuple[str, ...]
    affected: tuple[Affected, ...]
    holders: Mapping[str, int]
    states: Mapping[str, int]
    step_back: tuple[str, ...]
    start_by_ms: int

    @property
    def to_fetch(self) -> tuple[Affected, ...]:
        """What can still be taken back: neither sold, used up nor destroyed."""
        return tuple(each for each in self.affected if each.where.state in _REACHABLE or each.where.state == "unknown")


@dataclass(frozen=True, slots=True)
class Drill:
    """A rehearsal: the scope and how long the answer took."""

    scope: RecallScope
    answered_in_ms: float


def recall_scope(genealogy: Genealogy, seeds: Iterable[str], *, known_ms: int, grade: int = 1) -> RecallScope:
    """The scope of a recall of ``seeds`` (lots, animals, drug batches; anything events name).

    ``known_ms``: since when the cause is known (ms UTC).

    ``grade``: 1 (most urgent) to 3. Raises `UnknownSeed` when none of the seeds was ever recorded.
    """
    named = tuple(dict.fromkeys(seeds))
    if grade not in START_HOURS:
        raise TraceError(f"recall class {grade} is none of 1, 2, 3", code="bad_recall_class")
    if not any(genealogy.knows(seed) for seed in named):
        raise UnknownSeed(f"no event names {', '.join(named) or 'anything'}")
    shares = genealogy.shares(named)
    affected: list[Affected] = []
    holders: dict[str, int] = defaultdict(int)
    states: dict[str, int] = defaultdict(int)
    for thing, share in shares.items():
        where = genealogy.whereabouts(thing)
        affected.append(Affected(thing, where, share))
        states[where.state] += 1
        if where.state in _REACHABLE:
            holders[where.holder or where.place or "?"] += 1
    back = dict.fromkeys(source for seed in named for source in genealogy.sources(seed) if source not in shares)
    start_by = known_ms + START_HOURS[grade] * HOUR_MS
    return RecallScope(named, tuple(affected), dict(holders), dict(states), tuple(back), start_by)


def drill(
    genealogy: Genealogy, seeds: Iterable[str], *, known_ms: int, clock_ms: Callable[[], float], grade: int = 1
) -> Drill:
    """Rehearse a recall and time the answer with ``clock_ms`` (any steady clock in ms)."""
    start = clock_ms()
    scope = recall_scope(genealogy, seeds, known_ms=known_ms, grade=grade)
    return Drill(scope, clock_ms() - start)
