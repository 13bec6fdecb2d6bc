import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from cloud.land import LandRules, VerdictKind
from cloud.land.cycle import MOVES, Action, State
from cloud.land.demonstration import play
from cloud.land.model import ABANDONED, Recovery
from cloud.land.store import steps, verdicts
from cloud.problems import CloudError, Conflict, Forbidden, Invalid, NotFound, Refused, TooMany
from cloud.who import Role


def candidate(world, tools, parcel="P1", at=0):
    world.land.import_detections(tools.batch(tools.feature(parcel, at=at)))
    return next(case.id for case in world.land.cases(world.issuer).items if case.parcel == parcel)


def accepted(world, tools, parcel="P1", at=0):
    case = candidate(world, tools, parcel, at)
    world.land.issue(world.issuer, case, collector=world.collector.id)
    world.land.accept(world.collector, case)
    return case


def verified(world, tools, kind=VerdictKind.ABANDONED_LONG):
    case = accepted(world, tools)
    world.land.verify(world.reviewer, case, kind, evidence=[world.file(case)])
    return case


def remedying(world, tools):
    case = verified(world, tools)
    world.land.plan_remedy(world.reviewer, case, "翻耕复种")
    world.land.start_remedy(world.collector, case)
    return case


def closed(world, tools):
    case = remedying(world, tools)
    world.clock.pass_days(1)
    world.file(case)
    world.land.submit(world.collector, case)
    world.land.review(world.reviewer, case, Recovery.GRAIN)
    return world.land.close(world.reviewer, case)


def status(world, parcel="P1"):
    shown = world.land.parcel(world.reviewer, parcel)
    return shown["status"], shown["verified"]


def test_a_case_goes_from_clue_to_closing_and_every_step_is_on_record(world, tools):
    case = closed(world, tools)
    detail = world.land.case(world.reviewer, case.id)
    assert [step.after for step in detail.steps] == [
        "candidate", "issued", "accepted", "verified", "remedy_planned", "remedying", "submitted", "reviewed", "closed",
    ]  # fmt: skip
    assert [step.who for step in detail.steps[:4]] == ["system", "issuer", "collector", "reviewer"]
    assert detail.case.recheck_ms > detail.case.closed_ms == world.clock()
    assert [verdict.kind for verdict in detail.verdicts] == ["abandoned_long", "cultivated"]
    assert status(world) == ("cultivated", True)
    assert world.accounts.verify_audit() > len(detail.steps)
    assert detail.actions == (Action.REOPEN,)


def test_the_map_says_abandoned_only_after_a_person_said_so(world, tools):
    case = accepted(world, tools)
    assert status(world) == ("suspected", False)
    photo = world.file(case)
    assert status(world) == ("suspected", False)
    world.land.verify(world.reviewer, case, VerdictKind.ABANDONED_1Y, evidence=[photo])
    assert status(world) == ("abandoned", True)


def test_a_verdict_without_valid_evidence_is_refused(quick_world, tools):
    case = accepted(quick_world, tools)
    other = accepted(quick_world, tools, "P2", at=1)
    elsewhere = quick_world.file(other, at=1)
    for used, code in (([], "evidence_needed"), (["made-up"], "evidence_invalid"), ([elsewhere], "evidence_invalid")):
        with pytest.raises(Refused) as no:
            quick_world.land.verify(quick_world.reviewer, case, VerdictKind.ABANDONED_LONG, evidence=used)
        assert no.value.code == code
    assert status(quick_world) == ("suspected", False)


def test_who_collected_does_not_judge_whatever_other_roles_he_has(quick_world, tools):
    world = quick_world
    world.collector = tools.person("both", (Role.COLLECTOR, tools.here), (Role.REVIEWER, tools.here))
    case = accepted(world, tools)
    photo = world.file(case)
    steps_alone = [
        lambda: world.land.verify(world.collector, case, VerdictKind.ABANDONED_LONG, evidence=[photo]),
        lambda: world.land.send_back(world.collector, case, "unscharf"),
    ]
    for step in steps_alone:
        with pytest.raises(Forbidden) as no:
            step()
        assert no.value.code == "two_persons"
    world.land.verify(world.reviewer, case, VerdictKind.CULTIVATED, evidence=[photo])
    with pytest.raises(Forbidden):
        world.land.close(world.collector, case)


def test_an_admin_too_needs_a_second_person(quick_world, tools):
    world = quick_world
    admin = tools.person("admin", (Role.ADMIN, "500000"))
    case = candidate(world, tools)
    world.land.issue(admin, case)
    world.land.accept(admin, case)
    photo = world.file(case, who=admin)
    with pytest.raises(Forbidden):
        world.land.verify(admin, case, VerdictKind.ABANDONED_LONG, evidence=[photo])


def test_who_audits_a_region_issues_nothing_there(quick_world, tools):
    case = candidate(quick_world, tools)
    both = tools.person("both", (Role.ANALYST, tools.here), (Role.AUDITOR, "500000"))
    with pytest.raises(Forbidden):
        quick_world.land.issue(both, case)


@pytest.mark.parametrize("kind", [kind for kind in VerdictKind if kind not in ABANDONED])
def test_what_is_not_abandoned_has_no_remedy_and_closes(quick_world, tools, kind):
    case = verified(quick_world, tools, kind)
    with pytest.raises(Refused):
        quick_world.land.plan_remedy(quick_world.reviewer, case, "pflügen")
    assert quick_world.land.close(quick_world.reviewer, case).state is State.CLOSED


def test_abandoned_land_is_not_closed_without_a_remedy(quick_world, tools):
    case = verified(quick_world, tools)
    with pytest.raises(Refused, match="remedy"):
        quick_world.land.close(quick_world.reviewer, case)


def test_a_remedy_is_shown_by_a_photo_taken_since_it_began(quick_world, tools):
    world = quick_world
    case = remedying(world, tools)
    world.clock.pass_days(3)
    with pytest.raises(Refused) as no:
        world.land.submit(world.collector, case)
    assert no.value.code == "evidence_needed"
    early = world.claim()
    with pytest.raises(Refused):
        world.land.add_evidence(
            world.collector,
            case,
            type(early)(early.lon, early.lat, "WGS84", early.taken_ms - 4 * 86_400_000),
            world.new_photo(),
        )
    world.file(case)
    assert world.land.submit(world.collector, case).state is State.SUBMITTED
    assert world.land.send_back(world.reviewer, case, "不清楚").state is State.REMEDYING


@pytest.mark.parametrize(("recovery", "good"), [(Recovery.GRAIN, True), (Recovery.FRUIT, False)])
def test_permanent_basic_farmland_is_closed_with_tillage_crops_only(quick_world, tools, recovery, good):
    world = quick_world
    world.land.import_detections(tools.batch(tools.feature("P1", basic_farmland=True)))
    case = remedying(world, tools)
    world.file(case)
    world.land.submit(world.collector, case)
    if good:
        assert world.land.review(world.reviewer, case, recovery).state is State.REVIEWED
    else:
        with pytest.raises(Refused) as no:
            world.land.review(world.reviewer, case, recovery)
        assert no.value.extra["rule"] == "L7"


def test_a_case_refused_by_the_grid_goes_back_up_with_its_reason(quick_world, tools):
    case = candidate(quick_world, tools)
    quick_world.land.issue(quick_world.issuer, case)
    with pytest.raises(Invalid):
        quick_world.land.refuse(quick_world.collector, case, "  ")
    refused = quick_world.land.refuse(quick_world.collector, case, "不在网格清单")
    assert (refused.state, refused.collector) == (State.REFUSED_NOT_IN_SCOPE, None)
    assert quick_world.land.issue(quick_world.issuer, case).state is State.ISSUED


def test_a_case_assigned_to_one_is_not_accepted_by_another(quick_world, tools):
    case = candidate(quick_world, tools)
    quick_world.land.issue(quick_world.issuer, case, collector="somebody")
    with pytest.raises(Forbidden):
        quick_world.land.accept(quick_world.collector, case)


def test_recent_evidence_of_another_case_spares_a_visit(quick_world, tools):
    world = quick_world
    first = verified(world, tools, VerdictKind.CULTIVATED)
    photo = world.land.case(world.reviewer, first).evidence[0].id
    world.land.close(world.reviewer, first)
    world.clock.pass_days(10)
    second = world.land.open_case(world.issuer, "P1").id
    with pytest.raises(Refused) as no:
        world.land.issue(world.issuer, second)
    assert no.value.code == "evidence_exists"
    assert no.value.extra["evidence"] == [photo]
    assert world.land.verify(world.reviewer, second, VerdictKind.CULTIVATED, evidence=[photo]).state is State.VERIFIED
    world.land.close(world.reviewer, second)
    third = world.land.open_case(world.issuer, "P1").id
    assert world.land.issue(world.issuer, third, despite="天气变化").state is State.ISSUED


def test_old_evidence_of_another_case_does_not_count(quick_world, tools):
    world = quick_world
    first = verified(world, tools, VerdictKind.CULTIVATED)
    photo = world.land.case(world.reviewer, first).evidence[0].id
    world.land.close(world.reviewer, first)
    world.clock.pass_days(61)
    second = world.land.open_case(world.issuer, "P1").id
    with pytest.raises(Refused):
        world.land.verify(world.reviewer, second, VerdictKind.CULTIVATED, evidence=[photo])
    assert world.land.issue(world.issuer, second).state is State.ISSUED


@pytest.mark.parametrize("rules", [LandRules(issues_per_region_month=2)])
def test_a_month_has_a_budget_and_the_next_one_a_new_one(quick_world, tools, rules):
    world = quick_world
    numbers = [candidate(world, tools, f"P{n}", at=n) for n in range(4)]
    for case in numbers[:2]:
        world.land.issue(world.issuer, case)
    with pytest.raises(TooMany):
        world.land.issue(world.issuer, numbers[2])
    assert world.land.case(world.issuer, numbers[2]).case.state is State.CANDIDATE
    world.clock.pass_days(31)
    assert world.land.issue(world.issuer, numbers[2]).state is State.ISSUED


def test_a_dispute_that_is_upheld_withdraws_the_verdict_and_sends_people_again(quick_world, tools):
    world = quick_world
    case = verified(world, tools)
    farmer = tools.person("village", (Role.VIEWER, tools.here))
    assert world.land.dispute(farmer, case, "种了绿肥").state is State.DISPUTED
    with pytest.raises(Conflict):
        world.land.plan_remedy(world.reviewer, case, "翻耕")
    assert world.land.settle(world.reviewer, case, upheld=True, reason="属实").state is State.ACCEPTED
    assert status(world) == ("suspected", False)
    assert world.land.case(world.reviewer, case).verdicts[0].withdrawn_ms == world.clock()


def test_a_dispute_that_is_overruled_leaves_the_verdict(quick_world, tools):
    case = verified(quick_world, tools)
    quick_world.land.dispute(quick_world.issuer, case, "不同意")
    quick_world.land.settle(quick_world.reviewer, case, upheld=False, reason="证据充分")
    assert status(quick_world) == ("abandoned", True)


def test_a_satellite_that_sees_a_closed_field_empty_next_season_points_at_it_again(world, tools):
    case = closed(world, tools).id
    same_season = world.land.import_detections(tools.batch(tools.feature("P1", reasons_zh=["again"])))
    assert same_season.reopened == 0
    assert status(world) == ("cultivated", True)
    later = world.land.import_detections(tools.batch(tools.feature("P1", crop_year=2027)))
    assert (later.reopened, later.candidates) == (1, 0)
    detail = world.land.case(world.reviewer, case)
    assert detail.case.state is State.REOPENED
    assert detail.case.verdict is None
    assert detail.steps[-1].who == "system"
    assert status(world) == ("suspected", False)


def test_a_duplicate_is_merged_into_the_other_case(quick_world, tools):
    one, two = candidate(quick_world, tools), candidate(quick_world, tools, "P2", at=1)
    with pytest.raises(Conflict):
        quick_world.land.merge(quick_world.issuer, one, one)
    with pytest.raises(NotFound):
        quick_world.land.merge(quick_world.issuer, one, "500235-2026-99999")
    merged = quick_world.land.merge(quick_world.issuer, two, one)
    assert (merged.state, merged.merged_into) == (State.MERGED, one)


def test_terms_are_counted_in_working_days(quick_world, tools):
    case = candidate(quick_world, tools)  # the clock stands on Wednesday 18 November 2026
    due = quick_world.land.issue(quick_world.issuer, case).due_ms
    # Ten working days later is Wednesday 2 December, and the term ends with that day in China.
    assert due == 1_796_227_199_999


def test_the_loop_is_played_once_by_demonstration_persons_and_not_again(world, tools):
    world.land.import_detections(tools.batch(*(tools.feature(f"P{n}", at=n) for n in range(3))))
    first = play(world.land, world.accounts, world.regions, region="500235")
    assert first.state is State.CLOSED
    assert play(world.land, world.accounts, world.regions, region="500235") == first
    assert world.land.counts(world.reviewer)["cases"] == {"closed": 1, "candidate": 2}


def test_the_demonstration_goes_on_from_where_it_was_stopped(quick_world, tools):
    world = quick_world
    case = candidate(world, tools)
    issuer = tools.person("demo-issuer", (Role.ANALYST, "500235"))
    world.land.issue(issuer, case, collector="demo-collector")
    assert play(world.land, world.accounts, world.regions, region="500235").case_id == case


def test_without_a_candidate_there_is_nothing_to_demonstrate(quick_world):
    with pytest.raises(NotFound, match="no candidate"):
        play(quick_world.land, quick_world.accounts, quick_world.regions, region="500235")


ACTORS = ("issuer", "collector", "reviewer", "stranger", "admin")


def attempt(world, who, action, case):
    """Try one action with plausible arguments."""
    land = world.land
    photos = [photo.id for photo in land.case(world.reviewer, case).evidence]
    doing = {
        Action.ISSUE: lambda: land.issue(who, case, despite="x"),
        Action.ACCEPT: lambda: land.accept(who, case),
        Action.REFUSE: lambda: land.refuse(who, case, "x"),
        Action.SEND_BACK: lambda: land.send_back(who, case, "x"),
        Action.VERIFY: lambda: land.verify(who, case, VerdictKind.ABANDONED_LONG, evidence=photos),
        Action.PLAN_REMEDY: lambda: land.plan_remedy(who, case, "x"),
        Action.START_REMEDY: lambda: land.start_remedy(who, case),
        Action.SUBMIT: lambda: land.submit(who, case),
        Action.REVIEW: lambda: land.review(who, case, Recovery.GRAIN),
        Action.CLOSE: lambda: land.close(who, case),
        Action.REOPEN: lambda: land.reopen(who, case, "x"),
        Action.DISPUTE: lambda: land.dispute(who, case, "x"),
        Action.UPHOLD: lambda: land.settle(who, case, upheld=True, reason="x"),
        Action.OVERRULE: lambda: land.settle(who, case, upheld=False, reason="x"),
        Action.ESCALATE: lambda: land.escalate(who, case, "x"),
        Action.MERGE: lambda: land.merge(who, case, "500235-2026-00002"),
        "photo": lambda: land.add_evidence(who, case, world.claim(), world.new_photo()),
    }
    doing[action]()


# The fixture only makes worlds; each example gets its own.
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    wishes=st.lists(
        st.tuples(st.sampled_from(ACTORS), st.sampled_from([*Action, "photo", "photo"])), min_size=5, max_size=40
    )
)
def test_whoever_tries_whatever_the_history_stays_legal_and_two_persons_stand_behind_a_verdict(
    fresh_world, tools, wishes
):
    world = fresh_world()
    world.admin = tools.person("admin", (Role.ADMIN, "500000"))
    case = candidate(world, tools)
    candidate(world, tools, "P2", at=1)
    for name, action in wishes:
        try:
            attempt(world, getattr(world, name), action, case)
        except CloudError:
            continue
        assert name != "stranger"
    with world.engine.connect() as db:
        history = db.execute(select(steps).where(steps.c.case == case).order_by(steps.c.seq)).all()
        signed = db.execute(select(verdicts).where(verdicts.c.case == case)).all()
    state = State.CANDIDATE
    for step in history[1:]:
        assert step.before == state
        state = MOVES[State(step.before), Action(step.action)]
        assert step.after == state
    detail = world.land.case(world.reviewer, case)
    assert detail.case.state is state
    collectors = {photo.id: photo.collector for photo in detail.evidence}
    for verdict in detail.verdicts:
        assert verdict.evidence
        assert verdict.signer not in {collectors[photo] for photo in verdict.evidence}
    assert len(signed) == len(detail.verdicts)
    assert (status(world)[0] == "abandoned") <= any(v.kind in ABANDONED for v in detail.verdicts)
    assert world.accounts.verify_audit() >= len(history)
    world.engine.dispose()
