"""What a gateway reported, in a sentence. A kind nobody wrote a sentence for is shown as it came."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from cloud.pages.speech import Speech

if TYPE_CHECKING:
    from cloud.telemetry.schemas import EventView

__all__ = ["sentence"]

_ALARM_KINDS = ("raised", "cleared")
_SHOWN = 160  # characters of a body that has no sentence

Labels = Callable[[str], str]
"""The name for people of an actuator, or the name that was given."""


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
    return speech.words("event_said.actuator", target=labels(body["actuator"]), value=value, reason=body["reason"])


def _command(event: "EventView", _labels: Labels, speech: Speech) -> str:
    return speech.words("event_said.command", outcome=_outcome(event, speech), reason=event.body["reason"] or "–")


def _config(event: "EventView", _labels: Labels, speech: Speech) -> str:
    body = event.body
    outcome = _outcome(event, speech)
    return speech.words("event_said.config", n=body["revision"], outcome=outcome, reason=body["reason"] or "–")


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
