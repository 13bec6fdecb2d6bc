import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from cloud import problems
from cloud.provenance import LogBook, Provenance, build_router
from cloud.provenance.store import metadata
from cloud.who import Grant, Role, Who
from traceability import TraceError
from traceability.demo import demo_chains

NOW = 1_795_300_000_000
EGGS = next(chain for chain in demo_chains(NOW, domain="https://id.gs1.org") if chain.chain == "eggs")
PEOPLE = {
    "tracer": Who("tracer", "T", frozenset({Grant(Role.TRACER, "500117")})),
    "viewer": Who("viewer", "V", frozenset({Grant(Role.VIEWER, "500117")})),
}


@pytest.fixture
def client(tmp_path, engine):
    metadata.create_all(engine)
    log = LogBook(engine, tmp_path / "ledger", tmp_path / "log.key", "trace.example/log", lambda: NOW)
    service = Provenance(engine, log, site="http://127.0.0.1:1", clock=lambda: NOW)
    app = FastAPI()
    problems.install(app, (TraceError,))
    app.include_router(build_router(service))

    @app.middleware("http")
    async def sign_in(request: Request, go_on):
        request.state.who = PEOPLE.get(request.headers.get("x-who", ""))
        return await go_on(request)

    yield TestClient(app)
    service.close()


def test_capture_needs_a_person_and_the_right_one(client):
    event = dict(EGGS.events[0])
    assert client.post("/epcis/v2/capture", json=event).status_code == 401
    assert client.post("/epcis/v2/capture", json=event, headers={"x-who": "viewer"}).status_code == 403
    done = client.post("/epcis/v2/capture?chain=eggs", json=event, headers={"x-who": "tracer"})
    assert done.status_code == 201
    assert done.json()["events"][0]["index"] == 0


def test_a_captured_event_comes_back_equal(client):
    client.post("/epcis/v2/capture", json=dict(EGGS.events[0]), headers={"x-who": "tracer"})
    body = client.get("/epcis/v2/events", headers={"x-who": "viewer"}).json()
    (event,) = body["epcisBody"]["queryResults"]["resultsBody"]["eventList"]
    event.pop("eventID")
    assert event == EGGS.events[0]


def test_what_is_not_epcis_is_a_problem_document_with_a_pointer(client):
    wrong = client.post("/epcis/v2/capture", json={"type": "ObjectEvent"}, headers={"x-who": "tracer"})
    assert wrong.status_code == 422
    assert wrong.headers["content-type"] == "application/problem+json"
    assert wrong.json()["code"] == "bad_event"


def test_lots_log_policy_and_log_files_are_public(client):
    client.post("/epcis/v2/capture", json=dict(EGGS.events[0]), headers={"x-who": "tracer"})
    assert client.get("/api/v1/trace/lots").json() == {"items": []}
    assert client.get("/api/v1/trace/log").json()["log"]["size"] == 1
    assert "vkey" in client.get("/api/v1/trace/policy").text
    assert client.get("/log/checkpoint").text.startswith("trace.example/log\n1\n")
    assert client.get("/log/../log.key").status_code == 404


def test_a_wrong_check_digit_and_an_unknown_code_are_told_apart(client):
    wrong = client.get("/api/v1/trace/pack", params={"path": "/01/02000011700011/10/A"})
    unknown = client.get("/api/v1/trace/pack", params={"path": "/01/02000011700010/10/A"})
    assert (wrong.status_code, unknown.status_code) == (422, 404)
    assert unknown.json()["code"] == "unknown_code"
