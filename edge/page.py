"""The page on the farm's own network: is all well, what was measured, and three taps to write down what was done.

It needs no JavaScript and no cloud. Whoever knows the PIN may look and write; records are signed with the gateway's
secret, spooled at once, and become part of the chain when the cloud gets them. Chinese, large type.
"""

from __future__ import annotations

import hmac
import html
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from hashlib import sha256
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from edge import EdgeError
from edge.quantities import quantity_of
from edge.wire import Quality, Reading, Record

_SESSION_S = 12 * 3600
_TRIES, _PAUSE_S = 5, 60.0
_LARGEST_FORM = 4096
_LONGEST = 80

# Kind -> title, and its fields: name, label, kind of input ("text" or the unit of a number).
FORMS: Mapping[str, tuple[str, tuple[tuple[str, str, str], ...]]] = {
    "feeding": ("投喂", (("feed", "饲料", "text"), ("kg", "数量", "公斤"), ("group", "栏／塘", "text"))),
    "vaccination": ("免疫", (("vaccine", "疫苗", "text"), ("animals", "头数", "头"), ("group", "栏／塘", "text"))),
    "medication": ("用药", (("drug", "药品", "text"), ("dose", "用量", "text"), ("group", "栏／塘", "text"))),
    "weighing": ("称重", (("kg", "重量", "公斤"), ("animals", "头数", "头"), ("group", "栏／塘", "text"))),
}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the page shows; made by the agent once a second, never changed afterwards."""

    title: str = ""
    alarms: Sequence[tuple[str, str, str]] = ()  # severity, what, what to do
    readings: Sequence[tuple[Reading, tuple[float, ...]]] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    actuators: Sequence[tuple[str, float, str]] = ()
    backlog: int = 0
    connected: bool = False
    trouble: str = ""
    now_ms: int | None = None


class PageError(EdgeError):
    """A form cannot be taken (``bad_form``), or the page cannot be served at all (``no_page``)."""


def read_form(kind: str, form: Mapping[str, str], now_ms: int | None) -> Record:
    """A farm record out of a form; raises ``PageError`` with one Chinese sentence."""
    if kind not in FORMS:
        raise PageError("bad_form", "没有这种记录")
    if now_ms is None:
        raise PageError("bad_form", "网关还不知道时间，请稍后再记")
    body: dict[str, Any] = {"by": form.get("by", "").strip()[:_LONGEST], "entered": "page"}
    for name, label, unit in FORMS[kind][1]:
        text = form.get(name, "").strip()
        if not text or len(text) > _LONGEST:
            raise PageError("bad_form", f"请填写{label}")
        body[name] = text if unit == "text" else _number(text, label)
    if not body["by"]:
        raise PageError("bad_form", "请填写姓名")
    return Record(kind, now_ms, body)


def _number(text: str, label: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 < number < 1e6:  # noqa: PLR2004 - a thousand tonnes, a million heads
        raise PageError("bad_form", f"{label}要填一个大于零的数")
    return number


# -- what is shown ---------------------------------------------------------------------------------------------

_STYLE = """
body{font:20px/1.5 system-ui,sans-serif;margin:0 auto;max-width:40em;padding:.6em;color:#1b2a1b;background:#fbfdf9}
h1{font-size:1.3em} h2{font-size:1.1em;margin:1em 0 .2em} small{color:#566} .old{color:#8a5a00}
.box{border-radius:.5em;padding:.6em .8em;margin:.5em 0}
.ok{background:#dff2dc} .warning{background:#fff0c2} .critical{background:#ffd9d4}
table{border-collapse:collapse;width:100%} td{padding:.35em .2em;border-top:1px solid #d8e2d4}
td.v{font-size:1.3em;text-align:right;white-space:nowrap} svg{vertical-align:middle}
a.b,button{display:inline-block;font:inherit;padding:.6em 1.1em;margin:.2em .2em .2em 0}
a.b,button{border:0;border-radius:.5em;background:#1f6f43;color:#fff;text-decoration:none}
input{font:inherit;width:100%;padding:.5em;box-sizing:border-box;margin:.2em 0 .6em}
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'"


def _frame(title: str, body: str) -> str:
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
    return (
        f'<!doctype html><html lang="zh-CN"><head>{head}<title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body>{body}</body></html>"
    )


def show(snapshot: Snapshot, zone: tzinfo, said: str = "") -> str:
    """The page as HTML."""
    parts = [f"<h1>{html.escape(snapshot.title)}</h1>"]
    if said:
        parts.append(f'<p class="box ok">{html.escape(said)}</p>')
    parts.append(_verdict(snapshot))
    parts += [
        f'<div class="box {severity}"><b>{html.escape(what)}</b><br>{html.escape(todo)}</div>'
        for severity, what, todo in snapshot.alarms
    ]
    parts.append(
        "<h2>记一笔</h2>" + "".join(f'<a class="b" href="/{k}">{title}</a>' for k, (title, _) in FORMS.items())
    )
    rows = "".join(_row(snapshot, reading, history) for reading, history in snapshot.readings)
    parts.append(f"<h2>最新数据</h2><table>{rows}</table>")
    parts += [
        f"<p>{html.escape(zh)}：{_percent(value)}<br><small>{html.escape(why)}</small></p>"
        for zh, value, why in snapshot.actuators
    ]
    sent = "已连接云端" if snapshot.connected else "没有网络，数据先存在本机"
    when = _clock_text(snapshot.now_ms, zone)
    parts.append(f"<p><small>{sent}；待确认 {snapshot.backlog} 包；{when}</small></p>")
    return _frame(snapshot.title, "".join(parts))


def _verdict(snapshot: Snapshot) -> str:
    """Normal or not, in one sentence."""
    if any(severity == "critical" for severity, _, _ in snapshot.alarms):
        return '<p class="box critical"><b>不正常：请马上处理</b></p>'
    if snapshot.alarms:
        return '<p class="box warning"><b>有提醒：请留意</b></p>'
    if snapshot.trouble or not snapshot.readings:
        return '<p class="box warning"><b>网关有问题：请通知技术员</b></p>'
    return '<p class="box ok"><b>一切正常</b></p>'


def _row(snapshot: Snapshot, reading: Reading, history: tuple[float, ...]) -> str:
    known = quantity_of(reading.name)
    name = snapshot.names.get(reading.name) or (known.zh if known else reading.name)
    bad = reading.value is None or reading.quality >= Quality.DEVICE_ERROR
    value = "—" if bad or reading.value is None else f"{reading.value:g}"
    age_s = ((snapshot.now_ms or reading.time_ms) - reading.time_ms) / 1000
    old = ' class="old"' if bad or age_s > 900 else ""  # noqa: PLR2004 - a quarter of an hour
    return (
        f"<tr><td>{html.escape(name)}<br><small{old}>{'数据无效' if bad else _age(age_s)}</small></td>"
        f'<td>{_spark(history)}</td><td class="v">{value} <small>{html.escape(_unit(reading.unit))}</small></td></tr>'
    )


def _unit(unit: str) -> str:
    return {"Cel": "℃", "%RH": "%", "count": "个", "1": "", "/": "", "pH": ""}.get(unit, unit)


def _age(seconds: float) -> str:
    for size, word in ((86_400, "天"), (3_600, "小时"), (60, "分钟")):
        if seconds >= size:
            return f"{int(seconds // size)} {word}前"
    return "刚刚"


def _percent(value: float) -> str:
    return "关" if value <= 0 else "开" if value >= 1 else f"开 {value:.0%}"


def _spark(history: Sequence[float]) -> str:
    if len(history) < 2:  # noqa: PLR2004 - a line has two ends
        return ""
    low, high = min(history), max(history)
    span, step = (high - low) or 1.0, 90 / (len(history) - 1)
    points = " ".join(f"{5 + n * step:.0f},{26 - (value - low) / span * 22:.0f}" for n, value in enumerate(history))
    return (
        '<svg width="100" height="30" role="img" aria-label="近12小时">'
        f'<polyline points="{points}" fill="none" stroke="#1f6f43" stroke-width="2"/></svg>'
    )


def _clock_text(now_ms: int | None, zone: tzinfo) -> str:
    if now_ms is None:
        return "时间未知"
    return datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(zone).strftime("%m月%d日 %H:%M")


def show_form(kind: str, token: str, values: Mapping[str, str], problem: str = "") -> str:
    """The form of one kind of record, with what was typed before and what is wrong with it."""
    title, fields = FORMS[kind]
    rows = []
    for name, label, unit in (*fields, ("by", "姓名", "text")):
        text = html.escape(values.get(name, ""), quote=True)
        number = "" if unit == "text" else ' inputmode="decimal"'
        note = "" if unit == "text" else f"（{unit}）"
        rows.append(
            f'<label>{label}{note}<input name="{name}" value="{text}" maxlength="{_LONGEST}"{number} required></label>'
        )
    warn = f'<p class="box critical">{html.escape(problem)}</p>' if problem else ""
    hidden = f'<input type="hidden" name="token" value="{token}">'
    form = f'<form method="post" action="/{kind}">{hidden}{"".join(rows)}<button>保存</button></form>'
    return _frame(title, f'<h1>{title}</h1>{warn}{form}<p><a href="/">返回</a></p>')


def show_door(problem: str = "") -> str:
    """Asks for the PIN."""
    warn = f'<p class="box critical">{html.escape(problem)}</p>' if problem else ""
    box = '<input name="pin" type="password" inputmode="numeric" autofocus>'
    form = f'<form method="post" action="/pin"><label>密码{box}</label><button>进入</button></form>'
    return _frame("网关", f"<h1>网关</h1>{warn}{form}")


# -- the server --------------------------------------------------------------------------------------------------


class Page:
    """Serves the page on its own threads. ``snapshot`` is replaced by the agent; ``record`` takes a farm record."""

    def __init__(self, host: str, port: int, pin: str, zone: tzinfo, record: Callable[[Record], None]) -> None:
        self.snapshot = Snapshot()
        self.zone, self.record = zone, record
        self._pin, self._key = pin, secrets.token_bytes(32)
        self._lock, self._wrong, self._closed_until = threading.Lock(), 0, 0.0
        self._host, self.port = host, port
        self._server: _Server | None = None

    def start(self) -> None:
        """Serve; returns at once, with ``port`` as it came out. Raises ``PageError`` where it cannot be had."""
        try:
            self._server = _Server((self._host, self.port), self)
        except OSError as why:
            raise PageError("no_page", f"page.listen: {self._host}:{self.port}: {why.strerror}") from None
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, name="page", daemon=True).start()

    def close(self) -> None:
        """Serve no more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def try_pin(self, pin: str) -> str:
        """A session where the PIN is right; raises ``PageError``.

        After five wrong ones the door stays shut for a minute.
        """
        with self._lock:
            now = time.monotonic()
            if now < self._closed_until:
                raise PageError("bad_form", "密码错误太多，请一分钟后再试")
            if not hmac.compare_digest(pin.encode(), self._pin.encode()):
                self._wrong += 1
                if self._wrong >= _TRIES:
                    self._wrong, self._closed_until = 0, now + _PAUSE_S
                raise PageError("bad_form", "密码不对")
            self._wrong = 0
        until = str(int(time.monotonic() + _SESSION_S))
        return f"{until}.{self.sign(until)}"

    def sign(self, text: str) -> str:
        """A mark only this run of the gateway can make."""
        return hmac.new(self._key, text.encode(), sha256).hexdigest()[:32]

    def knows(self, session: str) -> bool:
        """Whether this session is ours and not over."""
        until, _, mark = session.partition(".")
        good = hmac.compare_digest(mark.encode(), self.sign(until).encode())
        return good and until.isdigit() and time.monotonic() < int(until)


class _Server(ThreadingHTTPServer):
    """Knows its page, and never holds up the end of the agent."""

    daemon_threads = True

    def __init__(self, where: tuple[str, int], page: Page) -> None:
        self.page = page
        super().__init__(where, _Handler)


class _Handler(BaseHTTPRequestHandler):
    """One request; every answer is a whole page."""

    server: _Server
    server_version, sys_version = "tianmai", ""
    timeout = 20

    def do_GET(self) -> None:
        page, session = self.server.page, self._session()
        if not page.knows(session):
            self._answer(401, show_door())
        elif self.path == "/":
            self._answer(200, show(page.snapshot, page.zone))
        elif self.path[1:] in FORMS:
            self._answer(200, show_form(self.path[1:], page.sign(session), {}))
        elif (saved := self.path.removeprefix("/saved/")) in FORMS:
            self._answer(200, show(page.snapshot, page.zone, said=f"已保存：{FORMS[saved][0]}"))
        else:
            self._answer(404, _frame("没有", '<p>没有这一页。<a href="/">返回</a></p>'))

    def do_POST(self) -> None:
        form = self._form()
        if self.path == "/pin":
            self._enter(form)
            return
        page, session, kind = self.server.page, self._session(), self.path[1:]
        token = page.sign(session)
        if not page.knows(session) or not hmac.compare_digest(form.get("token", "").encode(), token.encode()):
            self._answer(401, show_door())
            return
        try:
            page.record(read_form(kind, form, page.snapshot.now_ms))
        except PageError as why:
            self._answer(400, show_form(kind, token, form, str(why)) if kind in FORMS else show_door(str(why)))
            return
        # Sent elsewhere, so that loading the page again does not write the same thing twice.
        self._answer(303, "", {"Location": f"/saved/{kind}"})

    def _enter(self, form: Mapping[str, str]) -> None:
        try:
            session = self.server.page.try_pin(form.get("pin", ""))
        except PageError as why:
            self._answer(403, show_door(str(why)))
            return
        cookie = f"session={session}; HttpOnly; SameSite=Strict; Path=/; Max-Age={_SESSION_S}"
        self._answer(303, "", {"Location": "/", "Set-Cookie": cookie})

    def _session(self) -> str:
        try:
            jar = SimpleCookie(self.headers.get("Cookie", ""))
        except CookieError:
            return ""
        return jar["session"].value if "session" in jar else ""

    def _form(self) -> dict[str, str]:
        size = self.headers.get("Content-Length", "0")
        if not size.isdigit() or int(size) > _LARGEST_FORM:
            return {}
        try:
            pairs = parse_qs(self.rfile.read(int(size)).decode("utf-8", "replace"), max_num_fields=20)
        except ValueError:
            return {}
        return {name: values[0] for name, values in pairs.items()}

    def _answer(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        body = text.encode()
        self.send_response(status)
        fixed = {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
        }
        for name, value in {**fixed, "Content-Security-Policy": _POLICY, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # type: ignore[explicit-override]  # noqa: A002 - its name in http.server; typing has no override in 3.11
        """Nothing: a page must never fill the disk."""
