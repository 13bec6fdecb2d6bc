"""The quick look at a captured text says the same as the strict one, on whatever text."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cloud.problems import Invalid
from cloud.provenance import reading
from cloud.provenance.reading import read_document

TEXTS = st.one_of(
    st.sampled_from(
        ['"a"', '":"', '"\\u003a"', '"\\u003A:"', '"\\ud800"', '"\\ud83d\\ude00"', '"[{"', '"\\n  "', '"田"']
    ),
    st.text(max_size=6).map(json.dumps),
)
NUMBERS = st.sampled_from(["0", "-1.5", "1e3", "18446744073709551617", "1e999", "NaN", "null", "true"])


def objects(inner):
    """Objects as text; their keys are few, so that some stand twice."""
    pairs = st.tuples(st.sampled_from(['"a"', '"b"', '"\\u0061"', '"c:d"', '"c\\u003ad"']), inner)
    return st.lists(pairs, max_size=4).map(lambda some: "{" + ",".join(f"{key} : {value}" for key, value in some) + "}")


def lists(inner):
    return st.lists(inner, max_size=3).map(lambda some: f"[{', '.join(some)}]")


VALUES = st.recursive(st.one_of(TEXTS, NUMBERS), lambda inner: st.one_of(objects(inner), lists(inner)), max_leaves=12)


def outcome(data):
    try:
        return repr(read_document(data))
    except Invalid as why:
        return why.code, str(why)


@settings(deadline=None, max_examples=150)
@given(value=VALUES, depth=st.sampled_from([0, 1, 36, 37, 38, 39, 40, 41, 42, 60]), hidden=st.sampled_from(["", '"]"']))
@example(value='{"a":1,"a":":"}', depth=0, hidden="")
@example(value='{"a":1,"a":"\\u003a"}', depth=0, hidden="")
def test_the_quick_look_and_the_strict_one_agree_on_every_text(value, depth, hidden):
    before = f"[{hidden}," if hidden else "["
    data = ('{"v":' + before * depth + value + "]" * depth + "}").encode()
    quick = outcome(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "_surely_sound", lambda _value, _data: False)
        assert outcome(data) == quick


def test_an_ordinary_document_is_looked_at_once():
    document = json.dumps({"who": "合川某蛋鸡场", "time": "2026-05-29T04:26:40+08:00", "n": [1, 2.5, {"a": "b:c"}]})
    assert reading._surely_sound(json.loads(document), document.encode())
