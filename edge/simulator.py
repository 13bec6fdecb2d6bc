"""A farm in software: every series of a farm type drawn as a plausible day, the same for the same seed.

The value of a series at a time is a pure function of (farm, seed, time): a daily wave, slow wandering and
measurement noise, rounded to the sensor's step. So a test can say what must be in the store, and a restart
goes on where it would have been.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import tzinfo

    from edge.farms import Farm, Series

_HOUR_MS = 3_600_000
_ORIGIN_MS = 1_767_225_600_000  # 2026-01-01: where simulated counters were at their base
_PERIODS_H = (5.3, 13.7, 31.0)


class SimulatedFarm:
    """Deterministic values for each series of a farm type."""

    def __init__(self, farm: Farm, seed: int, zone: tzinfo) -> None:
        self.farm, self._seed, self._zone = farm, seed, zone
        self._effects: dict[tuple[str, str], tuple[int, float]] = {}

    def value(self, series: Series, time_ms: int, outputs: Mapping[str, float] | None = None) -> float:
        """The reading a sensor of this series gives at that UTC time, in the unit of its quantity.

        ``outputs`` are the values of actuators; what a series answers to them builds up over time, so with them
        the value also depends on what was asked before.
        """
        curve = series.simulate
        hour = self._local_hour(time_ms)
        level = curve.lit_value if curve.lit and curve.lit[0] <= hour < curve.lit[1] else curve.base
        level += curve.day * math.cos((hour - curve.peak) / 24 * 2 * math.pi)
        level += curve.rise_per_h * (time_ms - _ORIGIN_MS) / _HOUR_MS
        level += curve.wander * self._wander(series.name, time_ms / _HOUR_MS)
        if curve.noise:
            level += curve.noise * self._noise(series.name, time_ms)
        for actuator, (gain, settle_s) in curve.responds.items() if outputs else ():
            level += self._effect(series.name, actuator, (outputs or {}).get(actuator, 0.0) * gain, settle_s, time_ms)
        level = min(max(level, series.quantity.low), series.quantity.high)
        return round(round(level / curve.step) * curve.step, 6)

    def _effect(self, name: str, actuator: str, goal: float, settle_s: float, time_ms: int) -> float:
        """Approach the goal with the time constant ``settle_s``."""
        before_ms, effect = self._effects.get((name, actuator), (time_ms, 0.0))
        share = -math.expm1(-max(0, time_ms - before_ms) / 1000 / settle_s)
        effect += share * (goal - effect)
        self._effects[name, actuator] = (time_ms, effect)
        return effect

    def _local_hour(self, time_ms: int) -> float:
        local = datetime.fromtimestamp(time_ms / 1000, UTC).astimezone(self._zone)
        return local.hour + local.minute / 60 + local.second / 3600

    def _wander(self, name: str, hours: float) -> float:
        """Slow swings within about -1..1."""
        total = 0.0
        for nth, period in enumerate(_PERIODS_H):
            phase = self._uniform(f"{name}#{nth}") * 2 * math.pi
            total += math.sin(2 * math.pi * hours / period + phase)
        return total / len(_PERIODS_H)

    def _noise(self, name: str, time_ms: int) -> float:
        """About normal with deviation 1, from three uniform draws."""
        return 2.0 * (sum(self._uniform(f"{name}@{time_ms}~{nth}") for nth in range(3)) - 1.5)

    def _uniform(self, key: str) -> float:
        digest = blake2b(f"{self._seed}/{key}".encode(), digest_size=7).digest()
        return int.from_bytes(digest, "big") / 2**56
