"""Controls, commands and interlocks together, one tick at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from edge.control.interlock import Actuator, ControlError, Decision, Memory, Situation, decide
from edge.rules import Rule, Sample, State, begin, step
from edge.rules.machine import CHINA_MS
from edge.rules.samples import Input, Track

_LATE_MS = 10 * 60_000
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Control:
    """What wants an actuator to run: a rule, a schedule or a PI block.

    ``rule`` drives to ``value`` while raised. ``periods`` (ms of the local day, may wrap) drive to ``value``. A PI
    block follows ``measure`` towards ``setpoint``: output = kp * error + ki * integral, error = measure - setpoint,
    kept within ``low..high`` (negative gains where more output raises the measure). ``force`` wins over commands.
    """

    id: str
    drive: str
    value: float = 1.0
    force: bool = False
    rule: Rule | None = None
    periods: tuple[tuple[int, int], ...] = ()
    measure: Input | None = None
    setpoint: float = 0.0
    kp: float = 0.0
    ki: float = 0.0
    low: float = 0.0
    high: float = 1.0


@dataclass(frozen=True, slots=True)
class Override:
    """A person's wish for one actuator until ``until_ms`` (same clock as the interlocks)."""

    value: float
    until_ms: int
    by: str


@dataclass(frozen=True, slots=True)
class Change:
    """An actuator got another value; ``reason`` is the control, ``command`` or the interlock that decided."""

    actuator: str
    value: float
    reason: str


class Loop:
    """Everything the control of one gateway remembers; ``tick`` about once a second.

    Two times come in: ``now_ms`` is wall time (for rules and schedules), ``stamp`` never jumps (for interlocks).
    """

    def __init__(
        self,
        actuators: Sequence[Actuator],
        controls: Sequence[Control],
        inputs: Mapping[str, Input],
        *,
        now_ms: int,
        stamp: int,
        offset_ms: int = CHINA_MS,
    ) -> None:
        self.actuators = {one.name: one for one in actuators}
        self._controls, self._inputs, self._offset_ms = tuple(controls), dict(inputs), offset_ms
        if strange := [one.drive for one in controls if one.drive not in self.actuators]:
            raise ControlError("bad_control", f"no actuator {strange[0]!r}")
        self._states = {one.id: begin(now_ms, late_ms=_LATE_MS) for one in controls if one.rule}
        self._integrals: dict[str, float] = {one.id: 0.0 for one in controls if one.measure}
        self._latest: dict[str, Track] = {}
        # The agent starts with everything at its fail-safe; nothing is known of how long it stood there.
        self.memories = {one.name: Memory(one.failsafe, stamp, stamp) for one in actuators}
        self.overrides: dict[str, Override] = {}
        self.manual: dict[str, float | None] = {}
        self.reasons: dict[str, str] = {}
        self._last_stamp = stamp

    def tick(self, samples: Sequence[Sample], now_ms: int, stamp: int) -> list[Change]:
        """Take new samples and the time; returns what changed, exclusion respected in the order of the file."""
        self._remember(samples)
        elapsed_s = min(5.0, max(0.0, (stamp - self._last_stamp) / 1000))
        self._last_stamp = stamp
        wishes = self._wishes(samples, now_ms, elapsed_s)
        self.overrides = {name: one for name, one in self.overrides.items() if stamp < one.until_ms}
        day = (now_ms + self._offset_ms) // _DAY_MS
        changes = []
        # Those that run are asked first: the one already on keeps the one it excludes off.
        for name in sorted(self.actuators, key=lambda one: not self.memories[one].on):
            running = frozenset(other for other, memory in self.memories.items() if memory.on and other != name)
            fresh = all(self._fresh(series, now_ms) for series in self.actuators[name].need_fresh)
            at = Situation(stamp, day, fresh, self.manual.get(name), running)
            wanted, why = self._wish(name, wishes)
            decision, memory = decide(self.actuators[name], self.memories[name], wanted, at)
            changes += self._note(name, decision, memory, why)
        return changes

    def _note(self, name: str, decision: Decision, memory: Memory, why: str) -> list[Change]:
        changed = decision.value != self.memories[name].value
        self.memories[name] = memory
        self.reasons[name] = why if decision.reason == "wanted" else decision.reason
        return [Change(name, decision.value, self.reasons[name])] if changed else []

    def _wish(self, name: str, wishes: Mapping[str, tuple[float, str, bool]]) -> tuple[float, str]:
        value, why, force = wishes.get(name, (0.0, "nothing wanted", False))
        override = self.overrides.get(name)
        if override is None or (force and value >= override.value):
            return value, why
        return override.value, f"command by {override.by}"

    def _wishes(self, samples: Sequence[Sample], now_ms: int, elapsed_s: float) -> dict[str, tuple[float, str, bool]]:
        """Of all that drive one actuator, the strongest wish."""
        found: dict[str, tuple[float, str, bool]] = {}
        for control in self._controls:
            value = self._ask(control, samples, now_ms, elapsed_s)
            if value > found.get(control.drive, (0.0, "", False))[0]:
                found[control.drive] = (value, control.id, control.force and value > 0)
        return found

    def _ask(self, control: Control, samples: Sequence[Sample], now_ms: int, elapsed_s: float) -> float:
        if control.rule is not None:
            self._states[control.id], _ = step(control.rule, self._states[control.id], samples, now_ms)
            return control.value if self._states[control.id].raised else 0.0
        if control.measure is not None:
            return self._pi(control, control.measure, now_ms, elapsed_s)
        now = (now_ms + self._offset_ms) % _DAY_MS
        inside = (
            start <= now < stop if start <= stop else now >= start or now < stop for start, stop in control.periods
        )
        return control.value if any(inside) else 0.0

    def _pi(self, control: Control, measure: Input, now_ms: int, elapsed_s: float) -> float:
        track = self._latest.get(measure.series, Track())
        if not track.values or track.values[-1] is None or not self._fresh(measure.series, now_ms):
            return control.low
        error = track.values[-1] - control.setpoint
        integral = self._integrals[control.id] + control.ki * error * elapsed_s
        # The integral never winds up beyond what the output can do.
        self._integrals[control.id] = min(max(integral, control.low), control.high)
        return min(max(control.kp * error + self._integrals[control.id], control.low), control.high)

    def _remember(self, samples: Sequence[Sample]) -> None:
        for sample in samples:
            if sample.series in self._inputs:
                track = self._latest.get(sample.series)
                if track is None or sample.time_ms >= track.times[-1]:
                    self._latest[sample.series] = Track([sample.time_ms], [sample.value])

    def _fresh(self, series: str, now_ms: int) -> bool:
        track = self._latest.get(series)
        if track is None or track.values[-1] is None:
            return False
        return abs(now_ms - track.times[-1]) < self._inputs[series].fresh_ms

    def clock_stepped(self, now_ms: int) -> None:
        """Wall time jumped: rules begin anew (their hold times with them), interlocks do not notice."""
        self._states = {name: begin(now_ms, late_ms=_LATE_MS) for name in self._states}
        self._latest.clear()

    # -- surviving a restart ---------------------------------------------------------------------------

    def to_json(self, stamp: int) -> dict[str, Any]:
        """What must survive; times become ages, since the clock that never jumps starts anew with a boot."""
        memories = {name: {**asdict(one), **_ages(one, stamp)} for name, one in self.memories.items()}
        states = {name: state.to_json() for name, state in self._states.items()}
        return {"memories": memories, "states": states, "integrals": self._integrals}

    def restore(self, document: Mapping[str, Any], *, stamp: int, away_ms: int) -> None:
        """Go on from ``to_json``, ``away_ms`` later (0 where nobody knows: then holds count from now)."""
        for name, row in document.get("memories", {}).items():
            if name in self.memories:
                self.memories[name] = Memory(
                    value=float(row["value"]),
                    switched_ms=stamp - away_ms - int(row["switched_ms"]),
                    seen_ms=stamp,
                    day=int(row["day"]),
                    used_ms=int(row["used_ms"]) + (away_ms if row["value"] > 0 else 0),
                    resting_until_ms=stamp - away_ms + int(row["resting_until_ms"]),
                )
        for name, row in document.get("states", {}).items():
            if name in self._states:
                self._states[name] = State.from_json(row)
        self._integrals.update({k: float(v) for k, v in document.get("integrals", {}).items() if k in self._integrals})

    def command(self, target: str, override: Override | None) -> str:
        """Set or release a person's wish; returns why it cannot be followed now, empty where it can."""
        if target not in self.actuators:
            return "unknown_target"
        if override is None:
            self.overrides.pop(target, None)
            return ""
        if self.manual.get(target) is not None:
            return "interlock:manual"
        self.overrides[target] = replace(override, value=min(max(override.value, 0.0), 1.0))
        return ""


def _ages(memory: Memory, stamp: int) -> dict[str, int]:
    return {
        "switched_ms": stamp - memory.switched_ms,
        "seen_ms": 0,
        "resting_until_ms": max(0, memory.resting_until_ms - stamp),
    }
