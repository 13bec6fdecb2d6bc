"""How numbers, times and areas are said, in the reader's language.

Times are kept in milliseconds UTC and shown in Asia/Shanghai. Areas are kept in square metres; Chinese readers see mu
(1 mu = 2000/3 m²) with hectares beside it, English readers the other way round.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

from cloud.pages.words import Words

__all__ = ["CHINA", "Speech"]

# China has had one zone and no daylight saving time since 1991; a fixed offset needs no zone database.
CHINA = timezone(timedelta(hours=8), "Asia/Shanghai")
M2_PER_MU = 2000 / 3
M2_PER_HA = 10_000
_SHARE = "/"
_TEN, _HUNDRED = 10, 100
_MINUTE, _HOUR, _DAY = 60_000, 3_600_000, 86_400_000


class Speech:
    """Formatting for one page: the catalogue and the moment at which the page speaks (ms UTC)."""

    def __init__(self, words: Words, now_ms: int) -> None:
        self.words = words
        self.now_ms = now_ms

    def moment(self, ms: int | None) -> str:
        """`2026-11-22 09:05`, China time; a dash where there is none."""
        return self._local(ms, "%Y-%m-%d %H:%M")

    def exact(self, ms: int | None) -> str:
        """`2026-11-22 09:05:12`, China time."""
        return self._local(ms, "%Y-%m-%d %H:%M:%S")

    def day(self, ms: int | None) -> str:
        """`2026-11-22`, China time."""
        return self._local(ms, "%Y-%m-%d")

    def iso(self, ms: int) -> str:
        """For the `datetime` attribute: ISO 8601 in UTC, empty where no calendar reaches."""
        at = _calendar(ms, UTC)
        return "" if at is None else at.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def age(self, ms: int | None) -> str:
        """How long ago `ms` was, in the largest sensible unit; a time ahead of us is said to be so."""
        if ms is None:
            return self.words("age.never")
        return self.span(self.now_ms - ms, "age")

    def span(self, length_ms: int, section: str = "span") -> str:
        """A length of time: seconds below 90 s, minutes below 90 min, hours below 48 h, else days."""
        if length_ms < -_MINUTE:
            return self.words(f"{section}.ahead")
        for below, unit, name in (
            (90_000, 1000, "seconds"),
            (90 * _MINUTE, _MINUTE, "minutes"),
            (48 * _HOUR, _HOUR, "hours"),
        ):
            if length_ms < below:
                return self.words(f"{section}.{name}", n=max(0, length_ms) // unit)
        return self.words(f"{section}.days", n=length_ms // _DAY)

    def area(self, square_metres: float) -> str:
        """Mu and hectares, the reader's own unit first."""
        return self.words("unit.area", mu=square_metres / M2_PER_MU, ha=square_metres / M2_PER_HA)

    def number(self, value: float | None, digits: int = 2) -> str:
        """At most `digits` decimals, no trailing zeros, thousands apart by a thin space; a dash for None."""
        if value is None:
            return "–"
        text = f"{value:,.{digits}f}".replace(",", "\u202f")
        return text.rstrip("0").rstrip(".") if "." in text else text

    def percent(self, share: float | None) -> str:
        """A share 0..1 as whole per cent; values that are neither 0 nor 1 never round to them."""
        if share is None:
            return "–"
        if 0 < share < 0.01:  # noqa: PLR2004 - one per cent
            return "<1%"
        if 0.99 < share < 1:  # noqa: PLR2004 - ninety-nine per cent
            return ">99%"
        return f"{share * 100:.0f}%"

    def unit(self, code: str) -> str:
        """A SenML or UCUM unit as people write it, which is mostly as it is."""
        key = code.replace("/", "_per_").replace("%", "percent_")
        spelled = self.words.named("units", key)
        return code if spelled == key else spelled

    def measure(self, value: float | None, unit: str) -> tuple[str, str]:
        """A reading at a glance and its unit: about three figures, and a share (unit "/") in per cent."""
        if value is None:
            return "–", ""
        if unit == _SHARE:
            value, unit = value * 100, "%"
        size = abs(value)
        digits = 0 if size >= _HUNDRED else 1 if size >= _TEN else 2
        return self.number(value, digits), self.unit(unit)

    def helpers(self) -> dict[str, Callable[..., object]]:
        """What templates may call by name."""
        names = ("moment", "exact", "day", "iso", "age", "span", "area", "number", "percent", "unit", "measure")
        return {name: getattr(self, name) for name in names}

    def _local(self, ms: int | None, form: str) -> str:
        if ms is None:
            return "–"
        at = _calendar(ms, CHINA)
        return f"{ms} ms" if at is None else at.strftime(form)


def _calendar(ms: int, zone: timezone) -> datetime | None:
    """The one place where pages turn a time into a date: None where it lies outside the years 1 to 9999."""
    try:
        return datetime.fromtimestamp(ms / 1000, zone)
    except (OverflowError, ValueError, OSError):
        return None
