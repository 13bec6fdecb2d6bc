"""Every door answers nobody, the wrong one and the right one."""

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from cloud import problems
from cloud.accounts import Guard
from cloud.land import build_router
from cloud.who import Role

PREFIX = "/api/v1/land"


@pytest.fixture
def county(quick_world, tools):
    """A served world: `county.ask(role, method, path)`; persons by role, "stranger" and "nobody"."""
    world = quick_world
    app = FastAPI()
    problems.install(app)
    app.add_middleware(Guard, accounts=world.accounts)
    app.include_router(build_router(world.land))
    client = TestClient(app)
    sessions = {"nobody": None}
    for name, role, region in (
        ("analyst", Role.ANALYST, tools.here),
        ("collector", Role.COLLECTOR, tools.here),
        ("reviewer", Role.REVIEWER, tools.here),
        ("viewer", Role.VIEWER, tools.here),
        ("auditor", Role.AUDITOR, tools.here),
        ("stranger", Role.REVIEWER, tools.there),
    ):
        world.accounts.person(name, id=name)
        world.accounts.grant(name, role, region)
        sessions[name] = world.accounts.sign_in(world.accounts.issue_sign_in(name))

    def ask(name, method, path, **more):
        session = sessions[name]
        headers = {"Authorization": f"Bearer {session}"} if session else {}
        return client.request(method, PREFIX + path, headers=headers, **more)

    world.ask = ask
    world.land.import_detections(tools.batch(tools.feature("P1"), tools.feature("P2", at=1)))
    world.case = "500235-2026-00001"
    return world


def form(world, at=0):
    claim = world.claim(at)
    fields = {"lon": claim.lon, "lat": claim.lat, "datum": "WGS84", "taken_ms": claim.taken_ms, "accuracy_m": 4}
    return {"data": fields, "files": {"photo": ("IMG_李四家.jpg", world.new_photo(), "image/jpeg")}}


def walk(world, *, until):
    """Bring the case to a state through the API, by the right persons."""
    photo = {}

    def file():
        photo["id"] = world.ask("collector", "POST", f"/cases/{world.case}/evidence", **form(world)).json()["id"]
        return {"kind": "abandoned_long", "evidence": [photo["id"]]}

    way = [
        ("issued", "analyst", "issue", lambda: {"collector": "collector"}),
        ("accepted", "collector", "accept", dict),
        ("verified", "reviewer", "verdict", file),
        ("remedy_planned", "reviewer", "plan-remedy", lambda: {"note": "复种"}),
        ("remedying", "collector", "start-remedy", dict),
        ("submitted", "collector", "submit", lambda: file() and {"note": ""}),
        ("reviewed", "reviewer", "review", lambda: {"recovery": "grain"}),
        ("closed", "reviewer", "close", dict),
    ]
    for state, name, action, body in way:
        if world.land.case(world.reviewer, world.case).case.state == until:
            return
        answer = world.ask(name, "POST", f"/cases/{world.case}/{action}", json=body())
        assert answer.status_code == 200, answer.text
        assert answer.json()["state"] == state


READS = [
    "/tasks", "/figures", "/parcels", "/parcels?bbox=108,30,109,31", "/parcels/P1", "/cases",
    "/cases/500235-2026-00001", "/summary",
]  # fmt: skip


def test_reading_needs_a_person_and_shows_his_regions_only(county):
    for path in READS:
        assert county.ask("nobody", "GET", path).status_code == 401, path
        assert county.ask("auditor", "GET", path).status_code == 200, path
        stranger = county.ask("stranger", "GET", path)
        if path.endswith(("P1", "00001")):
            assert stranger.status_code == 404, path
            assert stranger.headers["content-type"] == "application/problem+json"
        else:
            assert "P1" not in stranger.text, path
            assert "500235" not in stranger.text, path


# action, state before, who may, body
WRITES = [
    ("issue", "candidate", "analyst", {}),
    ("accept", "issued", "collector", {}),
    ("refuse", "issued", "collector", {"note": "不在清单"}),
    ("escalate", "issued", "analyst", {"note": "无人接"}),
    ("send-back", "accepted", "reviewer", {"note": "补证"}),
    ("verdict", "accepted", "reviewer", {"kind": "cultivated", "evidence": ["PHOTO"]}),
    ("plan-remedy", "verified", "reviewer", {"note": "复种"}),
    ("dispute", "verified", "viewer", {"note": "不服"}),
    ("start-remedy", "remedy_planned", "collector", {}),
    ("submit", "remedying", "collector", {}),
    ("review", "submitted", "reviewer", {"recovery": "grain"}),
    ("close", "reviewed", "reviewer", {}),
    ("reopen", "closed", "reviewer", {"note": "复查"}),
    ("merge", "candidate", "analyst", {"into": "500235-2026-00002"}),
]


@pytest.mark.parametrize(("action", "before", "right", "body"), WRITES, ids=[row[0] for row in WRITES])
def test_each_step_is_for_its_role_in_its_region_and_nobody_else(county, action, before, right, body):
    walk(county, until=before)
    if action in {"verdict", "submit"}:
        filed = county.ask("collector", "POST", f"/cases/{county.case}/evidence", **form(county)).json()["id"]
        body = {key: [filed] if value == ["PHOTO"] else value for key, value in body.items()}
    path = f"/cases/{county.case}/{action}"
    wrong = "analyst" if right != "analyst" else "collector"
    wrong = "auditor" if action == "dispute" else wrong
    assert county.ask("nobody", "POST", path, json=body).status_code == 401
    assert county.ask("stranger", "POST", path, json=body).status_code == 404
    refused = county.ask(wrong, "POST", path, json=body)
    assert refused.status_code == 403
    assert refused.headers["content-type"] == "application/problem+json"
    assert county.land.case(county.reviewer, county.case).case.state == before
    assert county.ask(right, "POST", path, json=body).status_code == 200


def test_settling_a_dispute_is_the_reviewers(county):
    walk(county, until="verified")
    county.ask("viewer", "POST", f"/cases/{county.case}/dispute", json={"note": "不服"})
    body = {"upheld": True, "note": "属实"}
    path = f"/cases/{county.case}/settle"
    assert [county.ask(name, "POST", path, json=body).status_code for name in ("nobody", "stranger", "viewer")] == [
        401,
        404,
        403,
    ]
    assert county.ask("reviewer", "POST", path, json=body).json()["state"] == "accepted"


def test_opening_a_case_is_the_analysts(county, tools):
    county.land.import_detections(tools.batch(tools.feature("P3", at=2, observability="partly")))
    body = {"parcel": "P3"}
    answers = [
        county.ask(name, "POST", "/cases", json=body).status_code for name in ("nobody", "stranger", "collector")
    ]
    assert answers == [401, 404, 403]
    assert county.ask("analyst", "POST", "/cases", json=body).json()["state"] == "candidate"


def test_evidence_comes_as_a_form_and_the_photo_goes_to_whoever_may_see_the_case(county):
    walk(county, until="accepted")
    path = f"/cases/{county.case}/evidence"
    answers = [
        county.ask(name, "POST", path, **form(county)).status_code for name in ("nobody", "stranger", "reviewer")
    ]
    assert answers == [401, 404, 403]
    filed = county.ask("collector", "POST", path, **form(county))
    assert filed.status_code == 201
    assert "李四" not in filed.text
    photo = f"/photos/{filed.json()['photo_sha256']}"
    assert [county.ask(name, "GET", photo).status_code for name in ("nobody", "stranger")] == [401, 404]
    shown = county.ask("auditor", "GET", photo)
    assert shown.headers["content-type"] == "image/jpeg"
    assert shown.headers["x-content-type-options"] == "nosniff"
    for digest in ("0" * 64, "..%2F..%2Fetc%2Fpasswd", "x"):
        assert county.ask("auditor", "GET", f"/photos/{digest}").status_code == 404


def test_a_step_that_is_not_possible_now_names_those_that_are(county):
    answer = county.ask("reviewer", "POST", f"/cases/{county.case}/close", json={})
    assert answer.status_code == 409
    assert answer.json()["code"] == "illegal_transition"
    assert answer.json()["allowed"] == ["issue", "merge", "verify"]


def test_a_detection_leads_to_no_sanction_and_the_refusal_says_why(county):
    for name in ("analyst", "reviewer"):
        answer = county.ask(name, "POST", "/parcels/P1/sanction", json={"kind": "stop_subsidy"})
        assert answer.status_code == 422
        assert answer.json()["rule"] == "L1"
        assert "258" in answer.json()["source"]
    assert county.ask("nobody", "POST", "/parcels/P1/sanction", json={"kind": "fine"}).status_code == 401


BAD_PARCELS = [
    "bbox=1,2,3", "bbox=a,b,c,d", "bbox=109,30,108,31", "bbox=0,0,0,nan", "status=guilty", "limit=0", "limit=99999",
    "limit=x",
]  # fmt: skip
BAD_CASES = ["after=nonsense", "after=%FF", "state=guilty", "limit=0"]


def test_a_bad_filter_or_cursor_is_refused_in_one_line(county):
    asked = [f"/parcels?{query}" for query in BAD_PARCELS] + [f"/cases?{query}" for query in BAD_CASES]
    for path in asked:
        answer = county.ask("auditor", "GET", path)
        assert answer.status_code == 422, path
        assert answer.headers["content-type"] == "application/problem+json"


def test_parcels_are_geojson_cut_to_the_box_and_the_status(county):
    answer = county.ask("auditor", "GET", "/parcels?bbox=108.6999,30.8,108.7015,31")
    assert answer.headers["content-type"] == "application/geo+json"
    assert [feature["id"] for feature in answer.json()["features"]] == ["P1"]
    assert county.ask("auditor", "GET", "/parcels?status=abandoned").json()["features"] == []
    first = county.ask("auditor", "GET", "/parcels?limit=1").json()
    assert first["next"] == "P1"


def test_an_audit_is_drawn_walked_and_told_over_the_api(county):
    body = {"region": "500235103", "per_stratum": 2}
    answers = [county.ask(name, "POST", "/audits", json=body).status_code for name in ("nobody", "stranger", "analyst")]
    assert answers == [401, 404, 403]
    drawn = county.ask("auditor", "POST", "/audits", json=body)
    assert drawn.status_code == 201
    assert county.ask("nobody", "GET", "/audits/visits").status_code == 401
    assert county.ask("stranger", "GET", "/audits/visits").json() == []
    places = county.ask("collector", "GET", "/audits/visits").json()
    assert {place["parcel"] for place in places} == {"P1", "P2"}
    assert "status" not in places[0]
    for place in places:
        fields = form(county, at=int(place["parcel"][1:]) - 1)
        fields["data"] |= {"found": "abandoned_long"}
        path = f"/audits/visits/{place['id']}"
        answers = [county.ask(name, "POST", path, **fields).status_code for name in ("nobody", "stranger", "reviewer")]
        assert answers == [401, 404, 403]
        assert county.ask("collector", "POST", path, **fields).status_code == 201
    path = f"/audits/{drawn.json()['id']}"
    assert [county.ask(name, "GET", path).status_code for name in ("nobody", "stranger")] == [401, 404]
    told = county.ask("auditor", "GET", path).json()
    assert told["area_m2"]["value"] == pytest.approx(told["total_m2"])
