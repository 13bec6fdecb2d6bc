"""The gateway's own alarms: the farm's rules over the readings it takes, network or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edge.rules import RuleError, State, begin, step
from edge.rules.machine import Mark
from edge.wire import Event

if TYPE_CHECKING:
    from edge.farms import Farm
    from edge.rules import Rule, Sample, Transition

_LATE_MS = 10 * 60_000  # a gateway's own samples are late by seconds; radio sensors by minutes


class Watch:
    """All rules of a farm with their states. Times are UTC ms; ``tick`` about once a second."""

    def __init__(self, farm: Farm, now_ms: int) -> None:
        self._rules = dict(farm.rules)
        self._states = {name: begin(now_ms, late_ms=_LATE_MS) for name in self._rules}
        self._by_series: dict[str, list[str]] = {}
        for name, rule in self._rules.items():
            for one in rule.inputs.values():
                self._by_series.setdefault(one.series, []).append(name)
        self._minute = -1

    def tick(self, samples: Sequence[Sample], now_ms: int) -> list[Event]:
        """Alarm events for what changed, in the order of their own time."""
        touched: dict[str, list[Sample]] = {}
        for sample in samples:
            for name in self._by_series.get(sample.series, ()):
                touched.setdefault(name, []).append(sample)
        minute = now_ms // 60_000
        names = self._rules if minute != self._minute else [n for n in self._rules if n in touched or self._waits(n)]
        self._minute = minute
        news: list[Transition] = []
        for name in names:
            state, found = step(self._rules[name], self._states[name], touched.get(name, ()), now_ms)
            self._states[name] = state
            news += found
        return [_event(self._rules[one.rule], one) for one in sorted(news, key=lambda one: one.at_ms)]

    def _waits(self, name: str) -> bool:
        return self._states[name].mark.phase in {"pending", "clearing"}

    @property
    def raised(self) -> list[Rule]:
        """The rules that are raised now, critical ones first."""
        rules = [self._rules[name] for name, state in self._states.items() if state.raised]
        return sorted(rules, key=lambda rule: (rule.severity != "critical", rule.id))

    def clock_stepped(self, now_ms: int) -> None:
        """Wall time jumped: begin anew, but what is raised stays raised, so that nobody is called twice."""
        for name, state in self._states.items():
            fresh = begin(now_ms, late_ms=_LATE_MS)
            if state.raised:
                fresh = replace(fresh, base=Mark(fresh.floor_ms, "raised", state.mark.since_ms))
            self._states[name] = fresh

    def to_json(self) -> dict[str, Any]:
        """What must survive a restart."""
        return {name: state.to_json() for name, state in self._states.items()}

    def restore(self, document: Mapping[str, Any]) -> None:
        """Go on from ``to_json``; a rule that is new or whose state is damaged begins anew."""
        for name, row in document.items():
            if name in self._rules:
                try:
                    self._states[name] = State.from_json(row)
                except RuleError:
                    continue


def _event(rule: Rule, one: Transition) -> Event:
    body = {
        "rule": rule.id,
        "kind": one.kind,
        "since": one.since_ms,
        "severity": rule.severity,
        "values": dict(one.values),
        "zh": rule.texts["zh"],
        "en": rule.texts["en"],
    }
    return Event("alarm", one.at_ms, body)
