"""Expected errors as pages in plain words.

An API answers a program with `application/problem+json`; a person in front of a browser gets the same status with a
sentence that says what to do. `PageRoute` turns the cloud's own errors into such a page, and leaves bugs alone.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute
from typing_extensions import override

from cloud.pages.render import Renderer, Reply
from cloud.problems import CloudError, Invalid, status_of
from traceability import TraceError

__all__ = ["page_route", "problem_page"]

_SPOKEN = (401, 403, 404, 405, 409, 422, 500, 503)
_SIGN_IN = 401


def page_route(renderer: Renderer) -> type[APIRoute]:
    """A route class whose expected errors are pages."""

    class PageRoute(APIRoute):
        @override
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def handle_or_explain(request: Request) -> Response:
                try:
                    return await handle(request)
                except (CloudError, TraceError) as error:
                    return _explain(renderer, request, error)
                except RequestValidationError as error:
                    first = error.errors()[0]
                    where = "/".join(str(part) for part in first["loc"])
                    return _explain(renderer, request, Invalid(f"{where}: {first['msg']}"))

            return handle_or_explain

    return PageRoute


def _explain(renderer: Renderer, request: Request, error: CloudError | TraceError) -> Response:
    status = status_of(error) or 400
    if status == _SIGN_IN:
        return renderer.page(request, "sign_in.html", {}, reply=Reply(status=status))
    return problem_page(renderer)(request, status, getattr(error, "detail", None) or str(error))


def problem_page(renderer: Renderer) -> Callable[[Request, int, str], Response]:
    """A function that tells (request, status, one sentence) as a page."""

    def told(request: Request, status: int, detail: str) -> Response:
        key = str(status) if status in _SPOKEN else "other"
        inside = request.url.path.startswith("/console")
        if status == _SIGN_IN:
            return renderer.page(request, "sign_in.html", {}, reply=Reply(status=status, remember_language=inside))
        # Only the console may set the cookie that remembers a language.
        reply = Reply(status=status, remember_language=inside)
        return renderer.page(request, "problem.html", {"key": key, "detail": detail, "inside": inside}, reply=reply)

    return told
