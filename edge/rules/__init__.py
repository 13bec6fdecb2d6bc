"""The one rule language and its pure core: the gateway's alarms and control use it, and so do the cloud's alarms.

A rule is data: inputs (short names for series), a condition ``on``, perhaps another one ``off`` (hysteresis), and
hold times. Conditions are parsed, never evaluated as Python. Beside arithmetic, comparison and ``and or not``
they know

    ``mean(x, 30min)  min(x, d)  max(x, d)``   over a trailing window, time-weighted, half of it must be covered
    ``hours(condition, 24h)``                  hours of the window in which the condition held: share, duration, sums
    ``count(condition, 5min)``             samples of the window at which the condition held: n of m
    ``rise(x, 15min)  ago(x, 24h)``            rate of change, comparison with an earlier day
    ``missing(x)``                             intervals since the last good sample: silence is a value, too
    ``between(5h, 21h)  month()  hour()``      schedule and season, in local time
    ``age()``                              growth stage: days since the batch or crop began, unknown where nobody said
    ``abs exp ln pow10 least greatest``        for derived quantities, named under ``define``

A value holds until the next sample, at most three intervals; after that it is *unknown*, and an unknown
condition neither raises nor clears.

``step(rule, state, samples, now_ms) -> (state, transitions)`` is pure. Conditions are judged in event time at
instants that depend on the samples alone (each sample, each full minute, each end of a hold), so samples that come
late (within ``late_ms``), twice or in another order lead to the same state; what a late sample changes in the past
comes out as transitions with their own time, and as withdrawals of what turned out not to be so.
"""

from __future__ import annotations

from edge.rules.expressions import Expression, RuleError, parse_expression
from edge.rules.machine import Rule, State, Transition, begin, explain, holds, replay, step
from edge.rules.samples import Input, Sample
from edge.rules.table import parse_rule

__all__ = [
    "Expression",
    "Input",
    "Rule",
    "RuleError",
    "Sample",
    "State",
    "Transition",
    "begin",
    "explain",
    "holds",
    "parse_expression",
    "parse_rule",
    "replay",
    "step",
]
