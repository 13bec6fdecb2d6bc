"""What goes in beside the events (`Facts`) and what comes out (`Finding`, `Verdict`)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

__all__ = ["Facts", "Finding", "Verdict"]

Severity = Literal["refused", "amber"]
Basis = Literal["exact", "computed", "estimated"]


@dataclass(frozen=True, slots=True)
class Facts:
    """What the chain itself does not carry.

    ``daily_water_celsius``: place URI -> {China date as ``YYYY-MM-DD``: mean water temperature in Cel}; a day without
    enough readings is simply absent. ``vehicles``: registered plates, or ``None`` when no register is at hand.
    ``county_known(code, day)``: whether a county of GB/T 2260 existed that day. It says ``False`` only where its
    register declares itself complete for that day, and ``None`` where it cannot tell; ``None`` itself: no register.
    """

    daily_water_celsius: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    vehicles: frozenset[str] | None = None
    county_known: Callable[[str, date | None], bool | None] | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule that spoke.

    ``earliest_ms`` is when the step becomes legal (ms UTC; ``None``: waiting does not help).
    ``earliest_basis``: ``exact``
    from days on the label, ``computed`` from measured temperatures alone, ``estimated`` where days to come
    were assumed as cold as the coldest lately.
    """

    rule: str
    severity: Severity
    zh: str
    en: str
    source: str
    things: tuple[str, ...] = ()
    earliest_ms: int | None = None
    earliest_basis: Basis | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "rule": self.rule,
            "severity": self.severity,
            "zh": self.zh,
            "en": self.en,
            "source": self.source,
            "things": list(self.things),
            "earliest_ms": self.earliest_ms,
            "earliest_basis": self.earliest_basis,
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the rules of one pack version say about one event."""

    findings: tuple[Finding, ...]
    pack_version: str

    @property
    def kind(self) -> Literal["allowed", "amber", "refused"]:
        """The worst of the findings."""
        if self.refused:
            return "refused"
        return "amber" if self.findings else "allowed"

    @property
    def refused(self) -> bool:
        """Whether any rule says no."""
        return any(f.severity == "refused" for f in self.findings)

    @property
    def earliest_ms(self) -> int | None:
        """When all refusals will be over; ``None`` when there is none, or when waiting does not help for one."""
        dates = [f.earliest_ms for f in self.findings if f.severity == "refused"]
        known = [ms for ms in dates if ms is not None]
        return max(known) if known and len(known) == len(dates) else None
