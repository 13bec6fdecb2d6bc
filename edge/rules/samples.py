"""What a rule can see at one instant: the samples so far, held until the next one, and windows over them."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge.rules.expressions import Expression

_HOLD_INTERVALS = 3
_HOUR_MS = 3_600_000
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of one series (``sensor/quantity``) at one time (UTC ms); None where its quality is bad."""

    series: str
    time_ms: int
    value: float | None


@dataclass(frozen=True, slots=True)
class Input:
    """What a short name in a rule stands for; ``interval_ms`` is how often a sample is due."""

    series: str
    unit: str
    interval_ms: int

    @property
    def fresh_ms(self) -> int:
        """How long a sample stands for the present."""
        return _HOLD_INTERVALS * self.interval_ms


@dataclass(slots=True)
class Track:
    """The samples of one series in the order of their times; equal times are kept once, the first wins."""

    times: list[int] = field(default_factory=list)
    values: list[float | None] = field(default_factory=list)

    def insert(self, time_ms: int, value: float | None) -> bool:
        """False where there is one at that time already."""
        at = bisect.bisect_left(self.times, time_ms)
        if at < len(self.times) and self.times[at] == time_ms:
            return False
        self.times.insert(at, time_ms)
        self.values.insert(at, value)
        return True

    def copy(self) -> Track:
        """An independent one."""
        return Track(self.times.copy(), self.values.copy())

    def kept_from(self, cut_ms: int) -> Track:
        """Without what is older than the cut, but with the last good sample: silence is counted from it."""
        at = bisect.bisect_left(self.times, cut_ms)
        while at > 0:
            at -= 1
            if self.values[at] is not None:
                break
        return Track(self.times[at:], self.values[at:]) if at else self

    def last_good_ms(self, at_ms: int) -> int | None:
        """Time of the newest good sample not after the instant."""
        for at in range(bisect.bisect_right(self.times, at_ms) - 1, -1, -1):
            if self.values[at] is not None:
                return self.times[at]
        return None


_EMPTY = Track()
Value = float | None


class View:
    """The values of expressions at instants, over fixed tracks.

    ``born_ms`` is when watching began (for silence of a series never heard), ``offset_ms`` local minus UTC time,
    ``begun_ms`` when the present batch of animals or the present crop began (None: nobody said).
    """

    def __init__(
        self,
        inputs: Mapping[str, Input],
        tracks: Mapping[str, Track],
        born_ms: int,
        offset_ms: int,
        begun_ms: int | None = None,
    ) -> None:
        self._inputs, self._tracks, self._born_ms, self._offset_ms = inputs, tracks, born_ms, offset_ms
        self._begun_ms = begun_ms
        self._seen: dict[int, dict[int, Value]] = {}  # by the identity of a node, which the rule keeps alive

    def truth(self, node: Expression, at_ms: int) -> bool | None:
        """A condition at an instant; None unknown."""
        value = self.value(node, at_ms)
        return None if value is None else bool(value)

    def value(self, node: Expression, at_ms: int) -> Value:
        """A number at an instant (conditions: 1 or 0); None unknown."""
        if node.op == "number":
            return node.value
        if node.op == "input":
            return self._held(node.name, at_ms)
        if node.op in {"and", "or"}:
            return self._junction(node, at_ms)
        special = _SPECIAL.get(node.op)
        if special is not None:
            return special(self, node, at_ms)
        args = [self.value(arg, at_ms) for arg in node.args]
        numbers = [arg for arg in args if arg is not None]
        return _apply(node.op, numbers) if len(numbers) == len(args) else None

    def _held(self, name: str, at_ms: int) -> Value:
        wanted = self._inputs[name]
        track = self._tracks.get(wanted.series, _EMPTY)
        at = bisect.bisect_right(track.times, at_ms) - 1
        if at < 0 or at_ms - track.times[at] >= wanted.fresh_ms:
            return None
        return track.values[at]

    def _junction(self, node: Expression, at_ms: int) -> Value:
        """Three-valued: one decisive side is enough."""
        decisive = 1.0 if node.op == "or" else 0.0
        sides = [self.value(arg, at_ms) for arg in node.args]
        if decisive in sides:
            return decisive
        return None if None in sides else 1.0 - decisive

    def _missing(self, node: Expression, at_ms: int) -> Value:
        """Intervals since the input (the quietest one of a derived quantity) was last heard."""
        worst = 0.0
        for name in node.args[0].inputs():
            wanted = self._inputs[name]
            heard = self._tracks.get(wanted.series, _EMPTY).last_good_ms(at_ms)
            since = self._born_ms if heard is None else heard
            worst = max(worst, (at_ms - since) / wanted.interval_ms)
        return worst

    def _ago(self, node: Expression, at_ms: int) -> Value:
        return self.value(node.args[0], at_ms - int(node.args[1].value))

    def _rise(self, node: Expression, at_ms: int) -> Value:
        now, before = self.value(node.args[0], at_ms), self._ago(node, at_ms)
        return None if now is None or before is None else now - before

    def _hours(self, node: Expression, at_ms: int) -> Value:
        total = sum(length for length, value in self._pieces(node, at_ms) if value)
        return total / _HOUR_MS

    def _count(self, node: Expression, at_ms: int) -> Value:
        """Samples in the window at which the condition held: n of the last m."""
        inner, start = node.args[0], at_ms - int(node.args[1].value)
        seen, times = self._seen.setdefault(id(inner), {}), set[int]()
        for name in inner.inputs():
            held = self._tracks.get(self._inputs[name].series, _EMPTY).times
            times.update(held[bisect.bisect_right(held, start) : bisect.bisect_right(held, at_ms)])
        for time in times - seen.keys():
            seen[time] = self.value(inner, time)
        return float(sum(1 for time in times if seen[time]))

    def _mean(self, node: Expression, at_ms: int) -> Value:
        pieces = self._covered(node, at_ms)
        return sum(length * value for length, value in pieces) / sum(n for n, _ in pieces) if pieces else None

    def _extreme(self, node: Expression, at_ms: int) -> Value:
        values = [value for _, value in self._covered(node, at_ms)]
        if not values:
            return None
        return min(values) if node.op == "min" else max(values)

    def _covered(self, node: Expression, at_ms: int) -> list[tuple[int, float]]:
        """Known pieces of the window; empty where less than half of it is known."""
        pieces = [(length, value) for length, value in self._pieces(node, at_ms) if value is not None]
        known = sum(length for length, _ in pieces)
        return pieces if 2 * known >= node.args[1].value else []

    def _pieces(self, node: Expression, at_ms: int) -> Iterator[tuple[int, Value]]:
        """The window cut where the inner value can change, as (length in ms, value); lengths are above 0."""
        inner, start = node.args[0], at_ms - int(node.args[1].value)
        cuts = self._changes(inner, start, at_ms)
        seen = self._seen.setdefault(id(inner), {})
        for here, there in itertools.pairwise(cuts):
            # Neighbouring windows share all but their ends: a night's late samples are judged in one go.
            if here not in seen:
                seen[here] = self.value(inner, here)
            yield there - here, seen[here]

    def _changes(self, inner: Expression, start: int, stop: int) -> list[int]:
        cuts = {start, stop}
        for name in inner.inputs():
            wanted = self._inputs[name]
            times = self._tracks.get(wanted.series, _EMPTY).times
            first, last = bisect.bisect_right(times, start - wanted.fresh_ms), bisect.bisect_left(times, stop)
            for at in range(first, last):
                ends = times[at] + wanted.fresh_ms
                cuts.add(max(start, times[at]))
                if ends < stop and (at + 1 == len(times) or times[at + 1] > ends):
                    cuts.add(max(start, ends))
        if any(below.op in {"between", "hour", "month", "age"} for below in inner.walk()):
            cuts.update(range(start - start % 60_000 + 60_000, stop, 60_000))
        return sorted(cuts)

    def _between(self, node: Expression, at_ms: int) -> Value:
        now = (at_ms + self._offset_ms) % _DAY_MS
        start, stop = node.args[0].value, node.args[1].value
        inside = start <= now < stop if start <= stop else now >= start or now < stop
        return 1.0 if inside else 0.0

    def _hour(self, _node: Expression, at_ms: int) -> Value:
        return (at_ms + self._offset_ms) % _DAY_MS / _HOUR_MS

    def _age(self, _node: Expression, at_ms: int) -> Value:
        """Days since the batch began; before that it is negative."""
        return None if self._begun_ms is None else (at_ms - self._begun_ms) / _DAY_MS

    def _month(self, _node: Expression, at_ms: int) -> Value:
        return float(_month_of((at_ms + self._offset_ms) // _DAY_MS))


_SPECIAL: dict[str, Callable[[View, Expression, int], Value]] = {
    "missing": View._missing,  # noqa: SLF001 - the table of its own methods
    "ago": View._ago,  # noqa: SLF001
    "rise": View._rise,  # noqa: SLF001
    "hours": View._hours,  # noqa: SLF001
    "count": View._count,  # noqa: SLF001
    "age": View._age,  # noqa: SLF001
    "mean": View._mean,  # noqa: SLF001
    "min": View._extreme,  # noqa: SLF001
    "max": View._extreme,  # noqa: SLF001
    "between": View._between,  # noqa: SLF001
    "hour": View._hour,  # noqa: SLF001
    "month": View._month,  # noqa: SLF001
}


_PLAIN: dict[str, Callable[..., float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "<": lambda a, b: float(a < b),
    "<=": lambda a, b: float(a <= b),
    ">": lambda a, b: float(a > b),
    ">=": lambda a, b: float(a >= b),
    "==": lambda a, b: float(a == b),
    "!=": lambda a, b: float(a != b),
    "not": lambda a: 1.0 - a,
    "negate": lambda a: -a,
    "abs": abs,
    "exp": math.exp,
    "ln": math.log,
    "pow10": lambda a: 10.0**a,
    "least": min,
    "greatest": max,
}


def _apply(op: str, args: list[float]) -> Value:
    """A plain operation; unknown where arithmetic has no answer (division by zero, log of a negative)."""
    try:
        value = _PLAIN[op](*args)
    except (ZeroDivisionError, OverflowError, ValueError):
        return None
    return value if math.isfinite(value) else None


def calculate(node: Expression, values: Mapping[str, float]) -> Value:
    """A plain formula (no windows, no schedule) for given inputs; None where arithmetic has no answer."""
    if node.op in {"number", "input"}:
        return node.value if node.op == "number" else values[node.name]
    args = [calculate(arg, values) for arg in node.args]
    numbers = [arg for arg in args if arg is not None]
    return _apply(node.op, numbers) if len(numbers) == len(args) else None


def _month_of(days: int) -> int:
    """Month of a day counted from 1970-01-01 (Howard Hinnant's civil calendar, months from March)."""
    day_of_era = (days + 719_468) % 146_097
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    from_march = (5 * day_of_year + 2) // 153
    return from_march + 3 if from_march < 10 else from_march - 9  # noqa: PLR2004 - March is 0, January 10
