"""One value has one byte string, and no text that is not it passes for it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from traceability.canon import NotCanonical, decode, decode_canonical, encode, from_base64, to_base64

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_written_is_read_back(value):
    assert decode_canonical(encode(value)) == value


@given(st.dictionaries(TEXT, st.integers(0, 9)))
def test_keys_stand_in_the_order_of_javascript(value):
    keys = list(json.loads(encode(value)))
    assert keys == sorted(value, key=lambda key: key.encode("utf-16-be"))


@given(VALUES)
def test_the_quick_writer_agrees_byte_for_byte_with_that_of_the_standard_library(value):
    plain = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
    if all(ord(each) < 0xD800 for each in plain.decode()):  # above it the two orders of keys differ
        assert encode(value) == plain


@given(VALUES)
def test_only_the_canonical_spelling_is_canonical(value):
    loose = json.dumps(value, ensure_ascii=True, indent=1).encode()
    assert decode(loose) == value
    if loose != encode(value):
        with pytest.raises(NotCanonical, match="canonical form"):
            decode_canonical(loose)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'{"a":1,"a":2}', "stands twice"),
        (b"[NaN]", "not an integer"),
        (b"[1.5]", "not an integer"),
        (b"[1e3]", "not an integer"),
        (b"[9007199254740992]", "beyond"),
        (b"[" + b"9" * 5000 + b"]", "beyond"),
        (rb'["\ud800"]', "surrogate"),
        (rb'{"\udfff":1}', "surrogate"),
        (b"[" * 70 + b"]" * 70, "nested"),
        (b"[" * 100_000, "nested"),
        (b'"\xff"', "UTF-8"),
        (b"\xef\xbb\xbf[]", "not JSON"),
        (b"", "not JSON"),
        (b'["\x01"]', "not JSON"),
    ],
)
def test_a_bad_text_is_refused_with_one_reason(text, said):
    with pytest.raises(NotCanonical, match=said):
        decode(text)


@pytest.mark.parametrize("value", [1.5, {1: 2}, {"a": {"b": [object()]}}, float("nan"), 2**53, b"bytes"])
def test_a_value_without_a_canonical_form_is_refused(value):
    with pytest.raises(NotCanonical):
        encode(value)


def test_an_oversized_text_is_refused():
    with pytest.raises(NotCanonical, match="more than"):
        decode(b'"' + b"a" * 100 + b'"', max_bytes=50)


def test_negative_zero_and_odd_escapes_are_not_canonical():
    for text in (b"[-0]", b'["\\u0041"]', b'["\\/"]', b"[1 ]"):
        with pytest.raises(NotCanonical, match="canonical form"):
            decode_canonical(text)


@given(st.binary(max_size=40))
def test_base64_has_one_spelling(data):
    assert from_base64(to_base64(data)) == data


@pytest.mark.parametrize("text", ["QQ", "QR==", "QQ==\n", "Q-==", "Q Q=", "é"])
def test_other_spellings_of_base64_are_refused(text):
    with pytest.raises(NotCanonical):
        from_base64(text)
