from dataclasses import dataclass, field

import pytest

from cloud.database import open_database
from cloud.problems import Unavailable
from cloud.provenance import LogBook, LogPlace, Neighbours, Provenance, record_keeper
from cloud.provenance.store import metadata

NOW = 1_795_300_000_000


@dataclass
class Arrival:
    kind: str
    body: dict
    seq: int = 1
    gateway: str = "nanan-pond"
    epoch: str = "00ff00ff"
    time_ms: int = NOW - 60_000
    received_ms: int = NOW
    payload: bytes = field(default=b"{}")


@pytest.fixture
def place(tmp_path):
    return LogPlace(tmp_path / "ledger", tmp_path / "log.key", "trace.example/log")


@pytest.fixture
def database(tmp_path):
    engine = open_database(f"sqlite:///{tmp_path / 'chain.db'}")
    metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def service(database, place):
    log = LogBook(database, place, lambda: NOW)
    stand = {"nanan-pond": ("urn:tianmai:place:nanan-pond-1", "南岸示范鱼塘")}
    made = Provenance(
        database,
        log,
        site="http://x",
        clock=lambda: NOW,
        neighbours=Neighbours(
            gateway=lambda name: stand.get(name, ("", "")),
            missing=lambda name: [("e1", 2, 3), ("e1", 6, 9), ("e2", 1, 50)] if name == "nanan-pond" else [],
        ),
    )
    yield made
    made.close()


def test_a_tapped_medication_becomes_a_treating_event_at_the_gateway_s_place(service, database):
    record_keeper(database)(Arrival("medication", {"drug": "甲砜霉素粉", "dose": "2 kg", "group": "1号塘"}))
    assert service.take_records() == 1
    (row,) = service.events(5)
    assert row.step == "urn:tianmai:step:treating"
    assert '"urn:tianmai:place:nanan-pond-1"' in row.body
    assert '"substance":"甲砜霉素粉"' in row.body
    assert service.records()[0]["event_id"] == row.event_id


def test_the_same_record_twice_is_one_event(service, database):
    keep = record_keeper(database)
    for _ in range(2):
        keep(Arrival("weighing", {"kg": 12.5, "group": "a"}))
        service.take_records()
    assert len(service.events(9)) == 1


def test_a_record_nobody_has_words_for_is_kept_with_the_reason_and_the_next_goes_on(service, database):
    keep = record_keeper(database)
    keep(Arrival("singing", {}, seq=1))
    keep(Arrival("tag", {"tags": ["123"]}, seq=2))
    keep(Arrival("tag", {"tags": ["150015300010001"]}, seq=3))
    service.take_records()
    why = {row["seq"]: row["why"] for row in service.records()}
    assert "singing" in why[1]
    assert why[2]
    assert why[3] is None
    assert service.take_records() == 0


def test_a_log_has_one_writer_at_a_time(service, database, place):
    with pytest.raises(Unavailable, match="another process"):
        LogBook(database, place, lambda: NOW)


def test_a_record_that_came_late_says_so_and_how_many_messages_before_it_are_missing(service, database):
    keep = record_keeper(database)
    for seq, late_ms in ((1, 0), (4, 3 * 3_600_000), (8, 1000)):
        keep(Arrival("weighing", {"kg": 12.5}, seq=seq, epoch="e1", received_ms=NOW + late_ms, time_ms=NOW))
    told = {row["seq"]: (row["late_ms"], row["missing"]) for row in service.records()}
    assert told == {1: (0, 0), 4: (3 * 3_600_000, 2), 8: (0, 4)}
    service.take_records()
    assert len(service.events(9)) == 3
