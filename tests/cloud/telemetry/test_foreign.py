import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.problems import Invalid
from cloud.telemetry.foreign import from_line_protocol, from_thingsboard

NOW = 1_700_000_000_000


def rows(found):
    return [(one.name, one.time_ms, one.value, one.unit) for one in found.readings]


def test_telegraf_lines_become_readings():
    text = (
        "# comment\n"
        'weather,host=a,sensor=mast air_temperature=21.5,relative_humidity=80i,note="a b, c=d" 1700000000123456789\n'
        "soil\\ probe ph=7 1700000001000000000\n\n"
    )
    assert rows(from_line_protocol(text, NOW)) == [
        ("mast/air_temperature", 1_700_000_000_123, 21.5, "Cel"),
        ("mast/relative_humidity", 1_700_000_000_123, 80.0, "%RH"),
        ("soil_probe/ph", 1_700_000_001_000, 7.0, "pH"),
    ]
    assert rows(from_line_protocol("m v=1", NOW)) == [("m/v", NOW, 1.0, "")]
    assert rows(from_line_protocol("m v=1 1700000000000", NOW, "ms"))[0][1] == NOW


def test_thingsboard_telemetry_becomes_readings():
    body = b'{"Barn 1":[{"ts":1700000000123,"values":{"ammonia":12,"on":true,"mode":"x"}},{"ammonia":13}]}'
    assert rows(from_thingsboard(body, NOW)) == [
        ("Barn_1/ammonia", 1_700_000_000_123, 12.0, "ppm"),
        ("Barn_1/ammonia", NOW, 13.0, "ppm"),
    ]


def test_every_field_that_is_no_number_is_named_and_the_rest_is_taken():
    found = from_line_protocol(
        'm b=1,c=nan,d=1.2.3,e=,f=5x,g=1.5i,h=2u,on=t,note="x, y=1",ph=true 1700000000000', NOW, "ms"
    )
    assert rows(found) == [("m/b", NOW, 1.0, ""), ("m/h", NOW, 2.0, "")]
    assert list(found.refused) == ["bad_value"]
    assert [detail.split("'")[1] for detail in found.refused["bad_value"]] == [
        "m/c",
        "m/d",
        "m/e",
        "m/f",
        "m/g",
        "m/ph",
    ]
    assert [detail.split("'")[1] for detail in found.states] == ["m/on", "m/note"]


def test_a_name_or_time_of_no_reading_costs_only_itself():
    found = from_line_protocol("田 v=1\nm v=2\nm v=3 5", NOW)
    assert (rows(found), list(found.refused)) == ([("m/v", NOW, 2.0, "")], ["bad_name", "bad_time"])


def test_thingsboard_texts_that_are_numbers_are_taken_and_the_rest_is_named():
    body = b'{"s":[{"b":1,"ammonia":"21.5","t":" -1e3 ","c":"","m":"auto","ph":"n/a","o":{"x":1},"n":null,"x":"0x10"}]}'
    found = from_thingsboard(body, NOW)
    assert [(name, value) for name, _, value, _ in rows(found)] == [("s/b", 1.0), ("s/ammonia", 21.5), ("s/t", -1000.0)]
    assert [detail.split("'")[1] for detail in found.refused["bad_value"]] == ["s/ph"]
    assert [detail.split("'")[1] for detail in found.states] == ["s/c", "s/m", "s/o", "s/n", "s/x"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("no fields here", "not_line_protocol"),
        ("m v=1 soon", "not_line_protocol"),
        ("m v=true", "empty"),
        ("", "empty"),
        ("m v=1 1", "bad_time"),
        ("m v=1 " + "9" * 5000, "bad_time"),
        ("m v=1,,w=2", "not_line_protocol"),
        ("m v=nan", "bad_value"),
        ("田 v=1", "bad_name"),
        ("\n".join(f"m v{n}=1" for n in range(2001)), "too_large"),
    ],
)
def test_bad_lines_are_refused_with_a_code(text, code):
    with pytest.raises(Invalid) as why:
        from_line_protocol(text, NOW)
    assert why.value.code == code


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "not_json"),
        (b"[]", "not_thingsboard"),
        (b'{"a":{}}', "not_thingsboard"),
        (b'{"a":[1]}', "not_thingsboard"),
        (b'{"a":[{"ts":"x","values":{"v":1}}]}', "bad_time"),
        (b'{"a":[{"values":{}}]}', "empty"),
        (b'{"a":[{"values":{"v":1e999}}]}', "nan"),
        (b'{"a":[{"b":' + b"9" * 400 + b"}]}", "nan"),
        (b'{"\\ud800":[{"b":1}]}', "surrogate"),
        (b'{"a":[{"b":1,"b":2}]}', "duplicate_label"),
        (b'{"a":[{"b":1}],"a":[{"b":2}]}', "duplicate_label"),
        (b'{"a":[{"values":{"temperature":"","v":null}}]}', "empty"),
        (b'{"a":[{"values":{"ammonia":"n/a"}}]}', "bad_value"),
    ],
)
def test_bad_telemetry_is_refused_with_a_code(body, code):
    with pytest.raises(Invalid) as why:
        from_thingsboard(body, NOW)
    assert why.value.code == code


@given(text=st.text(max_size=80) | st.text(alphabet='mv=1, "\\\n#i.e-', max_size=60))
def test_no_text_ever_breaks_the_line_reader(text):
    with contextlib.suppress(Invalid):
        from_line_protocol(text, NOW)


@given(body=st.binary(max_size=60) | st.text(alphabet='{}[]":,aetsvlu1e9.-', max_size=60).map(str.encode))
def test_no_bytes_ever_break_the_telemetry_reader(body):
    with contextlib.suppress(Invalid):
        from_thingsboard(body, NOW)


def test_a_hostile_line_is_refused_at_once():
    with pytest.raises(Invalid):
        from_line_protocol("m v=" + "\\" * 60_001 + '"', NOW)
