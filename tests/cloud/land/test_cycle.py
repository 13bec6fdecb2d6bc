import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.land.cycle import MAY, MOVES, RESTING, Action, State, allowed, moved
from cloud.problems import Conflict
from cloud.who import Role


def test_every_state_can_be_reached_from_a_candidate():
    reached, edge = {State.CANDIDATE}, {State.CANDIDATE}
    while edge:
        edge = {after for (before, _), after in MOVES.items() if before in edge} - reached
        reached |= edge
    assert reached == set(State)


def test_every_state_but_a_merged_one_has_a_way_on():
    assert {state for state in State if not allowed(state)} == {State.MERGED}
    assert {State.MERGED, State.CLOSED} == RESTING


def test_every_action_belongs_to_somebody_and_none_to_an_auditor():
    assert set(MAY) == {action for _, action in MOVES} == set(Action)
    assert all(roles and Role.AUDITOR not in roles for roles in MAY.values())


def test_nothing_is_judged_or_closed_by_who_collects_or_issues():
    judged = {Action.VERIFY, Action.REVIEW, Action.CLOSE, Action.UPHOLD, Action.OVERRULE, Action.PLAN_REMEDY}
    assert all(MAY[action] == {Role.REVIEWER} for action in judged)


def test_closing_always_goes_through_a_verdict():
    into_closed = {before for (before, _), after in MOVES.items() if after is State.CLOSED}
    assert into_closed == {State.VERIFIED, State.REVIEWED}
    assert {action for (_, action), after in MOVES.items() if after is State.REVIEWED} == {Action.REVIEW}


@given(wishes=st.lists(st.sampled_from(Action), max_size=60))
def test_random_walks_stay_in_the_table_and_a_refusal_names_what_is_allowed(wishes):
    state = State.CANDIDATE
    for action in wishes:
        if (state, action) in MOVES:
            state = moved(state, action)
            continue
        with pytest.raises(Conflict) as no:
            moved(state, action)
        assert no.value.extra["allowed"] == [str(one) for one in allowed(state)]
        assert all(one in no.value.detail for one in allowed(state))
