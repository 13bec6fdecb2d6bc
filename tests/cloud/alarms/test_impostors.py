"""Two who speak with one name stand on the board, are told like other alarms, and end when they stop."""

import pytest
from alarm_world import HOUR, MINUTE, T0, World

from cloud.alarms import AlarmStore, Impostors
from cloud.alarms.notify import LONGEST
from cloud.settings import Settings
from cloud.telemetry.dead_letters import Message
from cloud.wiring import build_gathering, build_pipeline
from edge.wire import Pack, Reading, encode_pack


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    world.receiver()
    world.receiver(level=1)
    world.impostors = Impostors(world.store, clock=lambda: world.now, stand=lambda _: ("一号塘", "500108"))
    yield world
    world.engine.dispose()


def event(world, seq, kind="sequence_reused", at=None):
    return {"gateway": "pond", "kind": kind, "epoch": "a" * 8, "seq": seq, "time_ms": at or world.now, "body": {}}


@pytest.mark.parametrize("kind", ["sequence_reused", "duplicate_id"])
def test_it_is_told_escalated_acknowledged_and_ends_after_a_quiet_day(world, kind):
    world.impostors.take_events([event(world, 1, kind), event(world, 2, kind)])
    world.impostors.take_events([event(world, 9, kind)])
    world.watch.round()
    ((address, text),) = world.heard
    assert (address, text[:4]) == ("level-0", "【紧急】")
    assert len(text) <= LONGEST
    assert not text.endswith("…"), "what to do is said in full"
    world.now += 11 * MINUTE
    world.watch.round()
    assert [to for to, _ in world.heard] == ["level-0", "level-1"]
    (one,) = world.board.board(open_only=True).items
    assert (one.rule, one.severity, one.gateway_name, one.state) == (kind, "critical", "一号塘", "raised")
    assert one.action_zh
    assert one.action_en
    assert world.board.acknowledge([one.id], "li") == 1
    world.now += 23 * HOUR
    world.impostors.take_events([event(world, 3, kind)])
    world.now += 2 * HOUR
    world.watch.round()
    assert world.board.get(one.id).state == "acknowledged"
    world.now += 24 * HOUR
    world.watch.round()
    assert world.board.get(one.id).state == "cleared"


def test_the_same_happening_told_again_changes_nothing_even_when_it_is_over(world):
    told = event(world, 1)
    for _ in range(3):
        world.impostors.take_events([told])
    assert len(world.board.get(world.board.board().items[0].id).steps) == 1
    world.now += 25 * HOUR
    world.watch.round()
    world.impostors.take_events([told])
    assert [one.state for one in world.board.board().items] == ["cleared"]


def test_one_that_is_told_a_day_late_is_historical(world):
    world.impostors.take_events([event(world, 1, "duplicate_id", at=world.now - 20 * HOUR)])
    world.watch.round()
    assert [one.historical for one in world.board.board().items] == [True]
    assert world.heard == []


def test_other_events_are_none_of_its_business(world):
    world.impostors.take_events([event(world, 1, "gap")])
    assert world.board.board().items == []


def test_as_it_is_wired_a_reused_number_stands_on_the_board(tmp_path):
    gathering = build_gathering(Settings(var=tmp_path, readings_url="memory://"), lambda: T0)
    gathering.registry.add_gateway("pond", farm="fish_pond", region="500108")
    pipeline = build_pipeline(gathering)
    for value in (6.0, 6.0, 7.0):
        pack = Pack("pond", [Reading("pond1/dissolved_oxygen", T0, value, "mg/L")])
        pipeline.take([Message("tm/1/pond/data/aaaaaaaa/1", encode_pack(pack), T0)])

    (row,) = AlarmStore(gathering.office.engine).alarms()
    assert (row["gateway"], row["rule"], row["region"], row["historical"]) == (
        "pond",
        "sequence_reused",
        "500108",
        False,
    )
    gathering.close()
