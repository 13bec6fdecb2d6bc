import contextlib
import functools
import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.telemetry.dead_letters import Message
from cloud.telemetry.fast_packs import QuickPacks
from edge.wire import Pack, Quality, Reading, WireError, decode_pack, encode_pack, parse_topic

NOW = 1_700_000_000_000
BASE = "urn:dev:org:32473-pond:"
KNOWN = {("p1/ph", "pH"): 1, ("p1/temp", "Cel"): 2, ("p1/bare", ""): 3}


LANE = "tm/1/pond/data/aaaaaaaa"


@functools.cache
def taught():
    quick = QuickPacks()
    quick.meet(parse_topic(f"{LANE}/1"))
    for (name, unit), series in KNOWN.items():
        quick.learn("pond", name, unit, series)
    return quick


def rows_of(arrival):
    found = arrival.points
    columns = (one.tolist() for one in (found.series, found.time_ms, found.value, found.quality))
    return list(zip(*columns, strict=True))


def fast(payload, latest=NOW, topic=f"{LANE}/7", *, may_send=True):
    (found,) = taught().take([Message(topic, payload, NOW)], latest, lambda _: may_send)
    return None if found is None else rows_of(found)


def slow(payload):
    return [
        (KNOWN[one.name, one.unit], one.time_ms, one.value, int(one.quality)) for one in decode_pack(payload).readings
    ]


READING = st.builds(
    lambda pair, ago, value, quality: Reading(pair[0], NOW - ago, value, pair[1], quality),
    st.sampled_from(sorted(KNOWN)),
    st.integers(0, 10**11),
    st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**40), 2**40),
    st.sampled_from([Quality.GOOD, Quality.UNCERTAIN, Quality.OUT_OF_RANGE]),
)


@given(readings=st.lists(READING, min_size=1, max_size=12), deflate=st.booleans())
def test_an_ordinary_pack_gives_what_the_strict_decoder_gives(readings, deflate):
    payload = encode_pack(Pack("pond", tuple(readings)), deflate=deflate)
    assert fast(payload) == slow(payload)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["p1/ph", "pH", "Cel", BASE, "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["n", "v", "t", "u", "q", "c", "bn", "bt", "bv", "vs", "x_"]), inner, max_size=5
        )
    ),
    max_leaves=12,
)


@given(document=JSON)
def test_whatever_it_accepts_the_strict_decoder_accepts_with_the_same_result(document):
    payload = json.dumps(document).encode()
    found = fast(payload)
    if found is not None:
        assert found == slow(payload)


@given(
    records=st.lists(
        st.fixed_dictionaries(
            {"n": st.just("p1/ph"), "u": st.just("pH")},
            optional={
                "v": st.floats() | st.booleans() | st.integers(),
                "t": st.floats(-9e9, 9e9),
                "q": st.integers(-1, 9),
            },
        ),
        min_size=1,
        max_size=4,
    ),
    base=st.floats(0, 3e9) | st.integers(0, 3 * 10**9),
)
def test_near_misses_are_judged_like_the_strict_decoder_judges_them(records, base):
    payload = json.dumps([{"bn": BASE, "bt": base, **records[0]}, *records[1:]]).encode()
    found = fast(payload)
    if found is not None:
        assert found == slow(payload)
    else:
        with contextlib.suppress(WireError):
            assert any(at > NOW or value is None for _, at, value, _ in slow(payload))


@pytest.mark.parametrize(
    "text",
    [
        b'[{"bn":"urn:dev:org:32473-pond:","bt":1699999999,"n":"p1/ph","u":"pH","v":7,"v":8}]',
        b'[{"bn":"urn:dev:org:32473-other:","bt":1699999999,"n":"p1/ph","u":"pH","v":7}]',
        b'[{"bn":"urn:dev:org:32473-pond:","bt":1699999999,"n":"p1/ph","u":"pH","v":true}]',
        b'[{"bn":"urn:dev:org:32473-pond:","bt":1699999999,"n":"p1/new","u":"pH","v":1}]',
        b'[{"bn":"urn:dev:org:32473-pond:","bt":1699999999,"n":["p1/ph"],"u":"pH","v":1}]',
        b'[{"bn":"urn:dev:org:32473-pond:","bt":1799999999,"n":"p1/ph","u":"pH","v":1}]',
        b"[]",
        b"[[]]",
        b"{}",
        b"",
        b"\x78broken",
        zlib.compress(b"[" + b" " * 2_000_000 + b"]"),
        zlib.compress(b"[]") + b"more",
        b"x" * 70_000,
    ],
)
def test_what_is_not_quite_ordinary_is_left_to_the_strict_decoder(text):
    assert fast(text) is None


GOOD = b'[{"bn":"urn:dev:org:32473-pond:","bt":1699999999,"n":"p1/ph","u":"pH","v":7}]'


@pytest.mark.parametrize(
    "topic",
    [
        "tm/1/pond/data",
        *(f"{LANE}/{seq}" for seq in ("07", "0", "-1", "", "\u0661", 10**18)),
        "tm/1/pond/data/bbbbbbbb/7",
        "tm/1/pond/event/aaaaaaaa/7",
        "tm/1/other/data/aaaaaaaa/7",
        "",
    ],
)
def test_a_topic_that_is_not_quite_ordinary_is_left_to_the_strict_parser(topic):
    assert fast(GOOD) is not None
    assert fast(GOOD, topic=topic) is None


def test_who_may_not_send_is_left_to_whoever_says_why():
    assert fast(GOOD, may_send=False) is None


@given(
    payloads=st.lists(st.lists(READING, min_size=1, max_size=3) | st.just(()), max_size=6),
    latest=st.integers(0, 10**11),
)
def test_each_of_a_batch_is_judged_as_if_it_had_come_alone(payloads, latest):
    sent = [encode_pack(Pack("pond", tuple(some))) if some else b"odd" for some in payloads]
    messages = [Message(f"{LANE}/{n}", payload, NOW + n) for n, payload in enumerate(sent, 1)]
    found = taught().take(messages, NOW - latest, lambda _: True)
    assert [one and rows_of(one) for one in found] == [fast(payload, NOW - latest) for payload in sent]
    kept = [(one, n) for n, one in enumerate(found, 1) if one is not None]
    assert all((one.key.seq, one.received_ms) == (n, NOW + n) for one, n in kept)
    assert all(one.digest == messages[n - 1].digest[:8] for one, n in kept)
