"""What the alarm board sees and says. Times are integer ms UTC."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "Acknowledge",
    "AlarmPage",
    "AlarmView",
    "Done",
    "Receiver",
    "ReceiverView",
    "RuleView",
    "ShelfView",
    "Shelve",
    "ShelveAlarms",
    "Storm",
]

AlarmState = Literal["raised", "acknowledged", "cleared", "withdrawn"]


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class StepView(_View):
    """Something a person or the service did about an alarm."""

    at_ms: int
    kind: str
    by: str
    note: str


class AlarmView(_View):
    """One raising of one rule at one gateway."""

    id: int
    gateway: str
    gateway_name: str
    region: str
    rule: str
    severity: Literal["warning", "critical"]
    state: AlarmState
    zh: str
    en: str
    action_zh: str
    action_en: str
    source: str
    subject: list[str]
    values: dict[str, float | None]
    since_ms: int
    raised_ms: int
    noticed_ms: int
    cleared_ms: int | None
    acknowledged_ms: int | None
    acknowledged_by: str | None
    historical: bool = Field(description="found in late data; nobody was called")
    shelved: bool
    steps: list[StepView] = []


class Storm(_View):
    """Alarms that began together at one gateway or in one region: shown as one line, opened on demand."""

    title_zh: str
    title_en: str
    region: str
    first_ms: int
    alarms: list[int]


class AlarmPage(_View):
    """Alarms, the latest first, and the storms among them."""

    items: list[AlarmView]
    storms: list[Storm]
    next: str | None


class Acknowledge(BaseModel):
    """Alarms that somebody has seen and looks after."""

    ids: list[Annotated[int, Field(ge=0, le=2**53)]] = Field(min_length=1, max_length=1000)
    note: str = Field(default="", max_length=500)


class ShelveAlarms(BaseModel):
    """Keep quiet for a while about the rules that raised these alarms."""

    ids: list[Annotated[int, Field(ge=0, le=2**53)]] = Field(min_length=1, max_length=1000)
    minutes: int = Field(ge=1, le=7 * 24 * 60)
    reason: str = Field(min_length=2, max_length=500)


class Receiver(BaseModel):
    """Somebody who is told about alarms of a region and all below it."""

    name: str = Field(min_length=1, max_length=100)
    kind: Literal["webhook", "smtp", "log"]
    address: str = Field(min_length=1, max_length=500, description="URL of a webhook, or mail address")
    region: str = Field(min_length=2, max_length=20)
    severity: Literal["warning", "critical"] = "warning"
    level: int = Field(default=0, ge=0, le=4, description="0 is told at once, 1 when nobody acknowledged, and so on")
    per_hour: int = Field(default=20, ge=1, le=1000)


class ReceiverView(Receiver):
    """A receiver as it is kept, and how telling goes."""

    id: int
    failures: int = Field(default=0, description="tries that failed in a row; 0: reached last time")
    last_error: str | None = None
    next_try_ms: int | None = Field(default=None, description="something new is tried before that, once")
    given_up: int = Field(default=0, description="messages that were given up after 20 tries")


class Shelve(BaseModel):
    """Keep quiet about a rule of a gateway (`*`: all its rules) for a while."""

    gateway: str
    rule: str = "*"
    minutes: int = Field(ge=1, le=7 * 24 * 60)
    reason: str = Field(min_length=2, max_length=500)


class ShelfView(_View):
    """A shelf that has not expired."""

    gateway: str
    rule: str
    until_ms: int
    by: str
    reason: str


class RuleView(_View):
    """A rule that watches a gateway, as it was written."""

    id: str
    severity: str
    inputs: dict[str, str]
    on: str
    off: str | None
    hold_ms: int
    clear_ms: int
    texts: dict[str, str]


class Done(BaseModel):
    """How many were changed."""

    changed: int


def rule_view(rule: Any) -> RuleView:
    """An `edge.rules.Rule` as it goes over the wire."""
    return RuleView(
        id=rule.id,
        severity=rule.severity,
        inputs={alias: one.series for alias, one in rule.inputs.items()},
        on=rule.on.text,
        off=rule.off.text if rule.off else None,
        hold_ms=rule.hold_ms,
        clear_ms=rule.clear_ms,
        texts=dict(rule.texts),
    )
