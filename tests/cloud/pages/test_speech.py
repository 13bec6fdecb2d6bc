"""Numbers, times and areas as people read them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.pages.speech import Speech
from cloud.pages.words import Language, words_for

NOW = 1_795_309_500_000  # 2026-11-22 09:05 in China


@pytest.fixture(params=[Language.ZH, Language.EN])
def speech(request):
    return Speech(words_for(request.param), NOW)


def test_times_are_shown_in_china_wherever_the_server_stands(speech):
    assert speech.moment(NOW) == "2026-11-22 09:05"
    assert speech.iso(NOW) == "2026-11-22T01:05:00.000Z"
    assert speech.moment(None) == "–"


@pytest.mark.parametrize("ms", [253_402_300_799_000, -99_999_999_999_999, 2**63 - 1, -(2**63)])
def test_a_time_that_no_calendar_reaches_is_shown_as_it_is_kept_and_breaks_no_page(speech, ms):
    assert str(ms) in speech.moment(ms)
    assert str(ms) in speech.exact(ms)
    assert str(ms) in speech.day(ms)
    assert speech.iso(ms) in {"", "9999-12-31T23:59:59.000Z"}
    assert speech.age(ms)


@pytest.mark.parametrize(
    ("ago_ms", "zh"),
    [
        (0, "0 秒前"),
        (89_000, "89 秒前"),
        (90_000, "1 分钟前"),
        (89 * 60_000, "89 分钟前"),
        (47 * 3_600_000, "47 小时前"),
        (72 * 3_600_000, "3 天前"),
        (-120_000, "时间在未来，请检查设备时钟"),
    ],
)
def test_an_age_is_said_in_the_largest_sensible_unit(ago_ms, zh):
    assert Speech(words_for(Language.ZH), NOW).age(NOW - ago_ms) == zh


def test_area_comes_first_in_the_readers_own_unit():
    assert Speech(words_for(Language.ZH), NOW).area(2000 / 3) == "1.0 亩（合 0.07 公顷）"
    assert Speech(words_for(Language.EN), NOW).area(10_000) == "1.00 ha (15.0 mu)"


@given(st.floats(min_value=-1e9, max_value=1e9))
def test_a_number_reads_back_as_itself_to_two_decimals(value):
    text = Speech(words_for(Language.EN), NOW).number(value).replace("\u202f", "")
    assert abs(float(text) - value) <= 0.005 + abs(value) * 1e-12


def test_a_number_has_no_idle_zeros_and_none_is_a_dash(speech):
    assert speech.number(7.0) == "7"
    assert speech.number(100.0, 0) == "100"
    assert speech.number(12_345.5) == "12\u202f345.5"
    assert speech.number(None) == "–"


@pytest.mark.parametrize(("share", "text"), [(0.0, "0%"), (0.004, "<1%"), (0.5, "50%"), (0.996, ">99%"), (1.0, "100%")])
def test_a_chance_is_never_rounded_to_certainty(speech, share, text):
    assert speech.percent(share) == text


def test_units_are_written_as_people_write_them(speech):
    assert speech.unit("mg/L") == "mg/L"
    assert speech.unit("%RH") == "%"
    assert speech.unit("furlong/h") == "furlong/h"
    assert speech.unit("%") == "%"


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (6.4823, "mg/L", ("6.48", "mg/L")),
        (21.88, "ppm", ("21.9", "ppm")),
        (1397.92, "ppm", ("1\u202f398", "ppm")),
        (0.2751, "/", ("27.5", "%")),
        (None, "ppm", ("–", "")),
    ],
)
def test_a_reading_at_a_glance_has_three_figures(speech, value, unit, shown):
    assert speech.measure(value, unit) == shown
