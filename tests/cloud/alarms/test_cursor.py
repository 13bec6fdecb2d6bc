"""What was stored and not judged is judged at the next start, whatever its age, and no start changes what was found."""

import time
from threading import Event

import pytest
from alarm_world import HOUR, LOW, MINUTE, OXYGEN, SILENT, T0, VERY_LOW, World, covers
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cloud.alarms import AlarmStore, Teller, Watch, Watched
from cloud.settings import Settings
from cloud.telemetry.dead_letters import Message
from cloud.wiring import build_gathering, build_pipeline, build_watch
from edge.wire import Pack, Reading, encode_pack

DAY = 24 * HOUR


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.engine.dispose()


def test_data_three_days_late_that_met_a_crash_before_they_were_judged_are_judged_at_the_next_start(world):
    world.receiver()
    world.live(*[6.0] * 3)
    world.now += 3 * DAY
    world.live(6.0)
    world.send(*((at, 2.0) for at in range(60, 120)), *((at, 6.0) for at in range(120, 130)), told=False)
    assert world.alarms() == []
    world.watch = world.new_watch()
    assert world.alarms() == [("low", 70, "cleared"), ("very-low", 62, "cleared")]
    assert all(one.historical for one in world.board.board().items)
    world.watch = world.new_watch()
    assert len(world.alarms()) == 2
    assert world.heard == []


def test_state_alarms_and_position_are_saved_together_or_not_at_all(world):
    world.live(*[6.0] * 3)
    world.now += 3 * DAY
    world.live(6.0)
    saved = world.store.position()
    with world.engine.begin() as db:
        db.exec_driver_sql("create trigger refuse before insert on alarm begin select raise(abort, 'full'); end")
    world.send(*((at, 2.0) for at in range(60, 120)))
    with pytest.raises(Exception, match="full"):
        world.watch.round()
    assert world.store.position() == saved < world.position()
    with world.engine.begin() as db:
        db.exec_driver_sql("drop trigger refuse")
    world.watch = world.new_watch()
    assert [row[0] for row in world.alarms()] == ["low", "very-low"]
    assert world.store.position() == world.position()


def test_a_watch_that_takes_over_many_gateways_ends_at_once_and_the_next_one_judges_what_it_left(world):
    world.now += HOUR
    world.gateways = [Watched(f"pond{n}", f"{n}号塘", "500108", (LOW,)) for n in range(40)]
    for one in world.gateways:
        world.send(*((at, 2.0) for at in range(30)), gateway=one.gateway, told=False)
    asked, begun, history = [], Event(), world.history

    def slow(gateway, names, start, end):
        asked.append(gateway)
        begun.set()
        time.sleep(0.2)
        return history(gateway, names, start, end)

    world.history = slow
    teller = Teller(world.store, covers, {"log": world.telephone})
    watch = Watch(
        world.store, teller, clock=lambda: world.now, watched=lambda: world.gateways, history=slow, follow=world
    )
    watch.start()
    assert begun.wait(10)
    stopped = time.monotonic()
    watch.stop()
    assert time.monotonic() - stopped < 3
    assert len(asked) < 20
    world.history = history
    world.watch = world.new_watch()
    assert len(world.alarms()) == 40


def test_what_nobody_told_is_missed_for_ten_seconds_and_then_read_from_the_store(world):
    world.live(*[6.0] * 3)
    world.now += 3 * DAY
    world.live(6.0)
    world.send(*((at, 2.0) for at in range(60, 120)), told=False)
    world.send((world.now / MINUTE - T0 / MINUTE, 6.0))
    world.watch.round()
    assert world.alarms() == []
    world.now += 11_000
    world.watch.round()
    assert [row[0] for row in world.alarms()] == ["low", "very-low"]


def test_the_backlog_of_a_gateway_that_nobody_knew_yet_is_judged_as_well(world):
    world.live(6.0)
    world.now += 3 * DAY
    world.gateways = [*world.gateways, Watched("new", "新塘", "500108", (LOW,))]
    world.send(*((at, 2.0) for at in range(60, 120)), *((at, 6.0) for at in range(120, 130)), gateway="new")
    world.watch.round()
    assert [(one.gateway, one.rule) for one in world.board.board().items] == [("new", "low")]


def test_a_store_that_began_anew_is_judged_from_its_beginning(world):
    world.live(*[6.0] * 5)
    world.now += 61_000
    world.watch.round()
    assert world.store.position() == 5
    world.journal.clear()
    world.now += 3 * DAY
    world.send(*((at, 2.0) for at in range(60, 120)), told=False)
    world.watch = world.new_watch()
    assert [row[0] for row in world.alarms()] == ["low", "very-low"]


def test_readings_of_1970_among_late_ones_do_not_make_it_judge_half_a_century(world):
    world.gateways = [Watched("pond", "一号塘", "500108", (LOW, SILENT))]
    world.watch = world.new_watch()
    world.live(*[6.0] * 3)
    world.now += 3 * DAY
    world.send((-T0 / MINUTE + 5, 2.0), *((at, 2.0) for at in range(60, 120)))
    world.watch.round()
    assert ("low", 70) in [row[:2] for row in world.alarms()]


def test_late_data_that_correct_a_historical_alarm_take_it_back(world):
    world.live(*[6.0] * 3)
    world.now += 3 * DAY
    world.live(6.0)
    late = dict.fromkeys(range(60, 120), 2.0)
    world.send(*((at, value) for at, value in late.items() if at % 3 == 0))
    world.watch.round()
    assert ("low", 70, "cleared") in world.alarms() or ("low", 70, "raised") in world.alarms()
    world.send(*((at, 6.0) for at in range(60, 120) if at % 3 == 1))
    world.watch.round()
    assert {row[2] for row in world.alarms()} == {"withdrawn"}


@pytest.mark.parametrize("readings", ["duckdb", "memory"])
def test_as_it_is_wired_a_pack_of_three_days_ago_that_was_stored_and_not_judged_is_found(tmp_path, readings):
    now = [T0]
    url = "memory://" if readings == "memory" else f"duckdb:///{tmp_path / 'readings.duckdb'}"
    gathering = build_gathering(Settings(var=tmp_path, readings_url=url), lambda: now[0])
    gathering.registry.add_gateway("pond", farm="fish_pond", region="500108")

    def store(seq, minutes, value):
        pack = Pack("pond", [Reading(OXYGEN, T0 + at * MINUTE, value, "mg/L") for at in minutes])
        build_pipeline(gathering).take([Message(f"tm/1/pond/data/aaaaaaaa/{seq}", encode_pack(pack), now[0])])

    store(1, range(-5, 1), 6.0)
    build_watch(gathering, lambda: False).round()
    now[0] += 3 * DAY
    store(2, range(60, 90), 1.0)
    if readings == "duckdb":
        gathering.close()
        gathering = build_gathering(Settings(var=tmp_path, readings_url=url), lambda: now[0])
    build_watch(gathering, lambda: False).round()
    found = {row["rule"]: row for row in AlarmStore(gathering.office.engine).alarms()}
    assert found["oxygen-surfacing"]["historical"]
    assert found["oxygen-surfacing"]["raised_ms"] - T0 < 70 * MINUTE
    gathering.close()


# When a piece of three hours of readings arrives, minutes after it was measured, and what happens then.
_DELAYS = st.sampled_from([0, 50, 900, 4400])
_FATES = st.sampled_from(["judged", "judged", "crash before judging", "restart afterwards"])
_PIECES = st.lists(st.tuples(st.sampled_from([6.0, 5.2, 4.0, 2.0]), _DELAYS, _FATES), min_size=9, max_size=9)


def _outcome(folder, pieces, *, restarts):
    world = World(folder, (LOW, VERY_LOW))
    due = sorted((20 * (nth + 1) + delay, nth, value, fate) for nth, (value, delay, fate) in enumerate(pieces))
    for at, nth, value, fate in due:
        world.now = max(world.now, T0 + at * MINUTE)
        crashes = restarts and fate == "crash before judging"
        world.send(*((minute, value) for minute in range(20 * nth, 20 * nth + 20)), told=not crashes)
        if crashes:
            world.watch = world.new_watch()
        world.watch.round()
        if restarts and fate == "restart afterwards":
            world.watch = world.new_watch()
    items = world.board.board(limit=1000).items
    world.engine.dispose()
    return sorted((one.rule, one.raised_ms, one.cleared_ms) for one in items if one.state != "withdrawn")


@settings(
    max_examples=12,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(pieces=_PIECES)
def test_a_restart_at_any_point_ends_in_the_same_alarms_as_none(tmp_path_factory, pieces):
    folder = tmp_path_factory.mktemp("restarts")
    (folder / "a").mkdir()
    (folder / "b").mkdir()
    assert _outcome(folder / "a", pieces, restarts=True) == _outcome(folder / "b", pieces, restarts=False)
