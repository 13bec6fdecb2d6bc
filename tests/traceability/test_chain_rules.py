"""Rule packs: for each rule one case that passes and one that is refused, and the dates it promises."""

from datetime import datetime, timedelta, timezone

import pytest

from traceability.chain_rules import CHAINS, Facts, judge, load_pack
from traceability.codes import EAR_TAG_URI
from traceability.demo import demo_chains
from traceability.events import STEP, aggregation_event, association_event, event_time, object_event, parse_event
from traceability.events import transformation_event as transform

CHINA = timezone(timedelta(hours=8))
POND = "urn:tianmai:place:pond"
PROMISE = {
    "tm:conformityPromise": {
        "product": "脐橙",
        "quantity": "5 千克",
        "origin": "云阳",
        "date": "2026-11-20",
        "promisor": "甲",
        "contact": "乙",
    }
}


def at(day: int, hour: int = 8) -> int:
    """Some hour of November 2026 in China, ms UTC; days run on into December and back into October."""
    return round((datetime(2026, 11, 1, hour, tzinfo=CHINA) + timedelta(days=day - 1)).timestamp() * 1000)


def tag(number: int) -> str:
    return f"{EAR_TAG_URI}1500153{number:08d}"


def treat(thing, day, substance, *, place=None, **details):
    things = {"epcs": [thing]} if thing.startswith(EAR_TAG_URI) else {"lots": {thing: (1, None)}}
    own = {"tm:treatment": {"substance": substance, **details}}
    return object_event("OBSERVE", STEP + "treating", at(day), place=place, **things, **own)


def kill(things, day):
    return transform(STEP + "slaughtering", at(day), took=things, made_lots={"urn:x:carcass": (70_000, "GRM")})


def harvest(origin, day, lot="urn:x:lot", step="harvesting", **own):
    return object_event("ADD", STEP + step, at(day), lots={lot: (1000, "GRM")}, ilmd={"tm:origin": [origin]}, **own)


def rules_of(verdict):
    return {finding.rule for finding in verdict.findings}


def decide(chain, event, history=(), facts=None, now=None, *, born=True):
    """The verdict, where every tagged animal was registered long ago (unless the history says so itself)."""
    named = {thing for each in (event, *history) for thing in parse_event(each).things}
    told = {thing for each in history if each["bizStep"] == "commissioning" for thing in each.get("epcList", ())}
    new = set(event["epcList"]) if event["bizStep"] == "commissioning" else set()
    tags = sorted(name for name in named - told - new if name.startswith(EAR_TAG_URI))
    births = [object_event("ADD", "commissioning", at(-300), epcs=tags)] if born and tags else []
    return judge(chain, event, [*births, *history], facts or Facts(), now or at(30))


@pytest.mark.parametrize("chain", CHAINS)
def test_every_rule_of_a_pack_says_itself_in_both_languages_with_its_source(chain):
    pack = load_pack(chain)
    assert all(text["zh"] and text["en"] and text["source"] for text in pack.texts.values())
    assert all(row.source and row.zh for row in pack.substances)
    for row in pack.substances:
        assert (row.days is not None) + (row.degree_days is not None) + row.forbidden == 1


def test_the_four_demonstration_lots_pass_and_the_open_pond_does_not():
    now = at(22)
    for chain in demo_chains(now):
        for number, event in enumerate(chain.events):
            assert judge(chain.chain, event, chain.events[:number], chain.facts, now).findings == ()
        for event in chain.refused:
            verdict = judge(chain.chain, event, chain.events, chain.facts, now)
            assert verdict.refused
            assert verdict.earliest_ms > now
            assert verdict.findings[0].earliest_basis == "estimated"
            assert "500 度日" in verdict.findings[0].source


@pytest.mark.parametrize(("day", "kind"), [(28, "refused"), (29, "allowed")])
def test_a_treated_pig_waits_28_days(day, kind):
    verdict = decide("pork", kill([tag(1)], day), [treat(tag(1), 1, "oxytetracycline", route="injection")])
    assert verdict.kind == kind
    if kind == "refused":
        assert verdict.earliest_ms == at(29)
        assert "2026-11-29" in verdict.findings[0].zh


class TestGroups:
    pen = "urn:x:pen-2"
    cure = treat(tag(1), 1, "oxytetracycline", route="injection")
    moved = aggregation_event("ADD", "loading", at(3), parent=pen, epcs=[tag(1), tag(2)])

    def test_a_treated_pig_blocks_the_pen_it_is_moved_into(self):
        certify = object_event("OBSERVE", STEP + "certifying", at(10), lots={self.pen: (2, None)})
        assert rules_of(decide("pork", certify, [self.cure, self.moved])) == {"withdrawal.days"}

    def test_its_healthy_neighbour_may_go_alone_by_its_ear_tag(self):
        assert decide("pork", kill([tag(2)], 10), [self.cure, self.moved]).kind == "allowed"
        assert decide("pork", kill([tag(1)], 10), [self.cure, self.moved]).refused

    def test_the_pen_is_free_again_when_the_treated_pig_is_taken_out(self):
        out = aggregation_event("DELETE", "unloading", at(5), parent=self.pen, epcs=[tag(1)])
        certify = object_event("OBSERVE", STEP + "certifying", at(10), lots={self.pen: (1, None)})
        assert decide("pork", certify, [self.cure, self.moved, out]).kind == "allowed"

    def test_treating_a_pen_treats_who_stands_in_it_that_day_and_nobody_else(self):
        early = aggregation_event("ADD", "loading", at(1), parent=self.pen, epcs=[tag(3)])
        gone = aggregation_event("DELETE", "unloading", at(2), parent=self.pen, epcs=[tag(3)])
        cure = treat(self.pen, 4, "oxytetracycline", route="injection")
        history = [early, gone, self.moved, cure]
        assert decide("pork", kill([tag(2)], 10), history).refused
        assert decide("pork", kill([tag(3)], 10), history).kind == "allowed"

    def test_a_new_ear_tag_does_not_wash_a_treatment_away(self):
        replaced = association_event("ADD", "replacing", at(5), parent=tag(9), epcs=[tag(1)])
        assert decide("pork", kill([tag(9)], 10), [self.cure, replaced]).refused


class TestFish:
    cure = treat("urn:x:stock", 1, "thiamphenicol", place=POND)

    def facts(self, mean, days, skip=()):
        table = {
            (datetime(2026, 11, 1, tzinfo=CHINA) + timedelta(days=d)).date().isoformat(): mean
            for d in range(days)
            if d not in skip
        }
        return Facts({POND: table})

    def test_25_days_at_20_degrees_are_500_degree_days(self):
        facts = self.facts(20.0, 60)
        assert decide("fish", harvest("urn:x:stock", 26), [self.cure], facts, at(26)).refused
        assert decide("fish", harvest("urn:x:stock", 27), [self.cure], facts, at(27)).kind == "allowed"

    def test_a_day_without_readings_counts_nothing(self):
        facts = self.facts(20.0, 60, skip={5, 6})
        assert decide("fish", harvest("urn:x:stock", 28), [self.cure], facts, at(28)).refused
        assert decide("fish", harvest("urn:x:stock", 29), [self.cure], facts, at(29)).kind == "allowed"

    def test_the_date_is_estimated_at_the_coldest_recent_day_and_says_so(self):
        facts = self.facts(20.0, 10)
        verdict = decide("fish", harvest("urn:x:stock", 11), [self.cure], facts, at(11))
        assert verdict.findings[0].earliest_basis == "estimated"
        assert verdict.earliest_ms == at(
            27, 0
        )  # 9 days known (2nd..10th) give 180; 320 are left: 16 days from the 11th

    def test_without_any_reading_there_is_no_date(self):
        verdict = decide("fish", harvest("urn:x:stock", 200), [self.cure], Facts(), at(200))
        assert rules_of(verdict) == {"withdrawal.no_readings"}
        assert verdict.earliest_ms is None

    def test_waiting_in_the_store_does_not_make_up_for_netting_too_early(self):
        facts = self.facts(20.0, 60)
        early = harvest("urn:x:stock", 10)
        promise = object_event("OBSERVE", "inspecting", at(40), lots={"urn:x:lot": (1000, "GRM")}, **PROMISE)
        assert rules_of(decide("fish", promise, [self.cure, early], facts, at(40))) == {"promise.too_late"}

    def test_a_forbidden_dye_never_becomes_legal(self):
        cure = treat("urn:x:stock", 1, "malachite_green")
        assert rules_of(decide("fish", cure)) == {"treatment.forbidden"}
        verdict = decide("fish", harvest("urn:x:stock", 60), [cure], now=at(60))
        assert rules_of(verdict) == {"withdrawal.forbidden"}
        assert verdict.earliest_ms is None


@pytest.mark.parametrize(("day", "kind"), [(2, "refused"), (4, "allowed")])
def test_eggs_laid_in_the_egg_withdrawal_period_are_refused(day, kind):
    history = [treat("urn:x:flock", 1, "oxytetracycline", route="oral")]
    assert decide("eggs", harvest("urn:x:flock", day, step="laying"), history).kind == kind


def test_a_drug_forbidden_in_lay_is_refused_when_it_is_given():
    assert rules_of(decide("eggs", treat("urn:x:flock", 1, "enrofloxacin"))) == {"treatment.forbidden"}
    assert decide("eggs", treat("urn:x:flock", 1, "oxytetracycline")).kind == "allowed"


@pytest.mark.parametrize(("day", "kind"), [(14, "refused"), (15, "allowed")])
def test_oranges_wait_14_days_after_abamectin(day, kind):
    assert decide("citrus", harvest("urn:x:plot", day), [treat("urn:x:plot", 1, "abamectin")]).kind == kind


def test_a_third_spraying_within_a_year_is_refused():
    sprays = [treat("urn:x:plot", -60, "abamectin"), treat("urn:x:plot", -30, "abamectin")]
    assert decide("citrus", sprays[1], sprays[:1]).kind == "allowed"
    verdict = decide("citrus", treat("urn:x:plot", 1, "abamectin"), sprays)
    assert rules_of(verdict) == {"treatment.too_often"}
    assert "第 3 次" in verdict.findings[0].zh


def test_an_unknown_drug_is_amber_when_given_and_refused_at_the_gate_until_its_label_is_stated():
    cure = treat(tag(1), 1, "novel_mix")
    assert decide("pork", cure).kind == "amber"
    assert rules_of(decide("pork", kill([tag(1)], 25), [cure])) == {"withdrawal.unknown"}
    stated = treat(tag(1), 1, "novel_mix", withdrawalDays=10)
    assert decide("pork", kill([tag(1)], 25), [stated]).kind == "allowed"


def test_no_promise_of_conformity_while_a_period_is_open():
    sprays, picked = [treat("urn:x:plot", 1, "abamectin")], harvest("urn:x:plot", 20)
    promise = object_event("OBSERVE", "inspecting", at(21), lots={"urn:x:lot": (1000, "GRM")}, **PROMISE)
    assert decide("citrus", promise, [*sprays, picked]).kind == "allowed"
    ahead = object_event("OBSERVE", "inspecting", at(5), lots={"urn:x:plot": (1, None)}, **PROMISE)
    verdict = decide("citrus", ahead, sprays)
    assert rules_of(verdict) == {"promise.days"}
    assert "农业农村部令2025年第4号" in verdict.findings[0].source


def test_a_promise_that_leaves_something_out_is_refused():
    own = {"tm:conformityPromise": {"product": "脐橙"}}
    verdict = decide("citrus", object_event("OBSERVE", "inspecting", at(5), lots={"urn:x:lot": (1, "GRM")}, **own))
    assert rules_of(verdict) == {"promise.incomplete"}


CERTIFICATE = {
    "number": "B1", "kind": "animal_b", "vehicle": "渝A1", "issued": event_time(at(5, 5)), "tags": [tag(1), tag(2)],
}  # fmt: skip


def test_goods_packed_again_after_their_promise_need_a_new_one():
    promised = harvest("urn:x:plot", 3, **PROMISE)
    mixed = transform(
        "repackaging", at(5), took_lots={"urn:x:lot": (1000, "GRM")}, made_lots={"urn:x:box": (990, "GRM")}
    )
    sent = object_event("OBSERVE", "shipping", at(6), lots={"urn:x:box": (990, "GRM")})
    assert rules_of(decide("citrus", sent, [promised, mixed])) == {"promise.renew"}
    assert decide("citrus", sent, [promised, mixed]).kind == "amber"
    assert decide("citrus", sent | PROMISE, [promised, mixed]).kind == "allowed"
    unchanged = object_event("OBSERVE", "shipping", at(6), lots={"urn:x:lot": (990, "GRM")})
    assert decide("citrus", unchanged, [promised]).kind == "allowed"


class TestCertificates:
    def ship(self, day=5, plate="渝A1", tags=(1, 2), **changed):
        own = {"tm:quarantine": CERTIFICATE | changed, "tm:vehicle": plate}
        return object_event("OBSERVE", "shipping", at(day), epcs=[tag(n) for n in tags], **own)

    def test_a_fitting_certificate_lets_the_load_go(self):
        assert decide("pork", self.ship()).kind == "allowed"

    @pytest.mark.parametrize(
        ("changes", "rule"),
        [
            ({"plate": "渝B9"}, "certificate.vehicle"),
            ({"day": 6}, "certificate.expired"),
            ({"tags": (1, 2, 3)}, "certificate.tags"),
            ({"tags": (1,)}, "certificate.tags"),
            ({"kind": "animal_z"}, "certificate.unreadable"),
            ({"issued": "yesterday"}, "certificate.unreadable"),
        ],
    )
    def test_one_that_does_not_fit_stops_it(self, changes, rule):
        assert rules_of(decide("pork", self.ship(**changes))) == {rule}

    def test_a_load_without_any_is_stopped(self):
        bare = object_event("OBSERVE", "shipping", at(5), epcs=[tag(1)])
        assert rules_of(decide("pork", bare)) == {"certificate.missing"}

    def test_a_certificate_travels_once(self):
        second = self.ship(tags=(3, 4)) | {"tm:quarantine": CERTIFICATE | {"tags": [tag(3), tag(4)]}}
        assert rules_of(decide("pork", second, [self.ship()])) == {"certificate.reused"}

    def test_a_lorry_nobody_registered_is_amber(self):
        facts = Facts(vehicles=frozenset({"渝C7"}))
        assert decide("pork", self.ship(), facts=facts).kind == "amber"


def test_release_needs_both_stamps_both_papers_and_the_report():
    pack = load_pack("pork")
    lots = {"urn:x:carcass": (70_000, "GRM")}
    full = object_event("OBSERVE", STEP + "releasing", at(6), lots=lots, **{"tm:papers": list(pack.papers)})
    assert decide("pork", full).kind == "allowed"
    verdict = decide("pork", full | {"tm:papers": list(pack.papers)[:-1]})
    assert rules_of(verdict) == {"papers.missing"}
    assert "非洲猪瘟检测报告" in verdict.findings[0].zh


@pytest.mark.parametrize(("method", "region", "kind"), [
    ("strip", "510100", "refused"), ("strip", "500112", "allowed"), ("pcr", "510100", "allowed"),
])  # fmt: skip
def test_a_strip_tested_lot_stays_in_its_province(method, region, kind):
    killed = kill([tag(1)], 5) | {"tm:asfTest": {"method": method, "number": "T1"}, "tm:region": "500153"}
    sent = object_event("OBSERVE", "shipping", at(6), lots={"urn:x:carcass": (70_000, "GRM")},
                        **{"tm:destinationRegion": region})  # fmt: skip
    assert decide("pork", sent, [killed]).kind == kind


def test_an_ear_tag_is_well_formed_and_given_once():
    first = object_event("ADD", "commissioning", at(1), epcs=[tag(1)])
    assert decide("pork", first).kind == "allowed"
    again = object_event("ADD", "commissioning", at(2), epcs=[tag(1)])
    assert rules_of(decide("pork", again, [first])) == {"tag.reused"}
    bad = object_event("ADD", "commissioning", at(2), epcs=[EAR_TAG_URI + "12345"])
    assert rules_of(decide("pork", bad)) == {"tag.malformed"}


def test_a_tag_of_a_county_that_is_not_in_the_register_that_day_is_refused():
    def known(county, on):
        return county == "500153" and on.year >= 2015

    event = object_event("ADD", "commissioning", at(1), epcs=[tag(1)])
    assert decide("pork", event, facts=Facts(county_known=known)).kind == "allowed"
    strange = object_event("ADD", "commissioning", at(1), epcs=[EAR_TAG_URI + "199999900000001"])
    assert rules_of(decide("pork", strange, facts=Facts(county_known=known))) == {"tag.malformed"}
    assert decide("pork", strange).kind == "allowed"


def test_a_county_that_an_incomplete_register_does_not_hold_is_a_warning_and_names_county_and_count():
    tags = [f"{EAR_TAG_URI}1500112{n:08d}" for n in range(3)]
    event = object_event("ADD", "commissioning", at(1), epcs=tags)
    verdict = decide("pork", event, facts=Facts(county_known=lambda _code, _day: None))
    assert verdict.kind == "amber"
    (finding,) = verdict.findings
    assert finding.rule == "tag.county_unchecked"
    assert "500112" in finding.zh
    assert "3 ear tags" in finding.en
    assert finding.things == tuple(tags)


@pytest.mark.parametrize(("grams", "rules"), [
    (75_000, set()), (100_001, {"balance.gain"}), (90_000, {"balance.yield_high"}), (50_000, {"balance.yield_low"}),
])  # fmt: skip
def test_mass_out_of_a_slaughter_fits_the_mass_in(grams, rules):
    event = transform(STEP + "slaughtering", at(5), took_lots={"urn:x:live": (100, "KGM")},
                      made_lots={"urn:x:carcass": (grams, "GRM")})  # fmt: skip
    assert rules_of(decide("pork", event)) == rules


def test_a_transformation_told_in_parts_is_weighed_as_one():
    name = "urn:x:transformation-1"
    inputs = transform(STEP + "cutting", at(5), took_lots={"urn:x:a": (1000, "GRM")}, transformationID=name)
    first = transform(STEP + "cutting", at(5, 10), made_lots={"urn:x:b": (600, "GRM")}, transformationID=name)
    second = transform(STEP + "cutting", at(5, 12), made_lots={"urn:x:c": (401, "GRM")}, transformationID=name)
    assert decide("pork", first, [inputs]).kind == "allowed"
    assert rules_of(decide("pork", second, [inputs, first])) == {"balance.gain"}


def test_mass_finer_than_a_gram_is_refused():
    event = transform(STEP + "cutting", at(5), took_lots={"urn:x:a": (1.2345, "KGM")},
                      made_lots={"urn:x:b": (1, "KGM")})  # fmt: skip
    assert "balance.fraction" in rules_of(decide("pork", event))


class TestLife:
    killed = kill([tag(1)], 5)
    made = object_event("ADD", "commissioning", at(5), epcs=["urn:x:pack"])
    sold = object_event("OBSERVE", "retail_selling", at(6), epcs=["urn:x:pack"])

    def test_an_animal_is_slaughtered_once(self):
        verdict = decide("pork", kill([tag(1), tag(2)], 7), [self.killed])
        assert rules_of(verdict) == {"life.ended"}
        assert verdict.findings[0].things == (tag(1),)
        assert decide("pork", kill([tag(2)], 7), [self.killed]).kind == "allowed"

    def test_a_sold_pack_is_not_sold_again_unless_it_came_back(self):
        again = object_event("OBSERVE", "retail_selling", at(9), epcs=["urn:x:pack"])
        back = object_event("OBSERVE", "receiving", at(8), epcs=["urn:x:pack"], disposition="returned")
        assert rules_of(decide("pork", again, [self.made, self.sold])) == {"life.ended"}
        assert decide("pork", back, [self.sold]).kind == "allowed"
        assert decide("pork", again, [self.made, self.sold, back]).kind == "allowed"

    def test_what_is_over_may_still_be_inspected_and_recalled(self):
        look = object_event("OBSERVE", "inspecting", at(9), epcs=["urn:x:pack"])
        recall = object_event(
            "OBSERVE", "stocking", at(9), epcs=["urn:x:pack"], persistentDisposition={"set": ["recalled"]}
        )
        assert decide("pork", look, [self.sold]).kind == "allowed"
        assert decide("pork", recall, [self.sold]).kind == "allowed"

    def test_an_event_from_the_future_is_refused(self):
        event = object_event("OBSERVE", "inspecting", at(9), epcs=["urn:x:pack"])
        assert rules_of(decide("pork", event, now=at(8))) == {"life.future"}
        assert decide("pork", event, now=at(9) - 60_000).kind == "allowed"

    def test_a_count_that_differs_from_the_records_is_amber(self):
        moved = aggregation_event("ADD", "loading", at(3), parent="urn:x:pen", epcs=[tag(1), tag(2)])
        own = {"tm:headCount": {"pen": "urn:x:pen", "count": 1}}
        counted = object_event("OBSERVE", "cycle_counting", at(4), epcs=[tag(1)], **own)
        assert rules_of(decide("pork", counted, [moved])) == {"count.mismatch"}
        assert decide("pork", counted, [moved]).kind == "amber"
        gone = aggregation_event("DELETE", "unloading", at(4, 7), parent="urn:x:pen", epcs=[tag(2)])
        assert decide("pork", counted, [moved, gone]).kind == "allowed"

    def test_taking_out_what_is_not_inside_is_amber(self):
        moved = aggregation_event("ADD", "loading", at(3), parent="urn:x:pen", epcs=[tag(1)])
        out = aggregation_event("DELETE", "unloading", at(4), parent="urn:x:pen", epcs=[tag(2)])
        assert rules_of(decide("pork", out, [moved])) == {"count.not_inside"}

    def test_an_animal_nobody_registered_is_amber_at_the_gate(self):
        assert rules_of(decide("pork", kill([tag(7)], 7), born=False)) == {"life.unknown"}
        assert decide("pork", kill([tag(7)], 7), born=False).kind == "amber"

    def test_a_pack_nobody_made_is_amber_at_the_till(self):
        assert rules_of(decide("pork", self.sold)) == {"life.unknown"}
        assert decide("pork", self.sold, [self.made]).kind == "allowed"

    def test_a_box_does_not_hold_itself(self):
        inner = aggregation_event("ADD", "packing", at(3), parent="urn:x:b", epcs=["urn:x:a"])
        outer = aggregation_event("ADD", "packing", at(4), parent="urn:x:a", epcs=["urn:x:b"])
        assert decide("pork", outer).kind == "allowed"
        assert rules_of(decide("pork", outer, [inner])) == {"life.cycle"}
