import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from cloud import problems
from cloud.database import open_database
from cloud.regions import Regions, build_router
from cloud.who import Who

PATHS = ["/api/v1/regions", "/api/v1/regions/500153", "/api/v1/regions/500153/children"]


@pytest.fixture
def client(tmp_path, clock):
    regions = Regions(open_database(f"sqlite:///{tmp_path / 'r.db'}"), clock)
    regions.prepare()
    app = FastAPI()
    problems.install(app)
    app.include_router(build_router(regions))

    @app.middleware("http")
    async def sign_in(request: Request, go_on):
        if "x-test-person" in request.headers:
            request.state.who = Who("li", "李", frozenset())
        return await go_on(request)

    return TestClient(app)


@pytest.mark.parametrize("path", PATHS)
def test_the_tree_is_for_whoever_is_signed_in(client, path):
    assert client.get(path).status_code == 401
    assert client.get(path, headers={"x-test-person": "li"}).status_code == 200


def test_a_region_says_since_when_it_is_valid(client):
    body = client.get("/api/v1/regions/500153", headers={"x-test-person": "li"}).json()
    assert body["name_zh"] == "荣昌区"
    assert (body["valid_from"], body["valid_to"]) == (None, None)


def test_an_unknown_region_is_not_found(client):
    answer = client.get("/api/v1/regions/999999", headers={"x-test-person": "li"})
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
