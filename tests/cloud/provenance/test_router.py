from urllib.parse import quote

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from cloud import problems
from cloud.database import open_database
from cloud.provenance import CaptureDoor, LogBook, LogPlace, Provenance, build_router
from cloud.provenance.store import metadata
from cloud.who import Grant, Role, Who
from traceability import TraceError
from traceability.demo import demo_chains
from traceability.events import object_event

NOW = 1_795_300_000_000
EGGS = next(chain for chain in demo_chains(NOW, domain="https://id.gs1.org") if chain.chain == "eggs")
PEOPLE = {
    "tracer": Who("tracer", "T", frozenset({Grant(Role.TRACER, "500117")})),
    "viewer": Who("viewer", "V", frozenset({Grant(Role.VIEWER, "500117")})),
}


@pytest.fixture
def client(tmp_path):
    engine = open_database(f"sqlite:///{tmp_path / 'chain.db'}")
    metadata.create_all(engine)
    log = LogBook(engine, LogPlace(tmp_path / "ledger", tmp_path / "log.key", "trace.example/log"), lambda: NOW)
    service = Provenance(engine, log, site="http://127.0.0.1:1", clock=lambda: NOW, serial_key=b"k" * 32)
    app = FastAPI()
    problems.install(app, (TraceError,))
    app.include_router(build_router(service))
    app.add_middleware(CaptureDoor, provenance=service)

    @app.middleware("http")
    async def sign_in(request: Request, go_on):
        request.state.who = PEOPLE.get(request.headers.get("x-who", ""))
        return await go_on(request)

    yield TestClient(app)
    service.close()
    engine.dispose()


def test_capture_needs_a_person_and_the_right_one(client):
    event = dict(EGGS.events[0])
    assert client.post("/epcis/v2/capture", json=event).status_code == 401
    assert client.post("/epcis/v2/capture", json=event, headers={"x-who": "viewer"}).status_code == 403
    done = client.post("/epcis/v2/capture?chain=eggs", json=event, headers={"x-who": "tracer"})
    assert done.status_code == 202
    assert done.json()["events"][0]["index"] == 0
    job = client.get(done.headers["location"], headers={"x-who": "viewer"}).json()
    assert (job["success"], job["running"], job["errors"]) == (True, False, [])


def test_a_trade_item_is_put_under_a_chain_by_those_who_may_and_captures_follow_it(client):
    given = {"name": "02011700010006", "chain": "eggs"}
    assert client.put("/api/v1/trace/chains", json=given, headers={"x-who": "viewer"}).status_code == 403
    assert client.put("/api/v1/trace/chains", json=given, headers={"x-who": "tracer"}).status_code == 200
    kept = client.get("/api/v1/trace/chains", headers={"x-who": "viewer"}).json()["items"]
    assert kept == {"https://id.gs1.org/01/02011700010006": "eggs"}
    event = object_event(
        "ADD", "commissioning", NOW, epcs=["https://id.gs1.org/01/02011700010006/10/A/21/B"], place="urn:p"
    )
    clash = client.post("/epcis/v2/capture?chain=pork", json=event, headers={"x-who": "tracer"})
    assert (clash.status_code, clash.json()["code"]) == (409, "other_chain")
    for wrong in ({"name": "02011700010007", "chain": "eggs"}, {"name": "urn:p", "chain": "beef"}, {"name": "urn:p"}):
        assert client.put("/api/v1/trace/chains", json=wrong, headers={"x-who": "tracer"}).status_code in {400, 422}


def test_the_quick_door_answers_as_the_common_way_does(client):
    event = dict(EGGS.events[0])
    quick = client.post("/epcis/v2/capture", json=event, headers={"x-who": "tracer"})
    slow = client.post(
        "/epcis/v2/capture", json=event, headers={"x-who": "tracer", "GS1-Capture-Error-Behaviour": "rollback"}
    )
    again = client.post("/epcis/v2/capture", json=event, headers={"x-who": "tracer"})
    for other in (slow, again):
        assert (other.status_code, other.headers.keys()) == (quick.status_code, quick.headers.keys())
        assert other.json().keys() == quick.json().keys()
        assert other.json()["events"] == quick.json()["events"]


def test_what_the_quick_door_cannot_take_is_refused_by_the_common_way_with_its_reason(client):
    wrong = dict(EGGS.events[0]) | {"action": "PERHAPS"}
    told = client.post("/epcis/v2/capture", json=wrong, headers={"x-who": "tracer"})
    assert (told.status_code, "/action" in told.text) == (422, True)
    assert client.post("/epcis/v2/capture", content=b"{", headers={"x-who": "tracer"}).status_code in {400, 415, 422}


def test_a_captured_event_comes_back_equal(client):
    client.post("/epcis/v2/capture", json=dict(EGGS.events[0]), headers={"x-who": "tracer"})
    body = client.get("/epcis/v2/events", headers={"x-who": "viewer"}).json()
    (event,) = body["epcisBody"]["queryResults"]["resultsBody"]["eventList"]
    assert event.pop("eventID").startswith("ni:///sha-256;")
    assert event.pop("recordTime")
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


def eggs(client):
    headers = {"x-who": "tracer"}
    return [client.post("/epcis/v2/events", json=dict(each), headers=headers).json()["eventID"] for each in EGGS.events]


def found(client, query):
    answer = client.get(f"/epcis/v2/{query}", headers={"x-who": "viewer"})
    assert answer.status_code == 200, answer.text
    return [each["eventID"] for each in answer.json()["epcisBody"]["queryResults"]["resultsBody"]["eventList"]]


def test_queries_by_step_type_thing_time_and_place_find_what_they_name(client):
    ids = eggs(client)
    bodies = dict(zip(ids, EGGS.events, strict=True))
    steps = {body["bizStep"] for body in bodies.values()}
    for step in steps:
        wanted = {event for event, body in bodies.items() if body["bizStep"] == step}
        assert set(found(client, f"events?EQ_bizStep={step}")) == wanted
        assert set(found(client, f"bizSteps/{step}/events")) == wanted
    kinds = {event for event, body in bodies.items() if body["type"] == "TransformationEvent"}
    assert set(found(client, "events?eventType=TransformationEvent")) == kinds
    assert found(client, f"events?MATCH_anyEPC={EGGS.subject}")
    assert found(client, "events?MATCH_anyEPC=https://id.gs1.org/01/0200001170001*")
    assert found(client, "events?MATCH_epc=urn:nobody") == []
    middle = bodies[ids[2]]["eventTime"]
    after, before = (
        found(client, f"events?GE_eventTime={middle.replace('+', '%2B')}"),
        found(client, f"events?LT_eventTime={middle.replace('+', '%2B')}"),
    )
    assert sorted(after + before) == sorted(ids)
    assert ids[2] in after


def test_pages_follow_each_other_without_gap_or_repeat(client):
    ids = eggs(client)
    seen, path = [], "/epcis/v2/events?perPage=2&orderBy=eventTime&orderDirection=ASC"
    while path:
        answer = client.get(path, headers={"x-who": "viewer"})
        seen += [e["eventID"] for e in answer.json()["epcisBody"]["queryResults"]["resultsBody"]["eventList"]]
        path = answer.links.get("next", {}).get("url")
    assert sorted(seen) == sorted(ids)
    assert len(seen) == len(set(seen))


def test_a_query_parameter_nobody_knows_is_refused_by_name(client):
    for query in ("EQ_bizStp=shipping", "GE_eventTime=yesterday", "perPage=0", "nextPageToken=x", "EQ_action=MAYBE"):
        answer = client.get(f"/epcis/v2/events?{query}", headers={"x-who": "viewer"})
        assert answer.status_code == 422
        assert query.split("=")[0] in answer.text


def test_an_event_declared_wrong_leaves_the_current_view_and_stays_in_the_old_one(client):
    ids = eggs(client)
    wrong = dict(EGGS.events[1]) | {"eventID": ids[1]}
    declaration = wrong | {
        "errorDeclaration": {"declarationTime": "2026-11-22T10:00:00.000+08:00", "reason": "incorrect_data"}
    }
    done = client.post("/epcis/v2/events", json=declaration, headers={"x-who": "tracer"})
    assert done.status_code == 201, done.text
    assert ids[1] not in found(client, "events")
    assert found(client, "events?mode=all").count(ids[1]) == 2
    assert found(client, "events?mode=all&EXISTS_errorDeclaration=") == [ids[1]]


def test_the_same_id_with_other_content_is_a_conflict_and_an_unknown_one_cannot_be_declared_wrong(client):
    ids = eggs(client)
    other = dict(EGGS.events[0]) | {"eventID": ids[0], "disposition": "damaged"}
    assert client.post("/epcis/v2/events", json=other, headers={"x-who": "tracer"}).status_code == 409
    nowhere = dict(EGGS.events[0]) | {
        "eventID": "urn:uuid:00000000-0000-4000-8000-000000000000",
        "errorDeclaration": {"declarationTime": "2026-11-22T10:00:00.000+08:00"},
    }
    answer = client.post("/epcis/v2/events", json=nowhere, headers={"x-who": "tracer"})
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_event")


def document(*events):
    return {
        "@context": "https://ref.gs1.org/standards/epcis/epcis-context.jsonld",
        "type": "EPCISDocument",
        "schemaVersion": "2.0",
        "creationDate": "2026-11-22T10:00:00.000Z",
        "epcisBody": {"eventList": [dict(event) for event in events]},
    }


def test_proceed_takes_what_it_can_and_rollback_takes_all_or_nothing(client):
    ids = eggs(client)
    clash = dict(EGGS.events[0]) | {"eventID": ids[0], "disposition": "damaged"}
    fresh = dict(EGGS.events[0]) | {"eventTime": "2026-11-01T10:00:00.000+08:00"}
    before = client.get("/api/v1/trace/log").json()["log"]["size"]
    headers = {"x-who": "tracer"}
    assert client.post("/epcis/v2/capture", json=document(fresh, clash), headers=headers).status_code == 409
    assert client.get("/api/v1/trace/log").json()["log"]["size"] == before
    headers["GS1-Capture-Error-Behaviour"] = "proceed"
    job = client.post("/epcis/v2/capture", json=document(fresh, clash), headers=headers).json()
    assert job["success"] is False
    assert [error["pointer"] for error in job["errors"]] == ["/epcisBody/eventList/1"]
    assert client.get("/api/v1/trace/log").json()["log"]["size"] == before + 1


def test_named_queries_are_kept_run_and_forgotten(client):
    eggs(client)
    tracer, viewer = {"x-who": "tracer"}, {"x-who": "viewer"}
    body = {"name": "layings", "query": {"eventType": ["ObjectEvent"]}}
    assert client.post("/epcis/v2/queries", json=body, headers=tracer).status_code == 201
    assert client.post("/epcis/v2/queries", json=body, headers=tracer).status_code == 409
    assert found(client, "queries/layings/events")
    assert client.delete("/epcis/v2/queries/layings", headers=tracer).status_code == 204
    assert client.get("/epcis/v2/queries/layings", headers=viewer).status_code == 404


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"type":"ObjectEvent","type":"ObjectEvent"}', "duplicate_key"),
        (b'{"type":NaN}', "not_a_number"),
        (b'{"quantity":1e999}', "not_a_number"),
        (b'{"a":"\\ud800"}', "surrogate"),
        (b'{"a":' * 60 + b"1" + b"}" * 60, "too_deep"),
        (b'{"a":' * 60_000 + b"1" + b"}" * 60_000, "too_deep"),
        (b"\xff\xfe", "not_json"),
        (b"[]", "not_json"),
        (b"{", "not_json"),
    ],
)
def test_what_two_readers_could_read_in_two_ways_is_refused(client, body, code):
    answer = client.post("/epcis/v2/capture", content=body, headers={"x-who": "tracer"})
    assert (answer.status_code, answer.json()["code"]) == (422, code)


@pytest.mark.parametrize("count", [0, 2])
def test_the_door_of_one_event_takes_exactly_one_and_stores_nothing_else(client, count):
    events = [{**EGGS.events[0], "eventID": f"urn:uuid:{number}"} for number in range(count)]
    for event in events:
        event.pop("@context", None)
    document = {
        "@context": EGGS.events[0]["@context"],
        "type": "EPCISDocument",
        "schemaVersion": "2.0",
        "creationDate": "2026-11-22T00:00:00Z",
        "epcisBody": {"eventList": events},
    }
    answer = client.post("/epcis/v2/events", json=document, headers={"x-who": "tracer"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/epcisBody/eventList"
    assert '"eventList":[]' in client.get("/epcis/v2/events", headers={"x-who": "viewer"}).text


@pytest.mark.parametrize(
    "stamp", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999-14:00", "0000-01-01T00:00:00Z"]
)
@pytest.mark.parametrize("door", ["events", "capture"])
def test_a_moment_at_the_edge_of_the_calendar_is_refused(client, stamp, door):
    event = {**EGGS.events[0], "eventTime": stamp}
    answer = client.post(f"/epcis/v2/{door}", json=event, headers={"x-who": "tracer"})
    assert answer.status_code == 422
    assert "/eventTime" in answer.text


@pytest.mark.parametrize("origin", [5, "urn:a:b", [5], {"a": 1}])
@pytest.mark.parametrize("door", ["events", "capture"])
def test_an_origin_that_is_no_list_of_names_is_refused(client, origin, door):
    event = {**EGGS.events[0], "action": "ADD", "ilmd": {"tm:origin": origin}}
    answer = client.post(f"/epcis/v2/{door}", json=event, headers={"x-who": "tracer"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/ilmd/tm:origin"


def test_what_is_in_the_log_already_gets_the_same_receipt_and_a_job_of_its_own(client):
    event = {**EGGS.events[0], "eventID": "urn:uuid:7"}
    first, again = (client.post("/epcis/v2/capture", json=event, headers={"x-who": "tracer"}) for _ in range(2))
    assert again.json()["events"] == first.json()["events"]
    assert again.headers["location"] != first.headers["location"]
    assert client.get(again.headers["location"], headers={"x-who": "viewer"}).json()["success"] is True
    other = client.post("/epcis/v2/capture", json={**event, "bizStep": "packing"}, headers={"x-who": "tracer"})
    assert (other.status_code, other.json()["code"]) == (409, "event_differs")


def test_a_document_names_one_event_twice_and_it_is_one(client):
    event = {**EGGS.events[0], "eventID": "urn:uuid:8"}
    document = {
        "@context": event.pop("@context"),
        "type": "EPCISDocument",
        "schemaVersion": "2.0",
        "creationDate": "2026-11-01T00:00:00Z",
        "epcisBody": {"eventList": [event, event]},
    }
    done = client.post("/epcis/v2/capture", json=document, headers={"x-who": "tracer"})
    assert [each["index"] for each in done.json()["events"]] == [0, 0]


def test_codes_are_issued_moved_and_scratched_over_the_api_by_the_right_people(client):
    tracer, viewer = {"x-who": "tracer"}, {"x-who": "viewer"}
    wanted = {"gtin": "02000011700010", "lot": "L1", "count": 2}
    assert client.post("/api/v1/trace/codes", json=wanted, headers=viewer).status_code == 403
    assert client.post("/api/v1/trace/codes", json=wanted | {"serials": ["A"]}, headers=tracer).status_code == 422
    issued = client.post("/api/v1/trace/codes", json=wanted, headers=tracer)
    assert issued.status_code == 201
    first, second = issued.json()["codes"]
    moved = client.post("/api/v1/trace/codes/move", json={"paths": [first["path"]], "move": "activate"}, headers=tracer)
    assert [each["state"] for each in moved.json()["codes"]] == ["activated"]
    body = {"paths": [first["path"], second["path"]], "move": "sell"}
    refused = client.post("/api/v1/trace/codes/move", json=body, headers=tracer)
    assert (refused.status_code, refused.json()["code"]) == (409, "code_state")
    assert "issued cannot sell" in refused.json()["detail"]
    one = client.get("/api/v1/trace/codes/one", params={"path": first["path"]}, headers=viewer).json()
    assert [each["move"] for each in one["moves"]] == ["issue", "activate"]
    listed = client.get("/api/v1/trace/codes", params={"gtin": wanted["gtin"], "lot": "L1"}, headers=viewer).json()
    assert sorted(each["state"] for each in listed["codes"]) == ["activated", "issued"]
    asked = {"path": first["path"], "scratch": first["scratch"]}
    assert client.post("/api/v1/trace/codes/scratch", json=asked).json()["times"] == 1
    assert client.post("/api/v1/trace/codes/scratch", json=asked | {"scratch": "?"}).status_code == 422


def test_an_event_about_a_void_code_is_a_conflict_with_pointer_and_reason_on_every_door(client):
    tracer = {"x-who": "tracer"}
    body = {"gtin": "02000011700010", "lot": "L1", "serials": ["V1"]}
    (code,) = client.post("/api/v1/trace/codes", json=body, headers=tracer).json()["codes"]
    client.post(
        "/api/v1/trace/codes/move", json={"paths": [code["path"]], "move": "void", "reason": "印坏"}, headers=tracer
    )
    event = {**EGGS.events[0], "epcList": ["https://id.gs1.org" + code["path"]]}
    for door in ("capture", "events"):
        answer = client.post(f"/epcis/v2/{door}", json=event, headers=tracer)
        assert (answer.status_code, answer.json()["code"]) == (409, "code_ended")
        assert answer.json()["errors"][0]["pointer"] == "/epcList/0"
        assert "印坏" in answer.json()["detail"]
    good = {**EGGS.events[0], "eventTime": "2026-11-01T10:00:00.000+08:00"}
    job = client.post(
        "/epcis/v2/capture", json=document(event, good), headers=tracer | {"GS1-Capture-Error-Behaviour": "proceed"}
    )
    assert [each["code"] for each in job.json()["errors"]] == ["code_ended"]
    assert len(job.json()["events"]) == 1


def test_what_there_is_can_be_discovered_from_the_top(client):
    ids = eggs(client)
    viewer = {"x-who": "viewer"}
    top = client.get("/epcis/v2", headers=viewer).json()
    assert {"events", "capture", "queries", "epcs"} <= set(top["member"])
    for resource in ("eventTypes", "epcs", "bizSteps", "bizLocations", "readPoints", "dispositions"):
        listed = client.get(f"/epcis/v2/{resource}?perPage=500", headers=viewer).json()
        assert (listed["type"], "@context" in listed) == ("Collection", True)
        assert len(listed["member"]) == len(set(listed["member"]))
    steps = client.get("/epcis/v2/bizSteps?perPage=500", headers=viewer).json()["member"]
    assert {"shipping", *(event["bizStep"] for event in EGGS.events)} <= set(steps)
    place = quote(next(event["readPoint"]["id"] for event in EGGS.events if "readPoint" in event), safe="")
    assert client.get(f"/epcis/v2/readPoints/{place}", headers=viewer).json()["member"] == ["events"]
    assert set(found(client, f"readPoints/{place}/events")) < set(ids)
    assert client.get("/epcis/v2/colours", headers=viewer).status_code == 404
    assert client.get("/epcis/v2/epcs").status_code == 401


def test_names_of_things_are_listed_by_pages_that_follow_each_other(client):
    eggs(client)
    seen, path = [], "/epcis/v2/epcs?perPage=2"
    while path:
        answer = client.get(path, headers={"x-who": "viewer"})
        seen += answer.json()["member"]
        path = answer.links.get("next", {}).get("url")
    assert len(seen) > 3
    assert seen == sorted(set(seen))


def test_pages_under_a_link_follow_each_other_though_the_name_holds_slashes(client):
    eggs(client)
    thing = quote(next(event["epcList"][0] for event in EGGS.events if event.get("epcList")), safe="")
    first = client.get(f"/epcis/v2/epcs/{thing}/events?perPage=1", headers={"x-who": "viewer"})
    assert thing in first.links.get("next", {}).get("url", thing)


def test_versions_and_limits_are_told_to_everybody_who_asks_for_options(client):
    for path in ("", "/events", "/capture", "/epcs", "/queries"):
        answer = client.options("/epcis/v2" + path)
        assert (answer.status_code, answer.headers["gs1-epcis-version"]) == (204, "2.0")
    limits = client.options("/epcis/v2/capture").headers
    assert (limits["gs1-capture-error-behaviour"], int(limits["gs1-epcis-capture-file-size-limit"])) == (
        "rollback",
        2**23,
    )


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/json", "application/json"),
        ("application/ld+json", "application/ld+json"),
        ("*/*", "application/ld+json"),
        ("text/html, application/json;q=0.5", "application/json"),
        ("application/xml", None),
        ("text/html", None),
        ("application/json;q=0", None),
    ],
)
def test_an_answer_comes_in_the_form_asked_for_or_not_at_all(client, accept, kind):
    answer = client.get("/epcis/v2/events", headers={"x-who": "viewer", "accept": accept})
    if kind is None:
        assert (answer.status_code, answer.json()["code"]) == (406, "not_acceptable")
    else:
        assert answer.headers["content-type"].startswith(kind)
    translated = client.get("/epcis/v2/events", headers={"x-who": "viewer", "GS1-EPC-Format": "Always_EPC_URN"})
    assert translated.status_code == 406


@pytest.mark.parametrize("door", ["events", "capture"])
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "image/png"])
def test_a_body_of_a_kind_nobody_reads_is_refused_as_such(client, door, kind):
    headers = {"x-who": "tracer", "content-type": kind}
    assert client.post(f"/epcis/v2/{door}", content=b"{}", headers=headers).status_code == 415


def test_a_named_query_keeps_every_kind_of_value(client):
    eggs(client)
    query = {"EQ_booleanValue": True, "EXISTS_sensorElementList": None, "GE_percRank": 3, "eventType": ["ObjectEvent"]}
    body = {"name": "typed", "query": query}
    assert client.post("/epcis/v2/queries", json=body, headers={"x-who": "tracer"}).status_code == 201
    assert found(client, "queries/typed/events") == []
    bad = {"name": "bad", "query": {"EQ_booleanValue": "perhaps"}}
    assert client.post("/epcis/v2/queries", json=bad, headers={"x-who": "tracer"}).status_code == 422


BOMB = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><x>&b;</x>'


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (BOMB, "bad_xml"),
        (b"<a>" * 100 + b"</a>" * 100, "bad_xml"),
        (b"<EPCISDocument/>", "bad_xml"),
        (b"<a", "bad_xml"),
    ],
)
@pytest.mark.parametrize("door", ["events", "capture"])
def test_a_hostile_xml_body_is_refused_at_every_door_and_nothing_is_stored(client, door, body, code):
    headers = {"x-who": "tracer", "content-type": "application/xml"}
    answer = client.post(f"/epcis/v2/{door}", content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert client.get("/api/v1/trace/log").json()["log"]["size"] == 0


def test_a_body_over_the_limit_is_refused_before_it_is_read(client):
    body = b'{"a":"' + b"x" * (8 * 1024 * 1024) + b'"}'
    answer = client.post("/epcis/v2/capture", content=body, headers={"x-who": "tracer"})
    assert answer.status_code == 413


OWN = {"@context": EGGS.events[0]["@context"], "eventID": "urn:uuid:00000000-0000-4000-8000-00000000000A"}


def capture(client, event, **headers):
    return client.post("/epcis/v2/capture", json=event, headers={"x-who": "tracer", **headers})


@pytest.mark.parametrize("value", [{"a": 1}, [[1], {"x": 1}], [None, {"tm:x": [[2]]}]])
def test_an_own_field_that_holds_objects_or_lists_disturbs_no_query(client, value):
    capture(client, {**EGGS.events[0], "tm:own": value})
    capture(client, {**EGGS.events[0], "tm:own": 1, "eventTime": "2026-11-01T10:00:00.000+08:00"})
    assert len(found(client, "events?EQ_tm:own=1")) == 1
    assert len(found(client, "events?EQ_INNER_tm:own=1")) == 1
    assert found(client, "events?EQ_INNER_tm:x=1") == []


def test_a_named_query_may_have_a_chinese_name_and_its_location_leads_to_it(client):
    kept = client.post("/epcis/v2/queries", json={"name": "数", "query": {}}, headers={"x-who": "tracer"})
    assert (kept.status_code, kept.headers["location"]) == (201, "/epcis/v2/queries/%E6%95%B0")
    assert client.get(kept.headers["location"], headers={"x-who": "viewer"}).json()["name"] == "数"


@pytest.mark.parametrize("name", ["q" * 61, "数" * 500, "a/b", "a\nb", "", "\u0000"])
def test_a_name_that_no_query_can_have_is_refused_and_nothing_is_kept(client, name):
    told = client.post("/epcis/v2/queries", json={"name": name, "query": {}}, headers={"x-who": "tracer"})
    assert told.status_code == 422
    assert client.get("/epcis/v2/queries", headers={"x-who": "viewer"}).json() == {"queries": []}


def test_a_query_with_half_a_surrogate_pair_is_refused_and_the_others_can_still_be_listed(client):
    body = b'{"name":"q","query":{"EQ_bizStep":"\\ud800"}}'
    told = client.post(
        "/epcis/v2/queries", content=body, headers={"x-who": "tracer", "content-type": "application/json"}
    )
    assert (told.status_code, told.json()["code"]) == (422, "surrogate")
    assert client.get("/epcis/v2/queries", headers={"x-who": "viewer"}).status_code == 200


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (1, True, False),
        ([0], [False], False),
        ({"a": True}, {"a": 1}, False),
        (1, 1.0, True),
        (100, 1e2, True),
        ([1, 2], [2, 1], False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ("1", 1, False),
    ],
)
def test_content_is_the_same_by_canonical_json(client, first, second, same):
    assert capture(client, {**EGGS.events[0], **OWN, "tm:x": first}).status_code == 202
    again = capture(client, {**EGGS.events[0], **OWN, "tm:x": second})
    assert again.status_code == (202 if same else 409)
    assert same or again.json()["code"] == "event_differs"


@pytest.mark.parametrize("spelling", [str.upper, str.lower, lambda text: text.replace("urn:uuid", "Urn:Uuid")])
def test_an_id_in_another_spelling_is_the_same_event(client, spelling):
    other = spelling(OWN["eventID"])
    first = capture(client, {**EGGS.events[0], **OWN}).json()["events"][0]
    again = capture(client, {**EGGS.events[0], **OWN, "eventID": other})
    assert again.json()["events"] == [{"eventID": other, "index": first["index"]}]
    clash = capture(client, {**EGGS.events[0], **OWN, "eventID": other, "disposition": "damaged"})
    assert (clash.status_code, clash.json()["code"]) == (409, "event_differs")
    for asked in (other, OWN["eventID"]):
        assert found(client, f"events/{quote(asked, safe='')}") == [OWN["eventID"]]


def test_an_event_is_declared_wrong_under_any_spelling_of_its_id(client):
    capture(client, {**EGGS.events[0], **OWN})
    declared = {"declarationTime": "2026-11-02T00:00:00Z", "reason": "incorrect_data"}
    wrong = {**EGGS.events[0], **OWN, "eventID": OWN["eventID"].upper(), "errorDeclaration": declared}
    assert capture(client, wrong).status_code == 202
    assert found(client, "events") == []


def test_proceed_takes_the_good_events_beside_malformed_ones_and_points_at_those(client):
    good = dict(EGGS.events[0])
    bad = {**good, "eventTime": "foo"}
    job = capture(
        client, document(bad, good, {"type": "ObjectEvent"}, {}), **{"GS1-Capture-Error-Behaviour": "proceed"}
    ).json()
    assert [event["index"] for event in job["events"]] == [0]
    assert job["success"] is False
    pointers = [error["pointer"] for error in job["errors"]]
    assert pointers[0] == "/epcisBody/eventList/0/eventTime"
    assert [pointer.split("/")[3] for pointer in pointers] == ["0", "2", "3"]
    assert len(found(client, "events")) == 1
    kept = client.get(f"/epcis/v2/capture/{job['captureID']}", headers={"x-who": "viewer"}).json()
    assert kept["errors"] == job["errors"]


def test_proceed_refuses_a_document_that_is_wrong_around_its_events(client):
    wrong = document(EGGS.events[0]) | {"creationDate": "yesterday"}
    told = capture(client, wrong, **{"GS1-Capture-Error-Behaviour": "proceed"})
    assert (told.status_code, "/creationDate" in told.json()["detail"]) == (422, True)
    assert found(client, "events") == []


def test_an_event_that_is_too_large_is_told_how_large_it_may_be_and_to_split_it(client):
    children = [f"https://id.gs1.org/01/02011700010006/21/{number:07d}" for number in range(1_500)]
    event = {key: value for key, value in EGGS.events[0].items() if key not in {"epcList", "quantityList", "ilmd"}}
    large = {**event, "type": "ObjectEvent", "action": "OBSERVE", "epcList": children}
    told = capture(client, large)
    assert (told.status_code, told.json()["code"]) == (422, "event_too_large")
    assert told.json()["errors"][0]["pointer"] == "/epcList"
    assert all(word in told.json()["detail"] for word in ("1500 things", "65535", "split it"))
    assert capture(client, {**large, "epcList": children[:1_000]}).status_code == 202


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("0.123456789012345678901234567890", 422),
        ("0.12345678901234567", 422),
        ("1e-400", 422),
        ("1e-999999999999999999999999999999", 422),
        ("9007199254740993.0", 422),
        ("0.30000000000000004", 202),
        ("0.1000000000000000000000", 202),
        ("36.5", 202),
        ("1.5e300", 202),
        ("0e-999", 202),
    ],
)
def test_a_decimal_that_would_be_stored_as_another_is_refused(client, text, status):
    body = '{"tm:x":' + text + "," + client.build_request("POST", "/", json=dict(EGGS.events[0])).content.decode()[1:]
    told = client.post(
        "/epcis/v2/capture", content=body, headers={"x-who": "tracer", "content-type": "application/json"}
    )
    assert told.status_code == status
    assert status == 202 or "cannot be kept exactly" in told.json()["detail"]


@pytest.mark.parametrize("door", ["capture", "events"])
def test_a_body_that_is_said_to_be_packed_is_refused(client, door):
    told = client.post(
        f"/epcis/v2/{door}", json=dict(EGGS.events[0]), headers={"x-who": "tracer", "content-encoding": "gzip"}
    )
    assert (told.status_code, told.json()["code"]) == (400, "bad_encoding")
    assert found(client, "events") == []
