"""Terms in working days, counted in China's days (UTC+8)."""

from datetime import UTC, date, datetime, timedelta
from typing import Final

from cloud.land.model import LandRules

__all__ = ["due"]

_CHINA: Final = timedelta(hours=8)
_SATURDAY: Final = 5


def due(start_ms: int, days: int, rules: LandRules) -> int:
    """The end (last millisecond, UTC) of the `days`-th working day after the day of `start_ms`."""
    day = (datetime.fromtimestamp(start_ms / 1000, UTC) + _CHINA).date()
    left = days
    while left > 0:
        day += timedelta(days=1)
        left -= _worked(day, rules)
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1) - _CHINA
    return int(midnight.timestamp() * 1000) - 1


def _worked(day: date, rules: LandRules) -> bool:
    iso = day.isoformat()
    if iso in rules.extra_workdays:
        return True
    return day.weekday() < _SATURDAY and iso not in rules.holidays
