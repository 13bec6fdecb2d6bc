"""The simulated farm as a driver: asks each series at its interval, ``speed`` times as often as a real one."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from edge.drivers import DriverHealth, Emit, Sample

if TYPE_CHECKING:
    from threading import Event

    from edge.simulator import SimulatedFarm


class SimulatorDriver:
    """All series once at the start, then each in its own rhythm."""

    def __init__(
        self,
        name: str,
        farm: SimulatedFarm,
        *,
        speed: float,
        wall_ms: Callable[[], int | None],
        stamp: Callable[[], int],
    ) -> None:
        self.name, self.health = name, DriverHealth()
        self._farm, self._speed, self._wall_ms, self._stamp = farm, speed, wall_ms, stamp
        self.outputs: dict[str, float] = {}

    def run(self, emit: Emit, stop: Event) -> None:
        """Emit until told to stop."""
        start = time.monotonic()
        due = [(start, nth, series) for nth, series in enumerate(self._farm.farm.series.values())]
        heapq.heapify(due)
        while due and not stop.is_set():
            now, batch = time.monotonic(), []
            while due[0][0] <= now:
                at, nth, series = due[0]
                wall = self._wall_ms()
                value = None if wall is None else self._farm.value(series, wall, self.outputs)
                if value is not None:
                    batch.append(Sample(series.name, value, series.unit, stamp=self._stamp()))
                # A slept-through night is not made up for: the next one is due one interval from now.
                heapq.heapreplace(due, (max(at, now - 1.0) + series.interval_s / self._speed, nth, series))
            if batch:
                emit(batch)
                self.health.ok += len(batch)
            stop.wait(max(0.001, due[0][0] - time.monotonic()))
