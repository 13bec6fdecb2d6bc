"""A made-up load for benchmarks: many series that wander by small steps, at any rate, at almost no cost of its own.

The readings are called what they are (``load<n>/air_temperature``): nobody shall take them for a farm's.
"""

from __future__ import annotations

import random
import time
from array import array
from typing import TYPE_CHECKING

from edge.drivers import DriverHealth, Emit, Sample

if TYPE_CHECKING:
    from threading import Event

    from edge.clock import Clock
    from edge.settings import DriverSettings, Settings, Table

_STEPS = 512
_BATCHES_PER_S = 20


class LoadDriver:
    """``rate`` readings a second in turn from ``series`` series; walks of hundredths of a degree, seeded."""

    def __init__(self, name: str, *, series: int, rate: float, seed: int, clock: Clock) -> None:
        self.name, self.health = name, DriverHealth()
        self._names = [f"load{n}/air_temperature" for n in range(series)]
        self._rate, self._clock = rate, clock
        luck = random.Random(seed)  # noqa: S311 - a load, not a secret
        self._walks = [_walk(luck) for _ in range(series)]

    def run(self, emit: Emit, stop: Event) -> None:
        """Emit until told to stop; what the agent cannot take is not made up for."""
        began, sent = time.monotonic(), 0
        while not stop.is_set():
            due = int((time.monotonic() - began) * self._rate) - sent
            batch = max(1, min(due, 2000))
            if due < 1:
                stop.wait(1 / min(self._rate, _BATCHES_PER_S))
                continue
            emit([self._sample(sent + n) for n in range(batch)])
            sent += batch
            self.health.ok += batch
            if due > batch:
                began = time.monotonic() - sent / self._rate

    def _sample(self, nth: int) -> Sample:
        which, step = nth % len(self._names), nth // len(self._names) % _STEPS
        return Sample(self._names[which], self._walks[which][step], "Cel", self._clock.stamp())


def _walk(luck: random.Random) -> array[float]:
    level, steps = luck.uniform(10, 30), array("d")
    for _ in range(_STEPS):
        level += luck.choice((-0.02, -0.01, 0.0, 0.0, 0.01, 0.02))
        steps.append(round(level, 2))
    return steps


def make_load(row: DriverSettings, options: Table, settings: Settings, clock: Clock) -> LoadDriver:
    """From ``[[driver]] kind = "load"``: series, rate (per second), seed."""
    del settings
    return LoadDriver(
        row.name,
        series=options.whole("series", 100, low=1, high=100_000),
        rate=options.number("rate", 1000.0, low=0.1, high=1e7),
        seed=options.whole("seed", 1, low=0, high=2**31),
        clock=clock,
    )
