"""Commands and configurations from the official's wish to the gateway's answer; the gateway's side is the real one."""

import queue
import secrets
import time

import paho.mqtt.client as mqtt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from processes import Child, free_port, wait_until
from sqlalchemy import select

from cloud import problems
from cloud.accounts import Accounts
from cloud.accounts import metadata as accounts_tables
from cloud.accounts.store import audit_log
from cloud.broker import broker_command
from cloud.database import open_database
from cloud.steering import Courier, Post, Steering, build_router
from cloud.steering import metadata as steering_tables
from cloud.steering.schemas import CommandWish, ConfigurationWish
from cloud.telemetry import Registry
from cloud.telemetry.tables import metadata as telemetry_tables
from cloud.who import Grant, Role, Who
from edge.clock import ClockQuality
from edge.commands import Desk
from edge.drivers import DriverHealth
from edge.remote import Slots
from edge.wire import Applied, Result, parse_topic

NOW = 1_795_000_000_000
SECRET = b"0123456789abcdef0123456789abcdef"
ACTUATORS = {"fish_pond": frozenset({"aerator1"})}


def covers(region, granted):
    return any(region.startswith(one) for one in granted)


class World:
    def __init__(self, folder):
        self.now = NOW
        self.aside = []
        self.engine = open_database(f"sqlite:///{folder / 'cloud.db'}")
        for part in (telemetry_tables, steering_tables, accounts_tables):
            part.create_all(self.engine)
        registry = Registry(self.engine, clock=lambda: self.now)
        self.registry = registry
        registry.add_gateway("pond", farm="fish_pond", region="500108", secret=SECRET)
        registry.add_gateway("barn", farm="somebodys_own", region="500153", secret=SECRET[::-1])
        self.accounts = Accounts(self.engine, lambda: self.now, inside=lambda _: select(audit_log.c.region))
        self.accounts.prepare()
        self.steering = Steering(
            self.engine,
            clock=lambda: self.now,
            gateway=registry.gateway,
            actuators=ACTUATORS.get,
            covers=covers,
            audit=self.accounts.audit,
        )

    def courier(self, port=1):
        return Courier(
            self.steering,
            Post("127.0.0.1", port),
            clock=lambda: self.now,
            set_aside=lambda *what: self.aside.append(what),
        )

    def ask(self, number="c1", **more):
        wish = {"id": number, "target": "aerator1", "operation": "set", "value": 1.0, "reason": "low oxygen", **more}
        return self.steering.command("pond", CommandWish(**wish), "li")

    def say(self, number, outcome, reason="", *, secret=SECRET):
        said = Result(number, outcome, reason, self.now, {}).sign(secret)
        self.courier().take("tm/1/pond/result", said)
        return self.steering.one_command(number)

    def event(self, kind, **body):
        self.steering.take_events([{"gateway": "pond", "kind": kind, "time_ms": self.now, "body": body}])


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.engine.dispose()


def test_a_command_is_kept_with_who_asked_and_why_in_the_audit_trail(world):
    asked = world.ask()
    assert (asked.state, asked.by, asked.sendings) == ("queued", "li", 0)
    with world.engine.connect() as db:
        entry = db.execute(select(audit_log).where(audit_log.c.what == "gateway.command")).one()
    assert (entry.who, entry.subject, entry.region) == ("li", "pond", "500108")
    assert "low oxygen" in entry.detail


def test_asking_twice_under_one_id_is_asking_once(world):
    assert world.ask() == world.ask()
    with pytest.raises(problems.Conflict) as why:
        world.ask(value=0.5)
    assert why.value.code == "id_in_use"
    assert len(world.steering.commands("pond").items) == 1


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"target": "pump9"}, "unknown_target"),
        ({"value": None}, "bad_value"),
        ({"operation": "release"}, "bad_value"),
    ],
)
def test_a_wish_that_the_gateway_could_only_refuse_is_refused_at_once(world, change, code):
    with pytest.raises(problems.Invalid) as why:
        world.ask(**change)
    assert why.value.code == code
    assert why.value.pointer


def test_a_gateway_is_not_flooded_with_commands(world):
    for n in range(20):
        world.ask(f"c{n}")
    with pytest.raises(problems.TooMany):
        world.ask("c20")
    world.say("c3", "done")
    assert world.ask("c20").state == "queued"


def test_a_signed_answer_ends_a_command_and_a_forged_one_is_set_aside(world):
    world.ask()
    assert world.say("c1", "done", secret=b"guess" * 8).state == "queued"
    assert [(topic, reason) for topic, _, reason, _ in world.aside] == [("tm/1/pond/result", "bad_signature")]
    done = world.say("c1", "refused", "interlock:held")
    assert (done.state, done.said, done.proved) == ("refused", "interlock:held", True)


def test_another_gateways_word_about_a_command_counts_for_nothing(world):
    world.ask()
    said = Result("c1", "done", "", NOW, {}).sign(SECRET[::-1])
    world.courier().take("tm/1/barn/result", said)
    assert world.steering.one_command("c1").state == "queued"


def test_that_a_repetition_was_refused_is_no_answer(world):
    world.ask()
    assert world.say("c1", "refused", "replay").state == "queued"


def test_without_an_answer_a_command_expires_and_a_late_word_still_tells_what_happened(world):
    world.ask(valid_s=60)
    world.now += 200_000
    world.steering.store.expire(world.now)
    assert (world.steering.one_command("c1").state, world.steering.one_command("c1").said) == ("expired", "no_answer")
    world.event("command", id="c1", outcome="done", reason="", by="li", target="aerator1")
    told = world.steering.one_command("c1")
    assert (told.state, told.proved) == ("done", False)


ENDS = st.sampled_from(["done", "refused", "failed"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=ENDS, words=st.lists(st.tuples(st.sampled_from(["accepted", "done", "refused", "failed"]), st.booleans())))
def test_a_signed_end_stands_whatever_is_said_after_it(world, first, words):
    number = world.ask(secrets.token_hex(8)).id
    world.say(number, first, "signed")
    for outcome, signed in words:
        if signed:
            world.say(number, "accepted")
        else:
            world.event("command", id=number, outcome=outcome, reason="forged")
    told = world.steering.one_command(number)
    assert (told.state, told.said, told.proved) == (first, "signed", True)


def want(world, after=0, body=None):
    wish = ConfigurationWish(body=body or {"gateway": {"status_s": 30}}, after=after, reason="quicker status")
    return world.steering.want("pond", wish, "li")


def test_a_configuration_is_a_numbered_revision_that_overlooks_nobody(world):
    assert world.steering.configuration("pond").state == "none"
    assert want(world).desired.revision == 1
    with pytest.raises(problems.Conflict) as why:
        want(world)
    assert (why.value.code, why.value.pointer) == ("stale", "/after")
    held = want(world, after=1)
    assert ([one.revision for one in held.history], held.state) == ([2, 1], "waiting")
    with world.engine.connect() as db:
        assert len(db.execute(select(audit_log).where(audit_log.c.what == "gateway.configuration")).all()) == 2


def test_what_became_of_a_configuration_is_kept_and_shown(world):
    want(world)
    for outcome, effective in (("trial", 1), ("rolled_back", 0)):
        world.now += 1000
        said = Applied(1, outcome, "driver 'bus' does worse", effective, world.now).sign(SECRET)
        world.courier().take("tm/1/pond/config/applied", said)
        world.courier().take("tm/1/pond/config/applied", said)  # retained: it comes at every connection
    held = world.steering.configuration("pond")
    assert (held.state, held.effective) == ("rolled_back", 0)
    assert [one.outcome for one in held.desired.reports] == ["rolled_back", "trial"]
    world.event("config", revision=1, outcome="rolled_back", reason="x")
    assert world.steering.configuration("pond") == held


def test_after_a_restored_backup_the_next_revision_is_above_what_the_gateway_has_signed_for(world):
    said = Applied(41, "kept", "", 41, world.now).sign(SECRET)
    world.courier().take("tm/1/pond/config/applied", said)
    assert want(world).desired.revision == 42


@pytest.mark.parametrize(
    ("body", "code"),
    [({"uplink": {"url": "mqtt://evil"}}, "unknown_table"), ({"page": {"x": "y" * 200_000}}, "too_large")],
)
def test_what_may_not_be_set_from_afar_is_refused(world, body, code):
    with pytest.raises(problems.CloudError) as why:
        want(world, body=body)
    assert why.value.code == code
    assert why.value.pointer.startswith("/body")


class Gateway:
    """The gateway's own desk and slots behind a broker client."""

    def __init__(self, port, folder):
        self.acts, self.heard = [], queue.SimpleQueue()
        self.desk = Desk(folder / "commands.log", "pond", SECRET)
        self.slots = Slots(folder / "config.z", "pond", SECRET, check=lambda body: body, probation_ms=0)
        self.deaf = False
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv311)
        self.client.on_connect = lambda c, *_: c.subscribe([("tm/1/pond/command/+", 1), ("tm/1/pond/config/wanted", 1)])
        self.client.on_message = lambda _c, _u, message: self.take(message)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()

    def take(self, message):
        topic = parse_topic(message.topic)
        self.heard.put(topic)
        if topic.name is None:
            self.slots.receive(message.payload, {"bus": DriverHealth(ok=9)}, 1)
            if (said := self.slots.applied(NOW)) is not None:
                self.client.publish("tm/1/pond/config/applied", said.sign(SECRET), qos=1, retain=True)
            return
        now = time.time_ns() // 1_000_000
        more = {"retained": message.retain, "now_ms": now, "quality": ClockQuality.SYSTEM, "act": self.act}
        for result in self.desk.receive(message.payload, topic.name, **more):
            if not self.deaf:
                self.client.publish("tm/1/pond/result", result.sign(SECRET), qos=1)

    def act(self, command):
        self.acts.append((command.target, command.value))
        return ""

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


@pytest.mark.parametrize("kind", ["mosquitto", "amqtt"])
def test_a_wish_reaches_the_gateway_over_a_real_broker_and_its_answer_comes_back(world, tmp_path, need_program, kind):
    if kind == "mosquitto":
        need_program("mosquitto")
    port, folder = free_port(), tmp_path / "broker"
    folder.mkdir()
    world.now = time.time_ns() // 1_000_000
    want(world)
    courier = world.courier(port)
    courier.start()  # before there is a broker: it waits for one
    with Child(broker_command(folder, port, kind), log=folder / "log") as child:
        child.wait_for_port(port)
        gateway = Gateway(port, tmp_path)
        world.ask()
        wait_until(lambda: world.steering.one_command("c1").state == "done", "no answer", within_s=30)
        assert gateway.acts == [("aerator1", 1.0)]
        wait_until(lambda: world.steering.configuration("pond").state == "trial", "no trial", within_s=30)
        # An answer that got lost: the courier repeats, the gateway does not.
        gateway.deaf = True
        world.ask("c2")
        wait_until(lambda: world.steering.one_command("c2").state == "sent", "never sent", within_s=30)
        wait_until(lambda: len(gateway.acts) == 2, "never done", within_s=30)
        world.now += 11_000
        wait_until(lambda: world.steering.one_command("c2").sendings >= 2, "never repeated", within_s=30)
        time.sleep(0.3)
        assert len(gateway.acts) == 2
        gateway.close()
        courier.stop()
    assert not world.aside


class TestRoutes:
    @pytest.fixture
    def client(self, world, served):
        self.who = Who("li", "Li", frozenset({Grant(Role.OPERATOR, "500108")}))
        return served(build_router(world.steering), lambda: self.who)

    def test_a_command_is_asked_for_and_followed(self, client):
        wish = {"target": "aerator1", "operation": "set", "value": 1, "reason": "low oxygen"}
        answer = client.post("/api/v1/gateways/pond/commands", json=wish)
        assert answer.status_code == 202
        number = answer.json()["id"]
        assert client.get(f"/api/v1/commands/{number}").json()["state"] == "queued"
        page = client.get("/api/v1/gateways/pond/commands?limit=1").json()
        assert [one["id"] for one in page["items"]] == [number]
        assert client.get("/api/v1/gateways/pond/commands", params={"before": page["next"]}).json()["items"] == []
        assert client.get("/api/v1/gateways/pond/commands?before=x").json()["code"] == "bad_cursor"

    def test_a_configuration_is_put_and_read(self, client):
        wish = {"body": {"driver": []}, "after": 0, "reason": "none at all"}
        assert client.put("/api/v1/gateways/pond/configuration", json=wish).json()["desired"]["revision"] == 1
        assert client.put("/api/v1/gateways/pond/configuration", json=wish).status_code == 409
        assert client.get("/api/v1/gateways/pond/configuration").json()["state"] == "waiting"

    @pytest.mark.parametrize(
        ("grants", "status"), [(None, 401), ((Role.VIEWER, "500108"), 403), ((Role.OPERATOR, "500153"), 404)]
    )
    def test_only_an_operator_of_the_region_may_steer(self, client, grants, status):
        self.who = None if grants is None else Who("x", "X", frozenset({Grant(*grants)}))
        wish = {"target": "aerator1", "operation": "read", "reason": "look"}
        answers = [
            client.post("/api/v1/gateways/pond/commands", json=wish),
            client.put("/api/v1/gateways/pond/configuration", json={"body": {}, "after": 0, "reason": "none"}),
            client.get("/api/v1/gateways/pond/configuration"),
        ]
        assert [one.status_code for one in answers] == [status] * 3

    @pytest.mark.parametrize(
        "change",
        [{"valid_s": 100_000}, {"value": 2}, {"operation": "explode"}, {"reason": ""}, {"target": "a/b"}, {"more": 1}],
    )
    def test_a_wish_out_of_range_is_a_problem_with_a_pointer(self, client, change):
        wish = {"target": "aerator1", "operation": "set", "value": 1, "reason": "low oxygen", **change}
        answer = client.post("/api/v1/gateways/pond/commands", json=wish)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"].startswith("/body/")
