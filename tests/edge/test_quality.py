"""What cannot be believed is marked, and nothing is ever thrown away."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from turned_clock import SteppedGateway, Times

from edge.clock import SOFTWARE_BORN_MS
from edge.drivers import Sample
from edge.farms import load_farm
from edge.quality import Doubt, judge
from edge.spool import Kind, Spool
from edge.spool.tool import messages
from edge.wire import Quality, Reading, decode_pack

T0, MINUTE = 1_795_276_800_000, 60_000
DO = "pond1/dissolved_oxygen"


def looked(values, name=DO, unit="mg/L", every=MINUTE):
    doubt = Doubt()
    return [doubt.look(judge(name, T0 + n * every, value, unit)).quality for n, value in enumerate(values)]


def test_out_of_range_and_missing_values_are_bad_and_kept():
    assert judge("t/air_temperature", T0, -327.68, "Cel") == Reading(
        "t/air_temperature", T0, -327.68, "Cel", Quality.OUT_OF_RANGE
    )
    assert judge(DO, T0, None, "mg/L").quality is Quality.DEVICE_ERROR
    assert judge(DO, T0, 99.0, "mg/L", Quality.COMMS_LOST).quality is Quality.COMMS_LOST
    assert judge("x/own_invention", T0, 1e9, "1").quality is Quality.GOOD


def test_a_probe_that_says_the_same_for_two_hours_is_doubted_from_then_on():
    qualities = looked([6.2] * 180)
    assert set(qualities[:119]) == {Quality.GOOD}
    assert set(qualities[121:]) == {Quality.UNCERTAIN}
    assert looked([6.2] * 130 + [6.3])[-1] is Quality.GOOD, "it moves again"


def test_counters_and_switches_may_stand_still():
    assert set(looked([1.0] * 300, "barn1/power_present", "1")) == {Quality.GOOD}
    assert set(looked([0.0] * 300, "barn1/hydrogen_sulfide", "ppm")) == {Quality.GOOD}


def test_a_single_leap_is_doubted_and_the_value_after_it_is_not():
    assert looked([6.2, 6.3, 20.0, 6.2, 6.3])[2:] == [Quality.UNCERTAIN, Quality.GOOD, Quality.GOOD]


def test_a_leap_after_a_long_silence_is_believed():
    doubt = Doubt()
    for n, value in enumerate((6.2, 6.3)):
        doubt.look(judge(DO, T0 + n * MINUTE, value, "mg/L"))
    assert doubt.look(judge(DO, T0 + 60 * MINUTE, 20.0, "mg/L")).quality is Quality.GOOD


@given(values=st.lists(st.none() | st.floats(-5, 40), max_size=80))
def test_no_value_is_ever_changed(values):
    doubt = Doubt()
    for n, value in enumerate(values):
        assert doubt.look(judge(DO, T0 + n * MINUTE, value, "mg/L")).value == value


def test_a_series_that_falls_silent_is_called_stale_once_and_again_after_it_spoke(tmp_path):
    times = Times(SOFTWARE_BORN_MS + 10**10)
    interval_ms = round(load_farm("fish_pond").series["pond1/ph"].interval_s * 1000)

    def speak():
        gateway.pass_ms(1000, [Sample("pond1/ph", 7.1, "pH", stamp=times.boot + 1000)])

    with SteppedGateway(tmp_path, times) as gateway:
        speak()
        for _ in range(8):
            gateway.pass_ms(interval_ms)
        speak()
        for _ in range(2):
            gateway.pass_ms(interval_ms)
        wear = gateway.agent.status().body["spool"]
        days = 11 * interval_ms / 86_400_000
        assert wear["written_bytes_a_day"] == pytest.approx(wear["written_bytes"] / days, rel=0.2)
    spool = Spool(tmp_path / "spool")
    packs = [decode_pack(item.payload) for item in messages(spool) if item.kind is Kind.DATA]
    spool.close()
    found = [(one.value, one.quality) for pack in packs for one in pack.readings]
    assert found == [(7.1, Quality.GOOD), (None, Quality.STALE), (7.1, Quality.GOOD)]
