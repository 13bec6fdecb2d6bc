import pytest
from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from fastapi.testclient import TestClient
from sqlalchemy.exc import IntegrityError

from cloud.database import open_database
from cloud.problems import CloudError, NotFound, Refused, TooMany, install, status_of
from edge import EdgeError
from traceability import TraceError


class UnknownPond(NotFound):
    code = "unknown_pond"


def client(page=None):
    app = FastAPI()
    install(app, (EdgeError, TraceError), page=page)

    @app.get("/raise/{name}")
    def endpoint(name: str, number: int = 0):
        raise {
            "pond": UnknownPond("no pond 7 here", pointer="/pond"),
            "rule": Refused("not before Friday", rule="fish.withdrawal", source="MOA 278", earliest_ms=5),
            "many": TooMany("slow down"),
            "trace": TraceError("check digit is 3, not 4", code="check_digit"),
            "bug": RuntimeError("secret internals"),
        }[name]

    return TestClient(app, raise_server_exceptions=False)


def test_a_domain_error_becomes_a_problem_document_with_its_code_and_pointer():
    answer = client().get("/raise/pond")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["code"] == "unknown_pond"
    assert body["detail"] == "no pond 7 here"
    assert body["errors"] == [{"pointer": "/pond", "code": "unknown_pond"}]


def test_a_refusal_carries_rule_source_and_date():
    body = client().get("/raise/rule").json()
    assert (body["status"], body["rule"], body["source"], body["earliest_ms"]) == (422, "fish.withdrawal", "MOA 278", 5)


def test_a_quota_says_when_to_come_back():
    answer = client().get("/raise/many")
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "5"


def test_an_error_of_a_pure_package_is_the_clients_to_mend():
    answer = client().get("/raise/trace")
    assert (answer.status_code, answer.json()["code"]) == (422, "check_digit")


def test_a_bug_tells_the_client_nothing_of_the_inside():
    answer = client().get("/raise/bug")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text


def test_unknown_paths_and_bad_parameters_are_problem_documents_too():
    assert client().get("/nowhere").json()["status"] == 404
    bad = client().get("/raise/pond?number=x").json()
    assert (bad["status"], bad["errors"][0]["pointer"]) == (422, "/query/number")


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nowhere", 404), ("POST", "/raise/pond", 405), ("GET", "/raise/bug", 500)]
)
def test_a_browser_gets_a_page_and_a_program_the_document(method, path, status):
    asked = client(lambda _request, code, detail: HTMLResponse(f"<h1>{code}</h1>{detail}", code))
    page = asked.request(method, path, headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert page.status_code == status
    assert page.text.startswith(f"<h1>{status}</h1>")
    assert "secret" not in page.text
    document = asked.request(method, path, headers={"Accept": "*/*"})
    assert (document.status_code, document.json()["status"]) == (status, status)
    assert page.headers.get("allow") == document.headers.get("allow") == ("GET" if status == 405 else None)
    assert asked.get("/api/nowhere", headers={"Accept": "text/html"}).json()["status"] == 404


def test_an_unexpected_error_has_no_status():
    assert status_of(ValueError("x")) is None
    assert status_of(CloudError("x")) == 400


def test_a_full_disk_under_the_store_is_a_503_that_is_logged_once(tmp_path, caplog):
    engine = open_database(f"sqlite:///{tmp_path / 'full.db'}")
    app = FastAPI()
    install(app)

    @app.get("/keep/{text}")
    def keep(text: str) -> None:
        with engine.begin() as connection:
            connection.exec_driver_sql("pragma max_page_count = 3")  # what a full disk is to SQLite
            connection.exec_driver_sql("create table if not exists kept (text)")
            connection.exec_driver_sql("insert into kept values (?)", (text * 9000,))

    @app.get("/bug")
    def bug() -> None:
        raise IntegrityError("insert", {}, Exception("unique"))

    asked = TestClient(app, raise_server_exceptions=False)
    for _ in range(3):
        answer = asked.get("/keep/x")
        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["retry-after"] == "5"
    assert [record.getMessage() for record in caplog.records if "full" in record.getMessage()] == [
        "the relational store failed at /keep/x: database or disk is full"
    ]
    assert asked.get("/bug").status_code == 500
    engine.dispose()


def test_an_answer_that_quotes_half_a_surrogate_pair_is_written_all_the_same():
    app = FastAPI()
    install(app)

    @app.get("/quote")
    def quote() -> None:
        raise NotFound("there is no \ud800 here")

    assert TestClient(app).get("/quote").json()["detail"] == "there is no \ud800 here"


def test_half_a_surrogate_pair_in_a_body_is_refused_before_anybody_stores_it():
    app = FastAPI()
    install(app)

    @app.post("/keep")
    def keep(body: dict[str, object]) -> int:
        return len(body)

    asked = TestClient(app, raise_server_exceptions=False)
    escaped = '{"a": "\\ud800"}'
    for text in (
        escaped,
        '{"\\uDC00": 1}',
        '{"a": [{"b": "x\\ud83dx"}]}',
        b'{"a": "\xed\xa0\x80"}',
        escaped.encode("utf-16"),
    ):
        answer = asked.post("/keep", content=text, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["code"]) == (422, "surrogate")
    for text in ('{"a": "\\ud83d\\ude00"}', '{"a": "\\\\ud800"}'):
        assert asked.post("/keep", content=text, headers={"Content-Type": "application/json"}).status_code == 200
