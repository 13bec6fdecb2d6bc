"""Several people at the same moment: one of them is first, and nothing is lost or doubled."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from cloud.land import VerdictKind
from cloud.problems import CloudError, Conflict
from cloud.who import Role


def all_at_once(*acts):
    """What each act gave or raised, all started together."""

    def safely(act):
        try:
            return act()
        except CloudError as why:
            return why

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(safely, acts))


def test_a_case_is_taken_by_one_of_those_who_reach_for_it(world, tools):
    world.land.import_detections(tools.batch(tools.feature("P1")))
    case = world.land.cases(world.issuer).items[0].id
    world.land.issue(world.issuer, case)
    people = [tools.person(f"c{n}", (Role.COLLECTOR, tools.here)) for n in range(5)]
    done = all_at_once(*(lambda who=who: world.land.accept(who, case) for who in people))
    taken = [one for one in done if not isinstance(one, CloudError)]
    assert len(taken) == 1
    assert world.land.case(world.issuer, case).case.collector == taken[0].collector
    assert [step.action for step in world.land.case(world.issuer, case).steps] == ["open", "issue", "accept"]


def test_a_case_gets_one_verdict_however_many_sign_at_once(world, tools):
    world.land.import_detections(tools.batch(tools.feature("P1")))
    case = world.land.cases(world.issuer).items[0].id
    world.land.issue(world.issuer, case, collector="collector")
    world.land.accept(world.collector, case)
    photo = world.file(case)
    reviewers = [tools.person(f"r{n}", (Role.REVIEWER, tools.here)) for n in range(4)]
    kinds = [VerdictKind.ABANDONED_LONG, VerdictKind.CULTIVATED] * 2
    done = all_at_once(
        *(
            lambda who=who, kind=kind: world.land.verify(who, case, kind, evidence=[photo])
            for who, kind in zip(reviewers, kinds, strict=True)
        )
    )
    assert sum(isinstance(one, Conflict) for one in done) == 3
    assert len(world.land.case(world.reviewer, case).verdicts) == 1


def test_a_photo_filed_twice_at_once_counts_once(world, tools):
    world.land.import_detections(tools.batch(tools.feature("P1")))
    case = world.land.cases(world.issuer).items[0].id
    world.land.issue(world.issuer, case, collector="collector")
    world.land.accept(world.collector, case)
    photo, claim = world.new_photo(), world.claim()
    done = all_at_once(*[lambda: world.land.add_evidence(world.collector, case, claim, photo)] * 4)
    assert sorted(getattr(one, "code", "filed") for one in done) == ["filed", *["photo_reused"] * 3]
    assert len(world.land.case(world.reviewer, case).evidence) == 1


def test_numbers_run_on_and_the_chain_holds_when_batches_arrive_together(world, tools):
    batches = [tools.batch(*(tools.feature(f"B{n}-{m}", at=10 * n + m) for m in range(5))) for n in range(4)]
    done = all_at_once(*(lambda batch=batch: world.land.import_detections(batch) for batch in batches))
    assert [one.candidates for one in done] == [5, 5, 5, 5]
    numbers = sorted(case.id for case in world.land.cases(world.issuer, limit=100).items)
    assert numbers == [f"500235-2026-{n:05d}" for n in range(1, 21)]
    assert world.accounts.verify_audit() > 20


@pytest.mark.parametrize("people", [6])
def test_a_sign_in_link_lets_one_of_many_in(world, people):
    world.accounts.person("李", id="li")
    token = world.accounts.issue_sign_in("li")
    done = all_at_once(*[lambda: world.accounts.sign_in(token)] * people)
    assert sum(isinstance(one, str) for one in done) == 1
    assert world.accounts.verify_audit() > 0
