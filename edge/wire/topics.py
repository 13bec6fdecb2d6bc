"""Topics: whose message it is, what it carries, and its place in the sequence."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from edge.wire.texts import MAX_SEQ, WireError

PREFIX = "tm/1"
_GATEWAY = re.compile(r"[a-z0-9][a-z0-9-]{0,35}\Z")
EPOCH = re.compile(r"[0-9a-f]{8,32}\Z")
_SEQ = re.compile(r"[1-9][0-9]{0,18}\Z")
LEVEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9\-:._]{0,63}\Z")


class Kind(Enum):
    """What a topic carries; the value is its text after the gateway id."""

    DATA = "data"
    RECORD = "record"
    EVENT = "event"
    ACK = "ack"
    STATUS = "status"
    META = "meta"
    COMMAND = "command"
    RESULT = "result"
    CONFIG_WANTED = "config/wanted"
    CONFIG_APPLIED = "config/applied"


SEQUENCED = frozenset({Kind.DATA, Kind.RECORD, Kind.EVENT})
_NAMED = frozenset({Kind.META, Kind.COMMAND})


@dataclass(frozen=True, slots=True)
class Topic:
    """A parsed topic. ``epoch`` and ``seq`` come together (data may lack both); ``name`` is a sensor or target."""

    gateway: str
    kind: Kind
    epoch: str | None = None
    seq: int | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        check_gateway(self.gateway)
        numbered = self.epoch is not None and self.seq is not None
        if self.epoch is not None and EPOCH.match(self.epoch) is None:
            raise WireError("bad_topic", f"epoch {self.epoch[:40]!r} is not 8 to 32 hex digits")
        if self.seq is not None and not 1 <= self.seq <= MAX_SEQ:
            raise WireError("bad_topic", f"sequence number {self.seq} lies outside 1..{MAX_SEQ}")
        if (self.epoch is None) != (self.seq is None) or (numbered and self.kind not in SEQUENCED):
            raise WireError("bad_topic", f"epoch and sequence do not fit a {self.kind.value} topic")
        if not numbered and self.kind in {Kind.RECORD, Kind.EVENT}:
            raise WireError("bad_topic", f"a {self.kind.value} topic needs epoch and sequence")
        if (self.name is not None) != (self.kind in _NAMED) or (
            self.name is not None and LEVEL.match(self.name) is None
        ):
            raise WireError("bad_topic", f"{self.name!r} does not name what a {self.kind.value} topic is about")

    @property
    def text(self) -> str:
        """The topic as the broker knows it."""
        tail = f"/{self.epoch}/{self.seq}" if self.seq is not None else f"/{self.name}" if self.name else ""
        return f"{PREFIX}/{self.gateway}/{self.kind.value}{tail}"


_KINDS = {kind.value: kind for kind in Kind}


def parse_topic(topic: str) -> Topic:
    """The inverse of ``Topic.text``; raises ``WireError`` (``bad_topic``) for anything else."""
    prefix, parts = topic[: len(PREFIX) + 1], topic[len(PREFIX) + 1 :].split("/")
    if prefix != PREFIX + "/" or not 2 <= len(parts) <= 4:  # noqa: PLR2004 - gateway, kind and at most two more
        raise WireError("bad_topic", f"{topic[:80]!r} is not {PREFIX}/<gateway>/<kind>...")
    gateway, *rest = parts
    whole = _KINDS.get("/".join(rest))
    if whole is not None:
        return Topic(gateway, whole)
    kind = _KINDS.get(rest[0])
    if kind in _NAMED and len(rest) == 2:  # noqa: PLR2004 - kind, name
        return Topic(gateway, kind, name=rest[1])
    if kind in SEQUENCED and len(rest) == 3 and _SEQ.match(rest[2]):  # noqa: PLR2004 - kind, epoch, seq
        return Topic(gateway, kind, epoch=rest[1], seq=int(rest[2]))
    raise WireError("bad_topic", f"{topic[:80]!r} is no topic of this protocol")


def check_gateway(gateway: str) -> None:
    """Raises ``WireError`` (``bad_topic``) unless this may be the id of a gateway."""
    if _GATEWAY.match(gateway) is None:
        raise WireError("bad_topic", f"gateway id {gateway[:50]!r} is not [a-z0-9][a-z0-9-]{{0,35}}")
