"""Stamps never jump; wall time says how far it can be trusted."""

import pytest
from turned_clock import SteppedGateway, Times

from edge.clock import SOFTWARE_BORN_MS, Clock, ClockQuality
from edge.drivers import Sample
from edge.spool import Kind, Spool
from edge.spool.tool import messages
from edge.wire import Event, decode_pack

NOW = SOFTWARE_BORN_MS + 10**10
HOUR, DAY = 3_600_000, 86_400_000


def test_a_plausible_system_clock_is_followed_without_a_word():
    times = Times(NOW)
    clock = Clock(times)
    times.pass_ms(HOUR)
    times.wall += 900  # slewing
    assert clock.check() is None
    assert clock.now_ms() == NOW + HOUR + 900
    assert clock.quality is ClockQuality.SYSTEM


def test_1970_is_never_called_a_time_and_stamps_are_corrected_in_retrospect():
    times = Times(86_400_000)
    clock = Clock(times)
    early = clock.stamp()
    assert clock.now_ms() is None
    times.pass_ms(60_000)
    times.wall = NOW
    assert clock.check() is None
    assert clock.wall_of(early) == NOW - 60_000


def test_the_cloud_gives_the_time_until_the_system_knows_it():
    times = Times(0)
    clock = Clock(times)
    assert clock.hear_cloud(NOW) is None
    assert (clock.now_ms(), clock.quality) == (NOW, ClockQuality.CLOUD)
    assert clock.hear_cloud(5) is None, "an absurd time from the cloud is ignored"
    times.pass_ms(1000)
    times.wall = NOW + 1000 + 3000
    step = clock.check()
    assert step is not None
    assert (step.moved_ms, clock.quality) == (3000, ClockQuality.SYSTEM)
    assert clock.hear_cloud(NOW + HOUR) is None, "a good system clock is not moved by the cloud"


def test_steps_of_the_system_clock_are_reported_with_their_size():
    times = Times(NOW)
    clock = Clock(times)
    times.pass_ms(1000)
    times.wall -= HOUR
    step = clock.check()
    assert step is not None
    assert step.moved_ms == -HOUR
    assert clock.check() is None


def test_a_leap_of_a_year_is_not_followed_until_the_cloud_says_the_same():
    times = Times(NOW)
    clock = Clock(times)
    times.wall += 365 * DAY
    assert clock.check() is None
    assert clock.now_ms() == NOW
    clock.hear_cloud(NOW + 500)
    assert clock.check() is None, "the cloud says otherwise"
    clock.hear_cloud(NOW + 365 * DAY + 500)
    step = clock.check()
    assert step is not None
    assert step.moved_ms == 365 * DAY
    times.wall -= 365 * DAY
    assert clock.check() is None, "nor is the way back, without a witness"


@pytest.mark.parametrize("moved", [-HOUR, 7 * 60_000, 365 * DAY, -20 * 365 * DAY])
def test_a_clock_that_is_moved_in_the_middle_of_a_pack_costs_no_reading_and_no_order(tmp_path, moved):
    """An hour back, some minutes forward, a year forward, and 1970-like: in the agent that spools."""
    times = Times(NOW)
    with SteppedGateway(tmp_path, times, spool="pack_age_s = 60") as gateway:
        for second in range(20):
            if second == 10:
                times.wall += moved
            value = 20 + second / 10
            gateway.pass_ms(1000, [Sample("pond1/water_temperature", value, "Cel", stamp=times.boot + 1000)])
    spool = Spool(tmp_path / "spool")
    kept = list(messages(spool))
    spool.close()
    readings = [one for item in kept if item.kind is Kind.DATA for one in decode_pack(item.payload).readings]
    assert [one.value for one in readings] == [20 + second / 10 for second in range(20)], "all, in the order taken"
    believed = moved if abs(moved) < 30 * DAY else 0
    assert {one.time_ms for one in readings[:10]} == {NOW + 1000 * n for n in range(1, 11)}
    assert readings[-1].time_ms == NOW + 20_000 + believed
    steps = [Event.decode(item.payload) for item in kept if item.kind is Kind.EVENT]
    assert [one.body["moved_ms"] for one in steps if one.kind == "clock"] == ([moved] if believed else [])
