"""Sensors the kernel shows as files: 1-Wire thermometers (``w1_slave``) and hwmon inputs.

A DS18B20 says 85.0 after a power cut and 127.9 or -127 where the wire is broken: these are no temperatures.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge.drivers import DriverHealth, Emit, Sample
from edge.quantities import Quantity, quantity_of
from edge.settings import SettingsError, Table
from edge.wire import Quality

if TYPE_CHECKING:
    from threading import Event

    from edge.clock import Clock
    from edge.settings import DriverSettings, Settings

_W1 = re.compile(r"crc=[0-9a-f]{2} (YES|NO).*\bt=(-?\d+)", re.DOTALL)
_W1_SENTINELS = frozenset({85000, 127937, -127000})


@dataclass(frozen=True, slots=True)
class File:
    """One file and what it means: value = number * scale in the quantity's unit; ``w1`` for 1-Wire thermometers."""

    path: Path
    name: str
    quantity: Quantity
    scale: float
    w1: bool


def read_file(one: File) -> tuple[float | None, Quality]:
    """The value and its quality; a missing or senseless file is a device error, never an exception."""
    try:
        text = one.path.read_text("ascii", errors="replace")
    except OSError:
        return None, Quality.COMMS_LOST
    if one.w1:
        found = _W1.search(text)
        if found is None or found.group(1) == "NO":
            return None, Quality.DEVICE_ERROR
        raw = int(found.group(2))
        return raw / 1000, Quality.DEVICE_ERROR if raw in _W1_SENTINELS else Quality.GOOD
    try:
        return float(text) * one.scale, Quality.GOOD
    except ValueError:
        return None, Quality.DEVICE_ERROR


class SysfsDriver:
    """Reads its files in turn every ``interval_s``."""

    def __init__(self, name: str, sources: list[File], interval_s: float, clock: Clock) -> None:
        self.name, self.health = name, DriverHealth()
        self._files, self._interval_s, self._clock = sources, interval_s, clock

    def run(self, emit: Emit, stop: Event) -> None:
        """Read until told to stop."""
        while True:
            began = time.monotonic()
            emit([self._sample(one) for one in self._files])
            if stop.wait(max(0.01, began + self._interval_s - time.monotonic())):
                return

    def _sample(self, one: File) -> Sample:
        value, quality = read_file(one)
        self.health.ok += quality is Quality.GOOD
        self.health.failed += quality is not Quality.GOOD
        return Sample(one.name, value, one.quantity.unit, stamp=self._clock.stamp(), quality=quality)


def make_sysfs(row: DriverSettings, options: Table, settings: Settings, clock: Clock) -> SysfsDriver:
    """From ``[[driver]] kind = "sysfs"``: ``interval_s`` and ``[[driver.file]]`` rows (path, series, scale, w1)."""
    del settings
    sources = []
    for table in options.tables("file"):
        series = table.text("series")
        quantity = quantity_of(series)
        if quantity is None:
            raise SettingsError(f"{table.where}.series: no quantity {series!r}")
        scale = table.number("scale", 1.0, low=-1e9, high=1e9)
        sources.append(File(Path(table.text("path")), series, quantity, scale, table.flag("w1", default=False)))
        table.done()
    if not sources:
        raise SettingsError(f"{options.where}: needs at least one [[driver.file]]")
    return SysfsDriver(row.name, sources, options.number("interval_s", 60.0, low=0.05, high=86_400), clock)
