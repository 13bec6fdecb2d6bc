"""Forty pigs of two farms: one dies, one was treated, one lorry has another lorry's paper, one lot may not leave.

The four wrong steps are refused, each with its rule and source; the rest becomes packs that can be followed both ways,
to the gram.
"""

import time
from datetime import datetime, timedelta, timezone

import pytest

from traceability.chain_rules import Facts, judge
from traceability.codes import EAR_TAG_URI
from traceability.custody import Genealogy
from traceability.events import STEP, event_time, object_event, parse_event
from traceability.events import transformation_event as transform
from traceability.recall import recall_scope

CHINA = timezone(timedelta(hours=8))
FARMS = ("urn:x:farm-1", "urn:x:farm-2")
PIGS = [f"{EAR_TAG_URI}1500153{n:08d}" for n in range(40)]
DEAD, TREATED = PIGS[0], PIGS[25]
FIT = [pig for pig in PIGS if pig not in {DEAD, TREATED}]
MASS_G = 3_000_000


def at(day, hour=8):
    return round((datetime(2026, 11, 1, hour, tzinfo=CHINA) + timedelta(days=day - 1)).timestamp() * 1000)


def paper(number, plate, pigs):
    tags = [pig.removeprefix(EAR_TAG_URI) for pig in pigs]
    return {"number": number, "kind": "animal_b", "vehicle": plate, "issued": event_time(at(20, 5)), "tags": tags}


def shipping(pigs, plate, certificate, hour):
    own = {"tm:quarantine": certificate, "tm:vehicle": plate}
    return object_event("OBSERVE", "shipping", at(20, hour), epcs=pigs, **own)


def slaughter(pigs, lot, hour, method="pcr", grams=MASS_G // 2):
    own = {"tm:asfTest": {"method": method, "result": "negative", "number": lot[-1]}, "tm:region": "500153"}
    return transform(
        STEP + "slaughtering", at(20, hour), took=pigs, took_lots={f"{lot}-live": (grams * 4 // 3, "GRM")},
        made_lots={lot: (grams, "GRM")}, place="urn:x:plant", **own,
    )  # fmt: skip


BORN = [
    object_event("ADD", "commissioning", at(-150), epcs=PIGS[20 * n : 20 * n + 20], place=farm)
    for n, farm in enumerate(FARMS)
]
LIFE = [
    *BORN,
    object_event("OBSERVE", STEP + "treating", at(10), epcs=[TREATED], place=FARMS[1],
                 **{"tm:treatment": {"substance": "oxytetracycline", "route": "injection"}}),
    object_event("DELETE", "decommissioning", at(15), epcs=[DEAD], place=FARMS[0]),
]  # fmt: skip
GOOD = [
    shipping(FIT, "渝A1", paper("B1", "渝A1", FIT), 6),
    slaughter(FIT[:19], "urn:x:carcass-1", 10),
    slaughter(FIT[19:], "urn:x:carcass-2", 11, method="strip"),
    transform(STEP + "cutting", at(20, 14),
              took_lots={"urn:x:carcass-1": (MASS_G // 2, "GRM"), "urn:x:carcass-2": (MASS_G // 2, "GRM")},
              made_lots={"urn:x:cuts": (MASS_G - 100_000, "GRM"), "urn:x:trim": (100_000, "GRM")}),
    transform("packing", at(20, 16), took_lots={"urn:x:cuts": (MASS_G - 100_000, "GRM")},
              made=[f"urn:x:pack-{n}" for n in range(5800)],
              made_lots={"urn:x:packs": (MASS_G - 100_000, "GRM")}),
]  # fmt: skip
WRONG = {
    "life.ended": slaughter([DEAD, PIGS[1]], "urn:x:carcass-9", 9),
    "withdrawal.days": slaughter([TREATED], "urn:x:carcass-8", 9),
    "certificate.vehicle": shipping(FIT, "渝B9", paper("B2", "渝A1", FIT), 5),
    "asf.strip_province": object_event("OBSERVE", "shipping", at(20, 15), lots={"urn:x:carcass-2": (1000, "GRM")},
                                       **{"tm:destinationRegion": "510100"}),
}  # fmt: skip


@pytest.mark.parametrize("rule", WRONG)
def test_each_wrong_step_is_refused_with_its_rule_and_source(rule):
    history = [*LIFE, *GOOD] if rule == "asf.strip_province" else LIFE
    verdict = judge("pork", WRONG[rule], history, Facts(), at(21))
    assert verdict.refused
    assert rule in {finding.rule for finding in verdict.findings}
    assert all(finding.source for finding in verdict.findings)


def test_every_right_step_is_allowed():
    told = list(LIFE)
    for event in GOOD:
        assert judge("pork", event, told, Facts(), at(21)).findings == ()
        told.append(event)


def test_a_pack_leads_to_both_farms_and_a_farm_to_every_pack_and_the_mass_closes():
    genealogy = Genealogy(map(parse_event, [*LIFE, *GOOD]))
    start = time.perf_counter()
    found = genealogy.resolution("urn:x:pack-77")
    assert time.perf_counter() - start < 1
    assert set(found.candidates) == set(FIT)
    assert set(found.places) == set(FARMS)
    scope = recall_scope(genealogy, [PIGS[39]], known_ms=at(21))
    assert {each.thing for each in scope.affected} >= {f"urn:x:pack-{n}" for n in range(5800)}
    lots = ("urn:x:carcass-1", "urn:x:carcass-2", "urn:x:cuts")
    assert [genealogy.account(lot).left_g for lot in lots] == [0, 0, 0]
    assert genealogy.account("urn:x:packs").made_g + genealogy.account("urn:x:trim").made_g == MASS_G
