"""Devices that say lines on a serial port: weighbridges, ear-tag wands, pulse counters.

The protocols are pure: bytes in, findings out, whatever the pieces the bytes come in. A weight counts when it is
stable, an ear tag is fifteen digits (ISO 11784: country or maker, then twelve digits), a pulse counter may wrap and
may be reset.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from edge.drivers import DriverHealth, Emit, Report, Sample
from edge.drivers.lines import SerialLine
from edge.settings import SettingsError, Table
from edge.wire import Quality

if TYPE_CHECKING:
    from threading import Event

    from edge.clock import Clock
    from edge.settings import DriverSettings, Settings

_LONGEST = 200
_SAME_TAG_MS = 10_000
_WEIGHT = re.compile(r"(?:(ST|US|OL),?)?(?:(GS|NT),?)?\s*([+-]?)\s*(\d+(?:\.\d+)?)\s*(kg|g|t)\b", re.IGNORECASE)
_TAG = re.compile(r"(?<!\d)(\d{3})[ _-]?(\d{12})(?!\d)")
_TO_KG = {"kg": 1.0, "g": 0.001, "t": 1000.0}
_MAKERS_FROM = 900  # ISO 3166 country codes lie below; 900..998 are makers, 999 is for tests


class LineBuffer:
    """Whole lines out of any pieces; a line that never ends is thrown away."""

    def __init__(self) -> None:
        self._waiting = b""

    def feed(self, data: bytes) -> list[str]:
        """The lines completed by these bytes, without their ends."""
        *whole, self._waiting = re.split(rb"[\r\n\x02\x03]+", self._waiting + data)
        self._waiting = self._waiting[-_LONGEST:]
        return [line.decode("ascii", "replace").strip() for line in whole if line.strip()]


class LineProtocol(Protocol):
    """Reads lines; gives samples (value, quality) and reports."""

    series: str
    unit: str

    def line(self, text: str, stamp: int = 0) -> tuple[list[tuple[float, Quality]], list[Report]]:
        """What this line says; ``stamp`` is when it came, in ms on the clock that never jumps."""


@dataclass(slots=True)
class Weighbridge:
    """A weight is told once, when it has stood within ``band_kg`` for ``stable`` lines.

    The next one is told after the scale was left (below ``least_kg``).
    """

    series: str
    band_kg: float = 0.5
    stable: int = 3
    least_kg: float = 1.0
    unit: str = "kg"
    _last: list[float] = field(default_factory=list)
    _told: bool = False

    def line(self, text: str, stamp: int = 0) -> tuple[list[tuple[float, Quality]], list[Report]]:
        """Weights in kg; unstable, overloaded and negative ones are not told."""
        del stamp
        found = _WEIGHT.search(text)
        if found is None:
            return [], []
        flag, _, sign, number, unit = found.groups()
        kilograms = float(number) * _TO_KG[unit.lower()] * (-1 if sign == "-" else 1)
        if (flag or "").upper() == "OL":
            self._last.clear()
            return [(kilograms, Quality.OUT_OF_RANGE)], []
        if kilograms < self.least_kg:
            self._told = False
            self._last.clear()
            return [], []
        self._last = [*self._last[-self.stable + 1 :], kilograms] if (flag or "").upper() != "US" else []
        steady = len(self._last) >= self.stable and max(self._last) - min(self._last) <= self.band_kg
        if not steady or self._told:
            return [], []
        self._told = True
        return [(kilograms, Quality.GOOD)], []


@dataclass(slots=True)
class TagWand:
    """Ear tags as reports of kind ``tag``; the same tag again within ten seconds is one reading."""

    series: str = ""
    unit: str = ""
    _last: str = ""
    _last_ms: int = 0

    def line(self, text: str, stamp: int = 0) -> tuple[list[tuple[float, Quality]], list[Report]]:
        """Fifteen digits; anything else is no tag."""
        found = _TAG.search(text)
        if found is None:
            return [], []
        tag = found.group(1) + found.group(2)
        repeated = tag == self._last and stamp - self._last_ms < _SAME_TAG_MS
        self._last, self._last_ms = tag, stamp
        if repeated:
            return [], []
        maker = int(found.group(1)) >= _MAKERS_FROM
        return [], [("tag", {"tag": tag, "country": None if maker else found.group(1)}, None)]


@dataclass(slots=True)
class PulseCounter:
    """A running total out of a counter that wraps at ``wrap`` and starts at zero after a power cut.

    It begins with what the counter shows, so that a restart of the agent is no step.
    """

    series: str
    per_pulse: float = 1.0
    wrap: int = 65536
    unit: str = "count"
    total: float = 0.0
    _last: int | None = None

    def line(self, text: str, stamp: int = 0) -> tuple[list[tuple[float, Quality]], list[Report]]:
        """The first whole number of the line is the counter."""
        del stamp
        found = re.search(r"\d+", text)
        if found is None:
            return [], []
        now, before, self._last = int(found.group()) % self.wrap, self._last, int(found.group()) % self.wrap
        if before is None:
            self.total = now * self.per_pulse
            return [(self.total, Quality.GOOD)], []
        quality = Quality.GOOD
        step = now - before
        if step < 0:
            # Near the top it wrapped; elsewhere it was reset, and what passed meanwhile is unknown.
            wrapped = before > self.wrap * 3 // 4 and now < self.wrap // 4
            step, quality = (step + self.wrap, Quality.GOOD) if wrapped else (now, Quality.UNCERTAIN)
        self.total += step * self.per_pulse
        return [(self.total, quality)], []


class SerialDriver:
    """One port with one protocol; a port that is unplugged is opened again when it comes back."""

    def __init__(self, name: str, line: SerialLine, protocol: LineProtocol, clock: Clock) -> None:
        self.name, self.health = name, DriverHealth()
        self._line, self._protocol, self._clock = line, protocol, clock

    def run(self, emit: Emit, stop: Event) -> None:
        """Listen until told to stop."""
        buffer = LineBuffer()
        while not stop.is_set():
            try:
                data = self._line.read(1, 0.3)
                data += self._line.read(4096, 0.02) if data else b""
            except OSError as why:
                self.health.failed += 1
                self.health.last_error = str(why)[:200]
                self.health.resting = True
                stop.wait(1.0)
                continue
            self.health.resting = False
            for text in buffer.feed(data):
                self._take(text, emit)
        self._line.close()

    def _take(self, text: str, emit: Emit) -> None:
        stamp = self._clock.stamp()
        values, reports = self._protocol.line(text, stamp)
        samples = [Sample(self._protocol.series, v, self._protocol.unit, stamp, None, q) for v, q in values]
        if samples or reports:
            self.health.ok += 1
            emit(samples, reports)


def make_serial(row: DriverSettings, options: Table, settings: Settings, clock: Clock) -> SerialDriver:
    """From ``[[driver]] kind = "serial"``: port, baud and ``device`` = weighbridge, tag or pulse."""
    del settings
    line = SerialLine(options.text("port"), baud=_baud(options))
    device = options.choice("device", ("weighbridge", "tag", "pulse"))
    protocol: LineProtocol
    if device == "weighbridge":
        protocol = Weighbridge(
            options.text("series", "scale/weight"),
            band_kg=options.number("band_kg", 0.5, low=0, high=1000),
            stable=options.whole("stable", 3, low=1, high=100),
            least_kg=options.number("least_kg", 1.0, low=0, high=10_000),
        )
    elif device == "tag":
        protocol = TagWand()
    else:
        per_pulse = options.number("per_pulse", 1.0, low=0, high=1e6)
        wrap = options.whole("wrap", 65536, low=2, high=2**63)
        protocol = PulseCounter(options.text("series", "counter/count"), per_pulse, wrap)
    return SerialDriver(row.name, line, protocol, clock)


def _baud(options: Table) -> int:
    baud = options.whole("baud", 9600, low=1200, high=115200)
    if baud not in {1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200}:
        raise SettingsError(f"{options.where}.baud: {baud} is not a usual rate")
    return baud
