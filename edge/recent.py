"""What was measured lately, for people beside the gateway: last values with their age and a short history."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edge.wire import Quality

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge.wire import Reading

_SERIES = 64
_POINTS = 48
_SPACING_MS = 15 * 60_000  # 48 points make twelve hours


@dataclass(slots=True)
class Last:
    """The newest reading of a series and up to 48 values, a quarter of an hour apart."""

    reading: Reading
    history: deque[float] = field(default_factory=lambda: deque(maxlen=_POINTS))
    kept_ms: int = 0


class Recent:
    """Keeps the last readings of up to 64 series; those named in ``wanted`` always find a place."""

    def __init__(self, wanted: Mapping[str, object]) -> None:
        self._wanted = frozenset(wanted)
        self._series: dict[str, Last] = {}

    def note(self, reading: Reading) -> None:
        """Take a reading; an older one than the last is only history of the past and left out."""
        last = self._series.get(reading.name)
        if last is None:
            if len(self._series) >= _SERIES and reading.name not in self._wanted:
                return
            last = self._series[reading.name] = Last(reading)
        if reading.time_ms >= last.reading.time_ms:
            last.reading = reading
        if reading.value is not None and reading.quality < Quality.DEVICE_ERROR:
            if reading.time_ms - last.kept_ms >= _SPACING_MS:
                last.history.append(reading.value)
                last.kept_ms = reading.time_ms
            elif last.history:
                last.history[-1] = reading.value

    def view(self) -> list[tuple[Reading, tuple[float, ...]]]:
        """Newest reading and history of each series, by name; a copy that another thread may keep."""
        return [(last.reading, tuple(last.history)) for _, last in sorted(self._series.items())]
