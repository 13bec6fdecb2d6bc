"""Rules over event time: samples in, changes of alarms out. No database and no clock of its own.

One `Engine` holds the rules of every gateway and what each remembers. A rule's state without its samples is small; the
samples are the readings themselves, so after a restart they are read again instead of having been written twice. What
comes later than the state reconsiders (`LATE_MS`) is judged on its own stretch of the past: the alarms found there are
historical and call nobody.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from edge.rules import Rule, RuleError, Sample, State, Transition, begin, replay, step

__all__ = ["LATE_MS", "Change", "Course", "Engine", "History", "Watched"]

# Late data change what was decided within this time; beyond it they are history. Long enough for a night offline.
LATE_MS = 12 * 3_600_000
_TICK_MS = 60_000
_RAISED = frozenset({"raised", "clearing"})

# (gateway, series names, start, end) -> their samples: the readings store, as this context needs it.
History = Callable[[str, Sequence[str], int, int], Sequence[Sample]]


@dataclass(frozen=True, slots=True)
class Watched:
    """A gateway and the rules that watch it."""

    gateway: str
    name: str
    region: str
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """A transition of one rule of one gateway; `late` where it was found by looking at a forgotten past again."""

    watched: Watched
    rule: Rule
    transition: Transition
    late: bool = False


@dataclass(frozen=True, slots=True)
class Course:
    """When a rule was raised, as it is seen now: everything after `floor_ms`, which later data may still change.

    `spans` are (raised, cleared or None, condition began); `carried` is the condition's beginning where the rule was
    raised at the floor already, and `carried_end` when that ended (None: not yet).
    """

    watched: Watched
    rule: Rule
    floor_ms: int
    spans: tuple[tuple[int, int | None, int], ...]
    carried: int | None
    carried_end: int | None


@dataclass(slots=True)
class _Watch:
    """One rule at work."""

    watched: Watched
    rule: Rule
    state: State
    series: frozenset[str] = field(default_factory=frozenset)


class Engine:
    """The rules of all gateways. One thread uses it.

    `history` reads samples back; `saved` are the states of an earlier life by (gateway, rule id).
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self._watches: dict[str, list[_Watch]] = {}
        self._stepped: dict[str, int] = {}

    def watch(self, watched: Watched, saved: Mapping[str, Mapping[str, object]], now_ms: int) -> None:
        """Begin or go on watching one gateway; a rule whose state cannot be read begins anew."""
        self._watches[watched.gateway] = [
            self._resume(watched, rule, saved.get(rule.id), now_ms) for rule in watched.rules
        ]

    def _resume(self, watched: Watched, rule: Rule, saved: Mapping[str, object] | None, now_ms: int) -> _Watch:
        names = frozenset(one.series for one in rule.inputs.values())
        try:
            state = State.from_json(saved) if saved else begin(now_ms, late_ms=LATE_MS)
        except RuleError:
            state = begin(now_ms, late_ms=LATE_MS)
        # What lies before the floor is decided, but windows still look at it.
        reach = state.floor_ms - rule.memory_ms
        tracks: dict[str, tuple[list[int], list[float | None]]] = defaultdict(lambda: ([], []))
        for sample in self._history(watched.gateway, sorted(names), reach, state.floor_ms + 1):
            tracks[sample.series][0].append(sample.time_ms)
            tracks[sample.series][1].append(sample.value)
        return _Watch(watched, rule, State.from_json({**state.to_json(), "tracks": tracks}), names)

    def wanted(self, gateway: str) -> frozenset[str]:
        """Names of the series that any rule of this gateway looks at."""
        return frozenset().union(*(watch.series for watch in self._watches.get(gateway, ())))

    def catch_up(self, gateway: str, now_ms: int) -> list[Change]:
        """After `watch`: judge what came while nobody watched."""
        floor = min((watch.state.floor_ms for watch in self._watches[gateway]), default=now_ms)
        return self.feed(gateway, self._history(gateway, sorted(self.wanted(gateway)), floor, now_ms + 1), now_ms)

    def feed(self, gateway: str, samples: Sequence[Sample], now_ms: int) -> list[Change]:
        """Take samples of one gateway, in any order and as often as they come; what changed."""
        changes: list[Change] = []
        self._stepped[gateway] = now_ms
        for watch in self._watches.get(gateway, ()):
            mine = [sample for sample in samples if sample.series in watch.series]
            past = [sample for sample in mine if sample.time_ms <= watch.state.floor_ms]
            watch.state, news = step(watch.rule, watch.state, mine, now_ms)
            changes += [Change(watch.watched, watch.rule, one) for one in news]
            if past:
                changes += self._historical(watch, past)
        return changes

    def tick(self, now_ms: int) -> list[Change]:
        """Let time pass for gateways that said nothing in this minute: silence and holds end without samples."""
        quiet = [name for name in self._watches if now_ms - self._stepped.get(name, 0) >= _TICK_MS]
        return [change for name in quiet for change in self.feed(name, (), now_ms)]

    def states(self, gateways: Iterable[str]) -> dict[tuple[str, str], dict[str, object]]:
        """What to save of these gateways, by (gateway, rule id)."""
        return {
            (name, watch.rule.id): {**watch.state.to_json(), "tracks": {}}
            for name in gateways
            for watch in self._watches.get(name, ())
        }

    def courses(self, changes: Iterable[Change]) -> list[Course]:
        """The present course of every rule that changed."""
        rules = {(change.watched.gateway, change.rule.id) for change in changes}
        return [
            _course(watch)
            for name in {gateway for gateway, _ in rules}
            for watch in self._watches.get(name, ())
            if (name, watch.rule.id) in rules
        ]

    def gateways(self) -> list[str]:
        """All gateways that are watched."""
        return list(self._watches)

    def _historical(self, watch: _Watch, past: Sequence[Sample]) -> list[Change]:
        """Judge again the stretch that these forgotten samples fall into, up to where the state still remembers."""
        reach = watch.rule.memory_ms + watch.rule.hold_ms + watch.rule.clear_ms
        first, last = min(one.time_ms for one in past), max(one.time_ms for one in past)
        until = min(last + reach, watch.state.floor_ms)
        held = self._history(watch.watched.gateway, sorted(watch.series), first - reach, until + 1)
        found: dict[str, list[Sample]] = defaultdict(list)
        for sample in (*held, *past):
            found[sample.series].append(sample)
        _, news = replay(watch.rule, [one for samples in found.values() for one in samples], until)
        return [
            Change(watch.watched, watch.rule, one, late=True)
            for one in news
            if one.at_ms >= first and one.kind != "withdrawn"
        ]


def _course(watch: _Watch) -> Course:
    state = watch.state
    before = state.base
    spans: list[tuple[int, int | None, int]] = []
    carried = before.since_ms if before.phase in _RAISED else None
    carried_end: int | None = None
    for mark in state.trail:
        was, now = before.phase in _RAISED, mark.phase in _RAISED
        if now and not was:
            spans.append((mark.at_ms, None, mark.since_ms))
        elif was and not now and spans:
            spans[-1] = (spans[-1][0], mark.at_ms, spans[-1][2])
        elif was and not now:
            carried_end = mark.at_ms
        before = mark
    return Course(watch.watched, watch.rule, state.floor_ms, tuple(spans), carried, carried_end)
