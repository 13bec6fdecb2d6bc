"""HTTP doors of printed codes: issue, register, move, look at, and the scratch layer."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from cloud.problems import Invalid, NotFound
from cloud.provenance.codes import MOST_CODES, Codes, IssuedCode, Scratched
from cloud.provenance.schemas import CodeState
from cloud.who import Role, Who, having

__all__ = ["build_code_router"]

Tracer = Annotated[Who, Depends(having(Role.TRACER))]
Reader = Annotated[Who, Depends(having(*Role))]
Gtin = Annotated[str, Field(min_length=14, max_length=14)]
Lot = Annotated[str, Field(min_length=1, max_length=20)]
Path = Annotated[str, Field(max_length=300)]


class Printing(BaseModel):
    """What is to be printed: `count` new serials, or `serials` that were printed elsewhere."""

    gtin: Gtin
    lot: Lot
    count: int | None = None
    serials: list[Annotated[str, Field(max_length=20)]] | None = Field(None, max_length=MOST_CODES)


class Moving(BaseModel):
    """Codes to be moved together, or not at all; `retire` and `void` need a reason."""

    paths: list[Path] = Field(max_length=MOST_CODES)
    move: Literal["activate", "sell", "take_back", "retire", "void"]
    reason: str = ""


class Scratching(BaseModel):
    """A code and the characters under its scratch layer."""

    path: Path
    scratch: Annotated[str, Field(max_length=40)]


def build_code_router(codes: Codes) -> APIRouter:
    """Routes over `codes`."""
    router = APIRouter(prefix="/api/v1/trace/codes", tags=["codes"])

    @router.post("", status_code=201)
    def issue(who: Tracer, body: Printing) -> Mapping[str, list[IssuedCode]]:
        """Issue or register codes. The scratch codes stand in this answer and nowhere else."""
        if (body.count is None) == (body.serials is None):
            raise Invalid("say either count or serials", pointer="/count")
        if body.serials is not None:
            return {"codes": codes.register(body.gtin, body.lot, body.serials, by=who.id)}
        return {"codes": codes.issue(body.gtin, body.lot, body.count or 0, by=who.id)}

    @router.post("/move")
    def move(who: Tracer, body: Moving) -> Mapping[str, list[CodeState]]:
        """Move codes: activate, sell, take_back, retire, void. All or none; 409 names the first that may not."""
        return {"codes": codes.move(body.paths, body.move, by=who.id, reason=body.reason)}

    @router.get("")
    def of_lot(who: Reader, gtin: str, lot: str) -> Mapping[str, list[CodeState]]:  # noqa: ARG001 - the dependency is the check
        """The registered codes of a lot, by serial."""
        return {"codes": codes.of_lot(gtin, lot)}

    @router.get("/one")
    def one(who: Reader, path: Annotated[str, Query(max_length=300)]) -> Mapping[str, Any]:  # noqa: ARG001 - as above
        """One code with every move that was made by hand: who, when, why."""
        state = codes.at(path)
        if state is None:
            raise NotFound(f"{path[:120]} is no registered code", code="unknown_code")
        return {"code": state, "moves": codes.moves(path)}

    @router.post("/scratch")
    def scratch(body: Scratching) -> Scratched:
        """Judge the characters under a scratch layer; public, and counted."""
        return codes.scratched(body.path, body.scratch)

    return router
