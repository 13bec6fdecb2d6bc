"""Which word in ``[[driver]] kind = ...`` means which driver; each checks its own options."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.drivers.chirpstack import make_chirpstack
from edge.drivers.csv_log import make_csv_log
from edge.drivers.exec_lines import make_exec
from edge.drivers.load import make_load
from edge.drivers.modbus import make_modbus
from edge.drivers.serial_lines import make_serial
from edge.drivers.simulator import SimulatorDriver
from edge.drivers.sysfs import make_sysfs
from edge.settings import DriverSettings, Settings, SettingsError, Table
from edge.simulator import SimulatedFarm

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge.clock import Clock
    from edge.drivers import Driver


def make_driver(row: DriverSettings, settings: Settings, clock: Clock) -> Driver:
    """The driver of that row; raises ``SettingsError`` where its options are wrong."""
    options = Table(f"driver {row.name!r}", row.options)
    if row.kind not in _MAKERS:
        raise SettingsError(f"driver {row.name!r}: kind must be one of {', '.join(_MAKERS)}, not {row.kind!r}")
    driver = _MAKERS[row.kind](row, options, settings, clock)
    options.done()
    return driver


def _simulator(row: DriverSettings, options: Table, settings: Settings, clock: Clock) -> Driver:
    farm = SimulatedFarm(settings.farm, options.whole("seed", 1, low=0, high=2**31), settings.zone)
    speed = options.number("speed", 1.0, low=0.001, high=100_000)
    return SimulatorDriver(row.name, farm, speed=speed, wall_ms=clock.now_ms, stamp=clock.stamp)


_MAKERS: dict[str, Callable[[DriverSettings, Table, Settings, Clock], Driver]] = {
    "simulator": _simulator,
    "csv": make_csv_log,
    "chirpstack": make_chirpstack,
    "modbus": make_modbus,
    "serial": make_serial,
    "sysfs": make_sysfs,
    "exec": make_exec,
    "load": make_load,
}
