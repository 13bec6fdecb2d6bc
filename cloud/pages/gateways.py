"""What a gateway's page shows beside its readings: is it well, what is wanted of it, and what could not be taken.

Who may not act in the gateway's region gets the same page without forms; a configuration may hold a page's PIN and is
shown to operators alone.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError
from starlette.datastructures import FormData

from cloud.pages.gateway_events import actuator_reason, sentence
from cloud.pages.speech import Speech
from cloud.pages.words import Language
from cloud.problems import CloudError, Forbidden, Invalid
from cloud.steering.schemas import CommandWish, ConfigurationWish
from cloud.who import Role, Who
from edge.farms import FarmError, load_farm

if TYPE_CHECKING:
    from cloud.steering.schemas import CommandView, ConfigurationView, RevisionView
    from cloud.telemetry.schemas import DeadLetterView, EventView, GatewayView
    from cloud.wiring import Services

__all__ = ["Actuator", "Failure", "Form", "GatewayPanel", "failed", "gateway_panel", "steer"]

Form = Literal["command", "configuration", "replay"]
_COMMANDS = 10
_LETTERS = 20
_EVENTS = 8
_REVISIONS = 8
_VALID_S = ("60", "120", "600", "3600", "21600")


@dataclass(frozen=True, slots=True)
class Failure:
    """A form that could not be followed: which, why, and what was typed."""

    form: Form
    code: str
    detail: str
    typed: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Actuator:
    """Something the farm can drive, and what its gateway last said of it (None: nothing)."""

    name: str
    label: str
    value: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class GatewayPanel:
    """Everything below the readings of a gateway's page."""

    speech: Speech
    gateway: "GatewayView"
    missing: int
    actuators: tuple[Actuator, ...]
    controls: Mapping[str, str]
    commands: "tuple[CommandView, ...]"
    configuration: "ConfigurationView | None"
    revisions: "tuple[RevisionView, ...]"
    letters: "tuple[DeadLetterView, ...]"
    events: "tuple[EventView, ...]"
    names: Mapping[str, str]
    may_act: bool
    may_replay: bool
    failure: Failure | None = None

    @property
    def wanted_text(self) -> str:
        """The newest wanted configuration as text to edit."""
        desired = self.configuration.desired if self.configuration else None
        return self.body_text(desired.body if desired else {})

    @property
    def valid_s(self) -> tuple[str, ...]:
        """How long a command may be valid, to choose from."""
        return _VALID_S

    def body_text(self, body: Mapping[str, Any]) -> str:
        """A configuration as a person reads it."""
        return json.dumps(body, ensure_ascii=False, indent=2)

    def label(self, target: str) -> str:
        """The name for people of an actuator or of what controls it."""
        return next((one.label for one in self.actuators if one.name == target), self.controls.get(target, target))

    def why(self, reason: str) -> str:
        """Why an actuator stands as it does."""
        return actuator_reason(reason, self.label, self.speech)

    def said(self, event: "EventView") -> str:
        """An event as a sentence."""
        return sentence(event, self.label, self.speech)

    def typed(self, form: str, name: str, otherwise: str = "") -> str:
        """What was typed into a form that failed."""
        return self.failure.typed.get(name, "") if self.failure and self.failure.form == form else otherwise


def gateway_panel(services: "Services", who: Who, gateway: str, speech: Speech) -> GatewayPanel:
    """The panel of one gateway. Raises `NotFound` outside the asker's regions."""
    telemetry, steering = services.telemetry, services.steering
    view = telemetry.gateway(gateway, who.regions())
    may_act = _has(services, who, view.region, Role.ADMIN, Role.OPERATOR)
    own = who.regions(Role.ADMIN, Role.OPERATOR)
    commands = tuple(steering.commands(view.id, who.regions(), limit=_COMMANDS).items)
    configuration = steering.configuration(view.id, own) if may_act else None
    revisions = tuple(configuration.history[:_REVISIONS]) if configuration else ()
    people = {one.by for one in commands} | {one.by for one in revisions}
    return GatewayPanel(
        speech=speech,
        gateway=view,
        missing=sum(last - first + 1 for epoch in view.epochs for first, last in epoch.missing),
        actuators=_actuators(view, speech),
        controls=_controls(view, speech),
        commands=commands,
        configuration=configuration,
        revisions=revisions,
        letters=tuple(telemetry.dead_letters(own, gateway=view.id, limit=_LETTERS)) if may_act else (),
        events=tuple(telemetry.events(who.regions(), gateway=view.id, limit=_EVENTS)),
        names=services.accounts.names(people),
        may_act=may_act,
        may_replay=_has(services, who, view.region, Role.ADMIN),
    )


def steer(services: "Services", who: Who, gateway: str, form: Form, sent: FormData) -> None:
    """Follow one of the page's forms. Raises `CloudError`."""
    typed = {name: str(value) for name, value in sent.items()}
    if form == "replay":
        if not who.regions(Role.ADMIN):
            raise Forbidden("messages are sent through again by administrators")
        services.telemetry.replay(typed.get("digest", ""), who.regions(Role.ADMIN))
        return
    own = who.regions(Role.ADMIN, Role.OPERATOR)
    try:
        if form == "command":
            value = typed.get("value", "").strip()
            number = float(value) / 100 if value and typed.get("operation") == "set" else None
            wish = CommandWish.model_validate({**_kept(typed, CommandWish), "value": number})
            services.steering.command(gateway, wish, who.id, own)
        else:
            body = json.loads(typed.get("body", "") or "{}")
            want = ConfigurationWish.model_validate({**_kept(typed, ConfigurationWish), "body": body})
            services.steering.want(gateway, want, who.id, own)
    except ValidationError as why:
        first = why.errors()[0]
        where = "".join(f"/{part}" for part in first["loc"])
        raise Invalid(f"{where}: {first['msg']}", code="bad_form", pointer=where) from why
    except (ValueError, RecursionError) as why:
        raise Invalid(f"this cannot be read: {why}", code="not_json", pointer="/body") from why


def failed(panel: GatewayPanel, form: Form, error: CloudError, sent: FormData) -> GatewayPanel:
    """The same panel with the reason beside the form, and what was typed still in it."""
    typed = {name: str(value) for name, value in sent.items()}
    return replace(panel, failure=Failure(form, error.code, error.detail, typed))


def _kept(typed: Mapping[str, str], model: type[CommandWish | ConfigurationWish]) -> dict[str, str]:
    return {name: typed[name] for name in model.model_fields if typed.get(name)}


def _has(services: "Services", who: Who, region: str, *roles: Role) -> bool:
    return any(services.regions.covers(granted, region) for granted in who.regions(*roles))


def _actuators(view: "GatewayView", speech: Speech) -> tuple[Actuator, ...]:
    said = view.status.get("actuators")
    now = said if isinstance(said, Mapping) else {}
    try:
        known = {one.name: one for one in load_farm(view.farm).actuators}
    except FarmError:
        return ()
    chinese = speech.words.language is Language.ZH
    return tuple(_actuator(name, one.zh if chinese else one.en, now.get(name)) for name, one in known.items())


def _controls(view: "GatewayView", speech: Speech) -> dict[str, str]:
    """What the farm type's controls are called, by their id; schedules and PI blocks have no text of their own."""
    try:
        controls = load_farm(view.farm).controls
    except FarmError:
        return {}
    language = speech.words.language.value
    return {one.id: one.rule.texts.get(language, one.id) for one in controls if one.rule is not None}


def _actuator(name: str, label: str, said: Any) -> Actuator:
    row = said if isinstance(said, Mapping) else {}
    value = row.get("value")
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    return Actuator(name, label, number, str(row.get("reason", "")))
