"""The capture door for small documents that nothing speaks against, ahead of the framework.

Many senders with one event each are what a county's farms are. For each of them the framework's own way through routes,
parameters and layers costs more than checking, sealing and storing the event. So this door takes what goes through at
the first try and answers as the common way would; whatever else comes (a refusal, a parameter, XML, a large body, an
event known already) goes the common way from the beginning, which says what there is to say.
"""

import asyncio

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloud.problems import STORE_ERRORS, CloudError
from cloud.provenance.reading import read_document
from cloud.provenance.repository import BEHAVIOUR, CAPTURE, SMALL_DOCUMENT, capture_answer
from cloud.provenance.schemas import Captured, CaptureJob
from cloud.provenance.service import Provenance
from cloud.who import Role, Who
from traceability import TraceError

__all__ = ["CaptureDoor"]

_ELSE = BEHAVIOUR.lower().encode()
_JSON = (b"application/json", b"application/ld+json")


class CaptureDoor:
    """ASGI middleware; it needs the `Who` that the gate of accounts puts on the request."""

    def __init__(self, app: ASGIApp, provenance: Provenance) -> None:
        self._app = app
        self._provenance = provenance

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        who = _sender(scope)
        if who is None:
            await self._app(scope, receive, send)
            return
        body, before = await _read(receive)
        taken = await self._take(body, who) if body is not None else None
        if taken is None:
            await self._app(scope, _again(before, receive), send)
            return
        answer, headers = capture_answer(*taken)
        data = orjson.dumps(answer)
        named = {**headers, "content-type": "application/json", "content-length": str(len(data))}
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in named.items()]
        await send({"type": "http.response.start", "status": 202, "headers": raw})
        await send({"type": "http.response.body", "body": data})

    async def _take(self, body: bytes, who: Who) -> tuple[CaptureJob, list[Captured]] | None:
        try:
            pending = self._provenance.hand_in(read_document(body), chain=None, by=who.id)
            if pending is None:
                return None
            return pending.job, pending.receipts(await asyncio.wrap_future(pending.places))
        except (CloudError, TraceError):
            return None  # the common way comes upon it again and says it in full
        except STORE_ERRORS:
            return None


def _sender(scope: Scope) -> Who | None:
    """Who sends a small JSON document without further wishes and may; None for every other request."""
    if scope["type"] != "http" or scope["path"] != CAPTURE or scope["method"] != "POST" or scope["query_string"]:
        return None
    headers = dict(scope["headers"])
    length = headers.get(b"content-length", b"")
    if _ELSE in headers or not headers.get(b"content-type", b"").startswith(_JSON) or b"content-encoding" in headers:
        return None
    if not length.isdigit() or int(length) > SMALL_DOCUMENT:
        return None
    who = scope.get("state", {}).get("who")
    return who if isinstance(who, Who) and who.regions(Role.ADMIN, Role.TRACER) else None


async def _read(receive: Receive) -> tuple[bytes | None, list[Message]]:
    """The body (None where it does not come whole), and the messages it came in."""
    messages: list[Message] = []
    while True:
        message = await receive()
        messages.append(message)
        if message["type"] != "http.request":
            return None, messages
        if not message.get("more_body", False):
            return b"".join(each.get("body", b"") for each in messages), messages


def _again(messages: list[Message], receive: Receive) -> Receive:
    """A `receive` that gives these messages once more, then goes on."""
    left = iter(messages)

    async def once_more() -> Message:
        message = next(left, None)
        return await receive() if message is None else message

    return once_more
