"""What a gateway reported, in a sentence. A kind nobody wrote a sentence for is shown as it came."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from cloud.pages.speech import Speech

if TYPE_CHECKING:
    from cloud.telemetry.schemas import EventView

__all__ = ["actuator_reason", "sentence"]

_ALARM_KINDS = ("raised", "cleared")
_BY = "command by "  # how a gateway's reason begins that names who commanded
_SHOWN = 160  # characters of a body that has no sentence

Labels = Callable[[str], str]
"""The name for people of an actuator or of a control, or the name that was given."""


def sentence(event: "EventView", labels: Labels, speech: Speech) -> str:
    """The event as a person would say it, in the reader's language.

    Bodies come from gateways of any version: one that lacks what its sentence needs is shown as it came, shortened.
    """
    say = _SENTENCES.get(event.kind)
    try:
        if say is not None:
            return say(event, labels, speech)
    except (KeyError, TypeError, ValueError):
        pass
    text = json.dumps(event.body, ensure_ascii=False)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def actuator_reason(reason: str, labels: Labels, speech: Speech) -> str:
    """Why an actuator stands as it does: a command, an interlock or a control; what has no words as it came."""
    if reason.startswith(_BY):
        return speech.words("event_said.commanded", who=reason.removeprefix(_BY))
    key = reason.replace(" ", "_")
    known = speech.words.named("actuator_reason", key)
    return labels(reason) if known == key else known


def _alarm(event: "EventView", _labels: Labels, speech: Speech) -> str:
    text, kind = str(event.body[speech.words.language.value]), event.body["kind"]
    if kind not in _ALARM_KINDS:
        raise ValueError(kind)
    return text if kind == "raised" else speech.words("event_said.cleared", text=text)


def _gap(event: "EventView", _labels: Labels, speech: Speech) -> str:
    body = event.body
    reason = speech.words.named("gap_reason", body["reason"])
    return speech.words("event_said.gap", first=body["first"], last=body["last"], n=body["count"], reason=reason)


def _clock(event: "EventView", _labels: Labels, speech: Speech) -> str:
    moved = int(event.body["moved_ms"])
    return speech.words("event_said.forward" if moved > 0 else "event_said.back", span=speech.span(abs(moved)))


def _actuator(event: "EventView", labels: Labels, speech: Speech) -> str:
    body = event.body
    value = speech.percent(float(body["value"]))
    reason = actuator_reason(str(body["reason"]), labels, speech)
    return speech.words("event_said.actuator", target=labels(body["actuator"]), value=value, reason=reason)


def _command(event: "EventView", _labels: Labels, speech: Speech) -> str:
    return _with_reason(speech.words("event_said.command", outcome=_outcome(event, speech)), event, speech)


def _config(event: "EventView", _labels: Labels, speech: Speech) -> str:
    said = speech.words("event_said.config", n=event.body["revision"], outcome=_outcome(event, speech))
    return _with_reason(said, event, speech)


def _with_reason(said: str, event: "EventView", speech: Speech) -> str:
    reason = event.body["reason"]
    return speech.words("event_said.because", said=said, reason=reason) if reason else said


def _outcome(event: "EventView", speech: Speech) -> str:
    return speech.words.named("event_outcome", event.body["outcome"])


_SENTENCES: dict[str, Callable[["EventView", Labels, Speech], str]] = {
    "alarm": _alarm,
    "gap": _gap,
    "clock": _clock,
    "actuator": _actuator,
    "command": _command,
    "config": _config,
}
