"""Gateway and cloud use one rule core: on one trace they come to the same alarms, whatever the order of arrival."""

import random

import pytest

from cloud.alarms.engine import Engine, Watched
from edge.farms import farm_names, load_farm
from edge.rules import Sample, begin, step

MINUTE = 60_000
T0 = 1_700_006_400_000
MINUTES = 200


def trace(farm, seed):
    """A restless farm: every series wanders, some fall silent for a while or go far out of their range."""
    chance = random.Random(seed)
    samples = []
    for series in farm.series.values():
        curve = series.simulate
        swing = max(abs(curve.base), 1.0)
        silent = range(start := chance.randrange(MINUTES), start + chance.choice([0, 40]))
        wild = range(start := chance.randrange(MINUTES), start + chance.choice([0, 25, 90]))
        sign = chance.choice([-1, 1])
        for minute in range(0, MINUTES, max(1, series.interval_s // 60)):
            value = curve.base + chance.gauss(0, 0.02) * swing + (sign * swing if minute in wild else 0.0)
            if minute not in silent:
                samples.append(Sample(series.name, T0 + minute * MINUTE, value))
    return sorted(samples, key=lambda one: one.time_ms)


def on_the_gateway(farm, samples):
    """Step by step as minutes pass: {rule: [(raised, cleared or None)]}."""
    found = {}
    for rule in farm.rules.values():
        state, spans, rest = begin(T0), [], list(samples)
        for minute in range(MINUTES + 1):
            now = T0 + minute * MINUTE
            ready = [one for one in rest if one.time_ms <= now]
            rest = rest[len(ready) :]
            state, news = step(rule, state, ready, now)
            for one in news:
                if one.kind == "raised":
                    spans.append((one.at_ms, None))
                else:
                    spans[-1] = (spans[-1][0], one.at_ms)
        found[rule.id] = spans
    return {name: spans for name, spans in found.items() if spans}


def in_the_cloud(farm, samples, chunks):
    """The same samples in chunks, each heard when its time has come or later."""
    engine = Engine(lambda *_: ())
    watched = Watched("gw", "gw", "500108", tuple(farm.rules.values()))
    engine.watch(watched, {}, T0)
    changes = []
    for minute, chunk in chunks:
        changes += engine.feed("gw", chunk, T0 + minute * MINUTE)
    return {
        course.rule.id: [(raised, cleared) for raised, cleared, _ in course.spans]
        for course in engine.courses(changes)
        if course.spans
    }


@pytest.mark.parametrize("name", farm_names())
def test_both_sides_come_to_the_same_alarms(name):
    farm = load_farm(name)
    samples = trace(farm, seed=name)
    wanted = on_the_gateway(farm, samples)
    assert wanted, "a trace that raises nothing proves nothing"
    minute_by_minute = [
        (minute, [one for one in samples if one.time_ms == T0 + minute * MINUTE]) for minute in range(MINUTES + 1)
    ]
    assert in_the_cloud(farm, samples, minute_by_minute) == wanted
    at_once = [(MINUTES, samples)]
    assert in_the_cloud(farm, samples, at_once) == wanted
    thirds = [samples[0::3], samples[1::3], samples[2::3]]
    disordered = [(MINUTES, thirds[2]), (MINUTES, thirds[0] + thirds[0][:50]), (MINUTES, list(reversed(thirds[1])))]
    assert in_the_cloud(farm, samples, disordered) == wanted
