import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from cloud import problems
from cloud.accounts import COOKIE, Accounts, Guard, build_router
from cloud.database import open_database
from cloud.who import Role, SignedIn

OWN = {"sec-fetch-site": "same-origin"}


@pytest.fixture
def accounts(tmp_path, clock):
    made = Accounts(open_database(f"sqlite:///{tmp_path / 'a.db'}"), clock)
    made.prepare()
    return made


@pytest.fixture
def client(accounts):
    app = FastAPI()
    problems.install(app)
    app.add_middleware(Guard, accounts=accounts)
    app.include_router(build_router(accounts))

    @app.post("/write")
    def write(who: SignedIn) -> str:
        return who.id

    return TestClient(app, base_url="http://console.test", follow_redirects=False)


@pytest.fixture
def signed_in(client, accounts):
    li = accounts.person("李", id="li")
    accounts.grant(li, Role.AUDITOR, "500153")
    assert client.get(f"/sign-in/{accounts.issue_sign_in(li)}").status_code == 303
    return client


def test_a_link_sets_a_cookie_that_scripts_and_other_sites_cannot_use(client, accounts):
    answer = client.get(f"/sign-in/{accounts.issue_sign_in(accounts.person('李'))}")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/console"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert answer.headers["cache-control"] == "no-store"


def test_a_wrong_link_is_a_problem_document(client):
    answer = client.get("/sign-in/nonsense")
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "sign_in_refused"


def test_a_store_that_cannot_say_who_asks_is_a_503_and_no_bug(accounts, signed_in, tmp_path, clock):
    other = open_database(f"sqlite:///{tmp_path / 'a.db'}")
    with other.begin() as connection:
        connection.exec_driver_sql("drop table session")
    other.dispose()
    clock.ms += 1_001  # whom it saw within the last second it need not ask for
    answer = signed_in.get("/api/v1/session")
    assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")


def test_session_answers_nobody_and_the_right_one(client, signed_in):
    assert signed_in.get("/api/v1/session").json()["grants"] == [{"role": "auditor", "region": "500153"}]
    client.cookies.clear()
    assert client.get("/api/v1/session").status_code == 401


def test_a_program_may_carry_its_session_as_a_bearer_token(client, accounts):
    session = accounts.sign_in(accounts.issue_sign_in(accounts.person("机器", id="m")))
    assert client.post("/write", headers={"Authorization": f"Bearer {session}"}).json() == "m"
    assert client.post("/write", headers={"Authorization": "Bearer nonsense"}).status_code == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"origin": "http://console.test"}, 200),
        ({"origin": "http://evil.test"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://[x"}, 403),
        ({}, 200),
    ],
)
def test_a_write_that_another_site_started_is_refused(signed_in, headers, status):
    answer = signed_in.post("/write", headers=headers)
    assert answer.status_code == status
    if status == 403:
        assert answer.headers["content-type"] == "application/problem+json"


def test_signing_out_ends_the_session_itself_not_only_the_cookie(signed_in):
    session = signed_in.cookies[COOKIE]
    assert signed_in.post("/sign-out", headers=OWN).status_code == 303
    assert signed_in.get("/api/v1/session", headers={"Authorization": f"Bearer {session}"}).status_code == 401
    assert signed_in.delete("/api/v1/session").status_code == 204


def test_a_password_signs_in_over_the_api(client, accounts):
    accounts.set_password(accounts.person("李", id="li"), "correct horse battery", by="system")
    wrong = client.post("/api/v1/session", json={"person": "li", "password": "no"})
    assert wrong.status_code == 401
    right = client.post("/api/v1/session", json={"person": "li", "password": "correct horse battery"})
    assert right.status_code == 201
    assert client.get("/api/v1/session").json()["id"] == "li"


def test_the_audit_trail_answers_nobody_the_wrong_one_and_the_right_one(client, accounts, signed_in):
    entries = signed_in.get("/api/v1/audit?limit=2").json()
    assert [entry["what"] for entry in entries] == ["session.opened", "sign_in.offered"]
    older = signed_in.get(f"/api/v1/audit?before={entries[-1]['seq']}").json()
    assert older[0]["seq"] == entries[-1]["seq"] - 1
    client.cookies.clear()
    assert client.get("/api/v1/audit").status_code == 401
    viewer = accounts.person("看客")
    accounts.grant(viewer, Role.VIEWER, "500153")
    session = accounts.sign_in(accounts.issue_sign_in(viewer))
    assert client.get("/api/v1/audit", headers={"Authorization": f"Bearer {session}"}).status_code == 403
