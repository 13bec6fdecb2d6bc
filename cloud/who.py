"""Who is asking, where, and that it is written down: what every context's door needs to know about people.

Accounts sign people in and put a `Who` on the request; routers declare in the handler's signature which roles may
call. `Inside` and `Audit` are what contexts ask of regions and accounts without knowing them; wiring passes both.
Nothing here reads a database.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Protocol

from fastapi import Depends, Request
from sqlalchemy import Connection, Select

from cloud.problems import Forbidden, Unauthenticated

__all__ = ["Audit", "Grant", "Inside", "Role", "SignedIn", "Who", "having", "signed_in", "still"]

Inside = Callable[[Collection[str]], Select[tuple[str]]]
"""inside(regions): the codes that belong to any of them, as a query."""


class Role(StrEnum):
    """What a person may be in a region (glossary in the domain reference)."""

    ADMIN = "admin"
    ANALYST = "analyst"  # runs detections, issues cases
    COLLECTOR = "collector"  # grid member: visits and files evidence
    REVIEWER = "reviewer"  # signs verdicts and closes; never on a case he collected for
    AUDITOR = "auditor"  # reads everything in his region, changes nothing
    OPERATOR = "operator"  # keeps gateways and alarms
    TRACER = "tracer"  # captures chain events, runs recalls
    VIEWER = "viewer"


@dataclass(frozen=True, slots=True)
class Grant:
    """A role in a region and all below it. `region` is a GB/T 2260 code (6 digits) or longer."""

    role: Role
    region: str


@dataclass(frozen=True, slots=True)
class Who:
    """A signed-in person."""

    id: str
    name: str
    grants: frozenset[Grant]

    def regions(self, *roles: Role) -> frozenset[str]:
        """Regions in which this person has one of the roles (any role when none is named)."""
        return frozenset(grant.region for grant in self.grants if not roles or grant.role in roles)


# The two checks are coroutines although they wait for nothing: the framework sends plain functions to a thread, and two
# changes of thread cost a request more than everything else that is done for it.
async def signed_in(request: Request) -> Who:
    """The person behind this request. Raises `Unauthenticated` where there is none."""
    who = getattr(request.state, "who", None)
    if not isinstance(who, Who):
        raise Unauthenticated("sign in first: open the one-time link that the start of the service printed")
    return who


def still(request: Request) -> Who | None:
    """Who is behind a request that goes on for long, asked again now; None once the session has ended.

    Waits for the database: call it in a thread.
    """
    again: Callable[[], Who | None] | None = getattr(request.state, "again", None)
    return getattr(request.state, "who", None) if again is None else again()


def having(*roles: Role) -> Callable[[Who], Awaitable[Who]]:
    """A dependency that lets only people with one of `roles` in (an admin may do anything)."""

    async def check(who: SignedIn) -> Who:
        if not who.regions(Role.ADMIN, *roles):
            wanted = ", ".join(roles)
            raise Forbidden(f"this needs the role {wanted}; {who.name} does not have it in any region")
        return who

    return check


SignedIn = Annotated[Who, Depends(signed_in)]


class Audit(Protocol):
    """Writes one entry of the audit trail on the caller's connection."""

    def __call__(  # noqa: D102 - the class says it
        self,
        connection: Connection,
        who: str,
        what: str,
        subject: str,
        detail: Mapping[str, Any] | None = None,
        region: str | None = None,
    ) -> None: ...
