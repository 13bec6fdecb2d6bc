"""Doors of regions. The tree is public knowledge; being signed in is enough to read it."""

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Query

from cloud.regions.schemas import RegionView
from cloud.regions.service import Regions
from cloud.who import SignedIn

__all__ = ["build_router"]

At = Annotated[date | None, Query(description="as it was on this day; default today")]


def build_router(regions: Regions) -> APIRouter:
    """Routes of `regions`."""
    router = APIRouter(prefix="/api/v1/regions", tags=["regions"])

    @router.get("")
    def roots(_who: SignedIn) -> list[RegionView]:
        """The regions at the top."""
        return [RegionView.of(region) for region in regions.roots()]

    @router.get("/{code}")
    def region(code: str, _who: SignedIn, at: At = None) -> RegionView:
        """One region."""
        return RegionView.of(regions.get(code, at))

    @router.get("/{code}/children")
    def children(code: str, _who: SignedIn, at: At = None) -> list[RegionView]:
        """What stands directly below it."""
        return [RegionView.of(child) for child in regions.children(regions.get(code, at).code, at)]

    return router
