"""The last word on an actuator: a pure function that no command can get past."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edge import EdgeError

DAY_MS = 86_400_000


class ControlError(EdgeError):
    """A control or actuator is wrong and refused at load (``bad_control``)."""


@dataclass(frozen=True, slots=True)
class Actuator:
    """One thing that can be driven between 0 (off) and 1 (full).

    Attributes:
        failsafe: the value it takes when a series in ``need_fresh`` is silent or bad, and when the agent starts.
        min_on_ms: once on it stays on that long; ``min_off_ms`` likewise. Both spare motors and relays.
        max_run_ms: longest time on at a stretch, then off for ``rest_ms``; 0 = no limit.
        daily_max_ms: on-time allowed per local day; 0 = no limit.
        excludes: actuators that must be off while this one is on; the one already on wins.
        need_fresh: series that must have a good, fresh value.
    """

    name: str
    zh: str
    en: str
    failsafe: float
    min_on_ms: int = 0
    min_off_ms: int = 0
    max_run_ms: int = 0
    rest_ms: int = 0
    daily_max_ms: int = 0
    excludes: frozenset[str] = frozenset()
    need_fresh: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not 0.0 <= self.failsafe <= 1.0:
            raise ControlError("bad_control", f"actuator {self.name}: failsafe {self.failsafe} is not in 0..1")
        if self.failsafe > 0 and (self.max_run_ms or self.daily_max_ms):
            raise ControlError(
                "bad_control", f"actuator {self.name}: fail-safe on cannot go with a longest run or a daily quota"
            )
        if self.max_run_ms and self.max_run_ms < self.min_on_ms:
            raise ControlError("bad_control", f"actuator {self.name}: max_run is shorter than min_on")


@dataclass(frozen=True, slots=True)
class Memory:
    """What the interlocks remember of an actuator; times are on the clock that never jumps (ms).

    ``switched_ms`` is when it last went on or off, ``used_ms`` the on-time of local day ``day``.
    """

    value: float
    switched_ms: int
    seen_ms: int
    day: int = 0
    used_ms: int = 0
    resting_until_ms: int = 0

    @property
    def on(self) -> bool:
        """Whether it runs at all."""
        return self.value > 0


@dataclass(frozen=True, slots=True)
class Decision:
    """The value to write and why: ``wanted``, or the interlock that spoke."""

    value: float
    reason: str


@dataclass(frozen=True, slots=True)
class Situation:
    """What decides beside the wish: ``manual`` is the position of the local switch, None = automatic."""

    now_ms: int
    day: int
    fresh: bool
    manual: float | None
    running: frozenset[str]


def decide(actuator: Actuator, memory: Memory, wanted: float, at: Situation) -> tuple[Decision, Memory]:
    """What the actuator does now. ``wanted`` is 0..1; returns the decision and the new memory.

    Order of authority: manual switch, mutual exclusion, longest run and rest, daily quota, shortest on and off
    times, fail-safe in place of the wish where a needed sensor is not fresh.
    """
    memory = _account(memory, at)
    decision = _judge(actuator, memory, wanted, at)
    resting = memory.resting_until_ms
    if decision.reason == "max_run":
        resting = at.now_ms + actuator.rest_ms
    switched = at.now_ms if (decision.value > 0) != memory.on else memory.switched_ms
    return decision, replace(memory, value=decision.value, switched_ms=switched, resting_until_ms=resting)


def _account(memory: Memory, at: Situation) -> Memory:
    """Book the time since the last look; a new local day starts a new account."""
    used = 0 if at.day != memory.day else memory.used_ms
    ran = max(0, at.now_ms - memory.seen_ms) if memory.on else 0
    return replace(memory, seen_ms=at.now_ms, day=at.day, used_ms=used + ran)


def _judge(actuator: Actuator, memory: Memory, wanted: float, at: Situation) -> Decision:
    if at.manual is not None:
        return Decision(at.manual, "manual")
    value, reason = (wanted, "wanted") if at.fresh else (actuator.failsafe, "failsafe")
    # Also where nobody wants it on any more: the shortest on time is no excuse to go on.
    if (value > 0 or memory.on) and (stop := _must_stop(actuator, memory, at)):
        return Decision(0.0, stop)
    stood_ms = at.now_ms - memory.switched_ms
    if memory.on and value <= 0 and stood_ms < actuator.min_on_ms:
        return Decision(memory.value, "min_on")
    if not memory.on and value > 0 and stood_ms < actuator.min_off_ms:
        return Decision(0.0, "min_off")
    return Decision(value, reason)


def _must_stop(actuator: Actuator, memory: Memory, at: Situation) -> str:
    if actuator.excludes & at.running:
        return "exclusion"
    if actuator.max_run_ms and memory.on and at.now_ms - memory.switched_ms >= actuator.max_run_ms:
        return "max_run"
    if at.now_ms < memory.resting_until_ms:
        return "rest"
    if actuator.daily_max_ms and memory.used_ms >= actuator.daily_max_ms:
        return "quota"
    return ""
