"""The consumer's side: a code on a pack leads here, as a plain address, with no app, no login and no cookie.

Everything is said without a script; the check itself needs one, and until it has run the page claims nothing. The pack,
the policy and the words of the verdict are embedded as data; `static/verify.js` does the rest in the reader's browser.
"""

import json
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote, unquote, urlsplit

from fastapi import APIRouter, Form, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from fastapi.routing import APIRoute
from markupsafe import Markup

from cloud.pages.chain import lot_rows
from cloud.pages.render import Renderer, Reply, asset, has_asset
from cloud.problems import NotFound
from traceability import TraceError
from traceability.policy import Policy

if TYPE_CHECKING:
    from cloud.pages.words import Words
    from cloud.provenance.schemas import Consumer
    from cloud.wiring import Services

__all__ = ["build_scan"]

LINKSET = "application/linkset+json"
# Who speaks for others' goods rather than for his own.
INDEPENDENT = frozenset({"vet", "official", "lab", "device"})
_STEPS_IN_LARGE_TYPE = 4
_FRESH = Reply(cache="no-store", remember_language=False)


def build_scan(services: "Services", renderer: Renderer, route: type[APIRoute]) -> APIRouter:
    """Routes of the first page, the codes and the reports; open to everybody."""
    router = APIRouter(route_class=route)
    provenance = services.provenance

    def show(request: Request, template: str, content: dict[str, Any], *, status: int = 200) -> Response:
        large = request.query_params.get("size") == "large"
        reply = Reply(status=status, cache=_FRESH.cache, remember_language=False)
        return renderer.page(request, template, {"large": large, "keep": _kept(request), **content}, reply=reply)

    @router.get("/")
    def home(request: Request) -> Response:
        """What can be looked up here?"""
        return show(request, "home.html", {"lots": lot_rows(provenance, renderer.language(request))})

    @router.get("/find")
    def find(request: Request, code: str) -> Response:
        """Lead from an address typed or pasted to the page of its code."""
        path = urlsplit(code.strip()).path
        if not path.startswith("/01/"):
            return show(request, "unknown.html", {"code": code[:300], "detail": code[:80]}, status=404)
        return RedirectResponse(quote(unquote(path)) + _kept(request), status_code=303)

    @router.get("/01/{rest:path}")
    def code(request: Request, rest: str) -> Response:  # noqa: ARG001 - the path is taken as it was sent
        """What is this pack, who says so, and can it be checked?"""
        path = _path(request)
        try:
            wanted = request.query_params.get("linkType")
            if wanted == "linkset" or LINKSET in request.headers.get("accept", ""):
                return JSONResponse(provenance.linkset(path), media_type=LINKSET)
            if wanted is not None:
                return RedirectResponse(provenance.link(path, wanted), status_code=307)
            found = provenance.consumer(path)
        except (NotFound, TraceError) as error:
            status = 404 if isinstance(error, NotFound) else 422
            return show(request, "unknown.html", {"code": path, "detail": str(error)}, status=status)
        content = _content(found, renderer.speech(request).words)
        folded = request.query_params.get("size") == "large"
        content["first_steps"] = _STEPS_IN_LARGE_TYPE if folded else len(found.story.journey)
        return show(request, "scan.html", content)

    @router.post("/report")
    def report(
        request: Request, code: Annotated[str, Form(max_length=300)], text: Annotated[str, Form(max_length=1000)]
    ) -> Response:
        """Keep what somebody found wrong, and give a receipt."""
        receipt = provenance.report(code, text)
        back = code + _kept(request) if code.startswith("/01/") else "/"
        return show(request, "report.html", {"receipt": receipt, "back": back})

    return router


def _content(found: "Consumer", words: "Words") -> dict[str, Any]:
    story = found.story
    complete = all(part.state == "good" for part in story.verdict if part.key != "recall")
    product = story.product
    name = (product.zh if words.language == "zh" else product.en) if product else words.named("chain", found.chain)
    told = {
        "subject": found.subject,
        "fingerprint": found.fingerprint,
        "complete": complete,
        "fallback": asset("dist/ed25519.js") if has_asset("dist/ed25519.js") else None,
        "words": words.section("verdict"),
    }
    policy = Policy.parse(found.policy.encode())
    return {
        "story": story,
        "chain": found.chain,
        "title": words("scan.title", product=name),
        "recalled": found.recalled,
        "independent": INDEPENDENT,
        "scans": found.scans,
        "first_scan_ms": found.first_scan_ms,
        "fingerprint": found.fingerprint,
        "whole_key": policy.logs[0].trusted.key.vkey,
        "code": found.path,
        "pack": Markup(found.pack),  # noqa: S704 - packs.py writes every "<" as an escape, for this very place
        "policy": _data(json.loads(policy.to_json())),
        "told": _data(told),
    }


def _data(value: Any) -> Markup:
    """JSON that may stand inside a script element: without "<" nothing can end it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return Markup(text)  # noqa: S704 - see above


def _path(request: Request) -> str:
    """The path as it was sent: a lot may hold an escaped slash."""
    raw = request.scope.get("raw_path")
    return raw.decode("ascii").partition("?")[0] if raw else quote(request.url.path)


def _kept(request: Request) -> str:
    """Language and type size travel in links, since this side sets no cookie."""
    kept = [f"{key}={quote(request.query_params[key])}" for key in ("lang", "size") if key in request.query_params]
    return "?" + "&".join(kept) if kept else ""
