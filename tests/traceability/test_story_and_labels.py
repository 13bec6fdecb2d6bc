"""What the buyer is told, and the label that takes him there."""

import io

import pytest
import zxingcpp
from PIL import Image

from traceability.demo import demo_chains
from traceability.events import object_event
from traceability.hashing import event_id
from traceability.labels import LabelError, check_printable, png, svg, symbol
from traceability.report import TEXTS
from traceability.story import COMPLETENESS, Signer, tell

NOW = 1_795_400_000_000
CHAINS = demo_chains(NOW)
LINK = CHAINS[0].subject


def named(events):
    return [event | {"eventID": event_id(event)} for event in events]


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: chain.chain)
def test_a_story_tells_the_journey_in_order_to_the_village(chain):
    story = tell(chain.events, subject=chain.subject, now_ms=NOW)
    times = [step.time_ms for step in story.journey]
    assert times == sorted(times)
    assert story.journey[-1].key in {"commissioning", "packing"}
    assert story.place.zh.endswith("村")
    assert story.lot in chain.subject
    assert story.demonstration
    assert {part.key: part.state for part in story.verdict}["records"] == "amber"


def test_report_and_story_say_in_the_same_words_that_completeness_is_not_proven():
    story = tell([], subject="https://id.gs1.org/01/02000011700010/10/A", now_ms=0)
    assert COMPLETENESS in story.limits
    assert (TEXTS["zh"]["complete"], TEXTS["en"]["complete"]) == (COMPLETENESS.zh, COMPLETENESS.en)


def test_a_pork_pack_says_how_fine_the_trace_is():
    story = tell(CHAINS[0].events, subject=LINK, now_ms=NOW)
    assert "2 个场" in story.resolution.zh
    assert story.resolution.en.startswith("One of 38 pigs from 2 farms")


def test_only_a_verified_record_is_called_unchanged():
    events = named(CHAINS[1].events)
    ids = [event["eventID"] for event in events]
    part = tell(events, subject=CHAINS[1].subject, now_ms=NOW, proven=set(ids)).verdict[0]
    assert part.state == "good"
    story = tell(events, subject=CHAINS[1].subject, now_ms=NOW, proven=set(ids[1:]))
    assert story.verdict[0].state == "amber"
    assert [step.proven_unchanged for step in story.journey] == [False, True, True, True, True]


def test_a_claim_names_who_signed_it_and_a_real_signature_beats_a_printed_name():
    events = named(CHAINS[0].events)
    vet = Signer("vet", "王兽医", "Vet Wang")
    story = tell(events, subject=LINK, now_ms=NOW, signers={events[4]["eventID"]: vet})
    said = {claim.text.zh: claim.signer for claim in story.claims}
    assert said["检疫证明 示例B5001530001"] is not None
    assert vet in said.values() or vet in [claim.signer for claim in story.claims]


def test_a_certificate_that_travels_with_its_load_is_told_once_by_who_issued_it():
    claims = tell(CHAINS[0].events, subject=LINK, now_ms=NOW).claims
    (told,) = (claim for claim in claims if claim.text.zh.startswith("检疫证明"))
    assert told.signer is not None
    assert told.signer.kind == "vet"


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: chain.chain)
def test_who_promises_conformity_has_an_english_name_in_the_english_sentence(chain):
    claims = tell(chain.events, subject=chain.subject, now_ms=NOW).claims
    (promise,) = {claim.text for claim in claims if claim.text.zh.startswith("承诺达标合格证")}
    assert promise.en.isascii()


def test_a_drug_is_named_in_the_reader_s_language():
    texts = {claim.text.zh for claim in tell(CHAINS[3].events, subject=CHAINS[3].subject, now_ms=NOW).claims}
    assert any(text.startswith("使用甲砜霉素粉") for text in texts)


def test_a_recalled_lot_is_bad_until_the_recall_is_lifted():
    lot = LINK.partition("/21/")[0]
    recall = object_event("OBSERVE", "holding", NOW - 1000, epcs=[LINK], persistentDisposition={"set": ["recalled"]})
    states = {p.key: p.state for p in tell([*CHAINS[0].events, recall], subject=LINK, now_ms=NOW).verdict}
    assert states["recall"] == "bad"
    assert lot in LINK


def test_an_unknown_code_tells_that_nothing_is_known():
    story = tell([], subject="https://id.gs1.org/01/09520123456788/21/X", now_ms=NOW)
    assert story.verdict[0].state == "unknown"
    assert story.journey == ()


@pytest.mark.parametrize("dpi", [203, 300])
def test_a_printed_label_is_read_back(dpi):
    picture = Image.open(io.BytesIO(png(symbol(LINK), ["P261121 7KQ2M9XA"], 25.0, dpi))).convert("L")
    assert zxingcpp.read_barcodes(picture)[0].text == LINK


def test_a_drawing_holds_every_dark_module_and_the_caption():
    this = symbol(LINK)
    drawing = svg(this, ["<lot>"], 25.0)
    assert "&lt;lot&gt;" in drawing
    dark = sum(sum(row) for row in this.rows)
    assert sum(int(run.partition("v")[0]) for run in drawing.split("h")[3:] if "v1" in run) == dark


def test_a_symbol_too_fine_for_the_printer_is_refused_with_the_width_that_would_do():
    with pytest.raises(LabelError, match=r"15\.4 mm"):
        check_printable(symbol(LINK).size, 10, 203)
    assert check_printable(symbol(LINK).size, 15.5, 203) == 3


@pytest.mark.parametrize("arguments", [("A" * 5000,), ("A", "X")])
def test_what_fits_no_symbol_is_refused(arguments):
    with pytest.raises(LabelError):
        symbol(*arguments)
