"""`judge`: one event against one pack. Pure: the same arguments give the same verdict for ever.

Rules speak in the words of the pack's ``texts`` table; the engine only fills in names and numbers. A row of a
substance brings its own source, which then stands in the finding before the general one.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain as joined
from typing import Any, Final

from traceability.chain_rules.balance import balance_breaches
from traceability.chain_rules.certificates import (
    Breach,
    certificate_breaches,
    paper_breaches,
    promise_breaches,
    renewal_breaches,
    tag_breaches,
)
from traceability.chain_rules.exposure import TREATING, Exposure, History, sources
from traceability.chain_rules.lifecycle import life_breaches
from traceability.chain_rules.pack import RulePack, load_pack
from traceability.chain_rules.verdict import Facts, Finding, Verdict
from traceability.chain_rules.withdrawal import DAY_MS, Clearance, china_day, clearance
from traceability.events import Event, parse_event
from traceability.own_fields import malformed, own

__all__ = ["judge"]

AMBER: Final = frozenset(
    {
        "balance.yield_low",
        "count.mismatch",
        "count.not_inside",
        "life.unknown",
        "promise.renew",
        "tag.county_unchecked",
        "treatment.unknown",
        "vehicle.unregistered",
    }
)
YEAR_MS: Final = 365 * DAY_MS


def judge(
    chain: str | RulePack,
    event: Event | Mapping[str, Any],
    history: Iterable[Event | Mapping[str, Any]],
    facts: Facts,
    now_ms: int,
) -> Verdict:
    """What the pack of ``chain`` says about ``event``.

    ``history``: valid earlier events of the same things and of what they come from (more does no harm; later
    ones than ``event`` are ignored). ``now_ms`` decides what lies in the future. Raises
    `EventError` for an event that is not one, `PackError` for an unknown chain.
    """
    pack = load_pack(chain) if isinstance(chain, str) else chain
    this = _event(event)
    past = History(e for e in map(_event, history) if e.time_ms <= this.time_ms and e.body is not this.body)
    breaches = joined(
        _field_breaches(this),
        tag_breaches(this, past, facts),
        certificate_breaches(pack, this, past, facts),
        paper_breaches(pack, this, past),
        promise_breaches(this),
        renewal_breaches(this, past),
        balance_breaches(pack, this, past),
        life_breaches(pack, this, past, now_ms),
    )
    findings = [_finding(pack, breach) for breach in breaches]
    findings += _treatment_findings(pack, this, past)
    findings += _withdrawal_findings(pack, this, past, facts, now_ms)
    return Verdict(tuple(findings), f"{pack.chain}/{pack.version}")


def _event(value: Event | Mapping[str, Any]) -> Event:
    return value if isinstance(value, Event) else parse_event(value)


def _field_breaches(event: Event) -> Iterator[Breach]:
    for problem in malformed(event):
        yield "field.malformed", {"pointer": problem.pointer, "message": problem.message}, event.things


def _finding(pack: RulePack, breach: Breach, source: str | None = None, **when: Any) -> Finding:
    rule, words, things = breach
    text = pack.texts[rule]
    return Finding(
        rule=rule,
        severity="amber" if rule in AMBER else "refused",
        zh=text["zh"].format_map(words),
        en=text["en"].format_map(words),
        source="；".join(dict.fromkeys(filter(None, (source, text["source"])))),
        things=things,
        **when,
    )


def _treatment_findings(pack: RulePack, event: Event, past: History) -> Iterator[Finding]:
    """A treatment that may not be given at all, or not once more, or of which no rule is known."""
    details = own(event, "tm:treatment")
    if event.step != TREATING or details is None:
        return
    name, route = str(details.get("substance", "")), str(details.get("route", ""))
    rule = pack.substance(name, route)
    if rule is None:
        if not isinstance(details.get("withdrawalDays"), int):
            yield _finding(pack, ("treatment.unknown", {"substance": name}, event.things))
        return
    words: dict[str, Any] = {"substance": rule.zh, "name": name}
    if rule.forbidden:
        yield _finding(pack, ("treatment.forbidden", words, event.things), rule.source)
    if rule.max_uses is not None:
        before = [e.treatment for e in past.exposures(event.things, event.time_ms)]
        uses = 1 + sum(_same_within_year(e, event, name) for e in before)
        if uses > rule.max_uses:
            words |= {"uses": uses, "max_uses": rule.max_uses}
            yield _finding(pack, ("treatment.too_often", words, event.things), rule.source)


def _same_within_year(earlier: Event, event: Event, name: str) -> bool:
    same = own(earlier, "tm:treatment").get("substance") == name
    return bool(same and event.time_ms - earlier.time_ms < YEAR_MS)


def _withdrawal_findings(pack: RulePack, event: Event, past: History, facts: Facts, now_ms: int) -> Iterator[Finding]:
    promised = own(event, "tm:conformityPromise") is not None
    if event.step not in pack.gates and not promised:
        return
    prefix = "promise" if promised else "withdrawal"
    for exposure in past.exposures(sources(event), event.time_ms):
        clear = clearance(pack, exposure.treatment, facts, now_ms)
        if clear.earliest_ms is not None and clear.earliest_ms <= exposure.until_ms:
            continue
        yield _open_withdrawal(pack, event, exposure, clear, prefix)


def _open_withdrawal(pack: RulePack, event: Event, exposure: Exposure, clear: Clearance, prefix: str) -> Finding:
    details = own(exposure.treatment, "tm:treatment")
    name = str(details.get("substance", ""))
    rule = clear.rule
    words: dict[str, Any] = {
        "substance": rule.zh if rule else name,
        "name": name,
        "treated": china_day(exposure.treatment.time_ms),
        "days": (rule.days if rule else None) or details.get("withdrawalDays"),
        "degree_days": rule.degree_days if rule else None,
        "reached": None if clear.reached is None else round(clear.reached, 1),
    }
    source = rule.source if rule else None
    if exposure.until_ms < event.time_ms and clear.why in {"days", "degree_days", "no_readings"}:
        # It left the treated source too early; no waiting in the store repairs that.
        return _finding(pack, (f"{prefix}.too_late", words, event.things), source)
    when: Mapping[str, Any] = {}
    if clear.earliest_ms is not None:
        words["earliest"] = china_day(clear.earliest_ms)
        when = {"earliest_ms": clear.earliest_ms, "earliest_basis": clear.basis}
    return _finding(pack, (f"{prefix}.{_SUFFIX(clear)}", words, event.things), source, **when)


_SUFFIX: Callable[[Clearance], str] = lambda clear: (  # noqa: E731 - one word for each way a period can be open
    f"{clear.why}_{clear.basis}" if clear.why == "degree_days" else clear.why
)
