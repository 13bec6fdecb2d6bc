"""What an EPCIS repository says of itself: its resources, what they hold, and what may be done with them.

Source: EPCIS 2.0 §12.5 (top-level resources) and §12.7 (discovery by OPTIONS).
"""

from collections.abc import Iterable
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse

from cloud.problems import NotFound
from cloud.provenance.service import Provenance
from cloud.who import Role, Who, having
from traceability import epcis_vocabulary as words
from traceability.events import CONTEXT, EVENT_KINDS

__all__ = ["BEHAVIOUR", "LARGEST_DOCUMENT", "RESOURCES", "VERSIONS", "next_link", "resource_routes"]

Reader = Annotated[Who, Depends(having(*Role))]
BEHAVIOUR: Final = "GS1-Capture-Error-Behaviour"
LARGEST_DOCUMENT: Final = 8 * 1024 * 1024
VERSIONS: Final = {
    "GS1-EPCIS-Version": "2.0",
    "GS1-CBV-Version": "2.0",
    "GS1-EPCIS-Min": "2.0",
    "GS1-EPCIS-Max": "2.0",
    "GS1-CBV-Min": "2.0",
    "GS1-CBV-Max": "2.0",
    "GS1-EPC-Format": "Never_Translates",
}
# Resource paths of the standard -> the query parameter they stand for.
RESOURCES: Final = {
    "eventTypes": "eventType",
    "epcs": "MATCH_anyEPC",
    "bizSteps": "EQ_bizStep",
    "bizLocations": "EQ_bizLocation",
    "readPoints": "EQ_readPoint",
    "dispositions": "EQ_disposition",
}
_STANDARD: Final = {
    "eventTypes": frozenset(EVENT_KINDS),
    "bizSteps": words.BIZ_STEPS,
    "dispositions": words.DISPOSITIONS,
}
_TOP: Final = ("events", *RESOURCES, "capture", "queries")
_METHODS: Final = {"capture": "GET, POST", "events": "GET, POST", "queries": "GET, POST"}


def resource_routes(router: APIRouter, provenance: Provenance) -> None:
    """The routes that stand behind all others: lists, discovery."""

    @router.get("")
    def top(who: Reader) -> Response:  # noqa: ARG001 - the dependency is the check
        """What there is here."""
        return _collection(_TOP)

    @router.get("/{resource}")
    def names(
        request: Request,
        who: Reader,  # noqa: ARG001 - as above
        resource: str,
        per_page: Annotated[int, Query(alias="perPage", ge=1, le=1_000)] = 30,
        token: Annotated[str, Query(alias="nextPageToken", max_length=300)] = "",
    ) -> Response:
        """Names of one kind that events hold: the standard's own words first, on the first page."""
        _known(resource)
        found, following = provenance.names(resource, token, per_page)
        standard = _STANDARD.get(resource, frozenset())
        own = [name for name in found if name and name not in standard]
        answer = _collection(own if token else (*sorted(standard), *own))
        if following is not None:
            answer.headers["Link"] = next_link(request, {"perPage": str(per_page), "nextPageToken": following})
        return answer

    @router.get("/{resource}/{value:path}")
    def parts(who: Reader, resource: str, value: str) -> Response:  # noqa: ARG001 - as above
        """What can be asked of one name: its events."""
        _known(resource)
        return _collection(("events",))

    @router.options("")
    @router.options("/{path:path}")
    def discover(path: str = "") -> Response:
        """Versions and limits of this repository."""
        headers = {**VERSIONS, "Allow": f"OPTIONS, {_METHODS.get(path, 'GET')}"}
        if path == "capture":
            headers |= {"GS1-EPCIS-Capture-File-Size-Limit": str(LARGEST_DOCUMENT), BEHAVIOUR: "rollback"}
        return Response(status_code=204, headers=headers)


def next_link(request: Request, parameters: dict[str, str]) -> str:
    """The header that leads to the next page (RFC 8288); the path as it was sent, for a name may hold a slash."""
    raw = request.scope.get("raw_path")
    path = raw.decode("ascii").partition("?")[0] if raw else request.url.path
    return f'<{path}?{urlencode(parameters)}>; rel="next"'


def _known(resource: str) -> None:
    if resource not in RESOURCES:
        raise NotFound(f"no resource {resource[:40]}; there are: {', '.join(_TOP)}")


def _collection(members: Iterable[str]) -> JSONResponse:
    body: dict[str, Any] = {"@context": CONTEXT, "type": "Collection", "member": list(members)}
    return JSONResponse(body, headers=VERSIONS, media_type="application/json")
