"""Time stamps that say how far they can be trusted.

Readings are taken on a clock that never jumps (CLOCK_BOOTTIME: it counts through suspend); wall time is that
plus an offset. A gateway without a battery clock wakes up in 1970: its offset is then unknown until the system
clock or the cloud provides one, and stamps taken before are corrected in retrospect within the same boot.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

# Before the software existed no clock can be right.
SOFTWARE_BORN_MS = 1_767_225_600_000  # 2026-01-01
_STEP_MS = 2_000
_MONTH_MS = 30 * 86_400_000
_DAY_MS = 86_400_000


class ClockQuality(Enum):
    """Where the offset to wall time comes from, best first."""

    SYSTEM = "system"  # the operating system's clock (NTP, GNSS or battery clock), plausible
    CLOUD = "cloud"  # from an ack; right to the round trip
    NONE = "none"


class TimeSource(Protocol):
    """What the machine offers; the tests bring their own."""

    def boot_ms(self) -> int:
        """Milliseconds since boot; never jumps, never runs backward."""

    def wall_ms(self) -> int:
        """What the operating system believes the UTC time to be."""


class SystemTime:
    """The machine's own clocks."""

    def boot_ms(self) -> int:
        """CLOCK_BOOTTIME."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000

    def wall_ms(self) -> int:
        """CLOCK_REALTIME."""
        return time.time_ns() // 1_000_000


def boot_id() -> str:
    """Names this boot of the machine: stamps of one boot can be compared, over restarts of the agent too."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


@dataclass(frozen=True, slots=True)
class Step:
    """The wall clock moved by ``moved_ms`` against the one that never jumps; ``at_ms`` is the new time."""

    at_ms: int
    moved_ms: int
    quality: ClockQuality


class Clock:
    """Stamps on the boot clock; wall time by an offset with a quality.

    ``now_ms`` is for what happens now, ``wall_of`` turns an earlier stamp into wall time once the offset is
    known. ``check`` looks for steps of the system clock and is called about once a second. Where the system clock
    leaps by more than a month, the clock that never jumps is believed until the cloud says the same as the system.
    """

    def __init__(self, source: TimeSource, *, born_ms: int = SOFTWARE_BORN_MS) -> None:
        self._source = source
        self._born_ms = born_ms
        self._offset_ms = 0
        self._cloud_offset_ms: int | None = None
        self.quality = ClockQuality.NONE
        self.check()

    def stamp(self) -> int:
        """Milliseconds on the clock that never jumps."""
        return self._source.boot_ms()

    def now_ms(self) -> int | None:
        """UTC milliseconds, or None while nobody knows the time."""
        return self.wall_of(self.stamp())

    def wall_of(self, stamp: int) -> int | None:
        """UTC milliseconds of an earlier stamp of this boot, by the offset known today."""
        return None if self.quality is ClockQuality.NONE else stamp + self._offset_ms

    def check(self) -> Step | None:
        """Follow the system clock where it is plausible; a jump of more than 2 s is returned."""
        boot, wall = self._source.boot_ms(), self._source.wall_ms()
        if not self._born_ms <= wall or not self._believable(wall - boot):
            return None
        return self._follow(wall - boot, ClockQuality.SYSTEM)

    def _believable(self, offset_ms: int) -> bool:
        """No battery clock or time server moves a known time by a month; the cloud, if it agrees, is a witness."""
        if self.quality is ClockQuality.NONE or abs(offset_ms - self._offset_ms) <= _MONTH_MS:
            return True
        return self._cloud_offset_ms is not None and abs(offset_ms - self._cloud_offset_ms) <= _DAY_MS

    def hear_cloud(self, cloud_ms: int) -> Step | None:
        """Take the cloud's time while the system's own is unknown; else it only bears witness."""
        if cloud_ms < self._born_ms:
            return None
        self._cloud_offset_ms = cloud_ms - self._source.boot_ms()
        if self.quality is ClockQuality.SYSTEM:
            return None
        return self._follow(self._cloud_offset_ms, ClockQuality.CLOUD)

    def _follow(self, offset_ms: int, quality: ClockQuality) -> Step | None:
        known, moved = self.quality is not ClockQuality.NONE, offset_ms - self._offset_ms
        self._offset_ms, self.quality = offset_ms, quality
        if known and abs(moved) > _STEP_MS:
            return Step(self._source.boot_ms() + offset_ms, moved, quality)
        return None
