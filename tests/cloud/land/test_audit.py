import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.land import Claim, VerdictKind
from cloud.land.survey import Stratum, abandoned_area, draw
from cloud.problems import Conflict, Forbidden, Invalid, NotFound, Refused
from cloud.who import Role


@given(
    strata=st.dictionaries(st.text("abc", min_size=1, max_size=2), st.sets(st.integers(0, 99), min_size=1), max_size=4),
    per_stratum=st.integers(1, 20),
    seed=st.integers(0, 2**31),
)
def test_a_draw_can_be_repeated_and_takes_each_parcel_once(strata, per_stratum, seed):
    named = {name: [str(one) for one in ones] for name, ones in strata.items()}
    drawn = draw(named, per_stratum, seed)
    assert drawn == draw({name: ones[::-1] for name, ones in reversed(named.items())}, per_stratum, seed)
    assert len(set(drawn)) == len(drawn)
    for name, ones in named.items():
        assert sum(of == name for of, _ in drawn) == min(len(ones), max(per_stratum, 2))


def test_the_interval_holds_the_truth_in_at_least_93_of_100_surveys():
    chance = random.Random(11)
    # What the map shows, how many parcels, and how often it is really abandoned there: a map that misses some.
    shares = {"suspected": (300, 0.75), "cultivated": (2_000, 0.03), "not_observable": (500, 0.2), "closed": (40, 0.1)}
    county = {
        name: {f"{name}{n}": (chance.lognormvariate(7, 0.8), chance.random() < share) for n in range(count)}
        for name, (count, share) in shares.items()
    }
    truth = sum(area for parcels in county.values() for area, hit in parcels.values() if hit)
    held, values = 0, []
    for seed in range(200):
        drawn = draw({name: list(parcels) for name, parcels in county.items()}, 60, seed)
        strata = [
            Stratum(
                len(parcels),
                sum(area for area, _ in parcels.values()),
                tuple(parcels[parcel] for of, parcel in drawn if of == name),
            )
            for name, parcels in county.items()
        ]
        area = abandoned_area(strata)
        held += area.low <= truth <= area.high
        values.append(area.value)
    assert held / 200 >= 0.93
    assert sum(values) / 200 == pytest.approx(truth, rel=0.04)


def test_a_census_is_certain_and_too_few_visits_say_nothing():
    everything = Stratum(3, 30.0, ((10.0, True), (10.0, False), (10.0, False)))
    area = abandoned_area([everything])
    assert (area.value, area.low, area.high) == pytest.approx((10.0, 10.0, 10.0))
    with pytest.raises(Invalid, match="two are needed"):
        abandoned_area([everything, Stratum(5, 50.0, ((10.0, True),))])


def test_agreement_of_all_visits_is_not_certainty():
    area = abandoned_area([Stratum(1_000, 1_000.0, tuple((1.0, False) for _ in range(30)))])
    assert area.value == 0
    assert 50 < area.high < 150


@pytest.fixture
def surveyed(world, tools):
    """Six fields: three suspected, two called cultivated, one that cannot be seen; and an auditor's round over all."""
    cultivated = {"class_name": "cultivated", "probabilities": {"abandoned": 0.1, "cultivated": 0.9}}
    unseen = {"class_name": "undecided", "probabilities": {}, "observability": "not_observable"}
    looks = [{}, {}, {}, cultivated, cultivated, unseen]
    world.land.import_detections(tools.batch(*(tools.feature(f"P{n}", at=n, **look) for n, look in enumerate(looks))))
    world.auditor = tools.person("auditor", (Role.AUDITOR, "500235"))
    world.walker = tools.person("walker", (Role.COLLECTOR, tools.here))
    world.round = world.land.draw_audit(world.auditor, "500235", per_stratum=2)
    return world


def visit(world, place, found, who=None):
    claim = world.claim(int(place.parcel[1:]))
    return world.land.record_audit(who or world.walker, place.id, found, claim, world.new_photo())


def test_a_round_is_walked_blind_and_measures_the_map_without_changing_it(surveyed):
    world = surveyed
    places = world.land.audit_visits(world.walker)
    assert len(places) == world.round.visits == 5  # two suspected, two cultivated, the one that cannot be seen
    assert {"status", "stratum", "found"} & set(places[0].__dataclass_fields__) == set()
    waiting = world.land.audit_report(world.auditor, world.round.id)
    assert waiting.area_m2 is None
    assert "two are needed" in waiting.missing
    before = world.land.counts(world.auditor)
    for place in places:
        wrong_map = place.parcel == "P3"
        seen = world.land.parcel(world.auditor, place.parcel)["status"] == "suspected" or wrong_map
        visit(world, place, VerdictKind.ABANDONED_LONG if seen else VerdictKind.CULTIVATED)
    told = world.land.audit_report(world.auditor, world.round.id)
    assert told.missing is None
    assert told.visited == 5
    assert told.area_m2.low <= told.area_m2.value <= told.area_m2.high <= told.total_m2
    assert told.found["suspected"] == {"abandoned_long": 2}
    assert told.found["cultivated"] == {"abandoned_long": 1, "cultivated": 1}
    assert world.land.counts(world.auditor) == before
    assert world.land.audit_visits(world.walker) == ()


def test_evidence_of_an_audit_visit_spares_a_later_visit(surveyed):
    world = surveyed
    place = next(one for one in world.land.audit_visits(world.walker) if one.parcel in {"P0", "P1", "P2"})
    filed = visit(world, place, VerdictKind.ABANDONED_LONG)
    case = next(one.id for one in world.land.cases(world.issuer).items if one.parcel == place.parcel)
    with pytest.raises(Refused) as no:
        world.land.issue(world.issuer, case)
    assert no.value.extra["evidence"] == [filed.id]
    verified = world.land.verify(world.reviewer, case, VerdictKind.ABANDONED_LONG, evidence=[filed.id])
    assert verified.state == "verified"


def test_nobody_audits_a_parcel_he_has_collected_on_and_no_visit_counts_twice(surveyed):
    world = surveyed
    place = next(one for one in world.land.audit_visits(world.walker) if one.parcel in {"P0", "P1", "P2"})
    case = next(one.id for one in world.land.cases(world.issuer).items if one.parcel == place.parcel)
    world.land.issue(world.issuer, case, collector="collector")
    world.land.accept(world.collector, case)
    world.file(case, int(place.parcel[1:]))
    with pytest.raises(Forbidden) as no:
        visit(world, place, VerdictKind.CULTIVATED, world.collector)
    assert no.value.code == "two_persons"
    visit(world, place, VerdictKind.CULTIVATED)
    with pytest.raises(Conflict):
        visit(world, place, VerdictKind.CULTIVATED)


def test_a_visit_needs_the_same_evidence_as_any_other(surveyed):
    world = surveyed
    place = world.land.audit_visits(world.walker)[0]
    far = world.claim(int(place.parcel[1:]), east_m=700.0)
    before = world.accounts.verify_audit()
    with pytest.raises(Refused):
        world.land.record_audit(world.walker, place.id, VerdictKind.CULTIVATED, far, world.new_photo())
    assert world.accounts.verify_audit() == before + 1
    assert place in world.land.audit_visits(world.walker)
    assert isinstance(far, Claim)


def test_an_audit_is_for_its_region_and_its_roles(surveyed, tools):
    world = surveyed
    place = world.land.audit_visits(world.walker)[0]
    with pytest.raises(NotFound):
        world.land.draw_audit(world.stranger, "500235")
    with pytest.raises(Forbidden):
        world.land.draw_audit(world.issuer, tools.here)
    with pytest.raises(NotFound):
        world.land.draw_audit(tools.person("a", (Role.AUDITOR, "500153")), tools.there)
    for who, why in ((world.stranger, NotFound), (world.reviewer, Forbidden)):
        with pytest.raises(why):
            visit(world, place, VerdictKind.CULTIVATED, who)
        assert world.land.audit_visits(who) == ()
    with pytest.raises(NotFound):
        world.land.audit_report(world.stranger, world.round.id)
