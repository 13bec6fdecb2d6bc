"""The consumer's side: a code on a pack leads here, as a plain address, with no app, no login and no cookie.

Everything is said without a script; the check itself needs one, and until it has run the page claims nothing. The pack,
the policy and the words of the verdict are embedded as data; `static/verify.js` does the rest in the reader's browser.
"""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Protocol
from urllib.parse import quote, unquote, urlsplit

from fastapi import APIRouter, Form, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from fastapi.routing import APIRoute
from markupsafe import Markup

from cloud.pages.chain import lot_row, lot_rows
from cloud.pages.render import Renderer, Reply, asset, has_asset
from cloud.pages.words import Language
from cloud.problems import Invalid, NotFound
from cloud.provenance.service import LINK_TYPES, VOCABULARY
from traceability import TraceError
from traceability.policy import Policy
from traceability.serials import SerialError

if TYPE_CHECKING:
    from cloud.pages.words import Words
    from cloud.provenance import Provenance
    from cloud.provenance.schemas import Consumer
    from cloud.wiring import Services

__all__ = ["build_scan"]


class Show(Protocol):
    """Draws a page of this side."""

    def __call__(self, request: Request, template: str, content: dict[str, Any], *, status: int = 200) -> Response:
        """The answer with this template and content."""
        ...


# Programs of other sites may read what a resolver answers: nothing here depends on who asks.
_OPEN = {"Access-Control-Allow-Origin": "*"}
LINKSET = "application/linkset+json"
# Who speaks for others' goods rather than for his own.
INDEPENDENT = frozenset({"vet", "official", "lab", "device"})
_STEPS_IN_LARGE_TYPE = 4
_SLASHES_OF_ITEM = 2
_FRESH = Reply(cache="no-store", remember_language=False)


def build_scan(services: "Services", renderer: Renderer, route: type[APIRoute]) -> APIRouter:
    """Routes of the first page, the codes and the reports; open to everybody."""
    router = APIRouter(route_class=route)
    provenance = services.provenance

    def show(request: Request, template: str, content: dict[str, Any], *, status: int = 200) -> Response:
        large = request.query_params.get("size") == "large"
        reply = Reply(status=status, cache=_FRESH.cache, remember_language=False)
        return renderer.page(request, template, {"large": large, "keep": _kept(request), **content}, reply=reply)

    def unknown(request: Request, path: str, error: Exception) -> Response:
        asks_for_page = isinstance(error, NotFound) and not request.query_params.get("linkType")
        template, page = _without_events(provenance, renderer, request, path) if asks_for_page else ("", None)
        return show(request, template, page) if page is not None else _refused(show, request, path, error)

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
            asked = _without_slash(request, path) or _resolved(provenance, request, path)
            if asked is not None:
                return asked
            found = provenance.consumer(path)
        except (NotFound, TraceError) as error:
            return unknown(request, path, error)
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

    _doors_beside(router, services, show)
    return router


def _doors_beside(router: APIRouter, services: "Services", show: Show) -> None:
    @router.get("/.well-known/gs1resolver")
    def description() -> Response:
        """What this resolver is and can resolve (GS1-Conformant Resolver Standard, resolver description file)."""
        return JSONResponse(_describe(services.settings.site), headers=_OPEN)

    @router.post("/scratch")
    def scratch(
        request: Request, code: Annotated[str, Form(max_length=300)], characters: Annotated[str, Form(max_length=40)]
    ) -> Response:
        """Is this what stands under the scratch layer, and is it the first time that anybody asks?"""
        back = code + _kept(request) if code.startswith("/01/") else "/"
        told: dict[str, Any] = {"back": back, "times": 0, "first_ms": None}
        try:
            judged = services.provenance.codes.scratched(code, characters)
        except SerialError:
            return show(request, "scratch.html", told | {"outcome": "bad"}, status=422)
        except (NotFound, Invalid):
            return show(request, "scratch.html", told | {"outcome": "none"}, status=404)
        outcome = "wrong" if not judged.right else "first" if judged.times == 1 else "again"
        return show(request, "scratch.html", told | asdict(judged) | {"outcome": outcome})


def _refused(show: Show, request: Request, path: str, error: Exception) -> Response:
    """The page of a code that is none of ours, or that lacks the kind of link asked for."""
    status = 404 if isinstance(error, NotFound) else 422
    template = "link_type.html" if getattr(error, "code", "") == "unknown_link_type" else "unknown.html"
    return show(request, template, {"code": path, "detail": str(error)}, status=status)


def _without_slash(request: Request, path: str) -> Response | None:
    """The way to the same code without a slash at its end, which programs add that pass addresses on."""
    if not path.endswith("/") or path.count("/") <= _SLASHES_OF_ITEM:
        return None
    query = request.url.query
    return RedirectResponse(path.rstrip("/") + (f"?{query}" if query else ""), status_code=308)


def _resolved(provenance: "Provenance", request: Request, path: str) -> Response | None:
    """The answer to who asks for links instead of the page; None for who does not."""
    wanted = request.query_params.get("linkType")
    if wanted in {"linkset", "all"} or LINKSET in request.headers.get("accept", ""):
        return JSONResponse(provenance.linkset(path), media_type=LINKSET, headers=_OPEN)
    if not wanted:
        return None
    more = {"Link": f'<{request.url.path}?linkType=linkset>; rel="linkset"; type="{LINKSET}"'}
    return RedirectResponse(provenance.link(path, wanted), status_code=307, headers=_OPEN | more)


def _describe(site: str) -> dict[str, Any]:
    return {
        "name": "田脉 Tianmai",
        "resolverRoot": site,
        "supportedPrimaryKeys": ["01"],
        "linkTypeDefaultCanBeLinkset": False,
        "supportedLinkType": [
            {"namespace": VOCABULARY, "prefix": "gs1:", "linkTypes": [name.removeprefix("gs1:") for name in LINK_TYPES]}
        ],
        "supportedContextValuesEnumerated": [{"lang": ["zh", "en"]}],
    }


def _without_events(
    provenance: "Provenance", renderer: Renderer, request: Request, path: str
) -> tuple[str, dict[str, Any] | None]:
    """Template and content for what is known of a code that no event names: a registered code, a trade item; or None.

    To call a code that was issued here a forgery, only because its lot has no event yet, would be a slander.
    """
    state = provenance.codes.at(path)
    if state is None:
        return "item.html", _item(provenance, renderer, request, path)
    return "code.html", {"state": state, "code": path, "lot": path.split("/")[4] if "/10/" in path else ""}


def _item(provenance: "Provenance", renderer: Renderer, request: Request, path: str) -> dict[str, Any] | None:
    """What the page of a trade item says, for a code that names no more than that; None where we know none."""
    if path.strip("/").count("/") > 1:
        return None
    try:
        found = provenance.item(path)
    except NotFound:
        return None
    language = renderer.language(request)
    name = (found.product_zh if language is Language.ZH else found.product_en) or found.gtin
    return {"item": found, "name": name, "lots": [lot_row(each, language) for each in found.lots]}


def _content(found: "Consumer", words: "Words") -> dict[str, Any]:
    story = found.story
    product, given = story.product, found.product_zh if words.language == "zh" else found.product_en
    said = (product.zh if words.language == "zh" else product.en) if product else ""
    name = said or given or words.named("chain", found.chain)
    complete, own = _judged(found, words)
    told = {
        "subject": found.subject,
        "fingerprint": found.fingerprint,
        "complete": complete,
        "fallback": asset("dist/ed25519.js") if has_asset("dist/ed25519.js") else None,
        "words": words.section("verdict") | own,
    }
    policy = Policy.parse(found.policy.encode())
    return {
        "story": story,
        "chain": found.chain,
        "title": words("scan.title", product=name),
        "name": given,
        "level": found.level,
        "serial": found.serial,
        "state": found.code,
        "standing": _standing(found),
        "independent": INDEPENDENT,
        "scans": found.scans,
        "first_scan_ms": found.first_scan_ms,
        "fingerprint": found.fingerprint,
        "whole_key": _key_of(policy, found.fingerprint),
        "code": found.path,
        "proven": found.path if found.level == "unit" else found.path.partition("/21/")[0],
        "pack": Markup(found.pack),  # noqa: S704 - packs.py writes every "<" as an escape, for this very place
        "policy": _data(json.loads(policy.to_json())),
        "told": _data(told),
    }


def _key_of(policy: Policy, fingerprint: str) -> str:
    """The key that this fingerprint is of; a log has had others."""
    return next(log.trusted.key.vkey for log in policy.logs if f"{log.trusted.key.key_id:08x}" == fingerprint)


def _standing(found: "Consumer") -> str:
    """What is true of a code whatever a proof says; `unchecked` where nothing of that kind is."""
    if found.recalled:
        return "recalled"
    if found.code is not None:
        return "void" if found.code.state == "void" else "unchecked"
    return "unissued" if found.serial and found.codes_of_lot else "unchecked"


def _judged(found: "Consumer", words: "Words") -> tuple[bool, dict[str, str]]:
    """Whether a passed check may be called complete, and the words for its outcome where the usual ones do not fit."""
    if found.level == "lot" and found.serial and found.code is None:
        return False, {"partial": words("verdict.no_serial"), "partial_line": words("verdict.no_serial_line")}
    state = found.code.state if found.code is not None else ""
    if state == "issued":
        return False, {"partial": words("verdict.inactive"), "partial_line": words("verdict.inactive_line")}
    if state == "retired":
        return False, {"partial": words("verdict.retired"), "partial_line": words("verdict.retired_line")}
    complete = all(part.state in {"good", "pack"} for part in found.story.verdict if part.key != "recall")
    if found.level == "lot":
        return complete, {"passed": words("verdict.passed_lot"), "passed_line": words("verdict.passed_lot_line")}
    return complete, {}


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
