"""What `/readyz` answers: each part by itself, and in words what is wrong."""

import socket

import pytest

from cloud.database import open_database
from cloud.readiness import Readiness
from cloud.telemetry.memory_readings import MemoryReadings


@pytest.fixture
def broker():
    """Somebody who listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()


@pytest.fixture
def parts(tmp_path, broker):
    return {
        "engine": open_database(f"sqlite:///{tmp_path / 'cloud.db'}"),
        "readings": MemoryReadings(),
        "broker": broker,
        "folder": tmp_path,
        "clock": lambda: 7,
    }


def test_all_is_well_when_every_part_answers(parts):
    ready = Readiness(**parts).look()
    assert ready.ok
    assert {part.detail for part in (ready.database, ready.readings, ready.broker, ready.disk)} == {""}


def test_a_broker_that_is_away_is_named_and_nothing_else(parts):
    with socket.create_server(("127.0.0.1", 0)) as gone:
        host, port = gone.getsockname()
    ready = Readiness(**(parts | {"broker": (host, port)})).look()
    assert not ready.ok
    assert (ready.broker.ok, ready.database.ok, ready.readings.ok) == (False, True, True)
    assert f"no MQTT broker at {host}:{port}" in ready.broker.detail


def test_a_database_that_cannot_be_opened_and_a_folder_that_is_gone_are_named(parts, tmp_path):
    engine = open_database("postgresql+psycopg://nobody@127.0.0.1:9/none?connect_timeout=1")
    ready = Readiness(**(parts | {"engine": engine, "folder": tmp_path / "gone"})).look()
    assert (ready.database.ok, ready.disk.ok, ready.broker.ok) == (False, False, True)
    assert "does not answer" in ready.database.detail
    assert "cannot be read" in ready.disk.detail


def test_an_answer_holds_for_two_seconds(parts, broker):
    now = [0]
    readiness = Readiness(**(parts | {"clock": lambda: now[0]}))
    first = readiness.look()
    now[0] = 1_999
    assert readiness.look() is first
    now[0] = 2_000
    assert readiness.look() is not first
