"""GS1 numbers, ear tags and credit codes: read right, refused when one digit slips."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from traceability.codes import CodeError, check_digit, credit_code, ear_tag, gln, gtin, restricted_gtin, sscc

bodies = st.text("0123456789", min_size=7, max_size=17)


def test_known_numbers_are_read_in_their_canonical_form():
    assert gtin("4006381333931") == "04006381333931"
    assert gtin("96385074") == "00000096385074"
    assert gln("4012345000115") == "4012345000115"
    assert sscc("006141411234567890") == "006141411234567890"


@given(body=bodies, at=st.integers(0, 17), step=st.integers(1, 9))
def test_every_single_digit_error_changes_the_check(body, at, step):
    number = body + check_digit(body)
    place = at % len(number)
    slipped = number[:place] + str((int(number[place]) + step) % 10) + number[place + 1 :]
    assert check_digit(slipped[:-1]) != slipped[-1]


@pytest.mark.parametrize("text", ["", "12", "400638133393", "4006381333932", "40063813339３1", "-4006381333931"])
def test_a_wrong_trade_number_is_refused_in_one_line(text):
    with pytest.raises(CodeError) as why:
        gtin(text)
    assert "\n" not in str(why.value)


@pytest.mark.parametrize("prefix", ["02", "04", "20", "29"])
def test_a_farm_without_a_prefix_gets_a_restricted_number(prefix):
    number = restricted_gtin(prefix, "42")
    assert gtin(number) == number
    assert number.startswith("0" + prefix)


@pytest.mark.parametrize("prefix", ["69", "690", "69x", "00", "01", "30", ""])
def test_a_prefix_of_somebody_else_is_never_made_up(prefix):
    with pytest.raises(CodeError):
        restricted_gtin(prefix, "42")


def test_an_ear_tag_tells_species_county_and_serial():
    tag = ear_tag("150015300012345")
    assert (tag.species, tag.county, tag.serial) == ("pig", "500153", "00012345")
    assert ear_tag(tag.uri) == tag
    assert tag.number == "150015300012345"


@pytest.mark.parametrize("text", ["450015300012345", "15001530001234", "1500153000123456", "15OO15300012345"])
def test_a_malformed_ear_tag_is_refused(text):
    with pytest.raises(CodeError):
        ear_tag(text)


def test_an_ear_tag_of_a_county_that_did_not_exist_that_day_is_refused():
    def known(county: str, on: date | None) -> bool:
        return county == "500153" and (on is None or on >= date(2015, 6, 1))

    assert ear_tag("150015300012345", date(2020, 1, 1), known).county == "500153"
    with pytest.raises(CodeError, match="2010-01-01"):
        ear_tag("150015300012345", date(2010, 1, 1), known)


def test_a_credit_code_is_checked_by_its_last_character():
    assert credit_code("91350100M000100Y43") == "91350100M000100Y43"
    with pytest.raises(CodeError):
        credit_code("91350100M000100Y44")
    with pytest.raises(CodeError):
        credit_code("91350100I000100Y43")


@pytest.mark.parametrize("code", ["91350100M000100Y43", "92500153MA5U0ABC18"[:17] + "?"])
def test_every_single_character_error_in_a_credit_code_is_refused(code):
    alphabet = "0123456789ABCDEFGHJKLMNPQRTUWXY"
    if code.endswith("?"):
        code = next(code[:17] + c for c in alphabet if not refused(code[:17] + c))
    for place in range(18):
        assert all(refused(code[:place] + c + code[place + 1 :]) for c in alphabet if c != code[place])


def refused(code):
    try:
        credit_code(code)
    except CodeError:
        return True
    return False


@pytest.mark.parametrize("number", ["96385074", "036000291452", "4006381333931", "10012345678902"])
def test_every_single_digit_error_in_a_trade_number_of_any_length_is_refused(number):
    assert gtin(number) == number.zfill(14)
    for place in range(len(number)):
        for digit in "0123456789".replace(number[place], ""):
            with pytest.raises(CodeError):
                gtin(number[:place] + digit + number[place + 1 :])
