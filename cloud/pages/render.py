"""Templates to responses: one environment, one set of headers, one place that knows the static files.

Pages are strict: undefined names raise, everything is escaped, and the Content-Security-Policy allows nothing but our
own origin (no inline scripts or styles either; a proof pack is embedded as a data block, which is not a script).
"""

import hashlib
import mimetypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.ext import loopcontrols

from cloud.pages.speech import Speech
from cloud.pages.words import Language, words_for

__all__ = ["STATIC", "Renderer", "Reply", "static_file"]

_HERE = Path(__file__).parent
STATIC = _HERE / "static"
_LANGUAGE_COOKIE = "tm_lang"
_YEAR_S = 365 * 86_400

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """How a page is sent: its status, and how long it may be kept (never, by default)."""

    status: int = 200
    cache: str = "no-store"
    remember_language: bool = True


class Renderer:
    """Renders templates in the reader's language at one clock."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self.clock = clock
        self._environment = Environment(
            loader=FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[loopcontrols],
        )
        self._environment.globals["asset"] = asset
        self._environment.globals["has_asset"] = has_asset

    def language(self, request: Request) -> Language:
        """What the address asks for, else what was asked for before, else Chinese."""
        return Language.of(request.query_params.get("lang"), request.cookies.get(_LANGUAGE_COOKIE))

    def speech(self, request: Request) -> Speech:
        """Formatting in the reader's language, at now."""
        return Speech(words_for(self.language(request)), self.clock())

    def page(
        self, request: Request, template: str, content: Mapping[str, Any], *, reply: Reply | None = None
    ) -> Response:
        """One page (or fragment) as a response."""
        reply = reply or Reply()
        speech = self.speech(request)
        language = speech.words.language
        shared = {
            "t": speech.words,
            "lang": language.value,
            "lang_tag": language.tag,
            "with_query": _with_query(request),
            "now_ms": speech.now_ms,
            "who": getattr(request.state, "who", None),
            **speech.helpers(),
        }
        html = self._environment.get_template(template).render({**shared, **content})
        response = HTMLResponse(html, status_code=reply.status)
        response.headers.update(SECURITY_HEADERS)
        response.headers["Cache-Control"] = reply.cache
        if reply.remember_language and "lang" in request.query_params:
            response.set_cookie(_LANGUAGE_COOKIE, language.value, max_age=_YEAR_S, httponly=True, samesite="lax")
        return response


def _with_query(request: Request) -> Callable[..., str]:
    """A link to the page itself with some query values changed; None takes a value away."""

    def link(**changes: str | None) -> str:
        wanted = {**request.query_params, **changes}
        kept = {key: value for key, value in wanted.items() if value is not None}
        return str(request.url.replace(query="").include_query_params(**kept)).removeprefix(
            f"{request.url.scheme}://{request.url.netloc}"
        )

    return link


def static_file(request: Request, name: str) -> Response:
    """A file of `static/`. With its own hash in the address it may be kept for ever, else it is asked for again."""
    path = (STATIC / name).resolve()
    if not path.is_relative_to(STATIC) or not path.is_file():
        return HTMLResponse("not found", status_code=404)
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    if kind.startswith("text/"):
        kind += "; charset=utf-8"
    response = Response(path.read_bytes(), media_type=kind)
    fixed = request.query_params.get("v") == _digest(path, path.stat().st_mtime_ns)
    response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if fixed else "no-cache"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def asset(name: str) -> str:
    """The address of a static file, with its content's hash so that it can be cached for ever."""
    path = STATIC / name
    return f"/static/{name}?v={_digest(path, path.stat().st_mtime_ns)}"


def has_asset(name: str) -> bool:
    """Whether a static file is there; the bundles of `dist/` exist only after the front end was built."""
    return (STATIC / name).is_file()


@lru_cache(maxsize=256)
def _digest(path: Path, _changed_ns: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:10]
