"""Commands and configurations as they go over the wire. Times are integer ms UTC."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "CommandPage",
    "CommandView",
    "CommandWish",
    "ConfigurationView",
    "ConfigurationWish",
    "ReportView",
    "RevisionView",
]

CommandState = Literal["queued", "sent", "accepted", "done", "refused", "failed", "expired"]
_WORD = r"^[A-Za-z0-9][A-Za-z0-9\-:._]{0,63}$"


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class CommandWish(BaseModel):
    """What a person wants an actuator to do."""

    model_config = ConfigDict(extra="forbid")

    id: str | None = Field(
        default=None, pattern=_WORD, description="yours, so that asking twice is asking once; else one is made"
    )
    target: str = Field(pattern=_WORD, description="an actuator of the farm")
    operation: Literal["set", "release", "read"]
    value: float | None = Field(default=None, ge=0.0, le=1.0, description="share of full output, with `set` only")
    valid_s: int = Field(default=120, ge=5, le=86_400, description="how long it may be carried out, and a `set` stand")
    reason: str = Field(min_length=2, max_length=500, description="why, for the record")


class CommandView(_View):
    """A command and how far it is.

    `queued`: not yet at the broker; `sent`: no answer yet, repeated until it expires; `accepted`: the gateway has
    begun; the rest are ends. `expired` with the reason `no_answer` is the cloud's own view: a gateway that comes back
    may still say what it did.
    """

    id: str
    gateway: str
    target: str
    operation: str
    value: float | None
    not_before_ms: int
    expires_ms: int
    by: str
    reason: str
    asked_ms: int
    sent_ms: int | None
    sendings: int
    state: CommandState
    said: str = Field(description="the gateway's reason (`interlock:…`, `unknown_target`, …), or `no_answer`")
    said_ms: int | None
    proved: bool = Field(description="the last word was signed by the gateway, not only reported as an event")


class CommandPage(_View):
    """Commands of one gateway, the latest first; `next` is the `before` of the next page."""

    items: list[CommandView]
    next: str | None


class ConfigurationWish(BaseModel):
    """What a gateway should have: tables of its settings file, each in the place of the file's own."""

    model_config = ConfigDict(extra="forbid")

    body: dict[str, Any] = Field(description="`gateway`, `page`, `driver`, `output`; empty: the farm's own file alone")
    after: int = Field(ge=0, le=2**53, description="the revision you have seen (0: none), so that none is overlooked")
    reason: str = Field(min_length=2, max_length=500)


class ReportView(_View):
    """What a gateway said about one revision."""

    revision: int
    outcome: Literal["trial", "kept", "rolled_back", "refused"]
    reason: str
    effective: int | None = Field(description="the revision in effect then; 0 is the farm's own file")
    time_ms: int
    received_ms: int
    proved: bool


class RevisionView(_View):
    """One wanted configuration: who asked for it, why, and what became of it."""

    revision: int
    body: dict[str, Any]
    by: str
    reason: str
    asked_ms: int
    sent_ms: int | None = Field(description="since when it lies at the broker; null: not yet")
    reports: list[ReportView]


class ConfigurationView(_View):
    """Desired and reported: in agreement where `effective` is the desired revision."""

    gateway: str
    desired: RevisionView | None
    reported: ReportView | None = Field(description="the newest word of the gateway")
    effective: int | None = Field(description="the revision in effect, as far as the gateway has signed for it")
    state: Literal["none", "waiting", "trial", "kept", "rolled_back", "refused"]
    history: list[RevisionView] = Field(description="the latest 50, newest first")
