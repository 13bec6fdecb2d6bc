"""HTTP doors of the chain: capture and query of events, refusals, lots, and the log's static files."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query, Response

from cloud.provenance.service import Provenance
from cloud.who import Role, Who, having

__all__ = ["build_router"]

Tracer = Annotated[Who, Depends(having(Role.TRACER))]
Reader = Annotated[Who, Depends(having(*Role))]


def build_router(provenance: Provenance) -> APIRouter:
    """Routes over `provenance`; the consumer's page itself belongs to the pages."""
    router = APIRouter(tags=["provenance"])

    @router.post("/epcis/v2/capture", status_code=201)
    def capture(
        who: Tracer, document: Annotated[dict[str, Any], Body()], chain: Annotated[str | None, Query()] = None
    ) -> Mapping[str, Any]:
        """Capture an EPCIS document or event: all of it or nothing. `chain` names the rules that judge it."""
        receipts = provenance.capture(document, chain=chain, by=who.id)
        return {"events": [{"eventID": each.event_id, "index": each.index} for each in receipts]}

    @router.get("/epcis/v2/events")
    def events(
        who: Reader,  # noqa: ARG001 - the dependency is the check
        per_page: Annotated[int, Query(alias="perPage", ge=1, le=1000)] = 30,
        before: Annotated[int | None, Query(alias="nextPageToken", ge=0)] = None,
    ) -> Mapping[str, Any]:
        """Captured events, newest first, as an EPCIS query document."""
        rows = provenance.events(per_page, before)
        body = {"queryName": "SimpleEventQuery", "resultsBody": {"eventList": [json.loads(row.body) for row in rows]}}
        token = rows[-1].place if len(rows) == per_page else None
        return {"type": "EPCISQueryDocument", "schemaVersion": "2.0", "epcisBody": {"queryResults": body}} | (
            {"nextPageToken": token} if token else {}
        )

    @router.get("/api/v1/trace/refusals")
    def refusals(who: Reader) -> Mapping[str, Any]:  # noqa: ARG001 - as above
        """Attempts that a rule refused, with rule, source and earliest legal date."""
        return {"items": provenance.refusals()}

    @router.get("/api/v1/trace/lots")
    def lots() -> Mapping[str, Any]:
        """Codes that may be scanned; public, as the codes on packs are."""
        return {"items": provenance.lots()}

    @router.get("/api/v1/trace/log")
    def log() -> Mapping[str, Any]:
        """Health of the log; public, since its checkpoint is."""
        return {"log": provenance.log_state()}

    @router.get("/api/v1/trace/policy")
    def policy() -> Response:
        """A policy file with this log's key. Compare the key's fingerprint with one from elsewhere."""
        return Response(provenance.policy_text, media_type="text/plain; charset=utf-8")

    @router.get("/api/v1/trace/pack")
    def pack(path: str) -> Response:
        """The proof pack of a code, to be checked by `tianmai-trace verify`."""
        found = provenance.consumer(path, count_scan=False)
        name = found.path.strip("/").replace("/", "_")
        headers = {"Content-Disposition": f'attachment; filename="{name}.json"'}
        return Response(found.pack, media_type="application/tianmai-pack+json", headers=headers)

    @router.get("/log/{path:path}")
    def log_file(path: str) -> Response:
        """A static file of the log: `checkpoint`, `tile/...` (C2SP tlog-tiles)."""
        immutable = path.startswith("tile/") and ".p/" not in path
        headers = {"Cache-Control": "public, max-age=31536000, immutable" if immutable else "no-cache"}
        kind = "text/plain; charset=utf-8" if path == "checkpoint" else "application/octet-stream"
        return Response(provenance.log_file(path), media_type=kind, headers=headers)

    return router
