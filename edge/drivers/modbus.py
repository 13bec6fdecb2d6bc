"""Modbus RTU and TCP: one owner per bus, devices polled in turn, register maps as data files.

Polls never overlap: a slow device delays its bus, a dead one is asked ever more rarely (up to ten times its interval)
so that the others are not kept waiting. What a register means is said by a profile in ``registers/``; pH in tenths
and pH in hundredths look alike, so the profile is chosen by a person.
"""

from __future__ import annotations

import struct
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from edge.drivers import DriverHealth, Emit, Sample
from edge.drivers.lines import SerialLine, TcpLine
from edge.drivers.modbus_line import (
    READ_HOLDING,
    READ_INPUT,
    Line,
    ModbusError,
    ask_rtu,
    ask_tcp,
    read_request,
    registers_of,
)
from edge.quantities import Quantity, quantity_of
from edge.settings import SettingsError, Table
from edge.wire import Quality

if TYPE_CHECKING:
    from threading import Event

    from edge.clock import Clock
    from edge.settings import DriverSettings, Settings

_FORMAT = "tianmai-registers@1"
_LAYOUTS = {"uint16": ">H", "int16": ">h", "uint32": ">I", "int32": ">i", "float32": ">f"}
_SLOWEST = 10
_SILENCE_S = 0.01  # between frames: 3.5 characters are 4 ms at 9600 baud


@dataclass(frozen=True, slots=True)
class Register:
    """One value: where it lies, how it is coded, and value = raw * scale + offset in the quantity's unit."""

    series: str
    quantity: Quantity
    address: int
    layout: str
    scale: float
    offset: float
    sentinel: float | None
    quality: Quality

    @property
    def words(self) -> int:
        """Registers of 16 bits it takes."""
        return struct.calcsize(self.layout) // 2


@dataclass(frozen=True, slots=True)
class Profile:
    """A device model: which function reads it, and its registers."""

    name: str
    function: int
    registers: tuple[Register, ...]

    @property
    def span(self) -> tuple[int, int]:
        """First address and number of registers of the one read that covers all."""
        first = min(one.address for one in self.registers)
        return first, max(one.address + one.words for one in self.registers) - first

    def values(self, first: int, words: list[int]) -> list[tuple[Register, float, Quality]]:
        """Each value with its quality; sentinels are device errors."""
        found = []
        for one in self.registers:
            raw = words[one.address - first : one.address - first + one.words]
            (number,) = struct.unpack(one.layout, b"".join(word.to_bytes(2, "big") for word in raw))
            error = one.sentinel is not None and number == one.sentinel
            found.append((one, number * one.scale + one.offset, Quality.DEVICE_ERROR if error else one.quality))
        return found


@cache
def load_profile(name: str) -> Profile:
    """The register map ``name`` that ships; raises ``SettingsError``."""
    folder = files("edge.drivers").joinpath("registers")
    known = sorted(path.name[:-5] for path in folder.iterdir() if path.name.endswith(".toml"))
    if name not in known:
        raise SettingsError(f"no register map {name!r}; there are: {', '.join(known)}")
    return parse_profile(folder.joinpath(f"{name}.toml").read_text("utf-8"), where=f"{name}.toml")


def parse_profile(text: str, *, where: str) -> Profile:
    """Read a register map; raises ``SettingsError`` naming file and row."""
    try:
        document = tomllib.loads(text)
        if document["format"] != _FORMAT:
            raise SettingsError(f"{where}: format is not {_FORMAT}")
        registers = tuple(_register(row) for row in document["register"])
        profile = Profile(document["name"], {"holding": READ_HOLDING, "input": READ_INPUT}[document["read"]], registers)
    except (tomllib.TOMLDecodeError, KeyError, ValueError, TypeError) as why:
        raise SettingsError(f"{where}: {why}") from None
    if not registers or profile.span[1] > 125:  # noqa: PLR2004 - the most one request can read
        raise SettingsError(f"{where}: needs registers within 125 words")
    return profile


def _register(row: Mapping[str, Any]) -> Register:
    quantity = quantity_of(row["series"])
    if quantity is None:
        raise ValueError(f"no quantity {row['series']!r}")
    return Register(
        series=row["series"],
        quantity=quantity,
        address=int(row["address"]),
        layout=_LAYOUTS[row.get("type", "uint16")],
        scale=float(row.get("scale", 1.0)),
        offset=float(row.get("offset", 0.0)),
        sentinel=row.get("sentinel"),
        quality=Quality(row.get("quality", 0)),
    )


@dataclass(slots=True)
class Device:
    """One slave on the bus and when it is due; ``misses`` in a row slow it down."""

    name: str
    address: int
    profile: Profile
    interval_s: float
    due: float = 0.0
    misses: int = 0
    calibration: str | None = None

    @property
    def pause_s(self) -> float:
        """Until it is asked again."""
        return self.interval_s * min(float(_SLOWEST), 2.0 ** max(0, self.misses - 2))


class ModbusDriver:
    """One bus and its devices."""

    def __init__(
        self, name: str, line: Line, devices: list[Device], clock: Clock, *, tcp: bool, timeout_s: float
    ) -> None:
        self.name, self.health = name, DriverHealth()
        self._line, self._devices, self._clock, self._tcp, self._timeout_s = line, devices, clock, tcp, timeout_s
        self._transaction = 0

    def run(self, emit: Emit, stop: Event) -> None:
        """Poll until told to stop."""
        while not stop.is_set():
            device = min(self._devices, key=lambda one: one.due)
            if stop.wait(max(_SILENCE_S, device.due - time.monotonic())):
                break
            emit(self.poll(device))
            device.due = time.monotonic() + device.pause_s
        self.close()

    def close(self) -> None:
        """Let go of the bus."""
        self._line.close()

    def poll(self, device: Device) -> list[Sample]:
        """Ask one device once; a failure becomes readings without a value that say why."""
        stamp = self._clock.stamp()
        try:
            values = self._ask(device)
        except (ModbusError, OSError) as why:
            return self._missed(device, why, stamp)
        device.misses = 0
        self.health.ok += 1
        self.health.resting = False
        self.health.devices[device.name] = "ok"
        return [
            Sample(f"{device.name}/{one.series}", value, one.quantity.unit, stamp, None, quality, device.calibration)
            for one, value, quality in values
        ]

    def _ask(self, device: Device) -> list[tuple[Register, float, Quality]]:
        first, count = device.profile.span
        body = read_request(device.profile.function, first, count)
        if self._tcp:
            self._transaction = (self._transaction + 1) % 65536
            answer = ask_tcp(
                self._line, self._transaction, device.address, body, timeout_s=self._timeout_s, clock=time.monotonic
            )
        else:
            answer = ask_rtu(self._line, device.address, body, timeout_s=self._timeout_s)
        return device.profile.values(first, registers_of(answer, count))

    def _missed(self, device: Device, why: Exception, stamp: int) -> list[Sample]:
        device.misses += 1
        self.health.failed += 1
        self.health.last_error = f"{device.name}: {why}"[:200]
        self.health.devices[device.name] = why.code if isinstance(why, ModbusError) else "line"
        self.health.resting = all(one.misses > _SLOWEST for one in self._devices)
        if device.misses != 1:
            return []  # one word about a dead device is enough: silence is an alarm of its own
        return [
            Sample(f"{device.name}/{one.series}", None, one.quantity.unit, stamp, None, Quality.COMMS_LOST)
            for one in device.profile.registers
        ]


def make_modbus(row: DriverSettings, options: Table, settings: Settings, clock: Clock) -> ModbusDriver:
    """From ``[[driver]] kind = "modbus"``: ``port`` (serial) or ``host``, and ``[[driver.device]]`` rows."""
    del settings
    tcp = "host" in options
    line: Line
    if tcp:
        line = TcpLine(options.text("host"), options.whole("tcp_port", 502, low=1, high=65535))
    else:
        bauds = ("1200", "2400", "4800", "9600", "19200", "38400", "57600", "115200")
        baud = str(options.whole("baud", 9600, low=1200, high=115200))
        if baud not in bauds:
            raise SettingsError(f"{options.where}.baud: must be one of {', '.join(bauds)}")
        parity = options.choice("parity", ("none", "even", "odd"), "none")
        line = SerialLine(options.text("port"), baud=int(baud), parity=parity)
    timeout_s = options.number("timeout_s", 0.5, low=0.01, high=30)
    devices = [_device(table) for table in options.tables("device")]
    if not devices:
        raise SettingsError(f"{options.where}: needs at least one [[driver.device]]")
    return ModbusDriver(row.name, line, devices, clock, tcp=tcp, timeout_s=timeout_s)


def _device(table: Table) -> Device:
    device = Device(
        name=table.text("name"),
        address=table.whole("address", 1, low=1, high=247),
        profile=load_profile(table.text("profile")),
        interval_s=table.number("interval_s", 60.0, low=0.05, high=86_400),
        calibration=table.text("calibration") if "calibration" in table else None,
    )
    table.done()
    return device
