"""What must work without the cloud: alarms and control of one gateway, kept over restarts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edge import EdgeError
from edge.control import Loop, Override
from edge.keepsake import load, save
from edge.watch import Watch

if TYPE_CHECKING:
    from edge.clock import Clock
    from edge.control import Change
    from edge.outputs import Output
    from edge.rules import Sample
    from edge.settings import Settings
    from edge.wire import Command

_SAVE_MS = 5 * 60_000
_HAND = {0.0: None, 1.0: 1.0, 2.0: 0.0}  # position of a switch -> what it forces; an unreadable one stays as it was
_REPORT = Callable[..., None]


class GuardError(EdgeError):
    """An output names an actuator that the farm has not (``unknown_actuator``)."""


class Guard:
    """Alarms (``Watch``) and control (``Loop``) with the effects around them: clock, outputs, state on disk."""

    def __init__(self, settings: Settings, clock: Clock, *, report: _REPORT) -> None:
        self._settings, self._clock, self._report = settings, clock, report
        self._outputs: dict[str, Output] = {}
        self._path = settings.spool_dir / "state.z"
        self._loop: Loop | None = None
        self._watch: Watch | None = None
        self._failed: dict[str, float] = {}
        self._switches: dict[str, str] = {}
        self._saved_at = clock.stamp()
        farm = settings.farm
        inputs = [*farm.inputs.values(), *(one for rule in farm.rules.values() for one in rule.inputs.values())]
        fresh = [series for actuator in farm.actuators for series in actuator.need_fresh]
        self.heard = frozenset([*(one.series for one in inputs), *fresh])  # series that a rule or a control listens to

    def add_output(self, actuator: str, output: Output, *, manual: str = "") -> None:
        """Have an actuator driven; before ``start``.

        ``manual`` is the series that tells the position of its switch: 0 automatic, 1 on by hand, 2 off by hand.
        """
        if actuator not in {one.name for one in self._settings.farm.actuators}:
            raise GuardError(
                "unknown_actuator", f"output: farm {self._settings.farm.name} has no actuator {actuator!r}"
            )
        self._outputs[actuator] = output
        if manual:
            self._switches[manual] = actuator
            self.heard |= {manual}

    def _now_ms(self) -> int:
        """Wall time, or time since boot while nobody knows better: rules need order more than a date."""
        known = self._clock.now_ms()
        return self._clock.stamp() if known is None else known

    def start(self) -> None:
        """Take up the state of the last run and put every actuator where it belongs."""
        farm, now_ms, stamp = self._settings.farm, self._now_ms(), self._clock.stamp()
        actuators = [one for one in farm.actuators if one.name in self._outputs]
        controls = [one for one in farm.controls if one.drive in self._outputs]
        self._loop = Loop(actuators, controls, farm.inputs, now_ms=now_ms, stamp=stamp)
        self._watch = Watch(farm, now_ms)
        kept = load(self._path)
        if isinstance(kept, Mapping) and self._clock.now_ms() is not None:
            with contextlib.suppress(EdgeError, KeyError, TypeError, ValueError, AttributeError):
                away_ms = max(0, now_ms - int(kept["saved_ms"]))
                self._watch.restore(kept["watch"])
                self._loop.restore(kept["control"], stamp=stamp, away_ms=away_ms)
        for name, memory in self._loop.memories.items():
            self._write(name, memory.value)

    def tick(self, samples: Sequence[Sample]) -> None:
        """Once a second: judge, alarm, drive."""
        if self._loop is None or self._watch is None:
            return
        now_ms, stamp = self._now_ms(), self._clock.stamp()
        for event in self._watch.tick(samples, now_ms):
            self._report(event.kind, dict(event.body), time_ms=event.time_ms)
        for sample in samples:
            if sample.series in self._switches and sample.value in _HAND:
                self._loop.manual[self._switches[sample.series]] = _HAND[sample.value]
        changes = self._loop.tick(samples, now_ms, stamp)
        for name in [*self._failed]:
            self._write(name, self._loop.memories[name].value)
        for change in changes:
            self._drive(change)
        if changes or stamp - self._saved_at > _SAVE_MS:
            self.save()

    def _drive(self, change: Change) -> None:
        self._write(change.actuator, change.value)
        self._report("actuator", {"actuator": change.actuator, "value": change.value, "reason": change.reason})

    def _write(self, name: str, value: float) -> None:
        try:
            self._outputs[name].write(value)
        except OSError as why:
            if name not in self._failed:
                self._report("actuator_failed", {"actuator": name, "value": value, "reason": str(why)})
            self._failed[name] = value
        else:
            self._failed.pop(name, None)

    def act(self, command: Command) -> str:
        """Carry out an accepted command; returns why not, empty where done."""
        if self._loop is None or command.target not in self._loop.actuators:
            return "unknown_target"
        if command.operation == "read":
            return ""
        override = None
        if command.operation == "set" and command.value is not None:
            # The wish ends with the command's validity: a lost network can never leave it standing.
            left_ms = command.expires_ms - self._now_ms()
            override = Override(command.value, self._clock.stamp() + left_ms, command.by)
        if reason := self._loop.command(command.target, override):
            return reason
        for change in self._loop.tick((), self._now_ms(), self._clock.stamp()):
            self._drive(change)
        value, why = self._loop.memories[command.target].value, self._loop.reasons[command.target]
        if override is None or value == override.value:
            return ""
        self._loop.command(command.target, None)  # refused is refused: it must not take effect later
        return f"interlock:{why}"

    def clock_stepped(self) -> None:
        """Wall time jumped."""
        if self._loop is not None and self._watch is not None:
            self._loop.clock_stepped(self._now_ms())
            self._watch.clock_stepped(self._now_ms())

    def save(self) -> None:
        """Keep the state; a disk that refuses costs only what a restart would have remembered."""
        if self._loop is None or self._watch is None:
            return
        stamp = self._clock.stamp()
        self._saved_at = stamp
        document = {"saved_ms": self._now_ms(), "watch": self._watch.to_json(), "control": self._loop.to_json(stamp)}
        with contextlib.suppress(OSError):
            save(self._path, document)

    def alarms(self) -> list[tuple[str, str, str]]:
        """What is raised, critical first: severity, what is wrong, what to do (Chinese)."""
        rules = self._watch.raised if self._watch else []
        return [(rule.severity, rule.texts["zh"], rule.texts["action_zh"]) for rule in rules]

    def actuators(self) -> list[tuple[str, float, str]]:
        """Chinese name, value and reason of each driven actuator."""
        if self._loop is None:
            return []
        known, reasons = self._loop.actuators, self._loop.reasons
        return [(known[name].zh, one.value, reasons.get(name, "")) for name, one in self._loop.memories.items()]

    def status(self) -> dict[str, Any]:
        """For the gateway's status: alarms raised and actuators with their reasons."""
        if self._loop is None or self._watch is None:
            return {}
        actuators = {
            name: {
                "value": memory.value,
                "reason": self._loop.reasons.get(name, "start"),
                "failed": name in self._failed,
            }
            for name, memory in self._loop.memories.items()
        }
        return {"alarms": [rule.id for rule in self._watch.raised], "actuators": actuators}
