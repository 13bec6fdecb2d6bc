"""The same messages in a file, for valleys without network."""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator

from edge.wire.texts import WireError, document_of, dump
from edge.wire.topics import SEQUENCED, Kind, Topic, parse_topic

_EXPORT = "tianmai-export@1"


def export_head(gateway: str) -> bytes:
    """First line of an export file."""
    return dump({"format": _EXPORT, "gateway": gateway}) + b"\n"


def export_line(topic: Topic, payload: bytes) -> bytes:
    """One message as a line of an export file."""
    return dump({"topic": topic.text, "payload": b64encode(payload).decode("ascii")}) + b"\n"


def read_export(lines: Iterable[bytes]) -> Iterator[tuple[Topic, bytes]]:
    """The messages of an export file, in its order; raises ``WireError`` (``bad_export``) naming the line.

    All messages speak for the gateway of the head line. Reading twice gives the same messages: whoever stores
    them must absorb what is there, as with messages from the broker.
    """
    gateway = ""
    for number, line in enumerate(lines, 1):
        try:
            if number == 1:
                gateway = _read_head(line)
            else:
                yield _read_line(line, gateway)
        except (WireError, binascii.Error) as why:
            raise WireError("bad_export", f"line {number}: {why}") from None
    if not gateway:
        raise WireError("bad_export", "the file is empty")


def _read_head(line: bytes) -> str:
    known = document_of(line, {"format": str, "gateway": str}, frozenset())
    if known["format"] != _EXPORT:
        raise WireError("bad_export", f"is not {_EXPORT}")
    return Topic(known["gateway"], Kind.STATUS).gateway


def _read_line(line: bytes, gateway: str) -> tuple[Topic, bytes]:
    known = document_of(line, {"topic": str, "payload": str}, frozenset())
    topic = parse_topic(known["topic"])
    if topic.gateway != gateway or topic.kind not in SEQUENCED:
        raise WireError("bad_export", f"{topic.text} does not belong here")
    return topic, b64decode(known["payload"], validate=True)
