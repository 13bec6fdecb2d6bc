"""Where readings come from: one module per family of devices behind one small Protocol.

A driver owns its bus and runs in its own thread, so that a dead device never delays another bus. It gives out
samples; judging, time and storage are the agent's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Any, Protocol

from edge.wire import Quality


@dataclass(frozen=True, slots=True)
class Sample:
    """One value as a driver saw it.

    ``stamp`` is milliseconds on the clock that never jumps (the normal case); ``time_ms`` is UTC where the
    source brings its own time (a log, a radio gateway). One of the two is set.
    """

    name: str
    value: float | None
    unit: str
    stamp: int | None = None
    time_ms: int | None = None
    quality: Quality = Quality.GOOD
    calibration: str | None = None


Report = tuple[str, dict[str, Any], int | None]  # kind of event, its body, its time (UTC ms, None = now)


class Emit(Protocol):
    """How a driver hands over what it saw; may block while the agent is busy, which slows the polling down."""

    def __call__(self, samples: Sequence[Sample], reports: Sequence[Report] = ()) -> None:
        """Samples, and events to report."""


@dataclass(slots=True)
class DriverHealth:
    """Counters a driver keeps for ``status``; ``resting`` means it is in declared back-off."""

    ok: int = 0
    failed: int = 0
    resting: bool = False
    last_error: str = ""
    devices: dict[str, str] = field(default_factory=dict)


class Driver(Protocol):
    """A source of samples.

    ``run`` reads until ``stop`` is set and returns; it survives any fault of its devices.
    """

    name: str
    health: DriverHealth

    def run(self, emit: Emit, stop: Event) -> None:
        """Read until told to stop."""
