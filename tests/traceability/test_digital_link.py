"""GS1 Digital Links: read, written, brought to one form; and everything that is none refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from traceability.codes import check_digit
from traceability.digital_link import DigitalLink, LinkError, _table, build_link, parse_link

GTIN = "09520123456788"
SET_82 = "!\"%&'()*+,-./0123456789:;<=>?ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
values = st.text(SET_82, min_size=1, max_size=20)


@given(lot=values, serial=values)
def test_what_is_written_is_read_back_whatever_characters_it_holds(lot, serial):
    link = build_link([("01", GTIN), ("10", lot), ("21", serial)], domain="https://trace.example.cn")
    read = parse_link(link)
    assert (read.gtin, read.lot, read.serial) == (GTIN, lot, serial)
    assert parse_link(read.canonical) == read


def test_two_spellings_of_one_pack_have_one_canonical_form():
    ours = parse_link(f"HTTPS://T.EXAMPLE.CN/shop/01/{GTIN}/10/A%2DB/21/7K?17=261231&utm=x#top")
    assert ours.canonical == f"https://id.gs1.org/01/{GTIN}/10/A-B/21/7K?17=261231"
    assert ours.element_string == f"^01{GTIN}10A-B^217K^17261231"


def test_capital_links_fit_the_dense_mode_of_a_symbol():
    link = build_link([("01", GTIN), ("21", "7KQ2M9XA")], domain="https://t.example.cn", upper=True)
    assert link == f"HTTPS://T.EXAMPLE.CN/01/{GTIN}/21/7KQ2M9XA"
    assert parse_link(link).serial == "7KQ2M9XA"


@pytest.mark.parametrize(
    "uri",
    [
        "https://example.cn/",
        "ftp://example.cn/01/09520123456788",
        f"https://example.cn/01/{GTIN[:-1]}9",
        f"https://example.cn/01/{GTIN}/21/A/10/B",
        f"https://example.cn/01/{GTIN}/10/A/10/B",
        f"https://example.cn/01/{GTIN}/10/",
        f"https://example.cn/01/{GTIN}/10/{'A' * 21}",
        f"https://example.cn/01/{GTIN}/10/批次",
        f"https://example.cn/01/{GTIN}/10/%zz",
        f"https://example.cn/01/{GTIN}?17=261331",
        f"https://example.cn/01/{GTIN}?21=A",
    ],
)
def test_what_is_no_digital_link_is_refused_in_one_line(uri):
    with pytest.raises(LinkError) as why:
        parse_link(uri)
    assert "\n" not in str(why.value)


def test_old_spellings_are_read_only_when_asked():
    old = "https://example.cn/gtin/9520123456788/lot/A1/ser/7"
    with pytest.raises(LinkError):
        parse_link(old)
    assert parse_link(old, lenient=True) == DigitalLink((("01", GTIN), ("10", "A1"), ("21", "7")))


def test_the_table_holds_every_fact_of_the_dictionary(shared_data):
    """Our table against GS1's syntax dictionary: same numbers, formats, flags and key qualifiers."""
    dictionary = shared_data / "traceability/gs1-digital-link/gs1-syntax-dictionary.txt"
    seen = set()
    for line in dictionary.read_text("utf-8").splitlines():
        facts = line.partition("#")[0].split()
        if not facts:
            continue
        numbers, *rest = facts
        flags = rest.pop(0) if rest[0][0] not in "[NXYZ" else ""
        first, _, last = numbers.partition("-")
        for number in range(int(first), int(last or first) + 1):
            known = _table()[str(number).zfill(len(first))]
            seen.add(known.ai)
            assert (known.fixed, known.attribute) == ("*" in flags, "?" in flags)
            assert len(known.parts) == sum(each[0] in "[NXYZ" for each in rest)
            assert (known.qualifiers is not None) == any(each.startswith("dlpkey") for each in rest)
    assert seen == set(_table())


def test_the_public_vectors_are_judged_right(shared_data):
    vectors = json.loads((shared_data / "traceability/gs1-digital-link/syntax-engine-parse.json").read_text("utf-8"))
    for vector in (v for v in vectors if v["valid"]):
        assert parse_link(vector["uri"], lenient=True).element_string == vector["element_string"]


CHECKED = [  # AI, a value whose last digit of the checked part is right
    ("00", "006141411234567890", 18), ("01", "09520123456788", 14), ("253", "4012345000115DOC7", 13),
    ("255", "401234500011500042", 13), ("402", None, 17), ("414", "4012345000115", 13), ("417", "4012345000115", 13),
    ("8003", None, 14), ("8006", None, 14), ("8017", None, 18), ("8018", None, 18),
]  # fmt: skip


@pytest.mark.parametrize(("ai", "value", "checked"), CHECKED)
def test_every_single_digit_error_in_every_checked_key_is_refused(ai, value, checked):
    if value is None:
        body = "0952012345678123456"[: checked - 1]
        value = body + check_digit(body) + {"8003": "SER", "8006": "0102"}.get(ai, "")
    assert parse_link(f"https://a/{ai}/{value}").value(ai) == value
    for place in range(checked):
        for digit in "0123456789".replace(value[place], ""):
            with pytest.raises(LinkError):
                parse_link(f"https://a/{ai}/{value[:place]}{digit}{value[place + 1 :]}")


def test_every_single_character_error_in_a_model_number_is_refused():
    value = "1987654Ad4X4bL5ttr2310c2K"  # the example of the General Specifications
    assert parse_link(f"https://a/8013/{value}").value("8013") == value
    for place in range(1, len(value)):
        for letter in "0aZ9-":
            if letter != value[place]:
                with pytest.raises(LinkError):
                    parse_link(f"https://a/8013/{value[:place]}{letter}{value[place + 1 :]}")
