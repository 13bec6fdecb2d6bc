"""What tests of the cloud's relational contexts share: a clock one can turn, and both databases."""

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from cloud import problems
from cloud.database import open_database

START_MS = 1_795_000_000_000  # 2026-11-18, a Wednesday


class Clock:
    """Stands still until told otherwise."""

    def __init__(self, ms=START_MS):
        self.ms = ms

    def __call__(self):
        return self.ms

    def pass_days(self, days):
        self.ms += int(days * 86_400_000)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request, tmp_path):
    """An empty database, of either kind: whatever a test says holds on both."""
    sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path / 'test.db'}" if sqlite else request.getfixturevalue("postgres_url")
    made = open_database(url)
    yield made
    made.dispose()


@pytest.fixture
def served():
    """`served(router, who)`: a client of the router's addresses; whom `who()` gives is signed in, None is nobody."""

    def client(router, who):
        app = FastAPI()
        problems.install(app)
        app.include_router(router)

        @app.middleware("http")
        async def sign_in(request, go_on):
            if who() is not None:
                request.state.who = who()
            return await go_on(request)

        return TestClient(app)

    return client
