import json

import numpy as np
import pytest

from cloud.database import open_database
from cloud.problems import Invalid, Refused
from cloud.telemetry.dead_letters import DeadLetters, Message
from cloud.telemetry.imports import take_export
from cloud.telemetry.memory_readings import MemoryReadings
from cloud.telemetry.pipeline import Pipeline
from cloud.telemetry.registry import Registry
from cloud.telemetry.store import StoreUnavailable
from edge.wire import (
    Event,
    Pack,
    Quality,
    Reading,
    Record,
    Status,
    encode_pack,
    export_head,
    export_line,
    parse_topic,
)

NOW = 1_700_000_000_000
EPOCH = "aaaaaaaa"


class Cloud:
    """A pipeline on memory and SQLite, and everything one may ask it afterwards."""

    def __init__(self, folder):
        self.now = NOW
        self.engine = open_database(f"sqlite:///{folder / 'cloud.db'}")
        self.registry = Registry(self.engine, clock=lambda: self.now)
        self.registry.create()
        self.gateway = self.registry.add_gateway("pond", farm="fish_pond", region="500108")
        self.readings = MemoryReadings()
        self.letters = DeadLetters(self.engine)
        self.records = []
        self.stored = []
        self.pipeline = self.new_pipeline()

    def new_pipeline(self, readings=None):
        return Pipeline(
            readings or self.readings,
            self.registry,
            clock=lambda: self.now,
            on_record=self.on_record,
            on_stored=lambda arrivals, _position: self.stored.extend(arrivals),
        )

    def on_record(self, record):
        self.records.append(record)

    def take(self, *messages):
        return self.pipeline.take(list(messages))

    def rows(self):
        found = {}
        for one in self.registry.series():
            points = self.readings.range(series_ids(one.id), 0, 2**62)
            found[f"{one.gateway}:{one.name}"] = list(
                zip((points.time_ms - NOW).tolist(), points.value.tolist(), strict=True)
            )
        return {name: rows for name, rows in found.items() if rows}

    def reasons(self):
        return {row["reason"]: row["count"] for row in self.letters.list()}


def series_ids(*ids):
    return np.array(ids, dtype=np.int64)


def reading(name="p1/ph", t=0, value=7.0, unit="pH", **more):
    return Reading(name, NOW + t, value, unit, **more)


def data(seq, *readings, gateway="pond", topic=None, epoch=EPOCH):
    tail = "" if seq is None else f"/{epoch}/{seq}"
    return Message(topic or f"tm/1/{gateway}/data{tail}", encode_pack(Pack(gateway, readings or (reading(),))), NOW)


def event(seq, kind="clock", **body):
    return Message(f"tm/1/pond/event/{EPOCH}/{seq}", Event(kind, NOW, body).encode(), NOW)


@pytest.fixture
def cloud(tmp_path):
    cloud = Cloud(tmp_path)
    yield cloud
    cloud.engine.dispose()


def test_readings_are_stored_under_their_series_and_the_watermark_follows(cloud):
    acks = cloud.take(data(1, reading(t=0), reading(t=5, value=7.5)), data(2, reading("p2/ph", t=1)))
    assert (acks["pond"].epoch, acks["pond"].watermark) == (EPOCH, 2)
    assert cloud.rows() == {"pond:p1/ph": [(0, 7.0), (5, 7.5)], "pond:p2/ph": [(1, 7.0)]}
    assert [len(arrival.points) for arrival in cloud.stored] == [2, 1]


def test_a_pack_that_comes_again_is_neither_stored_nor_told_twice(cloud):
    cloud.take(data(1))
    acks = cloud.take(data(1), data(1))
    assert acks["pond"].watermark == 1
    assert len(cloud.stored) == 1
    assert cloud.reasons() == {}


def test_the_watermark_waits_for_what_is_missing(cloud):
    assert cloud.take(data(2))["pond"].watermark == 0
    assert cloud.take(data(1, reading(t=9)))["pond"].watermark == 2


def test_a_message_without_a_number_is_stored_and_has_no_watermark(cloud):
    assert cloud.take(data(None)) == {}
    assert cloud.rows() == {"pond:p1/ph": [(0, 7.0)]}


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (Message("tm/1/pond/data/aaaaaaaa/1", b"\xff\xfe", NOW), "not_json"),
        (Message("tm/1/pond/data/aaaaaaaa/1", b"x" * 70_000, NOW), "too_large"),
        (data(1, gateway="other", topic="tm/1/pond/data/aaaaaaaa/1"), "wrong_gateway"),
        (data(1, reading(t=600_000)), "future_time"),
        (data(1, reading(unit="Cel")), "wrong_unit"),
        (event(3, "gap", first=1, last=9), "bad_gap"),
        (Message("tm/1/pond/record/aaaaaaaa/1", Record("tag", NOW, {}).sign(b"somebody else"), NOW), "bad_signature"),
    ],
)
def test_what_cannot_be_taken_is_kept_and_does_not_hold_up_the_rest(cloud, message, reason):
    cloud.take(message)
    assert cloud.reasons() == {reason: 1}
    kept, row = cloud.letters.get(message.digest.hex())
    assert (kept.topic, kept.payload) == (message.topic, message.payload[: 64 * 1024])
    assert row["truncated"] == (len(message.payload) > 64 * 1024)
    numbers = {1, 2, 3, 4}
    acks = cloud.take(*(data(seq, reading(t=seq)) for seq in numbers))
    assert acks["pond"].watermark == 4


def test_unregistered_and_disabled_gateways_get_no_watermark(cloud):
    cloud.registry.add_gateway("old", farm="fish_pond", region="500108")
    cloud.registry.change_gateway("old", disabled_ms=NOW)
    acks = cloud.take(data(1, gateway="stranger"), data(1, gateway="old"), Message("tm/1/Bad/data", b"", NOW))
    assert acks == {}
    assert cloud.rows() == {}
    assert cloud.reasons() == {"unknown_gateway": 1, "disabled_gateway": 1, "bad_topic": 1}


def test_the_good_readings_of_a_pack_are_stored_beside_the_bad_ones(cloud):
    good, late, new = reading(t=1), reading(t=600_000), reading("p1/unheard_of", unit="1")
    cloud.take(data(1, good, late, new, reading("p3/ph", unit="1")))
    assert cloud.rows() == {"pond:p1/ph": [(1, 7.0)], "pond:p1/unheard_of": [(0, 7.0)]}
    assert cloud.take(data(2, reading("p1/unheard_of", t=5, unit="m")))["pond"].watermark == 2
    assert cloud.rows()["pond:p1/unheard_of"] == [(0, 7.0)]
    assert {one.name for one in cloud.registry.series()} == {"p1/ph", "p1/unheard_of"}


def test_the_same_bad_message_is_one_row_with_a_count(cloud):
    bad = Message("tm/1/pond/data", b"nonsense", NOW)
    cloud.take(bad, bad)
    cloud.take(bad)
    assert cloud.reasons() == {"not_json": 3}


def test_new_series_of_a_batch_keep_the_order_in_which_their_readings_came(cloud):
    cloud.take(data(1, reading("a/x", unit="1", t=1, value=1.0)))
    known, new = reading("a/x", unit="1", t=2, value=2.0), reading("b/x", unit="1", t=2, value=2.0)
    cloud.take(data(2, known, new), data(3, reading("a/x", unit="1", t=2, value=3.0)))
    assert cloud.rows()["pond:a/x"] == [(1, 1.0), (2, 2.0)]


def test_a_gateway_cannot_invent_more_series_than_its_quota(cloud):
    cloud.registry.change_gateway("pond", max_series=3)
    acks = cloud.take(data(1, *(reading(f"s{n}/x", unit="1") for n in range(5))), data(2, reading("s9/x", unit="1")))
    assert len(cloud.registry.series()) == 3
    assert sum(len(rows) for rows in cloud.rows().values()) == 3
    assert cloud.reasons() == {"series_quota": 2} or cloud.reasons() == {"series_quota": 1}
    assert acks["pond"].watermark == 2


def test_a_reused_number_is_an_event_and_its_message_a_dead_letter(cloud):
    cloud.take(data(1))
    acks = cloud.take(data(1, reading(t=77)))
    assert cloud.rows() == {"pond:p1/ph": [(0, 7.0)]}
    assert cloud.reasons() == {"sequence_reused": 1}
    (told,) = cloud.registry.events(kind="sequence_reused")
    assert (told["gateway"], told["seq"], told["body"]["severity"]) == ("pond", 1, "critical")
    assert acks["pond"].watermark == 1


def test_a_pack_that_comes_twice_in_one_batch_is_told_to_whoever_judges(cloud):
    cloud.take(data(1), data(1))
    assert [len(one.points) for one in cloud.stored] == [1, 1]
    cloud.take(data(1))
    assert len(cloud.stored) == 2


def test_a_reported_gap_moves_the_watermark_over_its_range(cloud):
    cloud.take(data(1))
    acks = cloud.take(event(5, "gap", first=2, last=4, count=30, reason="cap"))
    assert acks["pond"].watermark == 5
    (kept,) = cloud.registry.events(kind="gap")
    assert kept["body"]["count"] == 30


@pytest.mark.parametrize("claimed", [253_402_300_799_000, NOW + 301_000, 0, 86_400_000])
def test_an_event_of_an_impossible_time_counts_as_of_its_arrival_and_says_what_it_claimed(cloud, claimed):
    cloud.take(data(1))
    told = Event("gap", claimed, {"first": 2, "last": 4}).encode()
    acks = cloud.take(Message(f"tm/1/pond/event/{EPOCH}/5", told, NOW))
    assert acks["pond"].watermark == 5
    (kept,) = cloud.registry.events(kind="gap")
    assert (kept["time_ms"], kept["body"]["said_ms"]) == (NOW, claimed)


@pytest.mark.parametrize("ahead_ms", [-3 * 86_400_000, 0, 299_000])
def test_an_event_that_comes_late_or_from_a_clock_a_little_ahead_keeps_its_time(cloud, ahead_ms):
    cloud.take(Message(f"tm/1/pond/event/{EPOCH}/1", Event("clock", NOW + ahead_ms, {}).encode(), NOW))
    (kept,) = cloud.registry.events(kind="clock")
    assert (kept["time_ms"], kept["body"]) == (NOW + ahead_ms, {})


def test_records_are_handed_on_with_their_place_and_acknowledged_after_that(cloud):
    payload = Record("feeding", NOW, {"kg": 12}).sign(cloud.gateway.secret)
    acks = cloud.take(Message("tm/1/pond/record/aaaaaaaa/1", payload, NOW))
    (record,) = cloud.records
    assert (record.gateway, record.epoch, record.seq, record.kind) == ("pond", EPOCH, 1, "feeding")
    assert dict(record.body) == {"kg": 12}
    assert acks["pond"].watermark == 1


def test_a_record_that_could_not_be_kept_leaves_its_number_open(cloud):
    cloud.on_record = lambda _: 1 / 0
    cloud.pipeline = cloud.new_pipeline()
    message = Message("tm/1/pond/record/aaaaaaaa/1", Record("tag", NOW, {}).sign(cloud.gateway.secret), NOW)
    assert cloud.take(message, data(2))["pond"].watermark == 0
    cloud.on_record = cloud.records.append
    cloud.pipeline = cloud.new_pipeline()
    assert cloud.take(message)["pond"].watermark == 2


def test_a_record_that_a_rule_refuses_becomes_a_dead_letter_with_the_rules_code(cloud):
    def refuse(_):
        raise Refused("the withdrawal period is open", code="withdrawal")

    cloud.on_record = refuse
    cloud.pipeline = cloud.new_pipeline()
    message = Message("tm/1/pond/record/aaaaaaaa/1", Record("sale", NOW, {}).sign(cloud.gateway.secret), NOW)
    assert cloud.take(message)["pond"].watermark == 1
    assert cloud.reasons() == {"withdrawal": 1}


def status(cloud, boot="b1", state="online", **body):
    payload = Status(state, NOW, boot, "1.0", body).sign(cloud.gateway.secret)
    return Message("tm/1/pond/status", payload, NOW)


def test_status_is_kept_and_answered_with_the_watermark(cloud):
    cloud.take(data(1))
    assert cloud.take(status(cloud))["pond"].watermark == 1
    assert cloud.registry.status("pond")["state"] == "online"


def test_the_will_of_an_earlier_life_is_ignored(cloud):
    cloud.take(status(cloud, boot="b2"), status(cloud, boot="b1", state="offline"))
    assert cloud.registry.status("pond")["state"] == "online"
    cloud.take(status(cloud, boot="b2", state="offline"))
    assert cloud.registry.status("pond")["state"] == "offline"


def test_a_forged_status_changes_nothing(cloud):
    cloud.take(Message("tm/1/pond/status", Status("offline", NOW, "b", "", {}).sign(b"guess"), NOW))
    assert cloud.registry.status("pond") is None
    assert cloud.reasons() == {"bad_signature": 1}


def test_a_cloud_that_lost_its_memory_does_not_wait_for_what_the_gateway_has_trimmed(cloud):
    assert cloud.take(data(8, reading(t=8)))["pond"].watermark == 0
    assert cloud.take(status(cloud, spool={"epoch": EPOCH, "first": 8, "last": 8}))["pond"].watermark == 8


def test_what_a_gateway_says_about_a_sensor_is_kept(cloud):
    cloud.take(Message("tm/1/pond/meta/p1", json.dumps({"model": "DO-200"}).encode(), NOW))
    assert cloud.registry.meta("pond") == {"p1": {"model": "DO-200"}}
    cloud.take(Message("tm/1/pond/meta/p1", b"[]", NOW))
    assert cloud.reasons() == {"bad_field": 1}


def test_our_own_words_coming_back_are_let_pass(cloud):
    assert cloud.take(Message("tm/1/pond/ack", b"{}", NOW)) == {}
    assert cloud.reasons() == {}


def test_a_calibration_is_remembered_with_its_series(cloud):
    cloud.take(data(1, reading(calibration="cal-7")))
    assert cloud.registry.series()[0].calibration == "cal-7"


def test_a_missing_value_is_stored_with_its_reason(cloud):
    cloud.take(data(1, reading(value=None, quality=Quality.COMMS_LOST)))
    last = cloud.readings.last(series_ids(cloud.registry.series()[0].id))
    assert last.quality.tolist() == [7]


def test_a_letter_can_be_replayed_once_its_reason_is_mended(cloud):
    message = data(1, gateway="late")
    cloud.take(message)
    with pytest.raises(Invalid):
        cloud.pipeline.again(message)
    cloud.registry.add_gateway("late", farm="fish_pond", region="500108")
    cloud.pipeline.again(message)
    assert cloud.rows() == {"late:p1/ph": [(0, 7.0)]}


def test_an_export_on_a_stick_is_taken_like_messages_of_the_broker_and_twice_changes_nothing(cloud):
    sent = [data(1), data(2, reading(t=5)), event(3, "gap", first=1, last=1)]
    lines = [export_head("pond"), *(export_line(parse_topic(one.topic), one.payload) for one in sent)]
    for _ in range(2):
        count, acks = take_export(cloud.pipeline, lines, lambda: NOW)
        assert (count, acks["pond"].watermark) == (3, 3)
    assert cloud.rows() == {"pond:p1/ph": [(0, 7.0), (5, 7.0)]}
    with pytest.raises(Invalid):
        take_export(cloud.pipeline, [*lines[:2], b"torn"], lambda: NOW)


def test_nothing_is_acknowledged_while_the_store_is_down(cloud):
    class Down(MemoryReadings):
        def append(self, arrivals):
            raise StoreUnavailable("out for lunch")

    cloud.pipeline = cloud.new_pipeline(Down())
    with pytest.raises(StoreUnavailable):
        cloud.take(data(1))
    cloud.pipeline = cloud.new_pipeline()
    assert cloud.take(data(1))["pond"].watermark == 1


def test_a_message_that_trips_a_bug_of_ours_is_buried_and_its_number_settled(cloud):
    acks = cloud.pipeline.bury(data(1), ZeroDivisionError("oops"))
    assert acks["pond"].watermark == 1
    assert cloud.reasons() == {"internal_error": 1}
