"""What can go wrong at the cloud's doors, and the one table that turns it into HTTP.

A context raises one of the kinds below (or its own subclass of one) with a stable code and a sentence that says what,
where and what to do. It never hears of a status code: `STATUS` is the only place that knows them. Errors of the pure
packages keep their own classes and are put into the table by name, so nothing heavy is imported for it.

    CloudError
    ├── Unauthenticated   nobody has signed in
    ├── Forbidden         somebody has, but may not do this
    ├── NotFound          no such thing, or not in your region (the two look alike on purpose)
    ├── Conflict          the thing is in a state that does not allow it
    ├── Refused           a rule says no, and quotes its source
    ├── Invalid           the input cannot be read or is out of range
    ├── TooLarge          over a published limit
    ├── NotAcceptable     no answer of the kind that was asked for
    ├── Unsupported       the input is of a kind that nobody reads here
    ├── TooMany           a quota is used up
    └── Unavailable       a store or a neighbour does not answer; try again

Source of the wire form: RFC 9457, `application/problem+json`. A browser that asks for HTML outside `/api/` gets the
page that `install` was given instead: for an unknown address, a wrong method, a sign-in that failed, a bug. The status
is the same.
"""

import json
import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

__all__ = [
    "STORE_ERRORS",
    "CloudError",
    "Conflict",
    "Forbidden",
    "Invalid",
    "NotAcceptable",
    "NotFound",
    "Refused",
    "TooLarge",
    "TooMany",
    "Unauthenticated",
    "Unavailable",
    "Unsupported",
    "install",
    "problem",
    "store_away",
]

_LOG = logging.getLogger(__name__)


class CloudError(Exception):
    """Base of every expected error of the cloud.

    `code` is stable and machine-readable; `detail` is one sentence for a person; `pointer` is a JSON pointer into the
    input where that helps; `extra` are further members of the problem document (a rule's source, the legal date).
    """

    code = "error"

    def __init__(self, detail: str, *, code: str | None = None, pointer: str | None = None, **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or type(self).code
        self.pointer = pointer
        self.extra: Mapping[str, Any] = extra


class Unauthenticated(CloudError):
    """Nobody has signed in."""

    code = "sign_in_needed"


class Forbidden(CloudError):
    """The person is known and may not do this."""

    code = "forbidden"


class NotFound(CloudError):
    """No such thing, or not in the asker's region: the answer does not tell which."""

    code = "not_found"


class Conflict(CloudError):
    """The thing's state does not allow the step asked for."""

    code = "conflict"


class Refused(CloudError):
    """A domain rule says no; `extra` carries the rule, its source and, where there is one, the earliest legal date."""

    code = "refused"


class Invalid(CloudError):
    """The input cannot be read, or lies outside its range."""

    code = "invalid"


class TooLarge(CloudError):
    """The input is over a published limit."""

    code = "too_large"


class NotAcceptable(CloudError):
    """The answer cannot be given in the form that was asked for."""

    code = "not_acceptable"


class Unsupported(CloudError):
    """The input is in a form that nobody reads here."""

    code = "unsupported"


class TooMany(CloudError):
    """A quota is used up."""

    code = "too_many"


class Unavailable(CloudError):
    """A store or a neighbouring service does not answer now."""

    code = "unavailable"


# Domain error -> HTTP status. The pure packages' errors stand here by qualified name: the API process need not import
# the science to know that its complaint about an input is the client's to mend.
STATUS: Mapping[str, int] = {
    "cloud.problems.Unauthenticated": 401,
    "cloud.problems.Forbidden": 403,
    "cloud.problems.NotFound": 404,
    "cloud.problems.Conflict": 409,
    "cloud.problems.Refused": 422,
    "cloud.problems.Invalid": 422,
    "cloud.problems.TooLarge": 413,
    "cloud.problems.NotAcceptable": 406,
    "cloud.problems.Unsupported": 415,
    "cloud.problems.TooMany": 429,
    "cloud.problems.Unavailable": 503,
    "cloud.problems.CloudError": 400,
    "edge.EdgeError": 422,
    "traceability.TraceError": 422,
    "remote_sensing.LandError": 422,
}
# What the relational store raises when it cannot take or answer: full, unreadable, locked, gone, no connection free.
# Its other errors (a broken constraint, a statement that makes no sense) are bugs.
STORE_ERRORS: tuple[type[Exception], ...] = (OperationalError, InterfaceError, PoolTimeout)
_STORE_LOG_S = 60.0
_FORMS = ("multipart/", "application/x-www-form-urlencoded")
PROBLEM_JSON = "application/problem+json"
Page = Callable[[Request, int, str], Response]
"""Draws (request, status, one sentence) for a person."""


def status_of(error: Exception) -> int | None:
    """HTTP status of a domain error, by its nearest ancestor in `STATUS`; None where it is not an expected one."""
    for kind in type(error).__mro__:
        # A package may define its base error in an inner module and show it at its door.
        for name in (
            f"{kind.__module__}.{kind.__qualname__}",
            f"{kind.__module__.split('.')[0]}.{kind.__qualname__}",
        ):
            if name in STATUS:
                return STATUS[name]
    return None


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    instance: str,
    pointer: str | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Response:
    """One problem document as a response (RFC 9457)."""
    body: dict[str, Any] = {
        "type": f"urn:tianmai:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
        "instance": instance,
        "request_id": uuid.uuid4().hex,
    }
    if pointer is not None:
        body["errors"] = [{"pointer": pointer, "code": code}]
    body |= dict(extra or {})
    headers = {"Retry-After": "5"} if status in {429, 503} else None
    # A sentence may quote half a surrogate pair; written as its escape, it is JSON that says the same.
    text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(text.encode(errors="backslashreplace"), status, headers, PROBLEM_JSON)


def _from_domain(request: Request, error: Exception) -> Response:
    status = status_of(error)
    if status is None:
        raise error
    code = getattr(error, "code", None) or "invalid"
    detail = getattr(error, "detail", None) or str(error)
    extra = {key: _plain(value) for key, value in getattr(error, "extra", {}).items()}
    return problem(
        status,
        str(code),
        str(detail),
        instance=request.url.path,
        pointer=getattr(error, "pointer", None),
        extra=extra,
    )


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | list | dict | None) else str(value)


async def _domain(request: Request, error: Exception) -> Response:
    if isinstance(error, Unauthenticated):  # a used sign-in link is followed by a person: plain words, no document
        return _told(request, STATUS["cloud.problems.Unauthenticated"], error.code, error.detail)
    return _from_domain(request, error)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - tells mypy what the registration below guarantees
    code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
    return _told(request, error.status_code, code, str(error.detail), error.headers)


async def _validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - as above
    first = error.errors()[0]
    where = "/" + "/".join(str(part) for part in first["loc"])
    return problem(422, "invalid", f"{where}: {first['msg']}", instance=request.url.path, pointer=where)


async def store_away(request: Request, error: Exception) -> Response:
    """The answer while the relational store cannot take or answer; logged once a minute, not once a request."""
    now, told = time.monotonic(), getattr(request.app.state, "store_told_s", float("-inf"))
    if now - told > _STORE_LOG_S:
        request.app.state.store_told_s = now
        _LOG.error("the relational store failed at %s: %s", request.url.path, getattr(error, "orig", None) or error)
    detail = "the store cannot take or answer this now; try again later"
    return _told(request, STATUS["cloud.problems.Unavailable"], "store_unavailable", detail)


async def _bug(request: Request, error: Exception) -> Response:
    _LOG.exception("unexpected error at %s", request.url.path, exc_info=error)
    return _told(request, 500, "internal", "an unexpected error was logged on the server")


def _told(request: Request, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """A page where a browser asks for one, else a problem document. `headers` are kept (`Allow` of a wrong method)."""
    page: Page | None = getattr(request.app.state, "problem_page", None)
    wanted = "text/html" in request.headers.get("accept", "").lower() and not request.url.path.startswith("/api/")
    if page is not None and wanted:
        answer = page(request, status, detail)
    else:
        answer = problem(status, code, detail, instance=request.url.path)
    answer.headers.update(headers or {})
    return answer


async def _whole_text(request: Request) -> None:
    """Refuse half a surrogate pair in a JSON body: no store, log or answer could hold such text.

    A body that the framework has not read (a stream, a form, a document that its own door reads) is left alone.
    """
    route, kind = request.scope.get("route"), request.headers.get("content-type", "")
    if getattr(route, "body_field", None) is None or kind.startswith(_FORMS):
        return
    raw = await request.body()
    # The framework's reader lets a half through as an escape, as bytes, and in UTF-16, which is full of zeros.
    if raw.isascii() and b"\0" not in raw and b"\\ud" not in raw.lower():
        return
    try:
        json.dumps(await request.json(), ensure_ascii=False).encode()
    except UnicodeEncodeError as why:
        raise Invalid("text holds half a surrogate pair", code="surrogate", pointer="/body") from why
    except ValueError:
        return  # no JSON: the door itself says so


def install(app: FastAPI, engine_errors: Sequence[type[Exception]] = (), *, page: Page | None = None) -> None:
    """Give `app` the one error table; `engine_errors` are base errors of the pure packages, `page` is for people."""
    app.state.problem_page = page
    app.router.dependencies.append(Depends(_whole_text))
    kinds: list[type[Exception]] = [CloudError, *engine_errors]
    for kind in kinds:
        app.add_exception_handler(kind, _domain)
    for kind in STORE_ERRORS:
        app.add_exception_handler(kind, store_away)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(Exception, _bug)
