"""The EPCIS 2.0 repository under `/epcis/v2`: capture, jobs, events, the resource paths, named queries.

Source: EPCIS 2.0 §12 (REST binding). Answers are JSON-LD documents; XML is read at capture and not written.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any
from urllib.parse import quote

import orjson
from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from typing_extensions import override

from cloud.problems import CloudError, Invalid, NotAcceptable, NotFound, TooLarge
from cloud.provenance.journal import Known, Ruled
from cloud.provenance.leaves import json_text
from cloud.provenance.query import EventQuery
from cloud.provenance.reading import read_document
from cloud.provenance.resources import BEHAVIOUR, LARGEST_DOCUMENT, RESOURCES, VERSIONS, next_link, resource_routes
from cloud.provenance.schemas import Captured, CaptureJob
from cloud.provenance.service import Provenance
from cloud.provenance.store import Stored
from cloud.who import Role, Who, having, signed_in
from traceability.events import CONTEXT, unchecked_document

__all__ = ["BEHAVIOUR", "CAPTURE", "SMALL_DOCUMENT", "build_repository", "capture_answer"]

Tracer = Annotated[Who, Depends(having(Role.TRACER))]
Reader = Annotated[Who, Depends(having(*Role))]
ROOT = "/epcis/v2"
CAPTURE = f"{ROOT}/capture"
LONGEST_NAME = 60  # of a query
SMALL_DOCUMENT = 16 * 1024  # read and sealed in about a millisecond


def build_repository(provenance: Provenance) -> APIRouter:
    """Routes of the repository over `provenance`."""
    router = APIRouter(prefix=ROOT, tags=["epcis"])
    _capture_routes(router, provenance)
    _query_routes(router, provenance)
    _named_routes(router, provenance)
    resource_routes(router, provenance)
    return router


class _CaptureRoute(APIRoute):
    """The door of `capture`, by hand.

    Its signature describes it to readers; that the framework looks up each parameter costs more than sealing an event.
    """

    @override
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Check who is there and read the two parameters."""
        capture, allowed = self.endpoint, having(Role.TRACER)

        async def handle(request: Request) -> Response:
            who = await allowed(await signed_in(request))
            chain, behaviour = request.query_params.get("chain"), request.headers.get(BEHAVIOUR, "rollback")
            answer: Response = await capture(request, who, chain, behaviour)
            return answer

        return handle


def _capture_routes(router: APIRouter, provenance: Provenance) -> None:
    async def capture(
        request: Request,
        who: Tracer,
        chain: str | None = None,
        behaviour: Annotated[str, Header(alias=BEHAVIOUR)] = "rollback",
    ) -> Response:
        """Capture a document, JSON-LD or XML; `proceed` takes what it can.

        `chain` names the rules to judge by, where trade items, places and the past of the things do not say them.
        """
        if behaviour not in {"rollback", "proceed"}:
            raise Invalid("GS1-Capture-Error-Behaviour is rollback or proceed", pointer="/headers")
        proceed = behaviour == "proceed"
        job, receipts = await _take(provenance, request, chain=chain, by=who.id, proceed=proceed)
        body, headers = capture_answer(job, receipts)
        return Response(orjson.dumps(body), 202, headers, media_type="application/json")

    router.add_api_route("/capture", capture, methods=["POST"], status_code=202, route_class_override=_CaptureRoute)

    @router.get("/capture")
    def jobs(who: Reader) -> list[dict[str, Any]]:  # noqa: ARG001 - the dependency is the check
        """Capture jobs, newest first."""
        return [_job(job) for job in provenance.jobs()]

    @router.get("/capture/{job}")
    def job(who: Reader, job: str) -> dict[str, Any]:  # noqa: ARG001 - as above
        """One capture job."""
        return _job(provenance.job(job))

    @router.post("/events", status_code=201)
    async def event(request: Request, who: Tracer, chain: str | None = None) -> Response:
        """Capture one event and wait until it is provable."""
        document = await _document(request)
        if "epcisBody" in document and len(unchecked_document(document).events) != 1:
            raise Invalid("this door takes exactly one event: send others to capture", pointer="/epcisBody/eventList")
        (receipt,) = await run_in_threadpool(provenance.capture, document, chain=chain, by=who.id)
        location = f"{ROOT}/events/{quote(receipt.event_id, safe='')}"
        return JSONResponse(_receipt(receipt), 201, {"Location": location, **VERSIONS})


def _query_routes(router: APIRouter, provenance: Provenance) -> None:
    @router.get("/events")
    def events(request: Request, who: Reader) -> Response:  # noqa: ARG001 - as above
        """Events by the parameters of the simple event query, newest capture first."""
        return _answer(request, provenance, _parameters(request))

    @router.get("/events/{event:path}")
    def event(request: Request, who: Reader, event: str) -> Response:  # noqa: ARG001 - as above
        """One event by its id."""
        answer = _answer(request, provenance, {"EQ_eventID": [event], "mode": ["all"]})
        if b'"eventList":[]' in bytes(answer.body):
            raise NotFound(f"no event {event[:120]}")
        return answer

    @router.get("/{resource}/{value:path}/events")
    def under(request: Request, who: Reader, resource: str, value: str) -> Response:  # noqa: ARG001 - as above
        """Events of one resource: an EPC, a business step, a place, a type, a disposition."""
        if resource == "queries":
            return _answer(request, provenance, _stored(provenance, value) | _parameters(request))
        if resource not in RESOURCES:
            raise NotFound(f"no resource {resource[:40]}; there are: {', '.join(RESOURCES)}, queries")
        return _answer(request, provenance, _parameters(request) | {RESOURCES[resource]: [value]})


def _named_routes(router: APIRouter, provenance: Provenance) -> None:
    @router.post("/queries", status_code=201)
    def keep(who: Tracer, body: dict[str, Any]) -> Response:  # noqa: ARG001 - as above
        """Keep a query under a name: {"name": ..., "query": {parameter: value}}."""
        name, query = body.get("name"), body.get("query")
        if not isinstance(name, str) or not name.isidentifier() or not isinstance(query, dict):
            raise Invalid("a named query has a name of letters, digits and _ and a query object", pointer="/body")
        if len(name) > LONGEST_NAME:
            told = f"a query's name has at most {LONGEST_NAME} characters, not {len(name)}"
            raise Invalid(told, code="bad_name", pointer="/name")
        texts = {str(key): _as_parameter(value) for key, value in query.items()}
        json_text(texts)  # half a surrogate pair could be kept and never be shown again
        provenance.keep_query(name, texts)
        return JSONResponse({"name": name}, 201, {"Location": f"{ROOT}/queries/{quote(name)}"})

    @router.get("/queries")
    def queries(who: Reader) -> dict[str, Any]:  # noqa: ARG001 - as above
        """Named queries."""
        return {"queries": [{"name": name, "query": query} for name, query in provenance.queries().items()]}

    @router.get("/queries/{name}")
    def query(who: Reader, name: str) -> dict[str, Any]:  # noqa: ARG001 - as above
        """One named query."""
        return {"name": name, "query": provenance.named_query(name)}

    @router.delete("/queries/{name}", status_code=204)
    def forget(who: Tracer, name: str) -> None:  # noqa: ARG001 - as above
        """Delete a named query."""
        provenance.forget_query(name)


def capture_answer(job: CaptureJob, receipts: Sequence[Captured]) -> tuple[dict[str, Any], dict[str, str]]:
    """Body and headers of the answer to a capture."""
    body = _job(job) | {"events": [_receipt(each) for each in receipts]}
    return body, {"Location": f"{CAPTURE}/{job.id}", **VERSIONS}


async def _take(
    provenance: Provenance, request: Request, *, chain: str | None, by: str, proceed: bool
) -> tuple[CaptureJob, list[Captured]]:
    """Capture the body of a request: a small one without leaving the event loop, a large one in a thread of its own."""
    data, kind = await _body(request), request.headers.get("content-type", "")
    if len(data) <= SMALL_DOCUMENT and not proceed:
        pending = provenance.hand_in(read_document(data, kind), chain=chain, by=by)
        if pending is not None:
            with contextlib.suppress(Known, Ruled):
                return pending.job, pending.receipts(await asyncio.wrap_future(pending.places))

    def whole() -> tuple[CaptureJob, list[Captured]]:
        return provenance.capture_job(read_document(data, kind), chain=chain, by=by, proceed=proceed)

    return await run_in_threadpool(whole)


async def _document(request: Request) -> dict[str, Any]:
    return await run_in_threadpool(read_document, await _body(request), request.headers.get("content-type", ""))


async def _body(request: Request) -> bytes:
    """The body as it came. Raises `TooLarge`, and `CloudError` for one said to be packed: nothing unpacks it."""
    packed = request.headers.get("content-encoding", "identity").strip().lower()
    if packed not in {"", "identity"}:
        told = f"a body in the encoding {packed[:40]} is not read here: send it as it is, without Content-Encoding"
        raise CloudError(told, code="bad_encoding", pointer="/headers")
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > LARGEST_DOCUMENT:
            raise TooLarge(f"a document has at most {LARGEST_DOCUMENT} bytes")
    return bytes(data)


def _parameters(request: Request) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in request.query_params.multi_items():
        found.setdefault(name, []).append(value)
    return found


def _as_parameter(value: Any) -> str:
    """A value of a query document as the text that a URL would carry."""
    if isinstance(value, list):
        return "|".join(map(_as_parameter, value))
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _stored(provenance: Provenance, name: str) -> dict[str, list[str]]:
    return {key: [value] for key, value in provenance.named_query(name).items()}


def _answer(request: Request, provenance: Provenance, parameters: Mapping[str, list[str]]) -> Response:
    kind = _wanted(request)
    rows, token = provenance.search(EventQuery.parse(parameters))
    result = {"queryName": "SimpleEventQuery", "resultsBody": {"eventList": [_event(row) for row in rows]}}
    body = {
        "@context": _context(rows),
        "type": "EPCISQueryDocument",
        "schemaVersion": "2.0",
        "creationDate": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "epcisBody": {"queryResults": result},
    }
    headers = dict(VERSIONS)
    if token is not None:
        asked = {name: "|".join(values) for name, values in parameters.items()}
        headers["Link"] = next_link(request, asked | {"nextPageToken": token})
    return JSONResponse(body, headers=headers, media_type=kind)


def _wanted(request: Request) -> str:
    """The media type of the answer. Raises `NotAcceptable` for one that we do not write, or a translation of names."""
    names = request.headers.get("GS1-EPC-Format", "Never_Translates")
    if names not in {"Never_Translates", "No_Preference"}:
        raise NotAcceptable(
            f"events are given back as they came: GS1-EPC-Format {names[:40]} would rewrite their names"
        )
    ranges = [_range(each) for each in request.headers.get("accept", "*/*").split(",")]
    for kind, asks in _ANSWERS.items():
        fitting = [(len(asked), quality) for asked, quality in ranges if asked in asks]
        if fitting and max(fitting)[1] > 0:
            return kind
    raise NotAcceptable(f"events are answered as {' or '.join(_ANSWERS)}")


def _range(text: str) -> tuple[str, float]:
    """A media range of an Accept header and its weight; what cannot be read weighs nothing."""
    name, *parameters = (part.strip().lower() for part in text.split(";"))
    weight = next((part.removeprefix("q=") for part in parameters if part.startswith("q=")), "1")
    try:
        return name, float(weight)
    except ValueError:
        return name, 0.0


# What is answered -> the ranges that ask for it.
_ANSWERS = {
    "application/ld+json": ("application/ld+json", "application/*", "*/*"),
    "application/json": ("application/json", "application/*", "*/*"),
}


def _context(rows: list[Stored]) -> list[Any]:
    """The contexts of all events of the answer, each once, in order."""
    found: list[Any] = []
    for context in (CONTEXT, *(json.loads(row.context) for row in rows)):
        found += [each for each in context if each not in found]
    return found


def _event(row: Stored) -> dict[str, Any]:
    """The event as it came, with the time this repository wrote it down where it brought none."""
    body: dict[str, Any] = json.loads(row.body)
    return body if "recordTime" in body else body | {"recordTime": _time(row.recorded_ms)}


def _receipt(captured: Captured) -> dict[str, Any]:
    found = {"eventID": captured.event_id, "index": captured.index}
    return found | {"warnings": captured.warnings} if captured.warnings else found


def _job(job: CaptureJob) -> dict[str, Any]:
    return {
        "captureID": job.id,
        "createdAt": _time(job.created_ms),
        "finishedAt": _time(job.finished_ms),
        "running": False,
        "success": job.success,
        "captureErrorBehaviour": job.behaviour,
        "errors": job.errors,
    }


@lru_cache(maxsize=256)
def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
