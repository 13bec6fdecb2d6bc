"""When a treatment is over: days on the label, or degree-days of the water the fish really lived in.

A day on which the pond's mean temperature is not known counts as 0, so a broken sensor can only make the wait
longer. The days still to come are taken to be as cold as the coldest of the last `LOOK_BACK` known days, and
the date is then called an estimate.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from traceability.chain_rules.pack import RulePack, SubstanceRule
from traceability.chain_rules.verdict import Basis, Facts
from traceability.events import CHINA, Event
from traceability.own_fields import own

__all__ = ["Clearance", "clearance"]

DAY_MS: Final = 86_400_000
LOOK_BACK: Final = 14
LONGEST_DAYS: Final = 3650  # a pond near 0 °C would wait for ever; ten years says the same


@dataclass(frozen=True, slots=True)
class Clearance:
    """When one treatment is over; ``why`` says which rule spoke.

    ``earliest_ms`` is ``None`` where waiting does not help or no date can be told.
    """

    why: str  # "days" | "degree_days" | "forbidden" | "unknown" | "no_readings"
    rule: SubstanceRule | None
    earliest_ms: int | None
    basis: Basis | None = None
    reached: float | None = None  # degree-days collected so far, Cel·d


def china_day(time_ms: int) -> date:
    """The calendar day in China of a moment."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).astimezone(CHINA).date()


def start_of(day: date) -> int:
    """The first millisecond of a China day, ms UTC."""
    return round(datetime.combine(day, time(), CHINA).timestamp() * 1000)


def clearance(pack: RulePack, treatment: Event, facts: Facts, now_ms: int) -> Clearance:
    """When ``treatment`` stops blocking, by the pack's row and by the label if the event states a longer one."""
    details = own(treatment, "tm:treatment")
    rule = pack.substance(str(details.get("substance", "")), str(details.get("route", "")))
    stated = details.get("withdrawalDays")
    if rule is None and not isinstance(stated, int):
        return Clearance("unknown", None, None)
    if rule is not None and rule.forbidden:
        return Clearance("forbidden", rule, None)
    if rule is not None and rule.degree_days is not None:
        return _by_temperature(rule, rule.degree_days, treatment, facts, now_ms)
    days = max(rule.days or 0 if rule else 0, stated if isinstance(stated, int) else 0)
    return Clearance("days", rule, treatment.time_ms + days * DAY_MS, "exact")


def _by_temperature(rule: SubstanceRule, needed: int, treatment: Event, facts: Facts, now_ms: int) -> Clearance:
    known = _daily(treatment, facts)
    today = china_day(now_ms)
    day, reached = china_day(treatment.time_ms) + timedelta(days=1), 0.0
    while day < today and reached < needed:
        reached += max(0.0, known.get(day.isoformat(), 0.0))
        day += timedelta(days=1)
    if reached >= needed:
        return Clearance("degree_days", rule, start_of(day), "computed", reached)
    past = sorted(name for name in known if name < today.isoformat())[-LOOK_BACK:]
    coldest = min((known[name] for name in past), default=0.0)
    left = (needed - reached) / coldest if coldest > 0 else LONGEST_DAYS + 1
    if left > LONGEST_DAYS:
        return Clearance("no_readings", rule, None, None, reached)
    wait = max(day, today) + timedelta(days=-int(-left // 1))
    return Clearance("degree_days", rule, start_of(wait), "estimated", reached)


def _daily(treatment: Event, facts: Facts) -> Mapping[str, float]:
    for place in (treatment.read_point, treatment.location, *treatment.things):
        if place is not None and place in facts.daily_water_celsius:
            return facts.daily_water_celsius[place]
    return {}
