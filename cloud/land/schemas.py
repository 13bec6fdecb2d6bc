"""What the land doors take, as JSON. What they give are the context's own values (`cloud.land.model`)."""

from pydantic import BaseModel, Field

from cloud.land.model import Recovery, VerdictKind

__all__ = ["AuditIn", "CloseIn", "IssueIn", "MergeIn", "OpenIn", "ReasonIn", "ReviewIn", "SettleIn", "VerdictIn"]

_NOTE = 2_000


class OpenIn(BaseModel):
    """Open a candidate on a parcel."""

    parcel: str = Field(min_length=1, max_length=80)


class IssueIn(BaseModel):
    """Send a case out; `despite` says why although evidence is there."""

    collector: str | None = Field(default=None, max_length=64)
    despite: str = Field(default="", max_length=_NOTE)


class ReasonIn(BaseModel):
    """A reason or a plan that must be given."""

    note: str = Field(min_length=1, max_length=_NOTE)


class CloseIn(BaseModel):
    """A note that may be left out."""

    note: str = Field(default="", max_length=_NOTE)


class VerdictIn(BaseModel):
    """What was found, and by which photos."""

    kind: VerdictKind
    evidence: list[str] = Field(max_length=100)
    note: str = Field(default="", max_length=_NOTE)


class ReviewIn(BaseModel):
    """What grows again."""

    recovery: Recovery
    note: str = Field(default="", max_length=_NOTE)


class AuditIn(BaseModel):
    """Where to draw an audit, and how many places in each stratum."""

    region: str = Field(min_length=6, max_length=40)
    per_stratum: int = Field(default=30, ge=1, le=2_000)


class SettleIn(BaseModel):
    """The decision on a dispute."""

    upheld: bool
    note: str = Field(min_length=1, max_length=_NOTE)


class MergeIn(BaseModel):
    """The case that another one is folded into."""

    into: str = Field(min_length=1, max_length=60)
