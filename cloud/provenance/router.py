"""HTTP doors of the chain beside the repository: refusals, lots, and the log's static files."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, Field

from cloud.provenance.code_router import build_code_router
from cloud.provenance.repository import build_repository
from cloud.provenance.service import Provenance
from cloud.provenance.tracing import Traced
from cloud.who import Role, Who, having

__all__ = ["build_router"]

Recaller = Annotated[Who, Depends(having(Role.TRACER, Role.AUDITOR))]
Giver = Annotated[Who, Depends(having(Role.TRACER))]
Reader = Annotated[Who, Depends(having(*Role))]


class GivenChain(BaseModel):
    """A trade item or a place, and the chain whose rules it brings."""

    name: Annotated[str, Field(min_length=1, max_length=300)]
    chain: str | None


def build_router(provenance: Provenance) -> APIRouter:
    """Routes over `provenance`; the consumer's page itself belongs to the pages."""
    router = APIRouter(tags=["provenance"])
    router.include_router(build_repository(provenance))
    router.include_router(build_code_router(provenance.codes))

    @router.get("/api/v1/trace/refusals")
    def refusals(who: Reader) -> Mapping[str, Any]:  # noqa: ARG001 - the dependency is the check
        """Attempts that a rule refused, with rule, source and earliest legal date."""
        return {"items": provenance.refusals()}

    @router.get("/api/v1/trace/warnings")
    def warnings(who: Reader) -> Mapping[str, Any]:  # noqa: ARG001 - as above
        """Events that a rule let pass with a warning, newest first."""
        return {"items": provenance.warnings()}

    @router.get("/api/v1/trace/records")
    def records(who: Reader) -> Mapping[str, Any]:  # noqa: ARG001 - as above
        """Farm records from gateways, newest first, with the event each became or why it did not."""
        return {"items": provenance.records()}

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
        found = provenance.consumer(path, count_scan=False, exactly=True)
        name = found.path.strip("/").replace("/", "_")
        headers = {"Content-Disposition": f'attachment; filename="{name}.json"'}
        return Response(found.pack, media_type="application/tianmai-pack+json", headers=headers)

    @router.get("/api/v1/trace/label.{kind}")
    def label(
        path: str,
        kind: Literal["svg", "png"],
        width_mm: Annotated[float, Query(ge=8, le=100)] = 25.0,
        dpi: Annotated[int, Query(ge=150, le=1200)] = 300,
    ) -> Response:
        """The QR label of a code, for a printer of `dpi`."""
        types = {"svg": "image/svg+xml", "png": "image/png"}
        return Response(provenance.label(path, kind=kind, width_mm=width_mm, dpi=dpi), media_type=types[kind])

    @router.get("/log/{path:path}")
    def log_file(path: str) -> Response:
        """A static file of the log: `checkpoint`, `tile/...` (C2SP tlog-tiles), `shards`; of later years `2027/...`."""
        immutable = "tile/" in path and ".p/" not in path
        headers = {"Cache-Control": "public, max-age=31536000, immutable" if immutable else "no-cache"}
        kind = "text/plain; charset=utf-8" if "tile/" not in path else "application/octet-stream"
        return Response(provenance.log_file(path), media_type=kind, headers=headers)

    _trace_routes(router, provenance)
    _chain_routes(router, provenance)
    return router


def _trace_routes(router: APIRouter, provenance: Provenance) -> None:
    @router.get("/api/v1/trace/back")
    def back(who: Reader, thing: str) -> Traced:  # noqa: ARG001 - as above
        """Everything a thing was made from, with its events and how exactly it can be traced."""
        return provenance.tracer.back(thing)

    @router.get("/api/v1/trace/forward")
    def forward(who: Reader, thing: str) -> Traced:  # noqa: ARG001 - as above
        """Everything made from a thing, and what held it."""
        return provenance.tracer.forward(thing)

    @router.get("/api/v1/trace/balance")
    def balance(who: Reader, thing: str) -> Mapping[str, int]:  # noqa: ARG001 - as above
        """Whole grams of a lot: made, used, left."""
        return provenance.tracer.balance(thing)

    @router.get("/api/v1/trace/recall")
    def recall(
        who: Recaller,  # noqa: ARG001 - as above
        seed: Annotated[list[str], Query(min_length=1, max_length=100)],
        grade: Annotated[int, Query(ge=1, le=3)] = 1,
    ) -> Mapping[str, Any]:
        """Scope of a recall (or of a drill): holders, states, dilution, one step back, and how long the answer took."""
        return provenance.tracer.recall(seed, grade=grade)


def _chain_routes(router: APIRouter, provenance: Provenance) -> None:
    @router.get("/api/v1/trace/chains")
    def chains(who: Reader) -> Mapping[str, Any]:  # noqa: ARG001 - as above
        """Trade items and places that were put under the rules of a chain."""
        return {"items": provenance.given_chains()}

    @router.put("/api/v1/trace/chains")
    def give_chain(who: Giver, body: GivenChain) -> Mapping[str, Any]:  # noqa: ARG001 - as above
        """Put a trade item (GTIN or link) or a place under the rules of a chain; null takes it away."""
        return {"name": provenance.give_chain(body.name, body.chain), "chain": body.chain}
