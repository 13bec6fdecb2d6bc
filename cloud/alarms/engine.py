"""Rules over event time: samples in, changes of alarms out. No database and no clock of its own.

One `Engine` holds the rules of every gateway and what each remembers. A rule's state without its samples is small; the
samples are the readings themselves, so after a restart they are read again instead of having been written twice. What
comes later than the state reconsiders (`LATE_MS`) is judged on its own stretch of the past (see `past`): the alarms
found there are historical and call nobody.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cloud.alarms.past import DAY_MS, Recorded, Verdict, judge, reach_ms, settled, start_ms, stretches
from edge.rules import Rule, RuleError, Sample, State, Transition, begin, holds, step

__all__ = ["LATE_MS", "Change", "Course", "Engine", "History", "Late", "Watched"]

# Late data change what was decided within this time; beyond it they are history. Long enough for a night offline.
LATE_MS = 12 * 3_600_000
_TICK_MS = 60_000
# So long after a forgotten reading its rule is followed to where it joins what was decided without it.
_LONGEST_PAST_MS = 7 * DAY_MS
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
    """A transition of one rule of one gateway."""

    watched: Watched
    rule: Rule
    transition: Transition


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


@dataclass(frozen=True, slots=True)
class Late:
    """Readings from `first_ms` to `last_ms` came for what a rule has forgotten: everything up to `floor_ms`."""

    watched: Watched
    rule: Rule
    first_ms: int
    last_ms: int
    floor_ms: int
    born_ms: int


@dataclass(slots=True)
class _Watch:
    """One rule at work. `timely_ms`: from here on every reading came while it could speak for its present."""

    watched: Watched
    rule: Rule
    state: State
    timely_ms: int
    series: frozenset[str] = field(default_factory=frozenset)
    late_ms: list[int] = field(default_factory=list)  # times of readings that came for the forgotten


class Engine:
    """The rules of all gateways. One thread uses it.

    `history` reads samples back; `saved` are the states of an earlier life by (gateway, rule id).
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self._watches: dict[str, list[_Watch]] = {}
        self._stepped: dict[str, int] = {}
        self._heard: dict[str, dict[str, int]] = defaultdict(dict)  # newest good sample by gateway and series

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
        return _Watch(watched, rule, State.from_json({**state.to_json(), "tracks": tracks}), now_ms, names)

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
            watch.late_ms += [sample.time_ms for sample in mine if sample.time_ms <= watch.state.floor_ms]
            for sample in mine:
                if now_ms - sample.time_ms > _fresh_ms(watch.rule, sample.series):
                    watch.timely_ms = max(watch.timely_ms, sample.time_ms + 1)
            watch.state, news = step(watch.rule, watch.state, mine, now_ms)
            changes += [Change(watch.watched, watch.rule, one) for one in news]
        heard = self._heard[gateway]
        for sample in samples:
            if sample.value is not None:
                heard[sample.series] = max(sample.time_ms, heard.get(sample.series, 0))
        return changes

    def late(self) -> list[Late]:
        """What of the forgotten past is to be judged again since the last call, by `past`."""
        found: list[Late] = []
        for watch in (one for watches in self._watches.values() for one in watches if one.late_ms):
            state = watch.state
            for first, last in stretches(watch.late_ms):
                found.append(
                    Late(watch.watched, watch.rule, first, min(last, state.floor_ms), state.floor_ms, state.born_ms)
                )
            watch.late_ms = []
        return found

    def past(self, late: Late, recorded: Recorded) -> Verdict:
        """Judge a forgotten stretch again, until it joins what the board has `recorded` of it (a week at most)."""
        rule = late.rule
        names, reach = sorted({one.series for one in rule.inputs.values()}), reach_ms(rule)
        latest, longer = min(late.floor_ms, late.last_ms + reach + _LONGEST_PAST_MS), reach
        since = start_ms(rule, late.first_ms) - rule.memory_ms
        while True:
            until = min(late.last_ms + longer, latest)
            samples = self._history(late.watched.gateway, names, since, until + 1)
            verdict = judge(rule, samples, (late.first_ms, until), recorded, late.born_ms)
            if until == latest or settled(verdict, recorded):
                return verdict
            longer = max(4 * longer, DAY_MS // 4)

    def present(self, gateway: str, rule_id: str, now_ms: int) -> bool:
        """Whether this alarm is a danger now, by readings that came in time.

        Its condition must hold now, and hold as well when every reading that came late is left out: a night's backlog
        can make a sum of 24 hours true, but late data call nobody. A rule that waits for silence counts only while
        another series of the gateway speaks: the link is back, this one is not.
        """
        watch = next((one for one in self._watches.get(gateway, ()) if one.rule.id == rule_id), None)
        if watch is None or not watch.state.raised or not holds(watch.rule, watch.state, now_ms):
            return False
        if _awaits_silence(watch.rule):
            return any(
                now_ms - self._heard[gateway].get(name, 0) < fresh
                for other in self._watches[gateway]
                for name, fresh in ((one.series, one.fresh_ms) for one in other.rule.inputs.values())
                if name not in watch.series
            )
        return holds(watch.rule, watch.state.since(watch.timely_ms), now_ms)

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


def _fresh_ms(rule: Rule, series: str) -> int:
    return max(one.fresh_ms for one in rule.inputs.values() if one.series == series)


def _awaits_silence(rule: Rule) -> bool:
    return any(node.op == "missing" for node in rule.on.walk())


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
