"""A CSV log as a driver: the columns of ``tianmai-edge replay``, run beside the live drivers of an agent.

The log's times are kept. The driver starts from the top at every start of the agent: the store absorbs what it
has. Where every row must get exactly one number across kills, use ``tianmai-edge replay``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.drivers import DriverHealth, Emit, Sample
from edge.pond_log import LogError, Pace, Report, read_log
from edge.settings import load_zone

if TYPE_CHECKING:
    from datetime import tzinfo
    from pathlib import Path
    from threading import Event

    from edge.clock import Clock
    from edge.settings import DriverSettings, Settings, Table


class CsvLogDriver:
    """Emits the rows of a file in their order, ``speed`` times as fast as they were taken (0 = at once)."""

    def __init__(self, name: str, path: Path, *, zone: tzinfo, sensor: str, speed: float) -> None:
        self.name, self.health = name, DriverHealth()
        self._path, self._zone, self._sensor, self._speed = path, zone, sensor, speed

    def run(self, emit: Emit, stop: Event) -> None:
        """Emit until the end of the file or until told to stop."""
        report, pace = Report(), Pace(self._speed)
        try:
            for row in read_log(self._path, self._zone, self._sensor, report, self._warn):
                while row.readings and pace.early(row.readings[0].time_ms) and not stop.wait(0.02):
                    pass
                if stop.is_set():
                    return
                emit([Sample(r.name, r.value, r.unit, time_ms=r.time_ms, quality=r.quality) for r in row.readings])
                self.health.ok += len(row.readings)
        except LogError as why:
            self._warn(str(why))
        self.health.resting = True  # there is no more to come

    def _warn(self, text: str) -> None:
        self.health.failed += 1
        self.health.last_error = text


def make_csv_log(row: DriverSettings, options: Table, settings: Settings, clock: Clock) -> CsvLogDriver:
    """From ``[[driver]] kind = "csv"``: file, zone, sensor, speed."""
    del clock
    return CsvLogDriver(
        row.name,
        row.directory / options.text("file"),
        zone=load_zone(options.text("zone")) if "zone" in options else settings.zone,
        sensor=options.text("sensor", "pond1"),
        speed=options.number("speed", 1.0, low=0, high=1_000_000),
    )
