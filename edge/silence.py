"""Series of the farm that fell silent: said once, as a reading without value and of quality ``STALE``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.wire import Quality, Reading

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge.farms import Series

_INTERVALS = 3  # as the farms' own rules for missing data


class Silence:
    """Knows when each series was last heard, on the clock that never jumps (ms)."""

    def __init__(self, series: Mapping[str, Series]) -> None:
        self._series = series
        self._heard: dict[str, int] = {}

    def heard(self, name: str, stamp: int) -> None:
        """Somebody spoke, even if only to say that a device is lost."""
        if name in self._series:
            self._heard[name] = stamp

    def fallen(self, stamp: int, now_ms: int) -> list[Reading]:
        """One stale reading for each series that has said nothing for three of its intervals; then it is quiet."""
        late = [
            name for name, at in self._heard.items() if stamp - at > _INTERVALS * 1000 * self._series[name].interval_s
        ]
        for name in late:
            del self._heard[name]
        return [Reading(name, now_ms, None, self._series[name].unit, Quality.STALE) for name in late]
