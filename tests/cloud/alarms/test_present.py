"""Late data call nobody; what still goes on by readings that came in time is told once, with its true beginning."""

import pytest
from alarm_world import HOUR, LONG, LOW, MINUTE, SILENT, T0, World

from cloud.alarms import Watched
from edge.rules import parse_rule

TEMPERATURE = "pond1/water_temperature"


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    world.receiver()
    yield world
    world.engine.dispose()


def offline_night(world, value, until=600):
    """Oxygen falls at minute 60 while the link is down; at minute 600 the backlog comes at once."""
    world.live(*[6.0] * 10)
    world.now = T0 + until * MINUTE
    world.send(*((at, 6.0 if at < 60 else value(at)) for at in range(11, until - 5)))
    world.watch.round()


def test_a_danger_that_is_over_when_the_link_returns_calls_nobody(world):
    offline_night(world, lambda at: 1.9 if at < 70 else 6.0)
    world.live(*[6.0] * 20)
    assert {row[0] for row in world.alarms()} == {"low", "very-low"} or world.alarms()[0][0] == "very-low"
    assert all(one.historical for one in world.board.board().items)
    assert world.heard == []


def test_a_danger_that_goes_on_when_the_link_returns_is_told_once_with_its_true_beginning(world):
    offline_night(world, lambda _: 1.9)
    assert world.heard == [], "the backlog alone calls nobody"
    world.live(*[1.9] * 5)
    ((_, text),) = world.heard
    raised = next(one for one in world.board.board().items if one.rule == "very-low")
    assert (raised.raised_ms, raised.historical) == (T0 + 62 * MINUTE, False)
    assert text.startswith("【紧急】一号塘09:02起")
    world.watch = world.new_watch()
    world.live(*[1.9] * 4)
    assert len(world.heard) == 1


def test_what_began_on_another_day_is_told_with_its_day(world):
    offline_night(world, lambda _: 1.9, until=1500)
    world.live(1.9)
    assert "11月15日09:02起" in world.heard[0][1]


def test_a_sum_that_only_late_data_made_true_calls_nobody(world):
    world.gateways = [Watched("pond", "一号塘", "500108", (LONG,))]
    world.watch = world.new_watch()
    offline_night(world, lambda at: 4.5 if at < 590 else 6.0)
    world.live(*[6.0] * 30)
    assert [(row[0], row[2]) for row in world.alarms()] == [("long", "raised")]
    assert world.heard == []


def test_an_acknowledged_one_is_not_told_after_all(world):
    offline_night(world, lambda _: 4.5)
    world.board.acknowledge([one.id for one in world.board.board().items], "li")
    world.live(*[4.5] * 5)
    assert world.heard == []


def test_a_probe_that_stays_silent_while_its_gateway_speaks_again_is_told(world):
    warm = parse_rule(
        {"id": "warm", "severity": "warning", "inputs": {"t": TEMPERATURE}, "on": "t > 30", **LOW.texts},
        {TEMPERATURE: 60},
    )
    world.gateways = [Watched("pond", "一号塘", "500108", (SILENT, warm))]
    world.watch = world.new_watch()
    world.live(6.0)
    world.watch = None
    world.now += HOUR  # the cloud was away for an hour
    world.watch = world.new_watch()
    world.now += MINUTE
    world.watch.round()
    assert [(row[0], row[2]) for row in world.alarms()] == [("silent", "raised")]
    assert world.heard == [], "perhaps the whole gateway is away: its backlog may tell otherwise"
    world.now += MINUTE
    world.send(((world.now - T0) / MINUTE, 20.0), series=TEMPERATURE)
    world.watch.round()
    assert len(world.heard) == 1
