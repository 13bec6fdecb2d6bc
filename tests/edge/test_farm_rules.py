"""The default rules that ship: each can be read, has a source, and fires where its source says it must."""

import pytest

from edge.farms import FarmError, farm_names, load_farm, parse_farm
from edge.rules import Sample, begin, explain, replay, step

MINUTE, HOUR = 60_000, 3_600_000
T0 = 1_795_276_800_000  # midnight in China


def hold(series, value, minutes, *, every=1, start=T0):
    return [Sample(series, start + n * MINUTE, value) for n in range(0, minutes, every)]


def raised(farm, rule, samples, minutes):
    found = replay(load_farm(farm).rules[rule], samples, T0 + minutes * MINUTE)[1]
    return [(one.at_ms - T0) / MINUTE for one in found if one.kind == "raised"]


@pytest.mark.parametrize("name", farm_names())
def test_each_rule_says_what_is_wrong_what_to_do_and_who_says_so_in_both_languages(name):
    farm = load_farm(name)
    for rule in farm.rules.values():
        assert not rule.texts["zh"].isascii()
        assert not rule.texts["action_zh"].isascii()
        assert rule.texts["en"].isascii()
        assert rule.texts["action_en"].isascii()
        assert len(rule.texts["source"]) > 10
        assert {one.series for one in rule.inputs.values()} <= set(farm.series)
    assert {f"silent-{series.replace('/', '-').replace('_', '-')}-long" for series in farm.series} <= set(farm.rules)


@pytest.mark.parametrize(("celsius", "humidity", "index"), [(30, 80, 82.9), (28, 80, 79.7), (32, 80, 86.1)])
def test_the_heat_index_has_the_published_values(celsius, humidity, index):
    rule = load_farm("pig_barn").rules["heat-load"]
    samples = [Sample("barn1/air_temperature", T0, celsius), Sample("barn1/relative_humidity", T0, humidity)]
    state, _ = step(rule, begin(T0), samples, T0)
    shown = explain(rule, state)
    assert shown["t"] == celsius
    thi = (1.8 * celsius + 32) - (0.55 - 0.0055 * humidity) * (1.8 * celsius - 26)
    assert thi == pytest.approx(index, abs=0.05)


def test_a_summer_afternoon_alone_is_no_heat_load_but_six_hours_are():
    def day(hot_minutes):
        warm = hold("barn1/air_temperature", 29.0, hot_minutes)
        cool = hold("barn1/air_temperature", 22.0, 600, start=T0 + hot_minutes * MINUTE)
        return [*warm, *cool, *hold("barn1/relative_humidity", 80.0, hot_minutes + 600)]

    assert raised("pig_barn", "heat-load", day(5 * 60), 600) == []
    assert raised("pig_barn", "heat-load", day(7 * 60), 600) == [360]


def test_pond_oxygen_surfacing_needs_three_minutes_and_clears_above_four():
    samples = [
        *hold("pond1/dissolved_oxygen", 4.5, 10),
        *hold("pond1/dissolved_oxygen", 1.9, 10, start=T0 + 10 * MINUTE),
        *hold("pond1/dissolved_oxygen", 4.5, 30, start=T0 + 20 * MINUTE),
    ]
    assert raised("fish_pond", "oxygen-surfacing", samples, 50) == [13]
    assert raised("fish_pond", "oxygen-low", samples, 50) == []


def test_eight_hours_below_five_are_allowed_and_nine_are_not():
    def night(hours):
        low = hold("pond1/dissolved_oxygen", 4.5, hours * 60)
        return [*low, *hold("pond1/dissolved_oxygen", 6.0, 600, start=T0 + hours * HOUR)]

    assert raised("fish_pond", "oxygen-day", night(8), 1000) == []
    assert len(raised("fish_pond", "oxygen-day", night(9), 1000)) == 1


def test_free_ammonia_follows_ph_and_temperature():
    def pond(ph):
        values = {"pond1/total_ammonia": 0.5, "pond1/ph": ph, "pond1/water_temperature": 25.0}
        return [sample for name, value in values.items() for sample in hold(name, value, 300)]

    assert raised("fish_pond", "free-ammonia", pond(7.5), 300) == []  # 1.8 % of 0.5 mg/L
    assert raised("fish_pond", "free-ammonia", pond(8.5), 300) == [120]  # 15 %


def test_frost_damage_counts_hours_and_a_shorter_day_is_seen_against_yesterday():
    cold = [
        *hold("canopy/air_temperature", -2.5, 70, every=5),
        *hold("canopy/air_temperature", 1.0, 60, every=5, start=T0 + 70 * MINUTE),
        *hold("canopy/air_temperature", -2.5, 90, every=5, start=T0 + 130 * MINUTE),
    ]
    assert raised("citrus_orchard", "frost-damage", cold, 220) == [180]
    days = [
        *hold("house1/day_length", 16.0, 24 * 60, every=60),
        *hold("house1/day_length", 15.5, 600, every=60, start=T0 + 24 * HOUR),
    ]
    assert raised("layer_house", "day-shorter", days, 30 * 60) == [24 * 60]
    assert raised("layer_house", "day-much-shorter", days, 30 * 60) == []


def test_light_is_judged_only_in_the_light_period():
    dark = hold("feeder1/illuminance", 0.0, 7 * 60)
    assert raised("layer_house", "light", dark, 7 * 60) == [6 * 60 + 15]


def test_silence_of_any_series_is_named_after_three_intervals():
    rule = load_farm("fish_pond").rules["silent-pond1-nitrite"]
    assert "亚硝酸盐" in rule.texts["zh"]
    assert raised("fish_pond", "silent-pond1-nitrite", hold("pond1/nitrite", 0.02, 1), 60) == [30]


def test_a_rule_that_can_never_clear_is_refused_with_file_and_rule():
    text = """
format = "tianmai-farm@1"
name = "x"
zh = "塘"
en = "x"
[[series]]
name = "pond1/ph"
zh = "酸"
en = "pH"
interval_s = 60
simulate = { base = 7.0, day = 0.0, peak = 0.0, wander = 0.0, noise = 0.0, step = 0.1 }
[[rule]]
id = "always"
severity = "warning"
inputs = { ph = "pond1/ph" }
on = "ph < 20"
zh = "一"
en = "a"
action_zh = "一"
action_en = "a"
source = "nobody"
"""
    with pytest.raises(FarmError, match=r"bad\.toml: rule always: .*never clear"):
        parse_farm(text, where="bad.toml")


def test_silkworms_are_judged_by_the_age_of_their_batch():
    cold = hold("room1/air_temperature", 24.0, 60)
    for day, expected in ((3, [15.0]), (8, []), (15, [])):
        rule = load_farm("silkworm_room").begun(T0 - day * 24 * HOUR).rules["young-cold"]
        found = replay(rule, cold, T0 + HOUR)[1]
        assert [(one.at_ms - T0) / MINUTE for one in found] == expected, day
    assert raised("silkworm_room", "young-cold", cold, 60) == []  # nobody said when the batch began
