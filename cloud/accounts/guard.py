"""The gate in front of every door: who is asking, and is the asker really on our own page?

A browser sends the session cookie along with requests that other sites make it send. `SameSite=Lax` stops most of
them; this gate stops the rest by asking the browser itself: an unsafe request that says it comes from another site
(`Sec-Fetch-Site`) or from another host (`Origin` against `Host`) is refused. Programs send neither header and carry
their session as `Authorization: Bearer`, which no other site can make a browser do. So forms need no hidden field.
"""

import asyncio
import json
from functools import partial
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import urlsplit

from anyio import to_thread
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from cloud.accounts.service import Accounts
from cloud.problems import STORE_ERRORS, store_away
from cloud.who import Who

__all__ = ["COOKIE", "Guard"]

COOKIE: Final = "tm_session"
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN: Final = frozenset({"same-origin", "none"})


class Guard:
    """ASGI middleware: puts a `Who` on `request.state.who` (or leaves it away) and refuses cross-site writes."""

    def __init__(self, app: ASGIApp, accounts: Accounts) -> None:
        self._app = app
        self._accounts = accounts
        self._asking: dict[str, asyncio.Future[None]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if scope["method"] not in _SAFE and _from_elsewhere(headers):
            await _refuse(scope["path"], send)
            return
        session = session_of(headers)
        if session:
            try:
                who = self._accounts.seen(session) or await self._ask(session)
            except STORE_ERRORS as why:  # the table of errors stands further in
                answer = await store_away(Request(scope), why)
                await answer(scope, receive, send)
                return
            if who is not None:
                scope.setdefault("state", {}).update(who=who, again=partial(self._accounts.who, session))
        await self._app(scope, receive, send)

    async def _ask(self, session: str) -> Who | None:
        """Who that is by the database: of many requests of one session at once, one asks for all."""
        asking = self._asking.get(session)
        if asking is not None:
            await asyncio.wait([asking])
            # What was asked before this request came may be older than a sign-out; `seen` knows.
            return self._accounts.seen(session) or await to_thread.run_sync(self._accounts.who, session)
        asking = self._asking[session] = asyncio.get_running_loop().create_future()
        try:
            return await to_thread.run_sync(self._accounts.who, session)
        finally:
            del self._asking[session]
            asking.set_result(None)


def session_of(headers: dict[str, str]) -> str | None:
    """The session token of a request with these (lower-case) headers: the bearer's, else the cookie's."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token:
        return token.strip()
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return found.value if found else None


def _from_elsewhere(headers: dict[str, str]) -> bool:
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in _OWN
    origin = headers.get("origin")
    try:
        return origin is not None and urlsplit(origin).netloc != headers.get("host", "")
    except ValueError:  # no address at all, so not ours
        return True


async def _refuse(path: str, send: Send) -> None:
    body = json.dumps(
        {
            "type": "urn:tianmai:problem:cross_site",
            "title": "Forbidden",
            "status": 403,
            "code": "cross_site",
            "detail": "this request was started by another site; open the console itself and do it there",
            "instance": path,
        }
    ).encode()
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": body})
