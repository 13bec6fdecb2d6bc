import json
import threading

import pytest

from cloud.problems import Conflict, Invalid, NotFound, Refused
from cloud.provenance import LogBook, LogPlace, Neighbours, Provenance
from cloud.provenance.store import metadata
from traceability import TraceError
from traceability.demo import demo_chains
from traceability.digital_link import parse_link
from traceability.epc_uris import canonical_name
from traceability.events import STEP, object_event, transformation_event
from traceability.packs import Pack
from traceability.policy import Policy
from traceability.report import report_lines

NOW = 1_795_300_000_000
CHAINS = {chain.chain: chain for chain in demo_chains(NOW, domain="https://id.gs1.org")}


def open_all(folder, engine):
    metadata.create_all(engine)
    log = LogBook(engine, LogPlace(folder / "ledger", folder / "log.key", "trace.example/log"), lambda: NOW)
    return Provenance(engine, log, site="http://127.0.0.1:1", clock=lambda: NOW)


@pytest.fixture
def provenance(tmp_path, engine):
    service = open_all(tmp_path, engine)
    yield service
    service.close()


def capture(provenance, name):
    chain = CHAINS[name]
    return [provenance.capture(event, chain=name, by="me", facts=chain.facts) for event in chain.events]


@pytest.mark.parametrize("name", CHAINS)
def test_a_lot_from_field_to_pack_is_captured_and_its_pack_verifies_under_the_policy(provenance, name):
    capture(provenance, name)
    seen = provenance.consumer(parse_link(CHAINS[name].subject).canonical.removeprefix("https://id.gs1.org"))
    policy = Policy.parse(provenance.policy_text.encode())
    proven = Pack.parse(seen.pack.encode()).verify(policy, now_ms=NOW + 1000)
    assert proven.subject == canonical_name(CHAINS[name].subject)
    assert len(proven.events) >= 5


def test_the_same_event_twice_is_one_entry_with_one_receipt(provenance):
    event = CHAINS["eggs"].events[0]
    first = provenance.capture(event, chain="eggs", by="me")
    assert provenance.capture(event, chain="eggs", by="somebody else") == first
    assert provenance.log_state().size == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_refused_before_anything_is_written(provenance, value):
    event = {**CHAINS["eggs"].events[0], "tm:weight": value}
    with pytest.raises(Invalid, match="no JSON numbers"):
        provenance.capture(event, chain=None, by="me")
    assert provenance.log_state().size == 0


def test_numbers_that_other_writers_would_round_are_kept(provenance):
    event = {**CHAINS["eggs"].events[0], "tm:number": 2**70, "tm:none": None}
    provenance.capture(event, chain=None, by="me")
    (row,) = provenance.events(1)
    assert json.loads(row.body)["tm:number"] == 2**70
    assert json.loads(row.body)["tm:none"] is None


def test_events_captured_at_once_by_many_all_get_their_own_place(provenance):
    base = CHAINS["eggs"].events[0]
    events = [{**base, "epcList": [f"urn:tianmai:hen:{n % 20}"]} for n in range(40)]
    receipts = []

    def send(event):
        receipts.extend(provenance.capture(event, chain=None, by="me"))

    threads = [threading.Thread(target=send, args=(event,)) for event in events]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(receipts) == 40
    assert sorted({receipt.index for receipt in receipts}) == list(range(20))


def test_a_lot_with_an_open_withdrawal_period_is_refused_with_rule_source_and_date_and_leaves_no_event(provenance):
    capture(provenance, "fish")
    size = provenance.log_state().size
    for event in CHAINS["fish"].refused:
        with pytest.raises(Refused) as refused:
            provenance.capture(event, chain="fish", by="me", facts=CHAINS["fish"].facts)
        extra = refused.value.extra
        assert extra["rule"]
        assert "278" in extra["source"]
        assert extra["earliest_ms"] > NOW
        with pytest.raises(Refused):
            provenance.capture(event, chain="fish", by="me", facts=CHAINS["fish"].facts)
    assert provenance.log_state().size == size
    views = provenance.refusals()
    assert [view.times for view in views] == [2] * len(CHAINS["fish"].refused)
    assert refused.value.extra["source"] in {view.findings[0]["source"] for view in views}


def test_what_is_not_epcis_is_refused_and_nothing_is_written(provenance):
    with pytest.raises(TraceError):
        provenance.capture({"type": "ObjectEvent"}, chain=None, by="me")
    with pytest.raises(Invalid, match="beef"):
        provenance.capture(CHAINS["eggs"].events[0], chain="beef", by="me")
    assert provenance.log_state().size == 0


def test_a_code_nobody_issued_is_not_found(provenance):
    capture(provenance, "eggs")
    with pytest.raises(NotFound):
        provenance.consumer("/01/02000011700010/10/NOLOT/21/NOBODY")


def test_a_wrong_check_digit_is_refused_not_merely_unknown(provenance):
    with pytest.raises(TraceError):
        provenance.consumer("/01/02000011700011/10/A/21/B")


def test_scans_are_counted_and_the_first_is_remembered(provenance):
    capture(provenance, "eggs")
    path = CHAINS["eggs"].subject.removeprefix("https://id.gs1.org")
    assert [provenance.consumer(path).scans for _ in range(3)] == [1, 2, 3]
    assert provenance.consumer(path, count_scan=False).scans == 0


def test_a_second_start_continues_from_the_state_on_disk(tmp_path, engine):
    service = open_all(tmp_path, engine)
    capture(service, "citrus")
    before = service.log_state()
    service.close()
    again = open_all(tmp_path, engine)
    assert again.log_state().root == before.root
    capture(again, "fish")
    path = CHAINS["citrus"].subject.removeprefix("https://id.gs1.org")
    Pack.parse(again.consumer(path).pack.encode()).verify(Policy.parse(again.policy_text.encode()), now_ms=NOW + 1)
    again.close()


def test_private_fields_stay_out_of_the_pack_and_of_the_log(provenance):
    event = {**CHAINS["eggs"].events[0], "tm:person": {"name": "王小明", "phone": "13800000000"}}
    provenance.capture(event, chain=None, by="me")
    (row,) = provenance.events(1)
    assert "王小明" in row.body
    assert "王小明" not in row.entry.decode()
    assert "private" in json.loads(row.entry)["commitments"]


def test_log_files_cannot_lead_out_of_the_public_folder(provenance):
    capture(provenance, "eggs")
    assert provenance.log_file("checkpoint").startswith(b"trace.example/log\n")
    for name in ("../log.key", "tile/../../log.key", "journal", "tile/0/999"):
        with pytest.raises(NotFound):
            provenance.log_file(name)


def test_a_report_needs_words_and_gets_a_receipt(provenance):
    capture(provenance, "eggs")
    path = CHAINS["eggs"].subject.removeprefix("https://id.gs1.org")
    assert provenance.report(path, "蛋壳破了").startswith("R")
    with pytest.raises(Invalid):
        provenance.report(path, "  ")


def test_not_naming_the_chain_does_not_leave_its_rules(provenance):
    capture(provenance, "fish")
    for event in CHAINS["fish"].refused:
        with pytest.raises(Refused):
            provenance.capture(event, chain=None, by="me", facts=CHAINS["fish"].facts)


def test_a_trade_number_with_a_wrong_check_digit_never_enters_the_log(provenance):
    wrong = object_event(
        "ADD", "commissioning", NOW, epcs=["https://id.gs1.org/01/02000010800019/10/X/21/A"], place="urn:p"
    )
    with pytest.raises(TraceError):
        provenance.capture(wrong, chain=None, by="me")
    assert provenance.log_state().size == 0


def test_one_id_for_two_contents_in_one_document_is_a_conflict_and_nothing_is_stored(provenance):
    one = CHAINS["eggs"].events[0] | {"eventID": "urn:uuid:00000000-0000-4000-8000-000000000001"}
    other = one | {"disposition": "damaged"}
    document = {
        "@context": one["@context"],
        "type": "EPCISDocument",
        "schemaVersion": "2.0",
        "creationDate": "2026-11-22T10:00:00.000Z",
        "epcisBody": {"eventList": [one, other]},
    }
    with pytest.raises(Conflict):
        provenance.capture(document, chain=None, by="me")
    assert provenance.log_state().size == 0


UNIT = CHAINS["pork"].subject.removeprefix("https://id.gs1.org")
LOT = UNIT.partition("/21/")[0]


def test_a_code_without_a_serial_is_answered_with_its_lot_whose_pack_verifies(provenance):
    capture(provenance, "pork")
    seen = provenance.consumer(LOT)
    assert (seen.level, seen.serial) == ("lot", "")
    assert {part.key: part.state for part in seen.story.verdict}["promise"] == "pack"
    proven = Pack.parse(seen.pack.encode()).verify(Policy.parse(provenance.policy_text.encode()), now_ms=NOW + 1000)
    assert proven.subject == f"https://id.gs1.org{LOT}"


def test_a_serial_nobody_knows_is_answered_with_its_lot_and_says_so_unless_asked_exactly(provenance):
    capture(provenance, "pork")
    seen = provenance.consumer(LOT + "/21/NOBODY")
    assert (seen.level, seen.serial) == ("lot", "NOBODY")
    assert seen.subject == f"https://id.gs1.org{LOT}"
    with pytest.raises(NotFound):
        provenance.consumer(LOT + "/21/NOBODY", exactly=True)
    assert provenance.consumer(UNIT).level == "unit"


def test_page_and_report_tell_that_an_event_was_declared_wrong(provenance):
    thing = "https://id.gs1.org/01/02000011700010/10/W/21/1"
    event = object_event("ADD", "storing", NOW - 9_000_000, epcs=[thing], place="urn:p")
    event["eventID"] = "urn:uuid:00000000-0000-4000-8000-000000000001"
    provenance.capture(event, chain=None, by="me")
    declaration = {"declarationTime": "2026-11-22T10:00:00.000+08:00", "reason": "did_not_occur"}
    provenance.capture(event | {"errorDeclaration": declaration}, chain=None, by="me")
    seen = provenance.consumer(thing.removeprefix("https://id.gs1.org"))
    (step,) = seen.story.journey
    told = "declared wrong at 2026-11-22T10:00:00.000+08:00, reason: it did not happen"
    assert step.wrong.en == told
    assert "No record stands" in seen.story.resolution.en
    assert seen.story.verdict[0].state == "unknown"
    proven = Pack.parse(seen.pack.encode()).verify(Policy.parse(provenance.policy_text.encode()), now_ms=NOW + 1000)
    report = report_lines(proven, "en")
    assert [line.strip() for line in report].count(told) == 2
    assert sum("a declaration that this event is wrong" in line for line in report) == 1


def test_a_trade_item_alone_is_answered_with_its_newest_packs(provenance):
    capture(provenance, "pork")
    gtin = UNIT.split("/")[2]
    provenance.name_product(gtin, "五花肉", "Pork belly")
    item = provenance.item(f"/01/{gtin}")
    assert (item.gtin, item.product_zh) == (gtin, "五花肉")
    assert [lot.path for lot in item.lots] == [UNIT]
    with pytest.raises(NotFound):
        provenance.consumer(f"/01/{gtin}")
    with pytest.raises(NotFound):
        provenance.item("/01/02000011700010")


def test_what_a_rule_warns_of_is_in_the_receipt_and_is_kept(tmp_path, engine):
    metadata.create_all(engine)
    log = LogBook(engine, LogPlace(tmp_path / "ledger", tmp_path / "log.key", "trace.example/log"), lambda: NOW)
    asked = []

    def county_known(code, day):
        asked.append((code, day.isoformat()))
        return None if code == "500153" else False

    neighbours = Neighbours(county_known=county_known)
    service = Provenance(engine, log, site="http://127.0.0.1:1", clock=lambda: NOW, neighbours=neighbours)
    (receipt,) = service.capture(CHAINS["pork"].events[0], chain="pork", by="me")
    assert [finding["rule"] for finding in receipt.warnings] == ["tag.county_unchecked"]
    (warning,) = service.warnings()
    assert (warning.event_id, warning.findings) == (receipt.event_id, receipt.warnings)
    assert len(asked) == 1
    strange = object_event("ADD", "commissioning", NOW - 1000, epcs=["urn:tianmai:ear:159999900000001"], place="urn:p")
    with pytest.raises(Refused, match="599999"):
        service.capture(strange, chain="pork", by="me")
    service.close()


def test_of_many_who_use_up_one_lot_at_once_only_as_many_are_let_as_it_suffices_for(provenance):
    lot = "urn:tianmai:lot:whole"
    born = object_event("ADD", "commissioning", NOW - 10_000, lots={lot: (1000, "GRM")}, place="urn:p")
    provenance.capture(born, chain="pork", by="me")
    cuts = [
        transformation_event(
            STEP + "cutting",
            NOW - 5000 + n,
            took_lots={lot: (300, "GRM")},
            made_lots={f"{lot}-{n}": (300, "GRM")},
            place="urn:p",
        )
        for n in range(8)
    ]
    done = []

    def cut(event):
        try:
            done.append(provenance.capture(event, chain="pork", by="me"))
        except Refused as why:
            done.append(why.extra["rule"])

    threads = [threading.Thread(target=cut, args=(event,)) for event in cuts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, done))[-5:] == ["balance.overdrawn"] * 5
    assert provenance.tracer.balance(lot) == {"made_g": 1000, "used_g": 900, "left_g": 100}
    again = provenance.capture(next(cut for cut in cuts if in_log(provenance, cut)), chain="pork", by="me")
    assert len(again) == 1


def in_log(provenance, event):
    return any(json.loads(row.body)["eventTime"] == event["eventTime"] for row in provenance.events(20))
