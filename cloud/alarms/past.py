"""A forgotten stretch of the past, judged again because readings came for it after all.

What comes later than a rule's state reconsiders cannot change the state; it can change what the board says of those
days. The stretch is judged from the phase that the board records at its beginning, over everything that is stored, so
the answer depends on the readings alone: not on the order in which they came, nor on who was restarted in between.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from edge.rules import Rule, Sample, State, Transition, step

__all__ = ["DAY_MS", "Recorded", "Verdict", "judge", "reach_ms", "settled", "start_ms", "stretches"]

DAY_MS = 86_400_000
# (raised, cleared or None) of the alarms that the board has of one rule, by time of raising; none is withdrawn.
Recorded = Sequence[tuple[int, int | None]]
_WEEK_MS = 7 * DAY_MS
_MINUTE_MS = 60_000
_RAISED = frozenset({"raised", "clearing"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a stretch `[first_ms, until_ms]` comes to: `spans` as in `Course`, `raised` with what was seen then.

    `carried` is when the alarm was raised that was on at the beginning already, `carried_end` when that one ended; `on`
    says whether the rule is raised at the end.
    """

    first_ms: int
    until_ms: int
    spans: tuple[tuple[int, int | None, int], ...]
    raised: tuple[Transition, ...]
    carried: int | None
    carried_end: int | None
    on: bool


def stretches(times: Sequence[int]) -> list[tuple[int, int]]:
    """Times in groups without a gap of more than a day, as (first, last)."""
    found: list[tuple[int, int]] = []
    for at in sorted(times):
        if found and at - found[-1][1] <= DAY_MS:
            found[-1] = (found[-1][0], at)
        else:
            found.append((at, at))
    return found


def reach_ms(rule: Rule) -> int:
    """How long after a reading its rule may still change by it alone."""
    return rule.memory_ms + rule.hold_ms + rule.clear_ms


def start_ms(rule: Rule, first_ms: int) -> int:
    """Where to begin so that holds under way at `first_ms` are known: conditions are looked at every minute."""
    return first_ms - rule.hold_ms - rule.clear_ms - 2 * _MINUTE_MS - 1


def judge(rule: Rule, samples: Sequence[Sample], span: tuple[int, int], recorded: Recorded, born_ms: int) -> Verdict:
    """Judge `[first, until]` = `span` over samples that reach back to what the rule sees at `start_ms`.

    An alarm still on at the end lasts as long as the board says it does there; where the board knows of none it counts
    as over at the end, for what follows was decided without it.
    """
    first, until = span
    start = start_ms(rule, first)
    before = _covering(recorded, start)
    state = _state(samples, start, until, born_ms, since=None if before is None else before[0])
    raised: list[Transition] = []
    while state.tip_ms < until:
        state, news = step(rule, state, (), min(until, state.tip_ms + _WEEK_MS))
        raised += [one for one in news if one.kind == "raised" and one.at_ms >= first]
    covering = _covering(recorded, until)
    end = until if covering is None else covering[1]
    spans: list[tuple[int, int | None, int]] = []
    phase, begun, carried_end = state.base, state.base, end
    for mark in state.trail:
        was, now = phase.phase in _RAISED, mark.phase in _RAISED
        phase = mark
        if mark.at_ms < first:
            begun = mark
        if was == now or mark.at_ms < first:
            continue
        if now:
            spans.append((mark.at_ms, end, mark.since_ms))
        elif spans:
            spans[-1] = (spans[-1][0], mark.at_ms, spans[-1][2])
        else:
            carried_end = mark.at_ms
    carried = _covering(recorded, first - 1) if begun.phase in _RAISED else None
    return Verdict(
        first, until, tuple(spans), tuple(raised), carried[0] if carried else None, carried_end, state.raised
    )


def settled(verdict: Verdict, recorded: Recorded) -> bool:
    """Whether the verdict ends in the phase that the board has there, so that nothing after it can change."""
    return verdict.on == (_covering(recorded, verdict.until_ms) is not None)


def _covering(recorded: Recorded, at_ms: int) -> tuple[int, int | None] | None:
    """The alarm that is on at an instant."""
    on = [one for one in recorded if one[0] <= at_ms and (one[1] is None or one[1] > at_ms)]
    return on[-1] if on else None


def _state(samples: Sequence[Sample], start: int, until: int, born_ms: int, since: int | None) -> State:
    tracks: dict[str, tuple[list[int], list[float | None]]] = {}
    for one in sorted(samples, key=lambda one: one.time_ms):
        times, values = tracks.setdefault(one.series, ([], []))
        if not times or times[-1] < one.time_ms:
            times.append(one.time_ms)
            values.append(one.value)
    phase = [start, "idle", start] if since is None else [since, "raised", since]
    document = {"format": 1, "born": born_ms, "late": until - start, "tip": start, "floor": start, "too_late": 0}
    return State.from_json({**document, "base": phase, "trail": [], "tracks": tracks})
