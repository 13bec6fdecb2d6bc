"""What people see: the officials' console and the consumer's page.

Server-rendered, in Chinese by default and in English on demand; scripts only add to pages that are complete without
them. Pages ask the same services as the API does, and hold no state of their own.

    words.py speech.py     catalogues; how numbers, times and areas are said
    render.py              templates, headers, static files
    console.py scan.py     the two faces: routes
    case_actions.py        what people may do to a case, as plain forms
    farms.py land.py chain.py charts.py legend.py    what is shown, as values made from what the services say
    problem_pages.py       expected errors in plain words
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from fastapi.responses import Response

from cloud.pages.console import build_console
from cloud.pages.problem_pages import page_route, problem_page
from cloud.pages.render import Renderer, static_file
from cloud.pages.scan import build_scan

if TYPE_CHECKING:
    from cloud.wiring import Services

__all__ = ["build_pages", "build_problem_page"]


def build_pages(services: "Services") -> APIRouter:
    """All pages over `services`, and the static files they use."""
    renderer = Renderer(services.clock)
    route = page_route(renderer)
    router = APIRouter(include_in_schema=False)
    router.include_router(build_scan(services, renderer, route))
    router.include_router(build_console(services, renderer, route))

    @router.get("/static/{name:path}")
    def static(request: Request, name: str) -> Response:
        """A file of the front end."""
        return static_file(request, name)

    return router


def build_problem_page(services: "Services") -> Callable[[Request, int, str], Response]:
    """What `cloud.problems` shows a person where no page is in charge: an unknown address, a wrong method, a bug."""
    return problem_page(Renderer(services.clock))
