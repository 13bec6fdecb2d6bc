import csv
import hmac
import io
import json
import threading
import time

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient
from processes import free_port, wait_until

from cloud import jobs, problems
from cloud.database import open_database
from cloud.jobs import Jobs
from cloud.problems import Invalid, NotFound, TooLarge
from cloud.telemetry import Registry, TakeAway, Telemetry, build_router, take_away
from cloud.telemetry.dead_letters import Message
from cloud.telemetry.duckdb_readings import DuckReadings
from cloud.telemetry.pipeline import Pipeline
from cloud.who import Grant, Role, Who
from edge.agent import Agent
from edge.settings import load_settings
from edge.spool import Spool
from edge.wire import Event, Pack, Reading, Status, encode_pack

HOUR = 3_600_000
DAY = 24 * HOUR
NOW = 1_700_006_400_000  # 2023-11-15 00:00 in UTC, 08:00 in China
EPOCH = "aaaaaaaa"


def covers(region, granted):
    return any(region.startswith(one) for one in granted)


class Cloud:
    def __init__(self, folder):
        self.folder = folder
        self.now = NOW
        self.engine = open_database(f"sqlite:///{folder / 'cloud.db'}")
        self.registry = Registry(self.engine, clock=lambda: self.now)
        self.registry.create()
        self.pond = self.registry.add_gateway("pond", farm="fish_pond", region="500108", site="urn:site:pond")
        self.registry.add_gateway("barn", farm="pig_barn", region="500153")
        self.readings = DuckReadings(None)
        self.pipeline = Pipeline(self.readings, self.registry, clock=lambda: self.now)
        self.audited = []
        self.telemetry = Telemetry(
            self.readings,
            self.registry,
            clock=lambda: self.now,
            covers=covers,
            audit=lambda _db, *what: self.audited.append(what),
        )
        self.jobs = Jobs(self.engine, lambda: self.now)
        jobs.metadata.create_all(self.engine)
        self.exports = TakeAway(
            self.telemetry,
            self.readings,
            self.registry,
            self.jobs,
            folder / "exports",
            clock=lambda: self.now,
            audit=lambda _db, *what: self.audited.append(what),
            max_readings=5,
        )
        self.seq = 0

    def send(self, gateway, *rows, name="p1/water_temperature", unit="Cel"):
        self.seq += 1
        readings = tuple(Reading(name, at, value, unit) for at, value in rows)
        topic = f"tm/1/{gateway}/data/{EPOCH}/{self.seq}"
        self.pipeline.take([Message(topic, encode_pack(Pack(gateway, readings)), NOW)])

    def series(self, gateway="pond"):
        return self.telemetry.series(gateway)[0].id


@pytest.fixture
def cloud(tmp_path):
    cloud = Cloud(tmp_path)
    yield cloud
    cloud.readings.close()
    cloud.engine.dispose()


def test_a_short_stretch_comes_as_it_was_read(cloud):
    cloud.send("pond", *((NOW - 10 * HOUR + n * 60_000, 20.0 + n) for n in range(10)))
    found = cloud.telemetry.points(cloud.series(), NOW - 10 * HOUR, NOW - 10 * HOUR + 600_000, 100)
    assert (found.resolution, found.interval_ms, found.coverage) == ("raw", 60_000, 1.0)
    assert [point.value for point in found.points] == [20.0 + n for n in range(10)]
    assert (found.series.quantity, found.series.zh) == ("water_temperature", "水温")


def test_a_long_stretch_comes_in_buckets_with_its_gaps_and_coverage(cloud):
    start = NOW - 10 * HOUR
    cloud.send("pond", *((start + n * 60_000, float(n % 60)) for n in range(300) if not 120 <= n < 180))
    found = cloud.telemetry.points(cloud.series(), start, start + 5 * HOUR, 6)
    assert (found.resolution, found.step_ms) == ("buckets", HOUR)
    assert [bucket.n for bucket in found.buckets] == [60, 60, 0, 60, 60]
    assert [bucket.coverage for bucket in found.buckets] == [1.0, 1.0, 0.0, 1.0, 1.0]
    assert found.buckets[2].mean is None
    assert (found.buckets[0].mean, found.buckets[0].low, found.buckets[0].high) == (29.5, 0.0, 59.0)
    assert found.coverage == pytest.approx(0.8)


def test_buckets_begin_at_whole_steps_of_china_time(cloud):
    start = NOW - 20 * DAY + 12_345
    cloud.send("pond", *((start + n * HOUR, 1.0) for n in range(480)))
    found = cloud.telemetry.points(cloud.series(), start, start + 20 * DAY, 25)
    assert found.step_ms == DAY
    assert all((bucket.time_ms + 8 * HOUR) % DAY == 0 for bucket in found.buckets)
    assert sum(bucket.n for bucket in found.buckets) == 480


@pytest.mark.parametrize(
    ("start", "end", "points", "error"),
    [(5, 5, 100, Invalid), (0, 10, 1, Invalid), (0, 10, 10**6, Invalid), (0, 2**62, 100, TooLarge)],
)
def test_absurd_questions_are_refused(cloud, start, end, points, error):
    cloud.send("pond", (NOW, 1.0))
    with pytest.raises(error):
        cloud.telemetry.points(cloud.series(), start, end, points)


def test_what_lies_outside_the_scope_does_not_exist(cloud):
    cloud.send("pond", (NOW, 1.0))
    elsewhere = frozenset({"500153"})
    assert [one.id for one in cloud.telemetry.gateways(elsewhere)] == ["barn"]
    assert cloud.telemetry.latest(elsewhere) == []
    assert cloud.telemetry.series(scope=elsewhere) == []
    for ask in (
        lambda: cloud.telemetry.gateway("pond", elsewhere),
        lambda: cloud.telemetry.points(cloud.series(), 0, NOW, 10, elsewhere),
        lambda: cloud.telemetry.sensors("pond", elsewhere),
        lambda: cloud.telemetry.events(elsewhere, gateway="pond"),
        lambda: cloud.telemetry.gateway("nobody", elsewhere),
    ):
        with pytest.raises(NotFound):
            ask()


def test_latest_says_how_old_a_reading_is_and_where_it_comes_from(cloud):
    cloud.send("pond", (NOW - 5000, 21.5))
    (row,) = cloud.telemetry.latest(region="500108")
    assert (row.gateway, row.farm, row.value, row.age_ms, row.unit) == ("pond", "fish_pond", 21.5, 5000, "Cel")
    assert cloud.telemetry.latest(region="500153") == []
    assert len(cloud.telemetry.latest(gateway="pond")) == 1


def test_a_gateway_shows_its_state_its_backlog_and_what_is_missing(cloud):
    cloud.send("pond", (NOW - 5000, 21.5))
    cloud.seq += 2
    cloud.send("pond", (NOW - 4000, 21.5))
    payload = Status("degraded", NOW, "b", "1.2", {"spool": {"backlog": 17}}).sign(cloud.pond.secret)
    cloud.pipeline.take([Message("tm/1/pond/status", payload, NOW)])
    found = cloud.telemetry.gateway("pond")
    assert (found.state, found.backlog, found.series, found.heard_ms) == ("degraded", 17, 1, NOW)
    (epoch,) = found.epochs
    assert (epoch.watermark, epoch.highest, epoch.missing) == (1, 4, [(2, 3)])
    barn = cloud.telemetry.gateway("barn")
    assert (barn.state, barn.heard_ms) == ("unheard", None)


def test_heard_is_the_time_of_arrival_whatever_time_a_reading_names(cloud):
    cloud.send("pond", (NOW + 290_000, 21.5))
    cloud.send("barn", (1_000_000_000_000, 21.5))
    for name in ("pond", "barn"):
        found = cloud.telemetry.gateway(name)
        assert (found.state, found.heard_ms) == ("data", NOW)
    assert {one.heard_ms for one in cloud.telemetry.gateways()} == {NOW}


def test_what_the_real_agent_says_of_itself_is_understood(cloud, tmp_path):
    (tmp_path / "pond.secret").write_bytes(cloud.pond.secret.hex().encode())
    (tmp_path / "pond.toml").write_text(
        '[gateway]\nid = "pond"\nfarm = "fish_pond"\nsecret_file = "pond.secret"\nbegun = "2023-11-01"\n'
        '[uplink]\nurl = "mqtt://127.0.0.1:1"\n[spool]\ndir = "spool"\n'
    )
    mine = load_settings(tmp_path / "pond.toml")
    spool = Spool(mine.spool_dir, mine.spool)
    agent = Agent(mine, spool=spool)
    for n in range(3):
        agent.report("test", {"n": n})
    said = agent.status()
    spool.close()
    for status in (said, Status("offline", NOW, said.boot, "", {})):  # the will of the same life
        cloud.pipeline.take([Message("tm/1/pond/status", status.sign(cloud.pond.secret), NOW)])
        assert cloud.telemetry.begun() == {"pond": 1_698_768_000_000}  # midnight in China
        if status is said:
            assert cloud.telemetry.gateway("pond").backlog == 3


def test_daily_means_are_those_of_days_in_china(cloud):
    midnight = NOW - 8 * HOUR
    cloud.send("pond", (midnight - 1, 10.0), (midnight, 20.0), (midnight + 1000, 22.0))
    means = cloud.telemetry.daily_mean("urn:site:pond", midnight - DAY + 5, NOW)
    assert means == {"2023-11-14": 10.0, "2023-11-15": 21.0}
    assert cloud.telemetry.daily_mean("urn:site:elsewhere", 0, NOW) == {}


def test_statistics_are_by_region_and_never_mix_units(cloud):
    cloud.send("pond", (NOW - HOUR, 10.0), (NOW - 2 * HOUR, 20.0))
    cloud.send("barn", (NOW - HOUR, 30.0))
    cloud.send("barn", (NOW - 40 * DAY, 1.0), name="p2/water_temperature")
    found = cloud.telemetry.statistics("water_temperature", NOW - DAY, NOW)
    assert [(one.region, one.n, one.mean, one.series) for one in found] == [
        ("500108", 2, 15.0, 1),
        ("500153", 1, 30.0, 2),
    ]
    assert [
        one.region for one in cloud.telemetry.statistics("water_temperature", NOW - DAY, NOW, frozenset({"500153"}))
    ] == ["500153"]
    assert cloud.telemetry.statistics("ph", NOW - DAY, NOW) == []


def test_statistics_follow_new_series_and_a_gateway_that_moved(cloud):
    cloud.send("pond", (NOW - HOUR, 10.0))
    assert [one.n for one in cloud.telemetry.statistics("water_temperature", NOW - DAY, NOW)] == [1]
    cloud.send("pond", (NOW - HOUR, 20.0), name="p9/water_temperature")
    cloud.send("barn", (NOW - HOUR, 30.0))
    found = cloud.telemetry.statistics("water_temperature", NOW - DAY, NOW)
    assert [(one.region, one.n, one.series) for one in found] == [("500108", 2, 2), ("500153", 1, 1)]
    cloud.registry.change_gateway("barn", region="500108")
    found = cloud.telemetry.statistics("water_temperature", NOW - DAY, NOW)
    assert [(one.region, one.n, one.mean, one.series) for one in found] == [("500108", 3, 20.0, 3)]


def test_the_usual_interval_follows_the_newest_readings(cloud):
    cloud.send("pond", *((NOW - 10 * HOUR + n * 60_000, 20.0) for n in range(5)))
    ask = (cloud.series(), NOW - 10 * HOUR, NOW, 100)
    assert cloud.telemetry.points(*ask).interval_ms == 60_000
    cloud.send("pond", *((NOW - 5 * HOUR + n * 10_000, 20.0) for n in range(30)))
    assert cloud.telemetry.points(*ask).interval_ms == 10_000


def test_conflicts_name_their_series(cloud):
    cloud.send("pond", (NOW, 1.0))
    cloud.send("pond", (NOW, 2.0))
    (one,) = cloud.telemetry.conflicts()
    assert (one.series.gateway, one.kept, one.refused) == ("pond", 1.0, 2.0)
    assert cloud.telemetry.conflicts(frozenset({"500153"})) == []


def test_a_dead_letter_can_be_replayed_after_its_reason_is_mended(cloud):
    cloud.send("late", (NOW, 1.0))
    (letter,) = cloud.telemetry.dead_letters()
    assert (letter.reason, letter.count, letter.replayed_ms) == ("unknown_gateway", 1, None)
    with pytest.raises(Invalid):
        cloud.telemetry.replay(letter.digest)
    cloud.registry.add_gateway("late", farm="fish_pond", region="500108")
    cloud.telemetry.replay(letter.digest)
    assert len(cloud.telemetry.latest(gateway="late")) == 1
    assert cloud.telemetry.dead_letters()[0].replayed_ms == NOW
    with pytest.raises(NotFound):
        cloud.telemetry.replay("0" * 64)


class TestRoutes:
    @pytest.fixture
    def client(self, cloud):
        app = FastAPI()
        problems.install(app)
        app.include_router(build_router(cloud.telemetry, cloud.exports, ask_again_s=0.2))
        self.who = Who("u", "Li", frozenset({Grant(Role.ADMIN, "500108")}))

        @app.middleware("http")
        async def somebody(request, call_next):
            if self.who is not None:
                request.state.who = self.who
                request.state.again = lambda: self.who
            return await call_next(request)

        cloud.send("pond", (NOW - 1000, 20.0), (NOW, 21.0))
        event = Event("clock", NOW, {"step_ms": 5}).encode()
        cloud.pipeline.take([Message(f"tm/1/pond/event/{EPOCH}/9", event, NOW), Message("tm/1/pond/data", b"?", NOW)])
        return TestClient(app)

    @pytest.mark.parametrize(
        "path",
        [
            "/gateways",
            "/gateways/pond",
            "/gateways/pond/sensors",
            "/series?gateway=pond",
            "/latest",
            "/events?kind=clock",
            "/conflicts",
            "/dead-letters",
            f"/series/1/points?from={NOW - 5000}&to={NOW + 1}",
        ],
    )
    def test_each_question_is_answered_for_whoever_may_ask_and_only_then(self, client, path):
        assert client.get("/api/v1" + path).status_code == 200
        self.who = None
        answer = client.get("/api/v1" + path)
        assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")

    def test_points_carry_their_series_and_coverage(self, client):
        answer = client.get(f"/api/v1/series/1/points?from={NOW - 5000}&to={NOW + 1}").json()
        assert [point["value"] for point in answer["points"]] == [20.0, 21.0]
        assert answer["series"]["unit"] == "Cel"

    def test_readings_come_by_http_in_three_formats_when_they_are_signed(self, client, cloud):
        def post(kind, body, secret=cloud.pond.secret, gateway="pond"):
            head = {"Content-Type": kind, "X-Tianmai-Signature": hmac.new(secret, body, "sha256").hexdigest()}
            return client.post(f"/api/v1/gateways/{gateway}/readings?precision=ms", content=body, headers=head)

        told = []
        cloud.telemetry.when_stored(lambda arrivals, _position: told.extend(arrivals))
        lines = f"p9 ph=7.1 {NOW - 5}\np9 ph=7.1 {NOW + 900_000}".encode()
        assert post("text/plain; charset=utf-8", lines).json()["taken"] == 1
        assert post("application/json", b'{"p9":[{"ts":%d,"values":{"ph":7.2}}]}' % NOW).json()["taken"] == 1
        senml = encode_pack(Pack("pond", (Reading("p9/ph", NOW - 1, 7.3, "pH"),)))
        assert post("application/senml+json", senml).json() == {"taken": 1, "refused": []}
        assert sum(len(arrival.points) for arrival in told) == 3
        assert post("application/senml+json", senml, b"guess").status_code == 401
        assert post("application/senml+json", senml, gateway="nobody").status_code == 401
        barn = cloud.registry.gateway("barn").secret
        assert post("application/senml+json", senml, barn, "barn").json()["code"] == "wrong_gateway"
        assert post("image/png", b"x").json()["code"] == "bad_media_type"
        assert post("text/plain", b"x" * 70_000).status_code == 413

    def test_what_came_by_http_and_could_not_be_taken_is_kept_and_can_be_replayed(self, client, cloud):
        def post(kind, body):
            head = {
                "Content-Type": kind,
                "X-Tianmai-Signature": hmac.new(cloud.pond.secret, body, "sha256").hexdigest(),
            }
            return client.post("/api/v1/gateways/pond/readings?precision=ms", content=body, headers=head)

        early = f"p9 ph=7.1 {NOW - 5}\np9 ph=7.2 {NOW + 900_000}".encode()
        assert len(post("text/plain", early).json()["refused"]) == 1
        assert post("application/json", b"[7]").status_code == 422
        assert post("application/senml+json", b"\xff").status_code == 422
        kept = {
            letter.reason: letter for letter in cloud.telemetry.dead_letters() if letter.topic.startswith("http/pond")
        }
        assert set(kept) == {"future_time", "not_thingsboard", "not_json"}
        for letter in kept.values():
            assert client.post(f"/api/v1/dead-letters/{letter.digest}/replay").status_code == 422
        cloud.now = NOW + 900_000
        assert client.post(f"/api/v1/dead-letters/{kept['future_time'].digest}/replay").status_code == 204
        assert 7.2 in [row.value for row in cloud.telemetry.latest(gateway="pond")]

    def post(self, client, cloud, kind, body):
        signature = hmac.new(cloud.pond.secret, body, "sha256").hexdigest()
        head = {"Content-Type": kind, "X-Tianmai-Signature": signature}
        return client.post("/api/v1/gateways/pond/readings?precision=ms", content=body, headers=head)

    @pytest.mark.parametrize(
        ("kind", "body"),
        [
            ("text/plain", b"m9 b=1,c=nan"),
            ("application/json", b'{"m9":[{"b":1,"ph":"?"}]}'),
            ("text/plain", b"m9 b=1\nm9 b=2 1795000000000"),
        ],
    )
    def test_a_replay_makes_no_reading_up_however_often_it_is_tried(self, client, cloud, kind, body):
        def stored():
            rows = cloud.readings.range(np.arange(1, 99), 0, 2**52)
            return sorted(zip(rows.series.tolist(), rows.time_ms.tolist(), rows.value.tolist(), strict=True))

        answer = self.post(client, cloud, kind, body).json()
        assert (answer["taken"], len(answer["refused"])) == (1, 1)
        (letter,) = [one for one in cloud.telemetry.dead_letters() if one.topic.startswith("http/")]
        assert letter.count == 1
        before = stored()
        for _ in range(3):
            cloud.now += 60_000
            assert client.post(f"/api/v1/dead-letters/{letter.digest}/replay").status_code == 422
            assert stored() == before

    def test_a_replay_takes_the_time_of_receipt_and_stores_it_once(self, client, cloud):
        cloud.registry.change_gateway("pond", max_series=1)
        answer = self.post(client, cloud, "text/plain", b"m9 b=1,c=2").json()
        assert (answer["taken"], len(answer["refused"])) == (0, 2)
        (letter,) = [one for one in cloud.telemetry.dead_letters() if one.topic.startswith("http/")]
        assert (letter.reason, letter.count) == ("series_quota", 1)
        cloud.registry.change_gateway("pond", max_series=9)
        for _ in range(2):
            cloud.now += 60_000
            assert client.post(f"/api/v1/dead-letters/{letter.digest}/replay").status_code == 204
        points = cloud.readings.range(np.array([2, 3]), 0, 2**52)
        assert (points.time_ms.tolist(), points.value.tolist()) == ([NOW, NOW], [1.0, 2.0])

    @pytest.mark.parametrize("door", ["events", "conflicts", "dead-letters"])
    @pytest.mark.parametrize("limit", [1, 3])
    def test_every_row_is_on_exactly_one_page(self, client, cloud, door, limit):
        for n in range(7):  # some of one moment, some not
            cloud.send("pond", (NOW, 30.0 + n))
            body = Event("clock", NOW + n // 3, {"n": n}).encode()
            odd = Message("tm/1/pond/data", b"?%d" % n, NOW + n // 3)
            cloud.pipeline.take([Message(f"tm/1/pond/event/{EPOCH}/{50 + n}", body, NOW), odd])
        whole = client.get(f"/api/v1/{door}?limit=1000").json()
        assert len(whole["items"]) >= 7
        assert whole["next"] is None
        rows, before = [], ""
        while before is not None:
            page = client.get(f"/api/v1/{door}?limit={limit}{before and '&before=' + before}").json()
            assert len(page["items"]) <= limit
            rows += page["items"]
            before = page["next"]
        assert rows == whole["items"]
        answer = client.get(f"/api/v1/{door}?before=%3Cb%3E")
        assert (answer.status_code, answer.json()["code"]) == (422, "bad_cursor")

    def test_what_a_dead_letter_said_can_be_read_by_who_may_see_its_sender(self, client, cloud):
        cloud.pipeline.take([Message("tm/1/pond/data", b"\xff\x00<b>", NOW)])
        said = {}
        for letter in client.get("/api/v1/dead-letters").json()["items"]:
            one = client.get(f"/api/v1/dead-letters/{letter['digest']}").json()
            assert {name: one[name] for name in letter} == letter
            said[one["text"]] = one["base64"]
        assert said == {"?": None, None: "/wA8Yj4="}
        self.who = Who("u", "Li", frozenset({Grant(Role.ADMIN, "500153")}))
        assert client.get(f"/api/v1/dead-letters/{letter['digest']}").status_code == 404
        self.who = Who("u", "Li", frozenset({Grant(Role.VIEWER, "500108")}))
        assert client.get(f"/api/v1/dead-letters/{letter['digest']}").status_code == 403

    def test_an_administrator_renames_limits_and_disables_a_gateway_and_it_is_audited(self, client, cloud):
        def change(gateway="pond", **wish):
            return client.patch(f"/api/v1/gateways/{gateway}", json=wish)

        found = change(name="西塘", max_series=1, disabled=True).json()
        assert (found["name"], found["max_series"], found["disabled"]) == ("西塘", 1, True)
        assert self.post(client, cloud, "text/plain", b"m9 b=1").status_code == 401
        cloud.send("pond", (NOW + 5, 1.0))
        assert "disabled_gateway" in {one.reason for one in cloud.telemetry.dead_letters()}
        assert change(disabled=False, name="西塘").json()["disabled"] is False
        assert "no room beyond 1 series" in self.post(client, cloud, "text/plain", b"m9 b=1").json()["refused"][0]
        told = [(who, what, subject, sorted(detail), region) for who, what, subject, detail, region in cloud.audited]
        assert told == [
            ("u", "gateway.changed", "pond", ["disabled_ms", "max_series", "name"], "500108"),
            ("u", "gateway.changed", "pond", ["disabled_ms"], "500108"),
        ]
        assert change("barn", name="x").status_code == 404
        for wish in ({"max_series": 0}, {"name": ""}, {"name": "a\nb"}, {"secret": "x"}):
            assert change(**wish).status_code == 422
        self.who = Who("u", "Li", frozenset({Grant(Role.OPERATOR, "500108")}))
        assert change(name="y").status_code == 403
        assert len(cloud.audited) == 2

    def test_a_state_is_named_and_leaves_no_dead_letter(self, client, cloud):
        answer = self.post(client, cloud, "text/plain", b'm9 b=1,on=true,note="x"').json()
        assert (answer["taken"], len(answer["refused"])) == (1, 2)
        assert [one for one in cloud.telemetry.dead_letters() if one.topic.startswith("http/")] == []

    @pytest.mark.parametrize(
        ("name", "unit", "reason"),
        [("a/", "", "bad_name"), ("a//b", "", "bad_name"), ("a/../b", "", "bad_name"), ("a/./b", "", "bad_name")]
        + [("a/b", unit, "bad_unit") for unit in ("<b>", "m\n", "\x1b[2J", "x" * 41, "a b")],
    )
    def test_a_name_or_unit_nobody_could_read_is_refused_alone(self, client, cloud, name, unit, reason):
        good, bad = Reading("a/ok", NOW, 1.0, "m/s2"), Reading(name, NOW, 1.0, unit)
        answer = self.post(client, cloud, "application/senml+json", encode_pack(Pack("pond", (good, bad)))).json()
        assert (answer["taken"], len(answer["refused"])) == (1, 1)
        (letter,) = [one for one in cloud.telemetry.dead_letters() if one.topic.startswith("http/")]
        assert letter.reason == reason

    def test_a_signature_that_is_no_text_of_ours_is_refused(self, client):
        head = {"Content-Type": "text/plain", "X-Tianmai-Signature": "\u00e9".encode("latin-1")}
        assert client.post("/api/v1/gateways/pond/readings", content=b"x", headers=head).status_code == 401

    def export(self, client, cloud, **more):
        wish = {"gateways": ["pond"], "start_ms": NOW - 5000, "end_ms": NOW + 1, **more}
        answer = client.post("/api/v1/exports", json=wish)
        assert answer.status_code == 202, answer.text
        asked = answer.json()
        assert (asked["state"], asked["file"]) == ("waiting", None)
        assert client.get(f"/api/v1/exports/{asked['id']}/file").json()["code"] == "not_ready"
        self.work(cloud)
        return client.get(f"/api/v1/exports/{asked['id']}").json()

    @staticmethod
    def work(cloud):
        """Whatever waits, by the thread's own loop."""
        stop = threading.Event()
        hands = {take_away.KIND: cloud.exports.write}
        jobs.work(cloud.jobs, hands, owner="test", stop=stop, pause=stop.set)

    def test_readings_are_taken_away_as_csv_and_parquet_by_jobs(self, client, cloud):
        done = self.export(client, cloud)
        assert (done["state"], done["progress"], done["readings"]) == ("done", 1.0, 2)
        answer = client.get(done["file"])
        assert answer.headers["content-disposition"].endswith('.csv"')
        head, first, _ = csv.reader(answer.text.splitlines())
        assert head == ["gateway", "series", "unit", "time", "time_ms", "value", "quality"]
        at = "2023-11-14T23:59:59.000Z"
        assert first == ["pond", "p1/water_temperature", "Cel", at, str(NOW - 1000), "20", "0"]
        done = self.export(client, cloud, gateways=[], region="500108", quantity="water_temperature", format="parquet")
        table = pq.read_table(io.BytesIO(client.get(done["file"]).content))
        assert table.column("value").to_pylist() == [20.0, 21.0]
        assert {one["format"] for one in client.get("/api/v1/exports").json()["items"]} == {"parquet", "csv"}
        assert [what[:2] for what in cloud.audited] == [("u", "readings.exported")] * 2
        assert client.delete(f"/api/v1/exports/{done['id']}").status_code == 204
        assert client.get(done["file"]).status_code == 404

    @pytest.mark.parametrize(
        ("change", "status", "code"),
        [
            ({"end_ms": 5, "start_ms": 5}, 422, "empty_range"),
            ({"start_ms": 0}, 413, "range_too_large"),
            ({"gateways": ["barn"]}, 404, "not_found"),
            ({"gateways": [], "region": "500153"}, 404, "not_found"),
            ({"region": "500108"}, 422, "gateways_or_region"),
            ({"format": "xlsx"}, 422, "invalid"),
        ],
    )
    def test_an_export_that_cannot_be_is_refused_at_once(self, client, change, status, code):
        wish = {"gateways": ["pond"], "start_ms": NOW - 5000, "end_ms": NOW + 1, **change}
        answer = client.post("/api/v1/exports", json=wish)
        assert (answer.status_code, answer.json()["code"]) == (status, code)

    def test_nobody_else_may_fetch_an_export_nor_who_lost_the_region_since(self, client, cloud):
        file = self.export(client, cloud)["file"]
        self.who = Who("u", "Li", frozenset({Grant(Role.ADMIN, "500153")}))
        assert client.get(file).status_code == 404
        self.who = Who("somebody", "X", frozenset({Grant(Role.ADMIN, "500108")}))
        assert [client.get(path).status_code for path in (file, file.removesuffix("/file"))] == [404, 404]
        assert client.get("/api/v1/exports").json()["items"] == []

    def test_an_export_has_limits_of_size_and_number_and_is_gone_after_a_day(self, client, cloud):
        cloud.send("pond", *((NOW - at, 1.0) for at in range(10, 20)), name="p1/ph", unit="pH")
        failed = self.export(client, cloud)
        assert (failed["state"], failed["code"]) == ("failed", "export_too_large")
        file = self.export(client, cloud, quantity="water_temperature")["file"]
        wish = {"gateways": ["pond"], "start_ms": NOW - 5000, "end_ms": NOW + 1}
        statuses = [client.post("/api/v1/exports", json=wish).status_code for _ in range(4)]
        assert statuses == [202, 202, 202, 429]
        self.work(cloud)
        cloud.now += DAY + 1
        cloud.exports.sweep()
        assert client.get(file).status_code == 404
        assert list((cloud.folder / "exports").iterdir()) == []

    def test_an_export_that_is_removed_while_it_is_written_leaves_nothing(self, client, cloud):
        number = client.post(
            "/api/v1/exports", json={"gateways": ["pond"], "start_ms": NOW - 5000, "end_ms": NOW + 1}
        ).json()["id"]
        job = cloud.jobs.lease("test", (take_away.KIND,))
        client.delete(f"/api/v1/exports/{number}")
        assert cloud.exports.write(job.body)["code"] == "removed"
        assert list((cloud.folder / "exports").iterdir()) == []

    def test_a_unit_is_never_a_formula_in_a_spreadsheet(self, client, cloud):
        cloud.send("pond", (NOW, 1.0), name="p1/own_thing", unit="=cmd()")
        done = self.export(client, cloud, quantity="own_thing")
        assert list(csv.reader(client.get(done["file"]).text.splitlines()))[1][2] == "'=cmd()"

    def test_new_readings_are_streamed(self, client, cloud):
        port = free_port()
        server = uvicorn.Server(uvicorn.Config(client.app, port=port, log_level="error"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        wait_until(lambda: server.started, "the server never started")
        with httpx.stream("GET", f"http://127.0.0.1:{port}/api/v1/stream?gateway=pond", timeout=20) as answer:
            lines = (line for line in answer.iter_lines() if line.startswith("data: "))
            assert [row["value"] for row in json.loads(next(lines)[6:])] == [21.0]
            cloud.send("pond", (NOW + 1000, 22.0))
            assert [row["value"] for row in json.loads(next(lines)[6:])] == [22.0]
            cloud.telemetry.end_streams()
            ended = time.monotonic()
            assert [line for line in lines if "22.0" in line] == []  # read to its end, which it has
            assert time.monotonic() - ended < 3
        server.should_exit = True
        thread.join(10)

    def test_a_stream_ends_soon_after_its_session(self, client):
        signs_out = threading.Timer(0.5, lambda: setattr(self, "who", None))
        signs_out.start()
        began = time.monotonic()
        assert "21.0" in client.get("/api/v1/stream?gateway=pond").text
        assert time.monotonic() - began < 5

    def test_problems_are_problem_documents(self, client):
        answer = client.get("/api/v1/series/1/points?from=5&to=5")
        assert (answer.status_code, answer.json()["code"]) == (422, "empty_range")
        for path, pointer in (("/series/99/points?from=5&to=9", "/series"), ("/gateways/nobody", "/gateway")):
            answer = client.get("/api/v1" + path)
            assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (404, pointer)
        answer = client.get(f"/api/v1/series/1/points?from=0&to={NOW}")
        assert (answer.status_code, answer.json()["code"]) == (413, "range_too_large")
        assert answer.json()["errors"] == [{"pointer": "/from", "code": "range_too_large"}]
        assert client.get("/api/v1/series/1/points?from=x&to=9").status_code == 422

    def test_dead_letters_are_for_operators_and_replays_for_administrators(self, client):
        (letter,) = client.get("/api/v1/dead-letters").json()["items"]
        assert client.post(f"/api/v1/dead-letters/{letter['digest']}/replay").status_code == 422
        self.who = Who("u", "Li", frozenset({Grant(Role.VIEWER, "500108")}))
        assert client.get("/api/v1/dead-letters").status_code == 403
        assert client.post(f"/api/v1/dead-letters/{letter['digest']}/replay").status_code == 403


def test_points_agree_with_what_was_sent(cloud):
    rng = np.random.default_rng(3)
    times = np.unique(rng.integers(NOW - 30 * DAY, NOW, 2000))
    values = rng.normal(20, 3, len(times))
    for part in np.array_split(np.arange(len(times)), 5):
        cloud.send("pond", *((int(times[i]), float(values[i])) for i in part))
    found = cloud.telemetry.points(cloud.series(), NOW - 30 * DAY, NOW, 500)
    for bucket in found.buckets:
        inside = values[(times >= bucket.time_ms) & (times < bucket.time_ms + found.step_ms)]
        assert bucket.n == len(inside)
        if len(inside):
            assert bucket.mean == pytest.approx(inside.mean(), abs=1e-9)
