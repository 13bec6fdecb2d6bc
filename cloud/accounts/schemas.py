"""What the accounts' doors take and give, as JSON."""

from typing import Any

from pydantic import BaseModel, Field

from cloud.who import Who

__all__ = ["AuditEntry", "GrantView", "Password", "SessionView"]


class GrantView(BaseModel):
    """A role in a region."""

    role: str
    region: str


class SessionView(BaseModel):
    """Who is signed in."""

    id: str
    name: str
    grants: list[GrantView]

    @classmethod
    def of(cls, who: Who) -> "SessionView":
        """The view of one person."""
        held = sorted(who.grants, key=lambda grant: (grant.region, grant.role))
        return cls(id=who.id, name=who.name, grants=[GrantView(role=g.role, region=g.region) for g in held])


class Password(BaseModel):
    """A sign-in by id and password."""

    person: str = Field(min_length=1, max_length=64)
    password: str = Field(min_length=1, max_length=1024)


class AuditEntry(BaseModel):
    """One entry of the audit trail."""

    seq: int
    at_ms: int
    who: str
    what: str
    subject: str
    region: str | None
    detail: dict[str, Any]
    digest: str
