"""The life of printed codes: states, scratch layers, and what the chain's events do to them."""

import itertools
import threading

import pytest

from cloud.problems import Conflict, Invalid, NotFound
from cloud.provenance import LogBook, LogPlace, Provenance, serial_key
from cloud.provenance.codes import _CODE
from cloud.provenance.store import metadata
from traceability.events import object_event, transformation_event
from traceability.serials import SerialError, genuine

NOW = 1_795_300_000_000
GTIN, LOT = "02000011700010", "L1"
KEY = b"k" * 32


class Clock:
    def __init__(self):
        self.ms = NOW

    def __call__(self):
        self.ms += 1000
        return self.ms


@pytest.fixture
def chain(tmp_path, engine):
    metadata.create_all(engine)
    clock = Clock()
    log = LogBook(engine, LogPlace(tmp_path / "ledger", tmp_path / "log.key", "trace.example/log"), clock)
    service = Provenance(engine, log, site="http://127.0.0.1:1", clock=clock, serial_key=KEY)
    service.clock = clock
    yield service
    service.close()


def unit(path):
    return f"https://id.gs1.org{path}"


def about(chain, path, step, **more):
    action = more.pop("action", "OBSERVE")
    return object_event(action, step, chain.clock(), epcs=[unit(path)], place="urn:p", **more)


def capture(chain, event):
    return chain.capture(event, chain=None, by="me")


def test_issued_codes_are_all_different_and_made_with_the_key(chain):
    made = chain.codes.issue(GTIN, LOT, 600, by="me")
    assert len({each.serial for each in made}) == len({each.scratch for each in made}) == 600
    assert all(genuine(KEY, f"{GTIN}/{LOT}", each.serial) for each in made)
    assert [each.state for each in chain.codes.of_lot(GTIN, LOT)] == ["issued"] * 600


def test_a_code_goes_from_issued_to_retired_and_every_move_is_kept_with_who_and_why(chain):
    (code,) = chain.codes.issue(GTIN, LOT, 1, by="printer")
    for move, state in (("activate", "activated"), ("sell", "sold"), ("take_back", "activated"), ("sell", "sold")):
        assert [each.state for each in chain.codes.move([code.path], move, by="shop")] == [state]
    (last,) = chain.codes.move([code.path], "retire", by="shop", reason="过期")
    assert (last.state, last.reason) == ("retired", "过期")
    moves = chain.codes.moves(code.path)
    assert [each["move"] for each in moves] == ["issue", "activate", "sell", "take_back", "sell", "retire"]
    assert [each["moved_by"] for each in moves] == ["printer"] + ["shop"] * 5
    assert all(one["after"] == after["before"] for one, after in itertools.pairwise(moves))


@pytest.mark.parametrize("first", [[], ["activate"], ["activate", "sell"], ["void"], ["activate", "retire"]])
@pytest.mark.parametrize("move", ["activate", "sell", "take_back", "retire", "void"])
def test_a_move_that_the_state_does_not_allow_is_refused_with_the_reason_and_moves_none(chain, first, move):
    codes = chain.codes.issue(GTIN, LOT, 2, by="me")
    for each in first:
        chain.codes.move([codes[1].path], each, by="me", reason="because")
    before = chain.codes.at(codes[1].path)
    allowed = {"issued": {"activate", "void"}, "activated": {"sell", "retire", "void"}}
    allowed["sold"] = {"take_back", "retire", "void"}
    if move in allowed.get(before.state, set()):
        return
    with pytest.raises(Conflict, match=before.state) as refused:
        chain.codes.move(
            [codes[0].path, codes[1].path] if move in allowed["issued"] else [codes[1].path], move, by="me", reason="x"
        )
    assert refused.value.code == "code_state"
    assert chain.codes.at(codes[0].path).state == "issued"
    assert chain.codes.at(codes[1].path) == before


def test_a_code_that_was_never_registered_cannot_be_moved_and_voiding_needs_a_reason(chain):
    (code,) = chain.codes.register(GTIN, LOT, ["ABC"], by="me")
    with pytest.raises(NotFound):
        chain.codes.move([code.path, f"/01/{GTIN}/10/{LOT}/21/OTHER"], "activate", by="me")
    assert chain.codes.at(code.path).state == "issued"
    with pytest.raises(Invalid):
        chain.codes.move([code.path], "void", by="me")
    with pytest.raises(Invalid):
        chain.codes.move(["/01/02000011700011/10/A/21/B"], "activate", by="me")


def test_labels_printed_elsewhere_are_registered_once(chain):
    chain.codes.register(GTIN, LOT, ["A1", "A2"], by="me")
    with pytest.raises(Conflict, match="A2"):
        chain.codes.register(GTIN, "L2", ["A3", "A2"], by="me")
    assert chain.codes.at(f"/01/{GTIN}/10/L2/21/A3") is None
    for serials in (["A1", "A1"], ["has space"], [""]):
        with pytest.raises(Invalid):
            chain.codes.register(GTIN, LOT, serials, by="me")


def test_the_events_of_a_pack_move_its_code_on(chain):
    (code,) = chain.codes.issue(GTIN, LOT, 1, by="me")
    capture(chain, about(chain, code.path, "commissioning", action="ADD"))
    assert chain.codes.at(code.path).state == "activated"
    capture(chain, about(chain, code.path, "retail_selling"))
    assert chain.codes.at(code.path).state == "sold"
    capture(chain, about(chain, code.path, "receiving", disposition="returned"))
    assert chain.codes.at(code.path).state == "activated"
    capture(chain, about(chain, code.path, "destroying"))
    assert chain.codes.at(code.path).state == "retired"
    with pytest.raises(Conflict, match="retired"):
        chain.codes.move([code.path], "sell", by="me")


def test_an_event_declared_wrong_moves_no_code(chain):
    (code,) = chain.codes.issue(GTIN, LOT, 1, by="me")
    sold = about(chain, code.path, "retail_selling") | {"eventID": "urn:uuid:1"}
    capture(chain, sold)
    capture(chain, sold | {"errorDeclaration": {"declarationTime": "2026-11-22T10:00:00Z", "reason": "did_not_occur"}})
    assert chain.codes.at(code.path).state == "issued"


def test_an_event_about_a_void_or_retired_code_is_refused_and_a_last_look_is_not(chain):
    void, retired, good = chain.codes.issue(GTIN, LOT, 3, by="me")
    chain.codes.move([void.path], "void", by="me", reason="印坏")
    chain.codes.move([retired.path], "activate", by="me")
    chain.codes.move([retired.path], "retire", by="me", reason="过期")
    size = chain.log_state().size
    for path in (void.path, retired.path):
        with pytest.raises(Conflict) as refused:
            capture(chain, about(chain, path, "shipping"))
        assert (refused.value.code, refused.value.pointer) == ("code_ended", "/epcList/0")
    with pytest.raises(Conflict, match="印坏"):
        capture(chain, about(chain, void.path, "commissioning", action="ADD"))
    assert chain.log_state().size == size
    capture(chain, about(chain, retired.path, "inspecting"))
    capture(chain, about(chain, good.path, "shipping"))


def test_the_same_event_again_gets_its_receipt_even_after_its_code_has_ended(chain):
    (code,) = chain.codes.issue(GTIN, LOT, 1, by="me")
    event = about(chain, code.path, "commissioning", action="ADD")
    first = capture(chain, event)
    chain.codes.move([code.path], "void", by="me", reason="召回")
    assert capture(chain, event) == first


def test_a_serial_that_its_registered_lot_does_not_have_is_refused_and_other_lots_are_free(chain):
    chain.codes.issue(GTIN, LOT, 1, by="me")
    forged, free = f"/01/{GTIN}/10/{LOT}/21/FORGED", f"/01/{GTIN}/10/L2/21/FREE"
    with pytest.raises(Conflict) as refused:
        capture(chain, about(chain, forged, "commissioning", action="ADD"))
    assert refused.value.code == "code_unissued"
    capture(chain, about(chain, free, "commissioning", action="ADD"))
    made = transformation_event("packing", chain.clock(), took=["urn:x"], made=[unit(forged)], place="urn:p")
    with pytest.raises(Conflict) as refused:
        capture(chain, made)
    assert refused.value.pointer == "/outputEPCList/0"


def test_a_scratch_code_is_right_once_for_the_first_time_and_the_database_does_not_hold_it(chain, engine):
    (code,) = chain.codes.issue(GTIN, LOT, 1, by="me")
    wrong = chain.codes.scratched(code.path, "00000000")
    assert (wrong.right, wrong.times, wrong.first_ms) == (False, 0, None)
    first = chain.codes.scratched(code.path, code.scratch.lower().replace("0", "o"))
    again = chain.codes.scratched(code.path, code.scratch)
    assert (first.right, first.times, again.times) == (True, 1, 2)
    assert first.first_ms == again.first_ms
    assert chain.codes.at(code.path).scratch_times == 2
    with engine.connect() as db:
        rows = [tuple(row) for row in db.execute(_CODE.select())]
    assert code.scratch not in repr(rows)


def test_two_who_scratch_at_once_are_not_both_first(chain):
    (code,) = chain.codes.issue(GTIN, LOT, 1, by="me")
    seen = []
    threads = [
        threading.Thread(target=lambda: seen.append(chain.codes.scratched(code.path, code.scratch).times))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == list(range(1, 9))


def test_a_scratch_code_that_cannot_be_one_or_belongs_to_no_layer_is_refused(chain):
    (code,) = chain.codes.register(GTIN, LOT, ["A1"], by="me")
    with pytest.raises(NotFound):
        chain.codes.scratched(code.path, "00000000")
    for text in ("", "short", "UUUUUUUU", "0" * 9):
        with pytest.raises(SerialError):
            chain.codes.scratched(code.path, text)


def test_the_key_is_made_once_for_its_owner_only_and_a_torn_one_is_refused(tmp_path):
    file = tmp_path / "keys" / "serials.key"
    assert serial_key(file) == serial_key(file) == file.read_bytes()
    assert file.stat().st_mode & 0o077 == 0
    file.write_bytes(b"short")
    with pytest.raises(Invalid, match="backup"):
        serial_key(file)


def test_another_spelling_of_a_void_code_is_refused_too(chain):
    (code,) = chain.codes.register(GTIN, LOT, ["V1"], by="me")
    chain.codes.move([code.path], "void", by="me", reason="印坏")
    for name in ("urn:epc:id:sgtin:2000011.070001.V1", f"https://shop.example/a/01/{GTIN}/21/V1"):
        with pytest.raises(Conflict, match="印坏"):
            capture(chain, object_event("OBSERVE", "shipping", chain.clock(), epcs=[name], place="urn:p"))
