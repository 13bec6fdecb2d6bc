"""What people do on the alarm board stands in the audit trail, with its region, or did not happen."""

import pytest
from alarm_world import World

from cloud.alarms import Receiver, Watched
from cloud.problems import NotFound

ROBOT = Receiver(name="Robot", kind="webhook", address="https://a:b@example.org/x?token=secret", region="500108")


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    world.live(*[4.5] * 15)
    yield world
    world.engine.dispose()


def test_acknowledging_is_written_down_once_with_who_what_and_where(world):
    (alarm,) = world.board.board(open_only=True).items
    world.board.acknowledge([alarm.id], "li", "on my way")
    world.board.acknowledge([alarm.id], "wang")
    detail = {"alarms": [alarm.id], "note": "on my way"}
    assert world.trail == [("li", "alarm.acknowledged", "pond", detail, "500108")]


def test_keeping_quiet_and_speaking_again_are_written_down(world):
    (alarm,) = world.board.board(open_only=True).items
    world.board.shelve_all([alarm.id], 5, "li", "pump")
    world.board.unshelve("pond", "low", "wang")
    world.board.shelve("pond", "*", 5, "li", "all of it")
    told = [(who, what, subject, detail["rule"], region) for who, what, subject, detail, region in world.trail]
    assert told == [
        ("li", "alarm.shelved", "pond", "low", "500108"),
        ("wang", "alarm.unshelved", "pond", "low", "500108"),
        ("li", "alarm.shelved", "pond", "*", "500108"),
    ]
    assert world.trail[0][3]["reason"] == "pump"


def test_receivers_come_and_go_in_the_trail_without_the_password_in_their_url(world):
    added = world.board.add_receiver(ROBOT, "admin")
    world.board.remove_receiver(added.id, "admin")
    assert [(who, what, subject, region) for who, what, subject, _, region in world.trail] == [
        ("admin", "receiver.added", "Robot", "500108"),
        ("admin", "receiver.removed", "Robot", "500108"),
    ]
    assert {detail["address"] for *_, detail, _ in world.trail} == {"https://example.org/…"}


def test_what_cannot_be_written_down_does_not_happen(world):
    def full(*_):
        raise RuntimeError("no room in the trail")

    (alarm,) = world.board.board(open_only=True).items
    held = world.board.add_receiver(ROBOT, "admin")
    world.board._audit = full
    other = ROBOT.model_copy(update={"level": 3})
    for act in (
        lambda: world.board.acknowledge([alarm.id], "li"),
        lambda: world.board.shelve("pond", "low", 5, "li", "pump"),
        lambda: world.board.add_receiver(other, "admin"),
        lambda: world.board.remove_receiver(held.id, "admin"),
    ):
        with pytest.raises(RuntimeError):
            act()
    assert world.board.get(alarm.id).state == "raised"
    assert world.board.shelves() == []
    assert [one.id for one in world.board.receivers()] == [held.id]


def test_what_was_refused_leaves_no_entry(world):
    world.gateways.append(Watched("barn", "猪舍", "500153", ()))
    for act in (
        lambda: world.board.acknowledge([99], "li"),
        lambda: world.board.unshelve("barn", "low", "li"),
        lambda: world.board.remove_receiver(7, "li"),
    ):
        with pytest.raises(NotFound):
            act()
    assert world.trail == []
