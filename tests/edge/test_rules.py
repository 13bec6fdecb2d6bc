"""The rule core: what it says, when, and that the order of the samples does not matter."""

import random
from bisect import bisect_right
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.rules import RuleError, Sample, State, begin, explain, parse_expression, parse_rule, replay, step

MINUTE, HOUR = 60_000, 3_600_000
T0 = 1_795_276_800_000  # midnight in China, on a full minute
POND = {"pond1/dissolved_oxygen": 60, "pond1/water_temperature": 60, "pond1/ph": 600}


def rule(on, **more):
    row = {
        "id": "test-rule",
        "severity": "warning",
        "inputs": {"do": "pond1/dissolved_oxygen", "t": "pond1/water_temperature"},
        "on": on,
        **dict.fromkeys(("zh", "en", "action_zh", "action_en", "source"), "x"),
        **more,
    }
    return parse_rule(row, POND)


def oxygen(*values, start=T0, every=MINUTE):
    return [Sample("pond1/dissolved_oxygen", start + n * every, value) for n, value in enumerate(values)]


def said(transitions):
    return [(one.kind, (one.at_ms - T0) / MINUTE) for one in transitions]


def run(a_rule, samples, minutes):
    return replay(a_rule, samples, T0 + minutes * MINUTE)


# -- what it says --------------------------------------------------------------------------------------------


def test_a_threshold_rises_and_falls_with_the_samples():
    assert said(run(rule("do < 3"), oxygen(5, 2, 2, 5), 4)[1]) == [("raised", 1), ("cleared", 3)]


def test_a_hold_time_must_be_lived_through_without_a_break():
    samples = oxygen(5, 1.9, 1.9, 2.1, 1.9, 1.9, 1.9, 1.9, 5)
    transitions = run(rule("do < 2", hold="3min"), samples, 9)[1]
    assert said(transitions) == [("raised", 7), ("cleared", 8)]
    assert transitions[0].since_ms == T0 + 4 * MINUTE
    assert transitions[0].values == {"do": 1.9}


def test_a_hold_ends_between_two_samples_to_the_second():
    transitions = run(rule("do < 2", hold="90s"), oxygen(1.9, 1.9, 1.9), 3)[1]
    assert said(transitions) == [("raised", 1.5)]


def test_hysteresis_keeps_an_alarm_until_its_own_end():
    samples = oxygen(1.9, 2.5, 1.9, 3.5, 3.5, 2.5, 3.5, 3.5, 3.5, 3.5)
    assert said(run(rule("do < 2", off="do > 3", clear="2min"), samples, 10)[1]) == [("raised", 0), ("cleared", 8)]


def test_silence_is_an_alarm_and_an_unknown_value_neither_raises_nor_clears():
    gone = rule("missing(do) >= 3")
    assert said(run(gone, oxygen(5, 5), 10)[1]) == [("raised", 4)]
    assert said(run(gone, oxygen(5, 5, None, None, None, None), 10)[1]) == [("raised", 4)], "bad samples are silence"
    low = rule("do < 3")
    assert said(run(low, oxygen(2), 60)[1]) == [("raised", 0)], "it stays raised when the probe dies"


def test_a_series_never_heard_is_missing_from_the_beginning():
    state, transitions = begin(T0), []
    for minute in range(6):
        state, news = step(rule("missing(do) >= 3"), state, (), T0 + minute * MINUTE)
        transitions += news
    assert said(transitions) == [("raised", 3)]


def test_hours_in_a_window_are_summed_over_breaks():
    samples = oxygen(*([4.5, 4.5, 6.0] * 400))
    state, transitions = run(rule("hours(do < 5, 24h) > 8"), samples, 1199)
    assert said(transitions) == [("raised", 720 + 1)] or 719 <= said(transitions)[0][1] <= 722
    assert explain(rule("hours(do < 5, 24h) > 8"), state)["hours(do < 5, 24h)"] == pytest.approx(
        1199 / 60 * 2 / 3, abs=0.1
    )


def test_means_need_half_the_window():
    mean = rule("mean(do, 30min) < 3")
    assert said(run(mean, oxygen(*[2.0] * 40), 40)[1]) == [("raised", 15)]
    assert said(run(mean, oxygen(*[2.0] * 5), 40)[1]) == []


def test_a_rise_is_measured_against_the_value_then():
    warm = [Sample("pond1/water_temperature", T0 + n * MINUTE, 20 + n * 0.15) for n in range(30)]
    assert said(run(rule("rise(t, 15min) >= 2"), warm, 30)[1]) == [("raised", 15)]


def test_schedules_are_local_and_wrap_over_midnight():
    night = rule("between(22h, 6h) and do < 5")
    assert said(run(night, oxygen(*[4.0] * 60 * 26), 60 * 26)[1]) == [
        ("raised", 0),
        ("cleared", 6 * 60),
        ("raised", 22 * 60),
    ]
    assert said(run(rule("month() == 11 and do < 5"), oxygen(4.0), 2)[1]) == [("raised", 0)]
    assert said(run(rule("month() == 12 and do < 5"), oxygen(4.0), 2)[1]) == []


def test_derived_quantities_are_named_once():
    heat = rule("thi >= 78", define={"f": "1.8 * t + 32", "thi": "f - (0.55 - 0.0055 * do) * (f - 58)"})
    samples = [Sample("pond1/water_temperature", T0, 30.0), Sample("pond1/dissolved_oxygen", T0, 20.0)]
    assert said(run(heat, samples, 1)[1]) == []
    assert said(run(rule("pow10(do) > 99", define={}), oxygen(2.0), 1)[1]) == [("raised", 0)]


def test_division_by_zero_is_unknown_not_a_crash():
    assert said(run(rule("1 / (do - 5) > 0"), oxygen(5, 6), 2)[1]) == [("raised", 1)]


def test_one_known_side_can_decide_an_or():
    assert said(run(rule("do < 3 or t > 30"), oxygen(2), 1)[1]) == [("raised", 0)]
    assert said(run(rule("do < 3 and t > 30"), oxygen(2), 1)[1]) == []


# -- the order does not matter ---------------------------------------------------------------------------------

RULES = [
    rule("do < 3", hold="3min", off="do > 4", clear="5min"),
    rule("hours(do < 5, 2h) > 0.5"),
    rule("mean(do, 30min) < 4", hold="10min"),
    rule("missing(do) >= 3"),
    rule("rise(do, 15min) <= 0 - 1"),
    rule("between(0h, 1h) and do < 5"),
]
series = st.dictionaries(
    st.integers(0, 3 * 60 * 4), st.none() | st.sampled_from([1.0, 2.5, 3.5, 4.5, 5.5]), max_size=60
).map(lambda found: [Sample("pond1/dissolved_oxygen", T0 + at * 15_000, value) for at, value in found.items()])


def normal(state):
    return {**state.to_json(), "too_late": 0}


@given(samples=series, which=st.sampled_from(RULES), seed=st.integers(0, 99))
@settings(max_examples=150)
def test_late_repeated_and_shuffled_samples_and_any_ticks_end_in_the_same_state(samples, which, seed):
    luck, end = random.Random(seed), T0 + 4 * HOUR
    ordered, straight = begin(T0, late_ms=4 * HOUR), []
    ordered, straight = step(which, ordered, sorted(samples, key=lambda one: one.time_ms), end)
    state, told, now = begin(T0, late_ms=4 * HOUR), [], T0
    shuffled = samples + luck.choices(samples, k=5) if samples else []
    luck.shuffle(shuffled)
    while shuffled:
        size = luck.randint(0, 4)
        now = min(end, now + luck.randint(0, 20) * MINUTE)
        batch, shuffled = shuffled[:size], shuffled[size:]
        state, news = step(which, state, batch, now)
        told += news
        if luck.random() < 0.2:
            state = State.from_json(state.to_json())
    state, news = step(which, state, (), end)
    told += news
    assert normal(state) == normal(ordered)
    standing = {(one.kind, one.at_ms) for one in straight if one.kind == "raised"}
    withdrawn = [one.at_ms for one in told if one.kind == "withdrawn"]
    raised = [one.at_ms for one in told if one.kind == "raised"]
    for at in withdrawn:
        raised.remove(at)
    assert {("raised", at) for at in raised} == standing
    assert len(raised) == len(set(raised)), "nothing is raised twice"


@given(samples=series)
def test_hours_agree_with_counting_every_second(samples):
    in_order = sorted(samples, key=lambda one: one.time_ms)
    times = [one.time_ms for one in in_order]
    state, _ = step(RULES[1], begin(T0, late_ms=4 * HOUR), samples, T0 + 3 * HOUR)
    at, seconds = T0 + 3 * HOUR, 0
    for second in range(at - 2 * HOUR, at, 1000):
        nth = bisect_right(times, second) - 1
        if nth >= 0 and second - times[nth] < 3 * MINUTE and in_order[nth].value is not None:
            seconds += in_order[nth].value < 5
    assert explain(RULES[1], state)["hours(do < 5, 2h)"] == pytest.approx(seconds / 3600, abs=1e-9)


def test_a_sample_from_before_the_floor_is_counted_and_changes_nothing():
    state, _ = step(RULES[0], begin(T0, late_ms=HOUR), oxygen(5), T0 + 5 * HOUR)
    after, news = step(RULES[0], state, oxygen(1, start=T0 + HOUR), T0 + 5 * HOUR)
    assert (after.too_late, news) == (1, [])
    assert after.tracks == state.tracks


def test_a_sample_of_the_future_waits_for_its_time():
    state, news = step(rule("do < 3"), begin(T0), oxygen(2, start=T0 + HOUR), T0)
    assert news == []
    state, news = step(rule("do < 3"), state, (), T0 + 2 * HOUR)
    assert said(news)[0] == ("raised", 60)


def test_memory_is_bounded_by_the_longest_window():
    state = begin(T0)
    for minute in range(3000):
        state, _ = step(RULES[0], state, oxygen(5, start=T0 + minute * MINUTE), T0 + minute * MINUTE)
    assert len(state.tracks["pond1/dissolved_oxygen"].times) < 10


# -- what is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("on", "says"),
    [
        ("do <", "a value is expected"),
        ("do < 3 )", "not expected"),
        ("oxygen < 3", "no input of that name"),
        ("do", "is not a condition"),
        ("do < 3 and t", "is not a condition"),
        ("(do < 3) + 1 > 2", "is not a number"),
        ("do < 3min", "is not a number"),
        ("mean(do) < 3", "takes 2 values"),
        ("mean(do, 3) < 3", "does not fit"),
        ("mean(3, 3min) < 3", "does not fit"),
        ("hours(do, 3h) < 3", "does not fit"),
        ("__import__('os')", "cannot be read"),
        ("do.real < 3", "cannot be read"),
        ("eval(do) < 3", "no such function"),
        ("(" * 50 + "do" + ")" * 50 + " < 3", "nested too deep"),
        (" and ".join(["do < 3"] * 150), "too long"),
        ("do < 0 - 1", "never be true"),
        ("do < 30", "never clear"),
        ("hours(do < 5, 4h) > 5", "never be true"),
        ("missing(do) >= 0", "never clear"),
    ],
)
def test_a_wrong_condition_is_refused_with_the_reason(on, says):
    with pytest.raises(RuleError, match="rule test-rule") as caught:
        rule(on)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"id": "Bad Id"}, "short lower-case"),
        ({"severity": "doom"}, "severity"),
        ({"inputs": {"do": "pond9/oxygen"}}, "no series"),
        ({"inputs": {"Do!": "pond1/ph"}}, "short names"),
        ({"hold": "soon"}, "no input of that name"),
        ({"hold": "5"}, "not a duration"),
        ({"zh": ""}, "zh"),
        ({"colour": "red"}, "unknown key 'colour'"),
        ({"off": "do > 30"}, "never clear"),
    ],
)
def test_a_wrong_row_is_refused_with_rule_and_key(change, says):
    with pytest.raises(RuleError) as caught:
        rule(**{"on": "do < 3", **change})
    assert says in str(caught.value)


@given(text=st.text(alphabet="do t<>=()+-*/ 0123456789.,hminadorw_", max_size=60))
def test_any_text_is_parsed_or_refused_but_never_crashes(text):
    try:
        parse_expression(text, frozenset({"do", "t"}))
    except RuleError as why:
        assert str(why)  # noqa: PT017 - most texts are refused, a few are not


def test_a_foreign_document_is_no_state():
    for document in ({}, {"format": 9}, {"format": 1, "born": 1}):
        with pytest.raises(RuleError):
            State.from_json(document)


def test_n_of_m_counts_samples_not_time():
    watch = rule("count(do > 5, 5min) >= 3")
    transitions = run(watch, oxygen(6, 1, 6, 1, 6, 1, 1, 1, 1, 1), 9)[1]
    assert said(transitions) == [("raised", 4), ("cleared", 5)]
    assert transitions[0].values["count(do > 5, 5min)"] == 3


def test_a_growth_stage_is_counted_from_the_batch_and_unknown_where_nobody_said():
    stage = rule("age() >= 1 and do > 5")
    assert run(stage, oxygen(*[9] * 5), 4)[1] == []
    begun = replace(stage, begun_ms=T0 + 2 * MINUTE - 24 * HOUR)
    assert said(run(begun, oxygen(*[9] * 5), 4)[1]) == [("raised", 2)]
