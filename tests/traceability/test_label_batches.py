"""Serials nobody can guess, symbols equal to the library's bit for bit, sheets that are read back after printing."""

import argparse
import io
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qrcode import QRCode, util
from sheets import decoded

from traceability.label_sheets import TEMPLATES, write_pdf
from traceability.labels import add_arguments, run
from traceability.qr import LEVELS, LabelError
from traceability.qr_batch import SymbolBatch
from traceability.serials import (
    ALPHABET,
    SERIAL_LENGTH,
    SerialError,
    genuine,
    issue,
    next_state,
    read_serial,
    scratch_code,
)

KEY = bytes(range(32))
DENSE = "HTTPS://T.EXAMPLE.CN/01/02000015300018/10/P261121/21/"
LOOSE = "https://trace.example.cn/01/02000015300018/10/P261121/21/"
SERIALS = issue(KEY, "x", 200)


class TestSerials:
    def test_issued_serials_differ_and_are_genuine_in_their_context_only(self):
        assert len(set(SERIALS)) == 200
        assert all(genuine(KEY, "x", serial) for serial in SERIALS)
        assert not any(genuine(KEY, "y", serial) for serial in SERIALS)
        assert not any(genuine(bytes(32), "x", serial) for serial in SERIALS)

    @given(at=st.integers(0, SERIAL_LENGTH - 1), letter=st.sampled_from(ALPHABET))
    def test_any_changed_letter_makes_a_serial_false(self, at, letter):
        serial = SERIALS[0]
        other = serial[:at] + letter + serial[at + 1 :]
        assert genuine(KEY, "x", other) == (other == serial)

    def test_a_serial_is_read_as_people_type_it(self):
        assert read_serial(SERIALS[0].lower()) == SERIALS[0]
        assert read_serial("OIL0-0000-0000") == "011000000000"

    @pytest.mark.parametrize("text", ["", "ABC", "U" * 12, "!" * 12, "0" * 13])
    def test_what_is_no_serial_is_refused(self, text):
        with pytest.raises(SerialError):
            read_serial(text)

    def test_the_scratch_code_is_a_second_secret(self):
        code = scratch_code(KEY, "x", SERIALS[0])
        assert len(code) == 8
        assert code not in SERIALS[0]
        assert code != scratch_code(KEY, "x", SERIALS[1])

    def test_a_weak_key_or_an_empty_batch_is_refused(self):
        with pytest.raises(SerialError):
            issue(b"short", "x", 1)
        with pytest.raises(SerialError):
            issue(KEY, "x", 0)

    def test_a_code_lives_one_life(self):
        assert next_state(next_state("issued", "activate"), "sell") == "sold"
        for state, move in [("issued", "sell"), ("retired", "activate"), ("void", "sell"), ("sold", "sell")]:
            with pytest.raises(SerialError, match=state):
                next_state(state, move)


def library(text, batch):
    dense = all(c in util.ALPHA_NUM.decode() for c in text)
    code = QRCode(batch.version, LEVELS[batch.level], border=0, mask_pattern=batch.mask)
    code.add_data(util.QRData(text.encode(), mode=util.MODE_ALPHA_NUM if dense else util.MODE_8BIT_BYTE))
    code.make(fit=False)
    return [bytes(map(bool, row)) for row in code.modules]


@pytest.mark.parametrize("level", ["M", "Q"])
@pytest.mark.parametrize("length", [12, 11, 1])
@pytest.mark.parametrize("prefix", [DENSE, DENSE[:-1], LOOSE], ids=["even", "odd", "bytes"])
def test_a_batch_is_bit_for_bit_what_the_library_makes(prefix, length, level):
    serials = [serial[-length:] for serial in SERIALS]
    batch = SymbolBatch(prefix, length, level=level, sample=serials)
    for serial in (serials[0], serials[57], serials[-1]):
        assert list(batch.symbol(serial).rows) == library(prefix + serial, batch)
    batch.check(serials, batch.bitmaps(serials))


@settings(max_examples=15)
@given(serial=st.text(ALPHABET, min_size=12, max_size=12))
def test_every_symbol_decodes(serial):
    batch = BATCH
    batch.check([serial], batch.bitmaps([serial]))


BATCH = SymbolBatch(DENSE, 12, sample=SERIALS)


def test_the_self_check_notices_a_wrong_picture():
    bitmaps = BATCH.bitmaps(SERIALS).copy()
    bitmaps[-1] = bitmaps[0]
    with pytest.raises(LabelError, match="label 200"):
        BATCH.check(SERIALS, bitmaps)


@pytest.mark.parametrize("bad", [["ABC"], ["abcdefghjkmn"], ["批" * 12], ["A" * 12, "A" * 11]])
def test_a_serial_that_does_not_fit_the_batch_is_refused(bad):
    with pytest.raises(LabelError):
        BATCH.bitmaps(bad)


def test_a_link_too_long_for_any_symbol_is_refused():
    with pytest.raises(LabelError):
        SymbolBatch("A" * 8000, 12)


@pytest.mark.parametrize("name", sorted(TEMPLATES))
@pytest.mark.parametrize("dpi", [203, 300])
def test_every_label_of_a_page_is_read_back_at_the_printers_resolution(name, dpi):
    template, pdf = TEMPLATES[name], io.BytesIO()
    serials = SERIALS[: template.on_page + 1]
    size = write_pdf(pdf, BATCH, serials, template, lines=["承诺达标合格证", "P(1)"], dpi=dpi)
    assert size == len(pdf.getvalue())
    assert decoded(pdf.getvalue(), 0, dpi) == {DENSE + serial for serial in serials[: template.on_page]}


def test_a_sheet_is_small_and_its_table_of_contents_is_right():
    pdf = io.BytesIO()
    serials = issue(KEY, "x", 650)
    assert write_pdf(pdf, BATCH, serials, TEMPLATES["a4-65"], lines=["P261121"]) / 650 <= 250
    data = pdf.getvalue()
    table = int(re.search(rb"startxref\n(\d+)\n%%EOF", data)[1])
    entries = re.findall(rb"(\d{10}) 00000 n ", data[table:])
    for number, offset in enumerate(entries, 1):
        assert data[int(offset) :].startswith(b"%d 0 obj" % number)


def test_a_printer_too_coarse_for_the_sheet_is_refused_before_anything_is_written():
    pdf = io.BytesIO()
    with pytest.raises(LabelError, match="dots a module"):
        write_pdf(pdf, BATCH, SERIALS, TEMPLATES["a4-65"], dpi=100)
    assert pdf.getvalue() == b""


def labels(*options):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args([*map(str, options), "--gtin", "02000015300018", "--lot", "P261121"]))


class TestCommand:
    @pytest.fixture
    def key(self, tmp_path):
        path = tmp_path / "key"
        path.write_bytes(KEY)
        return path

    def test_it_issues_prints_and_lists(self, tmp_path, key, capsys):
        out = tmp_path / "sheet.pdf"
        assert labels(out, "--count", 70, "--key", key, "--domain", "https://t.example.cn") == 0
        listed = (tmp_path / "sheet.pdf.serials.txt").read_text().split()
        assert len(listed) == 70
        assert all(genuine(KEY, "02000015300018/P261121", serial) for serial in listed)
        assert "70 labels" in capsys.readouterr().out

    @pytest.mark.parametrize("kind", ["svg", "png"])
    def test_it_draws_given_serials_one_by_one(self, tmp_path, kind):
        given_serials = tmp_path / "given.txt"
        given_serials.write_text("AAA1\nAAA2\n")
        assert labels(tmp_path / "out", "--serials", given_serials, "--format", kind) == 0
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"AAA1.{kind}", f"AAA2.{kind}"]

    @pytest.mark.parametrize(
        "options",
        [[], ["--count", 3], ["--count", 3, "--key", "/nowhere/key"], ["--serials", "/nowhere/list"],
         ["--count", -1, "--key", "KEY"], ["--count", 3, "--key", "KEY", "--dpi", 72]],
    )  # fmt: skip
    def test_what_cannot_be_done_is_refused_and_leaves_nothing(self, tmp_path, key, options):
        from traceability import TraceError  # noqa: PLC0415 - named once

        with pytest.raises(TraceError) as why:
            labels(tmp_path / "sheet.pdf", *[key if option == "KEY" else option for option in options])
        assert "\n" not in str(why.value)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["key"]

    def test_it_never_overwrites(self, tmp_path, key):
        out = tmp_path / "sheet.pdf"
        out.write_text("mine")
        with pytest.raises(LabelError):
            labels(out, "--count", 3, "--key", key)
        assert out.read_text() == "mine"
