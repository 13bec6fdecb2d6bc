"""Whoever is granted one district never sees another: any regions, any grants, every question of the API."""

import json

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import false, or_, select

from cloud import jobs, problems
from cloud.alarms import Alarms, AlarmStore, Watched
from cloud.alarms import build_router as alarm_routes
from cloud.alarms.engine import Change
from cloud.alarms.tables import alarm
from cloud.database import open_database
from cloud.steering import Steering
from cloud.steering import build_router as steering_routes
from cloud.steering import metadata as steering_tables
from cloud.telemetry import Registry, TakeAway, Telemetry, build_router
from cloud.telemetry.dead_letters import Message
from cloud.telemetry.memory_readings import MemoryReadings
from cloud.telemetry.pipeline import Pipeline
from cloud.who import Grant, Role, Who
from edge.farms import load_farm
from edge.rules import Transition
from edge.wire import Event, Pack, Reading, encode_pack

NOW = 1_795_000_000_000
DISTRICTS = ("500108", "500108001", "500153", "500153002", "500235")
HERE = {district: f"gw-{district}" for district in DISTRICTS}
SPAN = f"from={NOW - 5000}&to={NOW + 1}"


def covers(region, granted):
    return any(region.startswith(one) for one in granted)


def inside(granted):
    return select(alarm.c.region).where(or_(false(), *(alarm.c.region.startswith(one) for one in granted)))


class County:
    """One gateway in each district, each with readings, an event, a conflict, a dead letter, an alarm, a command."""

    def __init__(self, folder):
        self.engine = open_database(f"sqlite:///{folder / 'cloud.db'}")
        registry, readings = Registry(self.engine, clock=lambda: NOW), MemoryReadings()
        registry.create()
        jobs.metadata.create_all(self.engine)
        steering_tables.create_all(self.engine)
        store = AlarmStore(self.engine)
        store.create()
        tools = {"clock": lambda: NOW, "covers": covers}
        audit = lambda *_: None  # noqa: E731 - nobody looks back here
        self.telemetry = Telemetry(readings, registry, **tools, audit=audit)
        steering = Steering(self.engine, gateway=registry.gateway, actuators=lambda _: None, audit=audit, **tools)
        pipeline = Pipeline(readings, registry, clock=lambda: NOW)
        rule = next(iter(load_farm("fish_pond").rules.values()))
        watched = []
        for n, (district, name) in enumerate(HERE.items(), 1):
            registry.add_gateway(name, farm="fish_pond", region=district)
            packs = [Reading("p1/ph", NOW - 1000, 7.0 + n / 10, "pH")], [Reading("p1/ph", NOW - 1000, 1.0, "pH")]
            data = [
                Message(f"tm/1/{name}/data/abcdef01/{seq}", encode_pack(Pack(name, tuple(pack))), NOW)
                for seq, pack in enumerate(packs, 1)
            ]
            event = Message(f"tm/1/{name}/event/abcdef01/3", Event("clock", NOW, {"of": name}).encode(), NOW)
            pipeline.take([*data, event, Message(f"tm/1/{name}/data/abcdef01/4", name.encode(), NOW)])
            watched.append(Watched(name, name, district, (rule,)))
            store.apply(
                [Change(watched[-1], rule, Transition(rule.id, "raised", NOW - n, NOW - n))], [], {}, [], 0, NOW
            )
            store.shelve([(name, rule.id)], NOW + 10_000, "li", "testing", audit)
            store.add_receiver(
                {"name": name, "kind": "log", "address": name, "region": district, "severity": "warning"}
                | {"level": 0, "per_hour": 1},
                audit,
            )
        alarms = Alarms(store, watched=lambda: watched, inside=inside, audit=audit, **tools)
        exports = TakeAway(
            self.telemetry, readings, registry, jobs.Jobs(self.engine), folder, clock=lambda: NOW, audit=audit
        )
        app = FastAPI()
        problems.install(app)
        for router in (build_router(self.telemetry, exports), alarm_routes(alarms), steering_routes(steering)):
            app.include_router(router)
        self.who = None

        @app.middleware("http")
        async def somebody(request, call_next):
            request.state.who = self.who
            return await call_next(request)

        self.client = TestClient(app)


@pytest.fixture(scope="module")
def county(tmp_path_factory):
    county = County(tmp_path_factory.mktemp("county"))
    yield county
    county.engine.dispose()


LISTS = (
    *("/gateways", "/series", "/latest", "/events", "/conflicts?limit=1", "/conflicts", "/dead-letters", "/alarms"),
    *("/alarms?limit=1", "/shelves", "/receivers", f"/statistics?quantity=ph&{SPAN}", "/exports"),
)
OF_ONE = (
    *("/gateways/{}", "/gateways/{}/sensors", "/gateways/{}/rules", "/gateways/{}/commands", "/series?gateway={}"),
    *("/gateways/{}/configuration", "/latest?gateway={}", "/events?gateway={}", "/dead-letters?gateway={}"),
    "/stream?gateway={}",
)
GRANTS = st.sets(st.tuples(st.sampled_from(list(Role)), st.sampled_from(DISTRICTS)), min_size=1, max_size=3)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10, deadline=None)
@given(grants=GRANTS)
def test_no_answer_names_what_lies_outside_the_grants(county, grants):
    county.who = Who("x", "X", frozenset(Grant(*one) for one in grants))
    seen = {district for district in DISTRICTS if covers(district, county.who.regions())}
    hidden = [HERE[district] for district in DISTRICTS if district not in seen]
    for path in LISTS:
        answer = county.client.get("/api/v1" + path)
        assert answer.status_code in {200, 403}, path
        text = json.dumps(answer.json(), ensure_ascii=False)
        assert [name for name in hidden if f'"{name}"' in text] == [], path
        regions = {row["region"] for row in _rows(answer.json()) if "region" in row}
        assert regions <= seen, path
    for name in hidden:
        for path in OF_ONE:
            answer = county.client.get("/api/v1" + path.format(name))
            assert answer.status_code in {403, 404}, path
            assert answer.headers["content-type"] == "application/problem+json"


def test_who_sees_a_district_is_answered_there(county):
    county.who = Who("x", "X", frozenset({Grant(Role.ADMIN, "500108")}))
    mine = {HERE["500108"], HERE["500108001"]}
    for path in ("/gateways", "/series", "/latest", "/events", "/dead-letters", "/alarms", "/shelves", "/conflicts"):
        text = county.client.get("/api/v1" + path).text
        assert [name for name in mine if f'"{name}"' not in text] == [], path
    (letter,) = {row.digest for row in county.telemetry.dead_letters(gateway=HERE["500153"])}
    assert county.client.post(f"/api/v1/dead-letters/{letter}/replay").status_code == 404
    assert county.client.get("/api/v1/series/3/points?" + SPAN).status_code == 404
    assert county.client.get("/api/v1/alarms/3").status_code == 404


def _rows(answer):
    found = answer if isinstance(answer, list) else answer.get("items", [])
    return [row for row in found if isinstance(row, dict)]
