"""Telling people: a small port, three ways through it, and the words.

A message is at most 70 Chinese characters: the length of one text message on any phone.
"""

import asyncio
import logging
import smtplib
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from email.message import EmailMessage
from threading import Event, Thread
from typing import Any

import httpx

__all__ = ["LONGEST", "NotSent", "Notifier", "email", "ended_text", "log", "one_text", "storm_text", "webhook"]

_LOG = logging.getLogger(__name__)
LONGEST = 70
# From the first packet to the answer, whatever the other side does in between.
SEND_WITHIN_S = 10.0
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


def webhook(address: str, text: str, within_s: float = SEND_WITHIN_S) -> None:
    """POST `{"text": ...}` to a URL, as most chat robots take it; any answer below 300 is a success.

    What the answer says beyond its status is not read.
    """
    try:
        # In a thread of its own: whoever calls may have a loop running.
        with ThreadPoolExecutor(max_workers=1) as alone:
            status = alone.submit(lambda: asyncio.run(_post(address, text, within_s))).result()
    except TimeoutError as why:
        raise NotSent(f"no answer within {within_s:g} s") from why
    except (httpx.HTTPError, httpx.InvalidURL) as why:
        raise NotSent(f"{type(why).__name__}: {why}") from why
    if status >= 300:  # noqa: PLR2004 - HTTP: not a success
        raise NotSent(f"it answered {status}")


async def _post(address: str, text: str, within_s: float) -> int:
    # The client's own limits begin anew with every byte; this one counts from the start.
    async with (
        asyncio.timeout(within_s),
        httpx.AsyncClient(timeout=within_s) as client,
        client.stream("POST", address, json={"text": text}) as answer,
    ):
        return answer.status_code


def email(
    host: str, port: int, sender: str, within_s: float = SEND_WITHIN_S, *, own_name: str | None = None
) -> Callable[[str, str], None]:
    """A notifier that hands mails to one SMTP server; `own_name` is how it greets (None: this machine's name)."""

    def send(address: str, text: str) -> None:
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = sender, address, text
        mail.set_content(text)
        try:
            server = smtplib.SMTP(local_hostname=own_name, timeout=within_s)
            with _cut_after(server, within_s), server:
                code, said = server.connect(host, port)
                if code != 220:  # noqa: PLR2004 - RFC 5321: ready
                    raise smtplib.SMTPConnectError(code, said)
                server.send_message(mail)
        except (OSError, smtplib.SMTPException) as why:
            raise NotSent(f"by {host}:{port}: {why}") from why

    return send


@contextmanager
def _cut_after(server: smtplib.SMTP, seconds: float) -> Iterator[None]:
    """Cut the connection when the time is over: the server's own limit begins anew with every byte."""
    done = Event()

    def cut() -> None:
        late = not done.wait(seconds)
        while late:  # again, in case the connection comes about only now
            if server.sock is not None:
                with suppress(OSError):
                    server.sock.shutdown(socket.SHUT_RDWR)
            late = not done.wait(0.2)

    Thread(target=cut, name="mail-limit", daemon=True).start()
    try:
        yield
    finally:
        done.set()


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
