import random
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from alarm_world import HOUR, LONG, LOW, MINUTE, OXYGEN, SILENT, T0, VERY_LOW, World, rule

from cloud.alarms import Watched, build_router, webhook
from cloud.alarms.notify import LONGEST, NotSent, one_text, storm_text
from cloud.problems import NotFound
from cloud.who import Grant, Role, Who


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.engine.dispose()


def test_an_alarm_is_raised_after_its_hold_and_cleared_by_its_own_threshold(world):
    world.live(*[6.0] * 3, *[4.5] * 12)
    assert world.alarms() == [("low", 14, "raised")]
    world.live(5.2, 5.2)
    assert world.alarms() == [("low", 14, "raised")]
    world.live(5.8)
    assert world.alarms() == [("low", 14, "cleared")]


def test_a_restart_in_the_middle_of_a_hold_changes_nothing(world):
    world.live(*[6.0] * 3, *[4.5] * 6)
    world.watch = world.new_watch()
    world.live(*[4.5] * 6)
    assert world.alarms() == [("low", 14, "raised")]
    world.watch = world.new_watch()
    assert world.alarms() == [("low", 14, "raised")]


def test_what_came_while_nobody_watched_is_judged_at_the_next_start(world):
    world.live(*[6.0] * 3)
    for at in range(4, 60):
        world.kept["pond", OXYGEN, T0 + at * MINUTE] = 4.0
    world.now = T0 + 60 * MINUTE
    world.watch = world.new_watch()
    assert world.alarms() == [("low", 14, "raised")]


def test_late_duplicate_and_disordered_samples_end_in_the_same_alarms(tmp_path):
    chance = random.Random(4)
    course = [(n, 6 - 3.5 * (20 < n % 60 < 40)) for n in range(1, 150)]
    ends = []
    for delay in (0, 30, 90):
        (tmp_path / str(delay)).mkdir()
        world = World(tmp_path / str(delay))
        due = sorted((n + chance.uniform(0, delay), n, value) for n, value in course)
        for n in range(5, 300, 5):
            world.now = T0 + n * MINUTE
            ready = [(at, value) for when, at, value in due if n - 5 < when <= n]
            world.send(*ready, *ready[:1])
            world.watch.round()
        ends.append([row for row in world.alarms() if row[2] != "withdrawn"])
        world.engine.dispose()
    assert ends[0] == ends[1] == ends[2]
    assert len(ends[0]) == 6


def test_data_from_before_what_is_remembered_raise_a_historical_alarm_that_calls_nobody(world):
    world.receiver()
    world.live(*[6.0] * 3)
    world.now += 40 * HOUR
    world.live(6.0)
    world.send(*((at, 2.0) for at in range(60, 120)), *((at, 6.0) for at in range(120, 130)))
    world.watch.round()
    assert world.alarms() == [("low", 70, "cleared"), ("very-low", 62, "cleared")]
    assert all(one.historical for one in world.board.board().items)
    assert world.heard == []


def test_a_backlog_after_a_night_offline_calls_nobody_twice(world):
    """Domain reference, 2.1, acceptance example: the 24-hour rule counts, the dip at 03:10 is history."""
    world.gateways = [Watched("pond", "一号塘", "500108", (VERY_LOW, LONG))]
    world.watch = world.new_watch()
    world.receiver()
    world.live(*[6.0] * 10)
    world.now = T0 + 10 * HOUR
    night = [(at, 4.5 if at < 560 else 6.0) for at in range(11, 595)]
    world.send(*((at, 1.9 if 310 <= at < 320 else value) for at, value in night))
    world.watch.round()
    world.live(6.0)
    assert [row for row in world.alarms() if row[0] == "very-low"] == [("very-low", 312, "cleared")]
    assert [row[0] for row in world.alarms()].count("long") == 1
    assert not [text for _, text in world.heard if "very" in text]
    assert len(world.heard) == 0


def test_silence_is_an_alarm_and_late_data_take_it_back(tmp_path):
    world = World(tmp_path, [SILENT])
    world.live(*[6.0] * 3)
    for _ in range(6):
        world.now += MINUTE
        world.watch.round()
    ((name, at, state),) = world.alarms()
    assert (name, state) == ("silent", "raised")
    world.send(*((minute, 6.0) for minute in range(4, 10)))
    world.watch.round()
    assert world.alarms() == [("silent", at, "withdrawn")]


def test_people_are_told_once_with_what_to_do(world):
    world.receiver()
    world.live(*[4.5] * 15)
    ((address, text),) = world.heard
    assert address == "level-0"
    assert text.startswith("【警告】一号塘")
    assert "溶解氧过低" in text
    assert "开增氧机" in text
    assert len(text) <= LONGEST
    world.watch = world.new_watch()
    world.live(4.5)
    assert len(world.heard) == 1


def test_a_ladder_speaks_with_its_highest_rung(world):
    world.receiver()
    world.live(*[2.0] * 20)
    assert world.alarms() == [("low", 11, "raised"), ("very-low", 3, "raised")]
    assert [text[:4] for _, text in world.heard] == ["【紧急】"]


def test_a_ladder_goes_up_and_down_by_duration(tmp_path):
    """The same condition for long enough is worse; a while of relief brings it down one rung, a longer one ends it."""
    bad = rule("bad", "x < 5", hold="10min", off="x >= 5", clear="20min")
    worse = rule("worse", "x < 5", "critical", hold="30min", off="x >= 5", clear="5min")
    world = World(tmp_path, (bad, worse))
    world.receiver()
    world.live(*[4.0] * 31)
    assert [(one, state) for one, _, state in world.alarms()] == [("bad", "raised"), ("worse", "raised")]
    world.live(*[6.0] * 6)
    assert [(one, state) for one, _, state in world.alarms()] == [("bad", "raised"), ("worse", "cleared")]
    world.live(*[6.0] * 15)
    assert [(one, state) for one, _, state in world.alarms()] == [("bad", "cleared"), ("worse", "cleared")]
    told = [text[: text.index("】") + 1] for _, text in world.heard]
    assert told == ["【警告】", "【紧急】", "【降为警告】", "【警告】"]
    assert "已恢复" in world.heard[-1][1]
    world.engine.dispose()


def test_who_was_called_is_told_once_when_it_is_over_and_nobody_else(world):
    world.receiver()
    world.receiver(address="far", region="500153")
    world.live(*[4.5] * 12, 5.8, 5.8)
    assert [(to, "已恢复" in text) for to, text in world.heard] == [("level-0", False), ("level-0", True)]


def test_a_call_that_later_data_take_back_is_corrected(tmp_path):
    world = World(tmp_path, (SILENT,))
    world.receiver()
    world.live(6.0)
    for _ in range(5):
        world.now += MINUTE
        world.watch.round()
    world.send(*((at, 6.0) for at in range(1, 7)))
    world.watch.round()
    assert len(world.heard) == 2
    assert world.heard[1][1].startswith("【更正】")
    world.engine.dispose()


def test_nobody_acknowledges_and_the_next_level_is_told(world):
    world.receiver(0)
    world.receiver(1)
    world.live(*[4.5] * 15)
    assert [address for address, _ in world.heard] == ["level-0"]
    world.live(*[4.5] * 10)
    assert [address for address, _ in world.heard] == ["level-0", "level-1"]
    assert "无人确认" in world.heard[1][1]


def test_an_acknowledged_alarm_is_not_escalated(world):
    world.receiver(0)
    world.receiver(1)
    world.live(*[4.5] * 12)
    (alarm,) = world.board.board(open_only=True).items
    assert world.board.acknowledge([alarm.id], "li", "on my way") == 1
    assert world.board.acknowledge([alarm.id], "wang") == 0
    world.live(*[4.5] * 30)
    assert [address for address, _ in world.heard] == ["level-0"]
    told = world.board.get(alarm.id)
    assert (told.state, told.acknowledged_by, told.steps[0].note) == ("acknowledged", "li", "on my way")


def test_a_shelf_keeps_quiet_until_it_expires(world):
    world.receiver()
    world.board.shelve("pond", "low", 30, "li", "pump is being repaired")
    world.live(*[4.5] * 20)
    assert world.alarms() == [("low", 11, "raised")]
    assert (world.heard, world.board.board().items[0].shelved) == ([], True)
    world.live(*[4.5] * 12)
    assert len(world.heard) == 1
    with pytest.raises(NotFound):
        world.board.shelve("pond", "no-such-rule", 5, "li", "x")
    with pytest.raises(NotFound):
        world.board.shelve("elsewhere", "*", 5, "li", "x")


def test_many_alarms_at_once_go_out_as_one_message_and_stand_as_one_storm(world):
    world.receiver()
    names = [f"pond-{n}" for n in range(8)]
    world.gateways = [Watched(name, name, "500108", (LOW,)) for name in names]
    world.watch = world.new_watch()
    for _ in range(15):
        world.now += MINUTE
        for name in names:
            world.send(((world.now - T0) / MINUTE, 4.0), gateway=name)
        world.watch.round()
    ((_, text),) = world.heard
    assert "8处共8条告警" in text
    (storm,) = world.board.board().storms
    assert (len(storm.alarms), storm.title_en) == (8, "8 alarms at 8 gateways")


def test_a_receiver_is_not_told_more_often_than_agreed(world):
    world.receiver(per_hour=2)
    for start in range(3):
        world.gateways.append(Watched(f"p{start}", f"p{start}", "500108", (VERY_LOW,)))
    world.watch = world.new_watch()
    for n in range(1, 40):
        world.now = T0 + n * MINUTE
        for start in range(3):
            if n > 5 + 10 * start:
                world.send((n, 2.0), gateway=f"p{start}")
        world.watch.round()
    assert len(world.heard) == 2
    world.now += HOUR
    world.watch.round()
    assert len(world.heard) == 3


def test_a_message_that_did_not_go_out_is_tried_again(world):
    world.receiver()
    world.phone_dead = True
    world.live(*[4.5] * 12)
    assert world.heard == []
    world.phone_dead = False
    world.live(4.5)
    assert len(world.heard) == 1


def test_a_receiver_hears_only_of_its_region_and_severity(world):
    world.receiver(region="500153", address="elsewhere")
    world.receiver(severity="critical", address="only critical")
    world.live(*[4.5] * 15)
    assert world.heard == []


def test_when_the_tables_fail_the_rules_begin_again_from_them(world):
    world.live(*[6.0] * 3)
    good, world.store.apply = world.store.apply, lambda *_: 1 / 0
    with pytest.raises(ZeroDivisionError):
        world.live(*[4.5] * 11)
    world.store.apply = good
    for at in range(4, 20):
        world.kept["pond", OXYGEN, T0 + at * MINUTE] = 4.5
    world.now = T0 + 20 * MINUTE
    world.watch = world.new_watch()
    assert world.alarms() == [("low", 14, "raised")]


def test_the_watch_runs_in_a_thread_of_its_own(world):
    watch = world.new_watch()
    world.watch = watch
    watch.start()
    for at in range(1, 15):
        world.now = T0 + at * MINUTE
        world.send((at, 4.0))
    done = threading.Event()
    for _ in range(100):
        if world.alarms():
            break
        done.wait(0.1)
    watch.stop()
    assert [row[0] for row in world.alarms()] == ["low"]


def test_messages_fit_a_text_message_whatever_the_rule_says():
    alarm = {
        "severity": "critical",
        "raised_ms": T0,
        "cleared_ms": None,
        "noticed_ms": T0,
        "rule": "x",
        "gateway": "g",
        "texts": {"zh": "很长" * 60, "action_zh": "更长" * 60, "gateway": "塘"},
    }
    assert len(one_text(alarm, "raised")) == LONGEST
    assert len(storm_text([alarm] * 9)) <= LONGEST


def test_a_webhook_posts_the_text_and_says_when_it_was_not_taken():
    bodies = []

    class Robot(BaseHTTPRequestHandler):
        def do_POST(self):
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200 if len(bodies) == 1 else 500)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Robot)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/hook"
    webhook(url, "你好")
    with pytest.raises(NotSent):
        webhook(url, "again")
    server.shutdown()
    server.server_close()
    assert '"你好"'.encode() in bodies[0] or b"\\u4f60\\u597d" in bodies[0]
    with pytest.raises(NotSent):
        webhook(url, "nobody there")


class TestRoutes:
    @pytest.fixture
    def client(self, world, served):
        world.live(*[4.5] * 15)
        self.who = Who("li", "Li", frozenset({Grant(Role.OPERATOR, "500108")}))
        return served(build_router(world.board), lambda: self.who)

    def test_the_board_can_be_read_acknowledged_and_shelved(self, client):
        (alarm,) = client.get("/api/v1/alarms?open=true").json()["items"]
        assert (alarm["rule"], alarm["action_en"], alarm["subject"]) == ("low", "Aerate", [OXYGEN])
        body = {"ids": [alarm["id"]], "note": "seen"}
        assert client.post("/api/v1/alarms/acknowledge", json=body).json() == {"changed": 1}
        assert client.get(f"/api/v1/alarms/{alarm['id']}").json()["steps"][0]["by"] == "li"
        shelf = {"gateway": "pond", "rule": "low", "minutes": 5, "reason": "testing"}
        assert client.post("/api/v1/shelves", json=shelf).status_code == 201
        assert [one["rule"] for one in client.get("/api/v1/shelves").json()] == ["low"]
        assert {one["id"] for one in client.get("/api/v1/gateways/pond/rules").json()} == {"low", "very-low"}

    @pytest.mark.parametrize(
        ("grants", "status"), [(None, 401), ((Role.VIEWER, "500108"), 403), ((Role.OPERATOR, "500153"), 404)]
    )
    def test_only_an_operator_of_the_region_may_acknowledge(self, client, grants, status):
        self.who = None if grants is None else Who("x", "X", frozenset({Grant(*grants)}))
        assert client.post("/api/v1/alarms/acknowledge", json={"ids": [1]}).status_code == status

    def test_alarms_of_other_regions_do_not_exist(self, client):
        self.who = Who("x", "X", frozenset({Grant(Role.VIEWER, "500153")}))
        assert client.get("/api/v1/alarms").json()["items"] == []
        assert client.get("/api/v1/alarms/1").status_code == 404
        assert client.get("/api/v1/gateways/pond/rules").status_code == 404

    def test_what_others_have_does_not_crowd_out_ones_own(self, client, world):
        world.gateways.append(Watched("barn", "猪舍", "500153", (LOW,)))
        world.watch._loaded_ms = 0  # look at the list of gateways again
        for _ in range(5):
            at = (world.now - T0) / MINUTE
            rows = [(at + minute, 4.5 if minute < 12 else 6.0) for minute in range(15)]
            world.send(*rows, gateway="barn")
            world.now += 20 * MINUTE
            world.watch.round()
        page = client.get("/api/v1/alarms?limit=2").json()
        assert {one["gateway"] for one in page["items"]} == {"pond"}
        self.who = Who("x", "X", frozenset({Grant(Role.VIEWER, "500153")}))
        seen, after = [], ""
        while after is not None:
            page = client.get(f"/api/v1/alarms?limit=2{after and '&before=' + after}").json()
            seen, after = seen + page["items"], page["next"]
        assert [one["gateway"] for one in seen] == ["barn"] * 5
        assert world.board.open_counts(frozenset({"500108"})) == {("pond", "warning"): 1}

    def test_the_rules_behind_some_alarms_are_shelved_together_and_taken_off_the_shelf(self, client):
        (alarm,) = client.get("/api/v1/alarms?open=true").json()["items"]
        body = {"ids": [alarm["id"]], "minutes": 5, "reason": "testing"}
        assert client.post("/api/v1/alarms/shelve", json=body).json() == {"changed": 1}
        assert client.get("/api/v1/alarms").json()["items"][0]["shelved"]
        assert client.post("/api/v1/alarms/shelve", json={**body, "ids": [99]}).json()["errors"] == [
            {"pointer": "/ids", "code": "not_found"}
        ]
        assert client.delete("/api/v1/shelves/pond/low").status_code == 204
        assert client.delete("/api/v1/shelves/pond/low").status_code == 404
        assert not client.get("/api/v1/alarms").json()["items"][0]["shelved"]

    def test_an_administrator_says_who_is_told_and_who_no_more(self, client):
        self.who = Who("a", "A", frozenset({Grant(Role.ADMIN, "500108")}))
        new = {"name": "Robot", "kind": "webhook", "address": "https://example.org/hook", "region": "500108"}
        added = client.post("/api/v1/receivers", json=new).json()
        reached = {"failures": 0, "last_error": None, "next_try_ms": None, "given_up": 0}
        assert added == {**new, "severity": "warning", "level": 0, "per_hour": 20, "id": added["id"], **reached}
        again = client.post("/api/v1/receivers", json={**new, "severity": "critical"}).json()
        assert client.get("/api/v1/receivers").json() == [again]
        assert (again["id"], again["severity"]) == (added["id"], "critical")
        assert client.delete(f"/api/v1/receivers/{added['id']}").status_code == 204
        assert client.delete(f"/api/v1/receivers/{added['id']}").status_code == 404
        assert client.get("/api/v1/receivers").json() == []

    @pytest.mark.parametrize(
        ("change", "status"),
        [
            ({"address": "ftp://example.org"}, 422),
            ({"kind": "smtp", "address": "nobody"}, 422),
            ({"kind": "smtp", "address": "a@b\r\nBcc: c@d"}, 422),
            ({"address": "http://[::1"}, 422),
            ({"address": "http://a:99999/"}, 422),
            ({"kind": "log", "address": "a\nb"}, 422),
            ({"name": "a\u2028b"}, 422),
            ({"region": "500153"}, 404),
            ({"kind": "pigeon"}, 422),
        ],
    )
    def test_a_receiver_that_cannot_be_told_or_is_elsewhere_is_refused(self, client, change, status):
        self.who = Who("a", "A", frozenset({Grant(Role.ADMIN, "500108")}))
        new = {"name": "Robot", "kind": "webhook", "address": "https://example.org/hook", "region": "500108"}
        assert client.post("/api/v1/receivers", json={**new, **change}).status_code == status

    def test_receivers_are_an_administrators_business(self, client):
        assert client.get("/api/v1/receivers").status_code == 403
