"""The HTTP face: routers of the contexts, the pages, the error table. No logic of its own."""

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response

from cloud import accounts, alarms, catalogue, land, problems, provenance, regions, telemetry
from cloud.pages import build_pages
from cloud.wiring import Services
from edge import EdgeError
from traceability import TraceError

__all__ = ["create_app"]

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


def create_app(services: Services) -> FastAPI:
    """One application over `services`; it starts no thread and owns no state."""
    # The interactive documentation pages of the framework load code from elsewhere; the description itself stays.
    app = FastAPI(
        title="Tianmai 田脉", version="0.1.0", docs_url=None, redoc_url=None, openapi_url="/api/v1/openapi.json"
    )
    problems.install(app, (EdgeError, TraceError))
    app.add_middleware(GZipMiddleware, minimum_size=800)
    app.add_middleware(accounts.Guard, accounts=services.accounts)
    app.middleware("http")(_harden)
    app.include_router(accounts.build_router(services.accounts))
    app.include_router(regions.build_router(services.regions))
    app.include_router(telemetry.build_router(services.telemetry))
    app.include_router(alarms.build_router(services.alarms))
    app.include_router(land.build_router(services.land))
    app.include_router(catalogue.build_router(services.catalogue))
    app.include_router(provenance.build_router(services.provenance))
    app.include_router(build_pages(services))

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        """Whether the process answers at all."""
        return {"status": "ok"}

    return app


async def _harden(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await go_on(request)
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    return response
