"""Telling people: a small port, three ways through it, and the words.

A message is at most 70 Chinese characters: the length of one text message on any phone.
"""

import logging
import smtplib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from email.message import EmailMessage
from typing import Any

import httpx

__all__ = ["LONGEST", "NotSent", "Notifier", "email", "ended_text", "log", "one_text", "storm_text", "webhook"]

_LOG = logging.getLogger(__name__)
LONGEST = 70
_LATE_MS = 15 * 60_000
_CHINA = timezone(timedelta(hours=8))
_SEVERITY_ZH = {"warning": "警告", "critical": "紧急"}
_KIND_ZH = {"raised": "", "escalated": "无人确认·", "cleared": "已恢复·"}


class NotSent(Exception):
    """The message did not go out; it will be tried again."""


# One way of telling somebody: (address, text); returns once it is handed over, raises `NotSent` otherwise.
Notifier = Callable[[str, str], None]


def log(address: str, text: str) -> None:
    """For a demonstration: the log of this service."""
    _LOG.warning("to %s: %s", address, text)


def webhook(address: str, text: str) -> None:
    """POST `{"text": ...}` to a URL, as most chat robots take it; any answer below 300 is a success."""
    try:
        answer = httpx.post(address, json={"text": text}, timeout=5)
    except httpx.HTTPError as why:
        raise NotSent(f"{address}: {why}") from why
    if answer.status_code >= 300:  # noqa: PLR2004 - HTTP: not a success
        raise NotSent(f"{address} answered {answer.status_code}")


def email(host: str, port: int, sender: str) -> Callable[[str, str], None]:
    """A notifier that hands mails to one SMTP server."""

    def send(address: str, text: str) -> None:
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = sender, address, text
        mail.set_content(text)
        try:
            with smtplib.SMTP(host, port, timeout=5) as server:
                server.send_message(mail)
        except (OSError, smtplib.SMTPException) as why:
            raise NotSent(f"{address} by {host}:{port}: {why}") from why

    return send


def one_text(alarm: Mapping[str, Any], kind: str, still: Mapping[str, Any] | None = None) -> str:
    """What is wrong, where, since when, and what to do.

    `still` is a milder alarm on the same subject that goes on when this one is over: a ladder's way down.
    """
    if kind == "cleared" and alarm["withdrawn_ms"] is not None:
        return shorten(f"【更正】{alarm['texts'].get('gateway', '')}：后到的数据表明并无此事：{_zh(alarm)}")
    at = alarm["cleared_ms"] if kind == "cleared" else alarm["raised_ms"]
    clock = _clock(at, alarm["noticed_ms"] if kind != "cleared" else at)
    texts = alarm["texts"]
    head = f"【{_SEVERITY_ZH.get(alarm['severity'], '')}】{_KIND_ZH.get(kind, '')}{texts.get('gateway', '')}{clock}"
    if kind == "cleared" and still is not None:
        level, action = _SEVERITY_ZH.get(still["severity"], ""), still["texts"].get("action_zh", "")
        return shorten(f"【降为{level}】{texts.get('gateway', '')}{clock}{_zh(still)}。{action}")
    action = "" if kind == "cleared" else f"。{texts.get('action_zh', '')}"
    return shorten(f"{head}{_zh(alarm)}{action}")


def _clock(at_ms: int, told_ms: int) -> str:
    """The time of day in China; of what is told late, that it goes on since then, and the day where it is another."""
    try:
        at, told = (datetime.fromtimestamp(one / 1000, _CHINA) for one in (at_ms, told_ms))
    except (OverflowError, ValueError, OSError):
        return "时间不明，"
    if told_ms - at_ms <= _LATE_MS:
        return at.strftime("%H:%M")
    return at.strftime("%H:%M起" if at.date() == told.date() else "%m月%d日%H:%M起")


def ended_text(alarms: Sequence[Mapping[str, Any]]) -> str:
    """Many alarms that are over, in one message."""
    gateways = {one["gateway"] for one in alarms}
    last = max(alarms, key=lambda one: one["raised_ms"])
    return shorten(
        f"【已恢复】{len(gateways)}处共{len(alarms)}条告警已恢复,最近:{last['texts'].get('gateway', '')}{_zh(last)}"
    )


def _zh(alarm: Mapping[str, Any]) -> str:
    return str(alarm["texts"].get("zh", alarm["rule"]))


def storm_text(alarms: Sequence[Mapping[str, Any]]) -> str:
    """Many alarms in one message: how many, how many gateways, the worst by name."""
    worst = max(alarms, key=lambda one: (one["severity"] == "critical", one["raised_ms"]))
    gateways = {one["gateway"] for one in alarms}
    texts = worst["texts"]
    return shorten(
        f"【{_SEVERITY_ZH.get(worst['severity'], '')}】{len(gateways)}处共{len(alarms)}条告警，"
        f"最重：{texts.get('gateway', '')}{texts.get('zh', worst['rule'])}。请查看告警板"
    )


def shorten(text: str) -> str:
    """At most 70 characters; what had to be cut shows by its ellipsis."""
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
