"""The contract with the cloud, kept in both directions and against every bad twin."""

import contextlib
import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.wire import (
    Ack,
    Command,
    Event,
    Kind,
    Limits,
    Pack,
    Quality,
    Reading,
    Record,
    Result,
    Status,
    Topic,
    WireError,
    decode_pack,
    encode_pack,
    export_head,
    export_line,
    parse_topic,
    read_export,
)

gateways = st.from_regex(r"[a-z0-9][a-z0-9-]{0,35}", fullmatch=True)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9\-:./_]{0,40}", fullmatch=True)
times = st.integers(min_value=1_000_000_000_000, max_value=2_000_000_000_000)
values = st.floats(allow_nan=False, allow_infinity=False)
readings = st.one_of(
    st.builds(Reading, names, times, values, st.sampled_from(["Cel", "", "mg/L"]), st.sampled_from(Quality)),
    st.builds(Reading, names, times, st.none(), st.just("pH"), st.sampled_from([q for q in Quality if q >= 4])),
    st.builds(Reading, names, times, values, st.just("pH"), calibration=st.just("cal-2026-03-02")),
)
packs = st.builds(Pack, gateways, st.lists(readings, min_size=1, max_size=30).map(tuple))
epochs = st.from_regex(r"[0-9a-f]{8,32}", fullmatch=True)
json_bodies = st.dictionaries(
    st.text(max_size=8), st.one_of(st.integers(-(2**53), 2**53), st.text(max_size=8), st.none()), max_size=4
)
secrets = st.binary(min_size=16, max_size=32)


def plain(*records):
    return json.dumps(records).encode()


def code_of(payload, limits=None):
    with pytest.raises(WireError) as caught:
        decode_pack(payload, limits or Limits())
    return caught.value.code


@given(pack=packs, deflate=st.booleans())
def test_a_pack_survives_the_wire_to_the_millisecond_and_the_last_bit(pack, deflate):
    assert decode_pack(encode_pack(pack, deflate=deflate)) == pack


@given(
    payload=st.one_of(st.binary(max_size=200), st.binary(max_size=200).map(zlib.compress), st.text().map(str.encode))
)
def test_garbage_raises_only_wire_errors(payload):
    with contextlib.suppress(WireError):
        decode_pack(payload)


@given(pack=packs, at=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_a_flipped_byte_is_read_or_refused_but_never_crashes(pack, at, flip):
    payload = bytearray(encode_pack(pack))
    payload[at % len(payload)] ^= flip
    with contextlib.suppress(WireError):
        decode_pack(bytes(payload))


BASE = {"bn": "urn:dev:org:32473-pond-1:", "bt": 1763766000.0}


def test_a_ten_line_client_with_a_record_of_base_values_alone_is_understood():
    pack = decode_pack(plain(BASE, {"n": "air/air_temperature", "u": "Cel", "v": 21}))
    assert pack == Pack("pond-1", (Reading("air/air_temperature", 1763766000000, 21.0, "Cel"),))


def test_base_unit_and_base_value_apply_to_the_records_after_them():
    pack = decode_pack(plain({**BASE, "bu": "Cel", "bv": 20}, {"n": "a/t", "v": 1.5}, {"n": "b/t", "v": 2, "u": "K"}))
    assert [(r.value, r.unit) for r in pack.readings] == [(21.5, "Cel"), (22.0, "K")]


@pytest.mark.parametrize(
    ("records", "code"),
    [
        ([BASE], "empty"),
        ([], "empty"),
        ([{**BASE, "bt": -5, "n": "a", "v": 1}], "relative_time"),
        ([{**BASE, "bt": 0, "n": "a", "v": 1}], "relative_time"),
        ([{**BASE, "bt": 1e300, "n": "a", "v": 1}], "bad_time"),
        ([{**BASE, "n": "a", "v": "24.1"}], "bad_value"),
        ([{**BASE, "n": "a", "v": True}], "bad_value"),
        ([{**BASE, "n": "a", "vs": "open"}], "bad_value"),
        ([{**BASE, "n": "a"}], "bad_quality"),
        ([{**BASE, "n": "a", "v": 1, "q": 3}], "bad_quality"),
        ([{**BASE, "n": "_a", "v": 1}], "bad_name"),
        ([{**BASE, "n": "鱼塘", "v": 1}], "bad_field"),
        ([{**BASE, "n": "a", "v": 1, "evil_": 2}], "must_understand"),
        ([{**BASE, "n": "a", "v": 1, "bver": 11}], "bad_version"),
        ([{**BASE, "bn": "urn:dev:mac:0024befffe804ff1:", "n": "a", "v": 1}], "bad_name"),
        ([{**BASE, "n": "a", "v": 1}, {"bn": "urn:dev:org:32473-pond-2:", "n": "a", "v": 1}], "mixed_gateways"),
        ([[1]], "not_senml"),
    ],
)
def test_each_bad_record_is_named_by_its_code(records, code):
    assert code_of(plain(*records)) == code


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", "not_json"),
        (b"{}", "not_senml"),
        (b'[{"bn":"urn:dev:org:32473-a:","bt":1763766000,"n":"x","v":NaN}]', "nan"),
        (b'[{"bn":"urn:dev:org:32473-a:","bt":1763766000,"n":"x","v":1e999}]', "nan"),
        (b'[{"bn":"urn:dev:org:32473-a:","bt":1763766000,"n":"x","v":' + b"9" * 400 + b"}]", "nan"),
        (b'[{"bn":"urn:dev:org:32473-a:","bt":1763766000,"n":"x","v":1,"v":2}]', "duplicate_label"),
        (b'[{"bn":"' + b"x" * 60_000 + b'","bt":1763766000,"n":"x","v":1}]', "bad_field"),
        (b"[" * 60_000, "not_json"),
        (b"\xff" * 40, "not_json"),
        (b" " * 70_000, "too_large"),
        (zlib.compress(b" " * 2_000_000), "bomb"),
        (zlib.compress(b"[]")[:-1], "torn"),
        (zlib.compress(b"[]") + b"x", "torn"),
    ],
)
def test_each_poison_payload_is_named_by_its_code(payload, code):
    assert code_of(payload) == code


def test_more_readings_than_the_limit_are_refused():
    payload = encode_pack(Pack("a", tuple(Reading(f"s{n}/x", 1763766000000, 1.0, "1") for n in range(12))))
    assert code_of(payload, Limits(readings=10)) == "too_large"


def test_a_reading_without_value_must_say_why():
    with pytest.raises(WireError, match="quality"):
        Reading("a/b", 1763766000000, None, "Cel", Quality.UNCERTAIN)
    with pytest.raises(WireError, match="not a number"):
        Reading("a/b", 1763766000000, float("nan"), "Cel")


topics = st.one_of(
    st.builds(
        Topic, gateways, st.sampled_from([Kind.DATA, Kind.RECORD, Kind.EVENT]), epochs, st.integers(1, 2**63 - 1)
    ),
    st.builds(Topic, gateways, st.sampled_from([Kind.META, Kind.COMMAND]), name=st.just("pond1.aerator")),
    st.builds(
        Topic,
        gateways,
        st.sampled_from([k for k in Kind if k not in {Kind.RECORD, Kind.EVENT, Kind.META, Kind.COMMAND}]),
    ),
)


@given(topic=topics)
def test_a_topic_and_its_text_are_two_forms_of_one_thing(topic):
    assert parse_topic(topic.text) == topic


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tm/1",
        "tm/1/",
        "tm/1/a",
        "tm/2/a/data",
        "tm/1/A/data",
        "tm/1/a/data/abcdef01",
        "tm/1/a/data/abcdef01/0",
        "tm/1/a/data/abcdef01/01",
        "tm/1/a/data/abcdef01/9223372036854775808",
        "tm/1/a/data/xyz/1",
        "tm/1/a/data/abcdef01/1/2",
        "tm/1/a/event",
        "tm/1/a/record",
        "tm/1/a/meta",
        "tm/1/a/command/",
        "tm/1/a/command/+",
        "tm/1/a/ack/abcdef01/1",
        "tm/1/a/config",
        "tm/1/a/status/x",
        "$SYS/broker/uptime",
    ],
)
def test_a_foreign_topic_is_refused(text):
    with pytest.raises(WireError) as caught:
        parse_topic(text)
    assert caught.value.code == "bad_topic"


@given(epoch=epochs, watermark=st.integers(0, 2**63 - 1), time_ms=times, again=st.booleans())
def test_an_ack_survives_the_wire(epoch, watermark, time_ms, again):
    ack = Ack(epoch, watermark, time_ms, again)
    assert Ack.decode(ack.encode()) == ack
    assert set(json.loads(ack.encode())) == {"epoch", "watermark", "time"} | ({"again"} if again else set())


@given(time_ms=times, body=json_bodies)
def test_an_event_survives_the_wire(time_ms, body):
    event = Event("gap", time_ms, body)
    assert Event.decode(event.encode()) == event


@given(
    payload=st.one_of(
        st.binary(max_size=80), st.recursive(st.none() | st.text(), st.lists).map(json.dumps).map(str.encode)
    )
)
def test_small_messages_raise_only_wire_errors_on_garbage(payload):
    for kind in (Ack, Event):
        with pytest.raises(WireError):
            kind.decode(payload)
    with pytest.raises(WireError):
        Command.verify(payload, b"secret")


def test_a_lone_surrogate_is_refused_before_it_reaches_a_database():
    with pytest.raises(WireError) as caught:
        Event.decode(b'{"kind":"x","time":1763766000000,"body":{"a":"\\ud800"}}')
    assert caught.value.code == "bad_field"


signed = st.one_of(
    st.builds(Record, st.sampled_from(["feeding", "weighing"]), times, json_bodies),
    st.builds(Status, st.just("online"), times, st.just("boot"), st.just("0.1"), json_bodies),
    st.builds(
        Command,
        st.just("c1"),
        gateways,
        st.just("aerator"),
        st.just("set"),
        st.none() | st.floats(0, 1),
        times,
        times,
        st.just("user:li"),
    ),
    st.builds(Result, st.just("c1"), st.just("refused"), st.text(max_size=9), times, json_bodies),
)


@given(message=signed, secret=secrets)
def test_a_signed_message_is_read_back_by_its_own_secret_alone(message, secret):
    kind = type(message)
    assert kind.verify(message.sign(secret), secret) == message
    with pytest.raises(WireError) as caught:
        kind.verify(message.sign(secret), secret + b"x")
    assert caught.value.code == "bad_signature"


@given(message=signed, secret=secrets, at=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_no_flipped_byte_changes_what_a_signed_message_says(message, secret, at, flip):
    payload = bytearray(message.sign(secret))
    payload[at % len(payload)] ^= flip
    with contextlib.suppress(WireError):
        assert type(message).verify(bytes(payload), secret) == message


def test_a_signature_for_one_kind_of_message_is_none_for_another():
    record = Record("x", 1763766000000, {}).sign(b"secret")
    with pytest.raises(WireError):
        Status.verify(record, b"secret")


@given(payloads=st.lists(st.binary(max_size=300), min_size=1, max_size=9))
def test_an_export_gives_back_its_messages(payloads):
    topics = [Topic("pond-1", Kind.DATA, "abcdef01", n) for n in range(1, len(payloads) + 1)]
    lines = [export_head("pond-1"), *(export_line(t, p) for t, p in zip(topics, payloads, strict=True))]
    assert list(read_export(lines)) == list(zip(topics, payloads, strict=True))


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [b"hello"],
        [b'{"format":"other@1","gateway":"a"}'],
        [b'{"format":"tianmai-export@1","gateway":"A B"}'],
        [export_head("a"), b"{}"],
        [export_head("a"), export_line(Topic("b", Kind.DATA, "abcdef01", 1), b"")],
        [export_head("a"), export_line(Topic("a", Kind.STATUS), b"")],
        [export_head("a"), b'{"topic":"tm/1/a/data/abcdef01/1","payload":"%%"}'],
    ],
)
def test_a_wrong_export_is_refused_with_its_line(lines):
    with pytest.raises(WireError) as caught:
        list(read_export(lines))
    assert caught.value.code == "bad_export"


@pytest.mark.parametrize("time_ms", [10**30, 2**63, -1, 253_402_300_800_000, 2**63 - 1])
def test_a_time_that_no_calendar_holds_is_refused_even_when_signed(time_ms):
    secret = b"s" * 32
    record = Record("feeding", 1, {}).sign(secret)
    forged = Record("feeding", 1, {})
    object.__setattr__(forged, "time_ms", time_ms)
    Record.verify(record, secret)
    with pytest.raises(WireError):
        Record.verify(forged.sign(secret), secret)
    with pytest.raises(WireError):
        Event.decode(f'{{"kind":"alarm","time":{time_ms},"body":{{}}}}'.encode())
