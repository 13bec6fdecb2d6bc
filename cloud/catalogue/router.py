"""Doors of the catalogue."""

from fastapi import APIRouter
from fastapi.responses import FileResponse

from cloud.catalogue.model import Dataset, Package
from cloud.catalogue.schemas import PackageIn
from cloud.catalogue.service import Catalogue
from cloud.who import SignedIn

__all__ = ["build_router"]


def build_router(catalogue: Catalogue) -> APIRouter:
    """Routes of `catalogue`."""
    router = APIRouter(prefix="/api/v1/catalogue", tags=["catalogue"])

    @router.get("/datasets")
    def datasets(_who: SignedIn) -> tuple[Dataset, ...]:
        """What data there is, whose it is, how sensitive, how much used."""
        return catalogue.datasets()

    @router.get("/packages")
    def packages(who: SignedIn) -> tuple[Package, ...]:
        """The data return packages of one's regions, newest first."""
        return catalogue.packages(who)

    @router.post("/packages", status_code=201)
    def make(given: PackageIn, who: SignedIn) -> Package:
        """Make a package of everything about a region."""
        return catalogue.make_package(who, given.region)

    @router.get("/packages/{package}")
    def package(package: str, who: SignedIn) -> FileResponse:
        """The file (ZIP)."""
        path = catalogue.take_package(who, package)
        return FileResponse(path, media_type="application/zip", filename=f"tianmai-{package}.zip")

    return router
