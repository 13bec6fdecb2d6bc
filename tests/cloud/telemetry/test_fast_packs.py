import contextlib
import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.telemetry.fast_packs import columns_of
from edge.wire import Pack, Quality, Reading, WireError, decode_pack, encode_pack

NOW = 1_700_000_000_000
BASE = "urn:dev:org:32473-pond:"
KNOWN = {("p1/ph", "pH"): 1, ("p1/temp", "Cel"): 2, ("p1/bare", ""): 3}


def fast(payload, latest=NOW):
    found = columns_of(payload, BASE, KNOWN, latest)
    rows = (one.tolist() for one in (found.series, found.time_ms, found.value, found.quality)) if found else ()
    return list(zip(*rows, strict=True)) if found else None


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
