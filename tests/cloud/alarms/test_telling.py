"""Every receiver is told apart from the others, tried again with patience, and never waited for by the rules."""

import socket
import threading
import time
from contextlib import contextmanager
from itertools import pairwise

import pytest
from alarm_world import HOUR, MINUTE, T0, World

from cloud.alarms import AlarmStore, Teller, Watch, email, webhook
from cloud.alarms.notify import NotSent

SECOND = 1000
YEAR_9999 = 253_402_300_799_000


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.engine.dispose()


def happen(world, gateway="pond", at=None, **more):
    row = {"gateway": gateway, "rule": "duplicate_id", "region": "500108", "severity": "critical"}
    row |= {"subject": "duplicate_id", "texts": {"zh": "撞号", "gateway": gateway}} | more
    world.store.happened(row, f"a/{gateway}", at or world.now, world.now)


def teller(world, telephone):
    return Teller(world.store, lambda mine, theirs: theirs.startswith(mine), {"log": telephone})


def numbers(world):
    return {one.address: one for one in world.board.receivers()}


def test_an_alarm_of_the_year_9999_is_told_without_its_time_of_day(world):
    world.receiver()
    happen(world, at=YEAR_9999)
    world.watch.round()
    ((_, text),) = world.heard
    assert "时间不明" in text


def test_an_alarm_that_cannot_be_said_stops_no_other_and_is_named(world, caplog):
    world.receiver()
    world.receiver(address="second")
    happen(world, "broken", texts=["no", "words"])
    happen(world, "pond")
    for _ in range(3):
        world.watch.round()
    assert [to for to, _ in world.heard] == ["level-0", "second"]
    assert caplog.text.count("alarm 1 cannot be said") == 2


def test_whatever_one_receiver_raises_is_its_own_failure(world):
    def telephone(address, text):
        if address == "bad":
            raise UnicodeError("label too long")
        world.telephone(address, text)

    world.receiver(address="bad")
    world.receiver(address="good")
    happen(world)
    teller(world, telephone).round(world.now)
    assert [to for to, _ in world.heard] == ["good"]
    assert (numbers(world)["bad"].failures, numbers(world)["bad"].last_error) == (1, "UnicodeError: label too long")
    assert numbers(world)["good"].failures == 0


def test_a_receiver_that_was_down_for_a_while_gets_its_alarm(world):
    world.receiver()
    world.phone_dead = True
    happen(world)
    for _ in range(60):
        world.watch.round()
        world.now += SECOND
    world.phone_dead = False
    for _ in range(30):
        world.watch.round()
        world.now += SECOND
    assert len(world.heard) == 1
    assert numbers(world)["level-0"].next_try_ms is None


def test_twenty_tries_take_about_a_day_across_restarts_and_giving_up_is_said(world, caplog):
    tried = []

    def dead(_address, _text):
        tried.append(world.now)
        raise NotSent("no signal")

    world.receiver()
    happen(world)
    while world.now < T0 + 40 * HOUR:
        teller(world, dead).round(world.now)  # another one every time: what it knows stands in the tables
        world.now += MINUTE
    waits = [after - before for before, after in pairwise(tried)]
    assert len(tried) == 20
    assert waits == sorted(waits)
    assert max(waits) <= 2 * HOUR + MINUTE
    assert 18 * HOUR < tried[-1] - tried[0] < 26 * HOUR
    assert "receiver 1 (Li) is not told of alarm 1 any more" in caplog.text
    told = numbers(world)["level-0"]
    assert (told.failures, told.last_error, told.given_up) == (20, "no signal", 1)
    teller(world, world.telephone).round(world.now)
    assert world.heard == []


def test_a_new_alarm_waits_for_no_back_off_and_takes_the_others_along(world):
    world.receiver()
    world.phone_dead = True
    happen(world, "one")
    for _ in range(20):
        world.watch.round()
        world.now += 2 * MINUTE
    assert numbers(world)["level-0"].next_try_ms > world.now + MINUTE
    world.phone_dead = False
    world.watch.round()
    assert world.heard == [], "not its turn, and nothing new"
    happen(world, "two")
    world.watch.round()
    assert sorted(text.count("two") for _, text in world.heard) == [0, 1]


def test_many_new_alarms_at_a_dead_receiver_do_not_use_up_the_tries_of_the_first(world):
    world.receiver()
    world.phone_dead = True
    for n in range(30):
        happen(world, f"pond-{n}")
        world.watch.round()
        world.now += SECOND
    assert numbers(world)["level-0"].given_up == 0
    world.phone_dead = False
    world.now += MINUTE
    world.watch.round()
    assert len(world.heard) == 1
    assert "30处共30条" in world.heard[0][1]


def test_a_message_that_is_never_taken_does_not_keep_the_others_from_going(world):
    def picky(address, text):
        if "first" in text:
            raise NotSent("refused")
        world.telephone(address, text)

    world.receiver()
    happen(world, "first")
    happen(world, "second")
    for _ in range(4):
        teller(world, picky).round(world.now)
        world.now += 15 * SECOND
    assert len(world.heard) == 1


def test_adding_a_receiver_again_has_it_tried_at_once(world):
    world.receiver()
    world.phone_dead = True
    happen(world)
    for _ in range(9):
        world.watch.round()
        world.now += 10 * MINUTE
    world.phone_dead = False
    world.receiver()
    world.watch.round()
    assert len(world.heard) == 1


def test_rules_and_other_receivers_wait_for_nobody_who_does_not_answer(world):
    release, told = threading.Event(), threading.Event()

    def telephone(address, _text):
        if address.startswith("dead"):
            release.wait(30)
            raise NotSent("no answer")
        told.set()

    for n in range(6):
        world.receiver(address=f"dead-{n}")
    world.receiver(address="seventh")
    happen(world)
    watch = Watch(
        world.store,
        teller(world, telephone),
        clock=lambda: world.now,
        watched=lambda: world.gateways,
        history=world.history,
        follow=world,
    )
    world.watch = watch
    watch.start()
    assert told.wait(5)
    world.now = T0 + 14 * MINUTE
    world.send(*((at, 2.0) for at in range(1, 15)))
    until = time.monotonic() + 8
    while time.monotonic() < until and "very-low" not in {row[0] for row in world.alarms()}:
        time.sleep(0.05)
    assert "very-low" in {row[0] for row in world.alarms()}
    stopped = time.monotonic()
    watch.stop()
    assert time.monotonic() - stopped < 5
    release.set()


@contextmanager
def dripping(head, every_s, size=1):
    """A server that says `head` and then goes on for ever, `size` bytes at a time; gives its port and what it sent."""
    listening = socket.create_server(("127.0.0.1", 0))
    sent, over = [], threading.Event()

    def serve():
        line, _ = listening.accept()
        with line:
            try:
                line.sendall(head)
                while not over.wait(every_s):
                    line.sendall(b"x" * size)
                    sent.append(size)
            except OSError:
                return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listening.getsockname()[1], sent
    over.set()
    thread.join(5)
    listening.close()


def test_a_webhook_that_drips_its_answer_has_so_much_time_in_all():
    with dripping(b"HTTP/1.1 200 OK\r\nX-Long: ", 0.1) as (port, _):
        began = time.monotonic()
        with pytest.raises(NotSent, match="within"):
            webhook(f"http://127.0.0.1:{port}/", "text", within_s=0.6)
        assert time.monotonic() - began < 3


def test_the_body_of_an_answer_is_not_read():
    with dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 3000000000\r\n\r\n", 0.001, 1_000_000) as (port, sent):
        webhook(f"http://127.0.0.1:{port}/", "text", within_s=20)
        time.sleep(0.2)
        assert sum(sent) < 50_000_000


def test_a_mail_server_that_drips_its_greeting_has_so_much_time_in_all():
    with dripping(b"220-", 0.1) as (port, _):
        began = time.monotonic()
        with pytest.raises(NotSent, match="closed"):
            email("127.0.0.1", port, "a@b", within_s=0.6, own_name="cloud.example")("li@example.org", "text")
        assert time.monotonic() - began < 3


def test_who_is_told_next_and_how_it_went_is_kept_by_both_databases(engine):
    store = AlarmStore(engine)
    store.create()
    row = {"gateway": "pond", "rule": "duplicate_id", "region": "500108", "severity": "critical"}
    store.happened(row | {"subject": "x", "texts": {}}, "a/1", T0, T0)
    row = {"name": "Li", "kind": "log", "region": "500108", "severity": "warning", "level": 0, "per_hour": 9}
    for address in ("first", "second"):
        store.add_receiver(row | {"address": address}, lambda _: None)
    one, two = [held["id"] for held in store.receivers()]
    store.queue([{"receiver": to, "alarm": 1, "kind": "raised"} for to in (one, two)], {1: 1}, T0)
    store.mark_failed(one, [store.waiting(one)[0]["message"]], 3, T0 + 40_000, "no signal" * 99)
    assert [(to["id"], to["least"], to["failures"], to["retry_ms"]) for to in store.to_tell()] == [
        (two, 0, None, None),
        (one, 1, 3, T0 + 40_000),
    ]
    store.give_up([store.waiting(two)[0]["message"]])
    assert (store.waiting(two), store.given_up()) == ([], {two: 1})
    store.mark_sent(one, [store.waiting(one)[0]["message"]], T0)
    assert (store.to_tell(), store.troubles()) == ([], {})
    store.mark_failed(one, [], 1, T0, "again")
    assert store.remove_receiver(one, lambda _: None)
    store.mark_failed(one, [], 1, T0, "nobody any more")
    assert store.troubles() == {}
