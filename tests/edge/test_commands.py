"""A command runs at most once, never late, and never for a stranger."""

import json

import pytest

from edge.clock import ClockQuality
from edge.commands import Desk
from edge.wire import Command

SECRET = b"0123456789abcdef0123456789abcdef"
NOW = 1_795_276_800_000


class Relay:
    def __init__(self, answer=""):
        self.acted, self.answer = [], answer

    def __call__(self, command):
        self.acted.append(command.id)
        return self.answer


def command(**change):
    fields = {
        "id": "c1", "gateway": "pond-1", "target": "aerator1", "operation": "set", "value": 1.0,
        "not_before_ms": NOW, "expires_ms": NOW + 60_000, "by": "user:li",
    }  # fmt: skip
    return Command(**{**fields, **change})


def send(desk, relay, payload, *, target="aerator1", retained=False, now=NOW + 1, quality=ClockQuality.SYSTEM):
    results = desk.receive(payload, target, retained=retained, now_ms=now, quality=quality, act=relay)
    return [(result.outcome, result.reason) for result in results]


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path / "commands.log", "pond-1", SECRET)


def test_a_good_command_is_accepted_and_done_once(desk):
    relay, payload = Relay(), command().sign(SECRET)
    assert send(desk, relay, payload) == [("accepted", ""), ("done", "")]
    assert send(desk, relay, payload) == [("refused", "replay")]
    assert relay.acted == ["c1"]


def test_a_replay_is_refused_after_a_restart_too(desk, tmp_path):
    relay, payload = Relay(), command().sign(SECRET)
    send(desk, relay, payload)
    again = Desk(tmp_path / "commands.log", "pond-1", SECRET)
    assert send(again, relay, payload) == [("refused", "replay")]
    assert relay.acted == ["c1"]


@pytest.mark.parametrize(
    ("change", "how", "answer"),
    [
        ({}, {"retained": True}, ("refused", "retained")),
        ({"gateway": "pond-2"}, {}, ("refused", "wrong_target")),
        ({}, {"target": "valve1"}, ("refused", "wrong_target")),
        ({"operation": "explode"}, {}, ("refused", "bad_operation")),
        ({"value": None}, {}, ("refused", "bad_operation")),
        ({"value": 60.0}, {}, ("refused", "bad_value")),
        ({}, {"now": NOW + 60_000}, ("expired", "expired")),
        ({}, {"now": NOW - 1}, ("refused", "too_early")),
        ({}, {"now": None}, ("refused", "clock_unsure")),
        ({}, {"quality": ClockQuality.NONE}, ("refused", "clock_unsure")),
        ({"expires_ms": NOW + 10**10}, {}, ("refused", "too_long_valid")),
    ],
)
def test_a_bad_command_is_refused_with_its_reason_and_never_acted_on(desk, change, how, answer):
    relay = Relay()
    assert send(desk, relay, command(**change).sign(SECRET), **how) == [answer]
    assert relay.acted == []


@pytest.mark.parametrize(
    "payload",
    [b"", b"{}", b"\xff", command().sign(b"another secret of thirty-two bytes"), json.dumps({"id": "c1"}).encode()],
)
def test_an_unsigned_command_is_not_even_answered(desk, payload):
    relay = Relay()
    assert send(desk, relay, payload) == []
    assert relay.acted == []


def test_a_kill_between_the_noted_id_and_the_act_means_not_done_and_is_reported(desk, tmp_path):
    def killed(_command):
        raise KeyboardInterrupt

    payload = command().sign(SECRET)
    with pytest.raises(KeyboardInterrupt):
        send(desk, killed, payload)
    again, relay = Desk(tmp_path / "commands.log", "pond-1", SECRET), Relay()
    assert [(r.id, r.outcome, r.reason) for r in again.interrupted(NOW)] == [("c1", "failed", "interrupted")]
    assert again.interrupted(NOW) == []
    assert send(again, relay, payload) == [("refused", "replay")]
    assert relay.acted == []
    assert Desk(tmp_path / "commands.log", "pond-1", SECRET).interrupted(NOW) == []


def test_an_interlock_refuses_with_its_name(desk):
    assert send(desk, Relay("interlock:min_off"), command().sign(SECRET)) == [
        ("accepted", ""),
        ("refused", "interlock:min_off"),
    ]


def test_where_the_id_cannot_be_made_durable_nothing_is_done(tmp_path):
    desk, relay = Desk(tmp_path / "no" / "such" / "dir", "pond-1", SECRET), Relay()
    assert send(desk, relay, command().sign(SECRET)) == [("failed", "cannot_persist")]
    assert relay.acted == []


def test_a_torn_line_in_the_file_is_skipped(tmp_path):
    path = tmp_path / "commands.log"
    path.write_bytes(b'{"id":"c0","expires":5}\n{"id":"c1","exp')
    desk = Desk(path, "pond-1", SECRET)
    assert [result.id for result in desk.interrupted(NOW)] == ["c0"]


def test_old_ids_are_forgotten_once_they_can_no_longer_be_valid(tmp_path):
    relay = Relay()
    with (tmp_path / "commands.log").open("w") as log:
        log.writelines(f'{{"id":"old{n}","expires":{NOW - 10**9},"done":true}}\n' for n in range(2001))
    desk = Desk(tmp_path / "commands.log", "pond-1", SECRET)
    send(desk, relay, command().sign(SECRET))
    desk.forget(NOW)
    assert set(desk._seen) == {"c1"}
    assert send(Desk(tmp_path / "commands.log", "pond-1", SECRET), relay, command().sign(SECRET)) == [
        ("refused", "replay")
    ]
