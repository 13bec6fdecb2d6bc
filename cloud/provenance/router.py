"""HTTP doors of the chain beside the repository: refusals, lots, and the log's static files."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response

from cloud.provenance.repository import build_repository
from cloud.provenance.service import Provenance
from cloud.who import Role, Who, having

__all__ = ["build_router"]

Reader = Annotated[Who, Depends(having(*Role))]


def build_router(provenance: Provenance) -> APIRouter:
    """Routes over `provenance`; the consumer's page itself belongs to the pages."""
    router = APIRouter(tags=["provenance"])
    router.include_router(build_repository(provenance))

    @router.get("/api/v1/trace/refusals")
    def refusals(who: Reader) -> Mapping[str, Any]:  # noqa: ARG001 - the dependency is the check
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
