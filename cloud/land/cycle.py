"""The life of a case, as one table. Nothing else in the cloud moves a case.

    candidate -> issued -> accepted -> verified -> remedy_planned -> remedying -> submitted -> reviewed -> closed
        |          |          |  ^        |
      merged   refused,    returned    closed (a verdict other than "abandoned"), disputed
               escalated

Each move names the roles that may make it. That the same person may not do two certain things in one case depends
on who did what, and stands in `cloud.land.service`.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from cloud.problems import Conflict
from cloud.who import Role

__all__ = ["MAY", "MOVES", "RESTING", "WAITS_FOR", "Action", "State", "allowed", "moved"]


class State(StrEnum):
    """Where a case stands."""

    CANDIDATE = "candidate"
    ISSUED = "issued"  # 下发
    ACCEPTED = "accepted"
    RETURNED = "returned"  # 退回补证
    VERIFIED = "verified"  # 核实
    REMEDY_PLANNED = "remedy_planned"
    REMEDYING = "remedying"  # 整改
    SUBMITTED = "submitted"
    REVIEWED = "reviewed"  # 审核
    CLOSED = "closed"  # 销号
    REFUSED_NOT_IN_SCOPE = "refused_not_in_scope"
    DISPUTED = "disputed"
    ESCALATED = "escalated"
    REOPENED = "reopened"
    MERGED = "merged"


class Action(StrEnum):
    """What somebody does to a case."""

    ISSUE = "issue"
    ACCEPT = "accept"
    REFUSE = "refuse"
    SEND_BACK = "send_back"
    VERIFY = "verify"
    PLAN_REMEDY = "plan_remedy"
    START_REMEDY = "start_remedy"
    SUBMIT = "submit"
    REVIEW = "review"
    CLOSE = "close"
    REOPEN = "reopen"
    DISPUTE = "dispute"
    UPHOLD = "uphold"  # the dispute is right: the verdict no longer stands, the place is visited again
    OVERRULE = "overrule"  # the dispute is wrong: the verdict stands
    ESCALATE = "escalate"
    MERGE = "merge"


MOVES: Final[Mapping[tuple[State, Action], State]] = MappingProxyType(
    {
        (State.CANDIDATE, Action.ISSUE): State.ISSUED,
        (State.CANDIDATE, Action.MERGE): State.MERGED,
        # Evidence of another origin may answer the question without a visit (rule L2).
        (State.CANDIDATE, Action.VERIFY): State.VERIFIED,
        (State.ISSUED, Action.ACCEPT): State.ACCEPTED,
        (State.ISSUED, Action.REFUSE): State.REFUSED_NOT_IN_SCOPE,
        (State.ISSUED, Action.ESCALATE): State.ESCALATED,
        (State.REFUSED_NOT_IN_SCOPE, Action.ISSUE): State.ISSUED,
        (State.REFUSED_NOT_IN_SCOPE, Action.MERGE): State.MERGED,
        (State.ESCALATED, Action.ISSUE): State.ISSUED,
        (State.ACCEPTED, Action.VERIFY): State.VERIFIED,
        (State.ACCEPTED, Action.SEND_BACK): State.RETURNED,
        (State.ACCEPTED, Action.ESCALATE): State.ESCALATED,
        (State.RETURNED, Action.ACCEPT): State.ACCEPTED,
        (State.RETURNED, Action.ESCALATE): State.ESCALATED,
        (State.VERIFIED, Action.PLAN_REMEDY): State.REMEDY_PLANNED,
        (State.VERIFIED, Action.CLOSE): State.CLOSED,
        (State.VERIFIED, Action.DISPUTE): State.DISPUTED,
        (State.REMEDY_PLANNED, Action.START_REMEDY): State.REMEDYING,
        (State.REMEDY_PLANNED, Action.DISPUTE): State.DISPUTED,
        (State.DISPUTED, Action.UPHOLD): State.ACCEPTED,
        (State.DISPUTED, Action.OVERRULE): State.VERIFIED,
        (State.REMEDYING, Action.SUBMIT): State.SUBMITTED,
        (State.SUBMITTED, Action.REVIEW): State.REVIEWED,
        (State.SUBMITTED, Action.SEND_BACK): State.REMEDYING,
        (State.REVIEWED, Action.CLOSE): State.CLOSED,
        (State.CLOSED, Action.REOPEN): State.REOPENED,
        (State.REOPENED, Action.ISSUE): State.ISSUED,
        (State.REOPENED, Action.MERGE): State.MERGED,
    }
)

_ANALYST: Final = frozenset({Role.ANALYST})
_COLLECTOR: Final = frozenset({Role.COLLECTOR})
_REVIEWER: Final = frozenset({Role.REVIEWER})

MAY: Final[Mapping[Action, frozenset[Role]]] = MappingProxyType(
    {
        Action.ISSUE: _ANALYST,
        Action.MERGE: _ANALYST,
        Action.ESCALATE: _ANALYST | _REVIEWER,
        Action.ACCEPT: _COLLECTOR,
        Action.REFUSE: _COLLECTOR,
        Action.START_REMEDY: _COLLECTOR,
        Action.SUBMIT: _COLLECTOR,
        Action.VERIFY: _REVIEWER,
        Action.SEND_BACK: _REVIEWER,
        Action.PLAN_REMEDY: _REVIEWER,
        Action.REVIEW: _REVIEWER,
        Action.CLOSE: _REVIEWER,
        Action.REOPEN: _REVIEWER,
        Action.UPHOLD: _REVIEWER,
        Action.OVERRULE: _REVIEWER,
        # Whoever speaks for the farmer may object; an auditor only reads.
        Action.DISPUTE: frozenset({Role.VIEWER, Role.COLLECTOR, Role.ANALYST, Role.REVIEWER}),
    }
)

WAITS_FOR: Final[Mapping[Role, frozenset[State]]] = MappingProxyType(
    {
        Role.ANALYST: frozenset({State.CANDIDATE, State.REFUSED_NOT_IN_SCOPE, State.ESCALATED, State.REOPENED}),
        Role.COLLECTOR: frozenset(
            {State.ISSUED, State.ACCEPTED, State.RETURNED, State.REMEDY_PLANNED, State.REMEDYING}
        ),
        Role.REVIEWER: frozenset({State.ACCEPTED, State.VERIFIED, State.SUBMITTED, State.REVIEWED, State.DISPUTED}),
    }
)
"""Whose turn it is in each state. Once accepted, a case waits for photos and then for a judge."""

RESTING: Final = frozenset({State.CLOSED, State.MERGED})
"""States in which nobody owes anybody anything."""


def allowed(state: State) -> tuple[Action, ...]:
    """What can be done to a case in this state, whoever does it."""
    return tuple(action for (start, action) in MOVES if start is state)


def moved(state: State, action: Action) -> State:
    """The state after `action`. Raises `Conflict` that names what is allowed instead."""
    after = MOVES.get((state, action))
    if after is None:
        possible = ", ".join(allowed(state)) or "nothing"
        raise Conflict(
            f"a case that is {state} cannot be changed by {action}; possible here: {possible}",
            code="illegal_transition",
            state=str(state),
            allowed=[str(other) for other in allowed(state)],
        )
    return after
