"""A rule's state over event time: idle, pending (its condition holds, not yet long enough), raised, clearing."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from edge.rules.expressions import Expression, RuleError, depth_ms, outcomes
from edge.rules.samples import Input, Sample, Track, View

_GRID_MS = 60_000
CHINA_MS = 8 * 3_600_000
_CATCH_UP_MS = 7 * 86_400_000
_STATE_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, checked when it is made.

    Attributes:
        id: unique within its farm or site.
        severity: ``warning`` or ``critical``.
        inputs: short names -> series.
        on: raises when true for ``hold_ms``.
        off: clears when true for ``clear_ms``; None means "when ``on`` is false".
        texts: ``zh``, ``en`` (what is wrong), ``action_zh``, ``action_en`` (what to do), ``source``.
        ranges: physical range of each input, for the check that it can go on and off at all.
        offset_ms: local minus UTC time, for schedules.
        begun_ms: when the present batch or crop began, for growth stages; None: ``age()`` is unknown.
    """

    id: str
    severity: str
    inputs: Mapping[str, Input]
    on: Expression
    off: Expression | None = None
    hold_ms: int = 0
    clear_ms: int = 0
    texts: Mapping[str, str] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    offset_ms: int = CHINA_MS
    begun_ms: int | None = None

    def __post_init__(self) -> None:
        for part in (self.on, self.off):
            if part is not None and not part.truth:
                raise RuleError("bad_rule", f"rule {self.id}: {part.text!r} is not a condition")
        if self.hold_ms < 0 or self.clear_ms < 0:
            raise RuleError("bad_rule", f"rule {self.id}: hold times cannot be negative")
        if True not in outcomes(self.on, self.ranges):
            raise RuleError("bad_rule", f"rule {self.id}: {self.on.text!r} can never be true")
        ends = outcomes(self.off, self.ranges) if self.off else {not one for one in outcomes(self.on, self.ranges)}
        if True not in ends:
            raise RuleError("bad_rule", f"rule {self.id}: once raised it can never clear")

    @property
    def memory_ms(self) -> int:
        """How much past its conditions look at."""
        window = max(depth_ms(part) for part in (self.on, self.off) if part is not None)
        return window + max((one.fresh_ms for one in self.inputs.values()), default=0)


@dataclass(frozen=True, slots=True)
class Transition:
    """A rule was ``raised`` or ``cleared`` at ``at_ms`` (event time), or an earlier raising was ``withdrawn``.

    ``since_ms`` is when the condition began to hold, ``values`` what the inputs and windows showed at ``at_ms``.
    """

    rule: str
    kind: str
    at_ms: int
    since_ms: int
    values: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Mark:
    """From ``at_ms`` on the rule is in ``phase``, whose condition began at ``since_ms``."""

    at_ms: int
    phase: str
    since_ms: int


@dataclass(frozen=True, slots=True)
class State:
    """Everything a rule remembers; made by ``begin``, changed only by ``step``.

    ``floor_ms``: samples up to here come too late and are only counted. ``trail`` holds the changes of phase since
    then, ``base`` the phase at the floor.
    """

    born_ms: int
    late_ms: int
    tip_ms: int
    floor_ms: int
    base: Mark
    trail: tuple[Mark, ...] = ()
    tracks: Mapping[str, Track] = field(default_factory=dict)
    too_late: int = 0

    @property
    def mark(self) -> Mark:
        """The phase now."""
        return self.trail[-1] if self.trail else self.base

    @property
    def raised(self) -> bool:
        """Whether the rule is raised now."""
        return self.mark.phase in {"raised", "clearing"}

    def since(self, at_ms: int) -> State:
        """The same state, as if no sample before ``at_ms`` had been heard."""
        tracks = {}
        for name, track in self.tracks.items():
            cut = bisect.bisect_left(track.times, at_ms)
            tracks[name] = Track(track.times[cut:], track.values[cut:])
        return replace(self, tracks=tracks)

    def to_json(self) -> dict[str, Any]:
        """A JSON document that ``from_json`` reads."""
        return {
            "format": _STATE_FORMAT,
            "born": self.born_ms,
            "late": self.late_ms,
            "tip": self.tip_ms,
            "floor": self.floor_ms,
            "base": [self.base.at_ms, self.base.phase, self.base.since_ms],
            "trail": [[mark.at_ms, mark.phase, mark.since_ms] for mark in self.trail],
            "tracks": {name: [track.times, track.values] for name, track in self.tracks.items()},
            "too_late": self.too_late,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> State:
        """The state again; raises ``RuleError`` where the document is not one."""
        try:
            if document["format"] != _STATE_FORMAT:
                raise RuleError("bad_state", f"state format {document['format']!r} is unknown")
            return cls(
                document["born"],
                document["late"],
                document["tip"],
                document["floor"],
                Mark(*document["base"]),
                tuple(Mark(*mark) for mark in document["trail"]),
                {name: Track(list(times), list(values)) for name, (times, values) in document["tracks"].items()},
                document["too_late"],
            )
        except (KeyError, TypeError, ValueError) as why:
            raise RuleError("bad_state", f"not the state of a rule: {why!r}") from None


def begin(at_ms: int, *, late_ms: int = 0) -> State:
    """A rule that begins to watch at ``at_ms`` and reconsiders the last ``late_ms`` when late samples come."""
    floor = at_ms - late_ms - 1
    return State(at_ms, late_ms, at_ms - 1, floor, Mark(floor, "idle", floor))


def step(rule: Rule, state: State, samples: Sequence[Sample], now_ms: int) -> tuple[State, list[Transition]]:
    """Take samples (of any series, in any order) and the time; a tick is a call without samples.

    Samples of the future wait until their time has come. Returns the new state and what changed, by time.
    """
    now_ms = max(now_ms, state.tip_ms)
    tracks, earliest, too_late = _insert(rule, state, samples)
    start, trail = max(state.tip_ms, now_ms - _CATCH_UP_MS), list(state.trail)
    known: list[Transition] = []
    if earliest is not None and earliest <= state.tip_ms:
        start = earliest - 1
        kept = [mark for mark in trail if mark.at_ms <= start]
        known = list(_transitions(rule, kept[-1] if kept else state.base, trail[len(kept) :], None))
        trail = kept
    view = View(rule.inputs, tracks, state.born_ms, rule.offset_ms, rule.begun_ms)
    before = trail[-1] if trail else state.base
    fresh = list(_run(rule, view, before, _instants(rule, tracks, start, now_ms), now_ms))
    found = list(_transitions(rule, before, fresh, view))
    return _settle(rule, state, tracks, [*trail, *fresh], now_ms, too_late), _news(known, found)


def _insert(rule: Rule, state: State, samples: Sequence[Sample]) -> tuple[dict[str, Track], int | None, int]:
    wanted = {one.series for one in rule.inputs.values()}
    tracks, copied = dict(state.tracks), set[str]()
    earliest, too_late = None, state.too_late
    for sample in samples:
        if sample.series not in wanted:
            continue
        if sample.time_ms <= state.floor_ms:
            too_late += 1
            continue
        if sample.series not in copied:
            tracks[sample.series] = tracks[sample.series].copy() if sample.series in tracks else Track()
            copied.add(sample.series)
        if tracks[sample.series].insert(sample.time_ms, sample.value):
            earliest = sample.time_ms if earliest is None else min(earliest, sample.time_ms)
    return tracks, earliest, too_late


def _instants(rule: Rule, tracks: Mapping[str, Track], start: int, stop: int) -> list[int]:
    """When the conditions are looked at within ``(start, stop]``: every sample and every full minute."""
    found = set(range(start - start % _GRID_MS + _GRID_MS, stop + 1, _GRID_MS))
    for one in rule.inputs.values():
        if (track := tracks.get(one.series)) is not None:
            found.update(track.times[bisect.bisect_right(track.times, start) : bisect.bisect_right(track.times, stop)])
    return sorted(found)


def _run(rule: Rule, view: View, mark: Mark, instants: Iterable[int], stop: int) -> Iterator[Mark]:
    """The changes of phase at the instants and at the ends of holds between them."""
    for instant in [*instants, stop + 1]:
        while (due := _deadline(rule, mark)) is not None and mark.at_ms < due < instant:
            after = _advance(rule, view, mark, due)
            if after.phase == mark.phase:
                break
            mark = after
            yield mark
        if instant > stop:
            return
        after = _advance(rule, view, mark, instant)
        if after.phase != mark.phase:
            mark = after
            yield mark


def _deadline(rule: Rule, mark: Mark) -> int | None:
    if mark.phase == "pending":
        return mark.since_ms + rule.hold_ms
    if mark.phase == "clearing":
        return mark.at_ms + rule.clear_ms
    return None


def _advance(rule: Rule, view: View, mark: Mark, at_ms: int) -> Mark:
    if mark.phase in {"idle", "pending"}:
        if view.truth(rule.on, at_ms) is not True:
            return Mark(at_ms, "idle", at_ms) if mark.phase == "pending" else mark
        since = mark.since_ms if mark.phase == "pending" else at_ms
        return Mark(at_ms, "raised" if at_ms - since >= rule.hold_ms else "pending", since)
    if not _over(rule, view, at_ms):
        return Mark(at_ms, "raised", mark.since_ms) if mark.phase == "clearing" else mark
    began = mark.at_ms if mark.phase == "clearing" else at_ms
    if at_ms - began >= rule.clear_ms:
        return Mark(at_ms, "idle", at_ms)
    return mark if mark.phase == "clearing" else Mark(at_ms, "clearing", mark.since_ms)


def _over(rule: Rule, view: View, at_ms: int) -> bool:
    if rule.off is None:
        return view.truth(rule.on, at_ms) is False
    return view.truth(rule.off, at_ms) is True and view.truth(rule.on, at_ms) is not True


def _transitions(rule: Rule, before: Mark, marks: Sequence[Mark], view: View | None) -> Iterator[Transition]:
    for mark in marks:
        was, now = (one.phase in {"raised", "clearing"} for one in (before, mark))
        if was != now:
            values = _shown(rule, view, mark.at_ms) if view else {}
            yield Transition(rule.id, "raised" if now else "cleared", mark.at_ms, mark.since_ms, values)
        before = mark


def _shown(rule: Rule, view: View, at_ms: int) -> dict[str, float | None]:
    """Inputs, and whatever takes a window, by their own text."""
    nodes = [node for part in (rule.on, rule.off) if part is not None for node in part.walk()]
    return {node.text: view.value(node, at_ms) for node in nodes if node.op in _WORTH_SHOWING}


_WORTH_SHOWING = frozenset({"input", "mean", "min", "max", "rise", "ago", "missing", "hours", "count", "age"})


def _news(known: list[Transition], found: list[Transition]) -> list[Transition]:
    """What was not known, and the raisings known before that are no longer so."""
    said = {(one.kind, one.at_ms) for one in known}
    true = {(one.kind, one.at_ms) for one in found}
    gone = [
        replace(one, kind="withdrawn") for one in known if one.kind == "raised" and (one.kind, one.at_ms) not in true
    ]
    return sorted([*gone, *(one for one in found if (one.kind, one.at_ms) not in said)], key=_when)


def _when(one: Transition) -> tuple[int, bool]:
    return one.at_ms, one.kind != "withdrawn"


def _settle(rule: Rule, state: State, tracks: dict[str, Track], trail: list[Mark], now_ms: int, too_late: int) -> State:
    """Move the floor up to ``late_ms`` before now and forget what no window can reach any more."""
    floor = max(state.floor_ms, now_ms - state.late_ms)
    passed = [mark for mark in trail if mark.at_ms <= floor]
    tracks = {name: track.kept_from(floor - rule.memory_ms) for name, track in tracks.items()}
    return replace(
        state,
        tip_ms=now_ms,
        floor_ms=floor,
        base=passed[-1] if passed else state.base,
        trail=tuple(trail[len(passed) :]),
        tracks=tracks,
        too_late=too_late,
    )


def explain(rule: Rule, state: State, at_ms: int | None = None) -> dict[str, float | None]:
    """What inputs and windows show at an instant (default: now); None unknown."""
    view = View(rule.inputs, state.tracks, state.born_ms, rule.offset_ms, rule.begun_ms)
    return _shown(rule, view, state.tip_ms if at_ms is None else at_ms)


def holds(rule: Rule, state: State, at_ms: int) -> bool:
    """Whether the condition ``on`` is true at an instant by what the state remembers, however it got there."""
    view = View(rule.inputs, state.tracks, state.born_ms, rule.offset_ms, rule.begun_ms)
    return view.truth(rule.on, at_ms) is True


def replay(rule: Rule, samples: Sequence[Sample], until_ms: int) -> tuple[State, list[Transition]]:
    """A recorded piece of the past in one go, as if it had been watched from its first sample on."""
    first = min((sample.time_ms for sample in samples), default=until_ms)
    state = begin(first, late_ms=max(0, until_ms - first))
    transitions: list[Transition] = []
    for day in range(first, until_ms + 1, _CATCH_UP_MS):
        state, news = step(rule, state, samples if day == first else (), min(until_ms, day + _CATCH_UP_MS))
        transitions += news
    return state, transitions
