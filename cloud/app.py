"""The HTTP face: routers of the contexts, the pages, the error table. No logic of its own."""

from fastapi import FastAPI, Response
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloud import accounts, alarms, catalogue, land, problems, provenance, regions, steering, telemetry
from cloud.pages import build_pages, build_problem_page
from cloud.readiness import Readiness, Ready
from cloud.wiring import Services
from edge import EdgeError
from traceability import TraceError

__all__ = ["create_app"]

_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
)


def create_app(services: Services) -> FastAPI:
    """One application over `services`; it starts no thread and owns no state."""
    # The interactive documentation pages of the framework load code from elsewhere; the description itself stays.
    app = FastAPI(
        title="Tianmai 田脉",
        version="0.1.0",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
        # Else the framework looks for exporters in the environment at its start, and for a tracer at every request.
        telemetry={"auto_configure": False, "tracing": False, "metrics": False, "logs": False},
    )
    problems.install(app, (EdgeError, TraceError), page=build_problem_page(services))
    app.add_middleware(GZipMiddleware, minimum_size=800)
    app.add_middleware(provenance.CaptureDoor, provenance=services.provenance)
    app.add_middleware(accounts.Guard, accounts=services.accounts)
    app.add_middleware(_Hardened)
    # Routes are tried in order: the door that programs knock at a thousand times a second stands first.
    app.include_router(provenance.build_router(services.provenance))
    app.include_router(accounts.build_router(services.accounts))
    app.include_router(regions.build_router(services.regions))
    app.include_router(telemetry.build_router(services.telemetry, services.exports))
    app.include_router(steering.build_router(services.steering))
    app.include_router(alarms.build_router(services.alarms))
    app.include_router(land.build_router(services.land))
    app.include_router(catalogue.build_router(services.catalogue))
    app.include_router(build_pages(services))

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        """Whether the process answers at all."""
        return {"status": "ok"}

    settings = services.settings
    broker = (settings.mqtt_host, settings.mqtt_port)
    readiness = Readiness(services.engine, services.readings, broker, settings.var, services.clock)

    @app.get("/readyz", responses={503: {"model": Ready}})
    def readyz(response: Response) -> Ready:
        """Whether database, readings store, broker and disk answer; 503 where one of them does not."""
        found = readiness.look()
        response.status_code = 200 if found.ok else 503
        return found

    return app


class _Hardened:
    """ASGI middleware: every answer carries the headers that keep a browser from being led astray."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def hardened(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = list(message.get("headers", ()))
                there = {name.lower() for name, _ in own}
                message["headers"] = own + [each for each in _HEADERS if each[0] not in there]
            await send(message)

        await self._app(scope, receive, hardened)
