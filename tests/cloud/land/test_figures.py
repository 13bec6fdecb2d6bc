import pytest

from cloud.land import Claim, VerdictKind
from cloud.land.model import Recovery
from cloud.who import Role


@pytest.fixture
def season(world, tools):
    """Four fields that were suspected (two rightly, one fallow, one refused) and one too small to see."""
    features = [tools.feature(f"P{n}", at=n, area_m2=6_666.7) for n in range(4)]
    small = tools.feature(
        "P9", at=9, class_name="undecided", probabilities={}, observability="not_observable", area_m2=6_666.7
    )
    world.land.import_detections(tools.batch(*features, small, model="m1"))
    cases = {case.parcel: case.id for case in world.land.cases(world.reviewer).items}
    world.clock.pass_days(2)
    verdicts = {"P0": VerdictKind.ABANDONED_LONG, "P1": VerdictKind.ABANDONED_1Y, "P2": VerdictKind.PLANNED_FALLOW}
    for n, (parcel, kind) in enumerate(verdicts.items()):
        case = cases[parcel]
        world.land.issue(world.issuer, case, collector="collector")
        world.land.accept(world.collector, case)
        world.land.verify(world.reviewer, case, kind, evidence=[world.file(case, n)])
    world.land.issue(world.issuer, cases["P3"])
    world.land.refuse(world.collector, cases["P3"], "不在清单")
    world.land.dispute(world.issuer, cases["P2"], "x")
    world.land.settle(world.reviewer, cases["P2"], upheld=False, reason="x")
    world.land.close(world.reviewer, cases["P2"])
    world.cases = cases
    return world


def test_figures_count_what_happened_and_nothing_is_a_share_of_nothing(season, tools):
    seen = season.land.figures(season.reviewer)
    assert (seen.candidates, seen.issued, seen.closed) == (0, 4, 1)
    assert seen.lead_days_median == pytest.approx(2.0)
    assert [(one.model, one.verdicts, one.abandoned) for one in seen.precision] == [("m1", 3, 2)]
    assert seen.precision[0].share == pytest.approx(2 / 3)
    assert seen.refused == {"issuer": 1}
    assert (seen.disputes, seen.disputes_upheld) == (1, 0)
    assert seen.reused_evidence == 0.0
    assert seen.visits_per_confirmed_mu == pytest.approx(3 / 20, rel=1e-3)
    assert seen.observable_area == pytest.approx(0.8)
    assert seen.closed_in_time == 1.0
    nothing = season.land.figures(season.stranger)
    assert (nothing.issued, nothing.closed_in_time, nothing.observable_area, nothing.precision) == (0, None, None, ())


def test_a_late_case_is_told_once_at_each_level_and_a_step_starts_anew(season):
    case = season.cases["P0"]
    assert season.land.remind() == ()
    levels = []
    for _ in range(40):
        season.clock.pass_days(1)
        levels += [told.level for told in season.land.remind() if told.case == case]
    assert levels == [0, 1, 2]
    assert season.land.case(season.reviewer, case).case.reminder == 3
    season.land.plan_remedy(season.reviewer, case, "复种")
    assert season.land.case(season.reviewer, case).case.reminder == 0
    assert season.land.remind() == ()
    season.land.start_remedy(season.collector, case)
    claim = season.claim(0)
    season.land.add_evidence(
        season.collector, case, Claim(claim.lon, claim.lat, "WGS84", season.clock()), season.new_photo()
    )
    season.land.submit(season.collector, case)
    season.land.review(season.reviewer, case, Recovery.GRAIN)
    season.land.close(season.reviewer, case)
    assert season.land.figures(season.reviewer).closed_in_time == 0.5


def test_everybody_finds_what_waits_for_him_the_most_urgent_first(season, tools):
    assert [case.id for case in season.land.tasks(season.issuer)] == [season.cases["P3"]]
    assert {case.id for case in season.land.tasks(season.reviewer)} == {season.cases["P0"], season.cases["P1"]}
    assert season.land.tasks(season.collector) == ()
    assert season.land.tasks(season.stranger) == ()
    assert season.land.tasks(tools.person("auditor", (Role.AUDITOR, tools.here))) == ()
    season.land.plan_remedy(season.reviewer, season.cases["P1"], "复种")
    assert [case.id for case in season.land.tasks(season.collector)] == [season.cases["P1"]]
    another = tools.person("another", (Role.COLLECTOR, tools.here))
    assert season.land.tasks(another) == ()


def test_rows_for_a_package_hold_the_region_and_all_below_it(season, tools):
    assert [row["id"] for row in season.land.parcel_rows("500235")] == ["P0", "P1", "P2", "P3", "P9"]
    assert season.land.parcel_rows(tools.there) == []
    rows = season.land.case_rows(tools.here)
    assert [row["parcel"] for row in rows] == ["P0", "P1", "P2", "P3"]
    assert rows[0]["history"][0]["action"] == "open"
