"""Small messages: watermarks, events, and everything that is signed because a person or an actuator relies on it."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, fields
from hashlib import sha256
from types import MappingProxyType
from typing import Any, ClassVar, Self, cast

from edge.wire.texts import MAX_SEQ, WireError, document_of, dump
from edge.wire.topics import EPOCH, LEVEL, PREFIX


@dataclass(frozen=True, slots=True)
class Ack:
    """Retained, cloud to edge: every number of ``epoch`` up to ``watermark`` is durable or in a reported gap.

    ``time_ms`` is the cloud's clock when it said so; a gateway without a better clock may use it. ``again``, never
    retained, says that the cloud has only now begun to listen: what went out before and is above the watermark was
    heard by nobody and is to be sent again at once.
    """

    epoch: str
    watermark: int
    time_ms: int
    again: bool = False

    def __post_init__(self) -> None:
        if EPOCH.match(self.epoch) is None or not 0 <= self.watermark <= MAX_SEQ:
            raise WireError("bad_field", f"no such watermark: {self.epoch[:40]!r} {self.watermark}")

    def encode(self) -> bytes:
        """As JSON."""
        asks = {"again": 1} if self.again else {}
        return dump({"epoch": self.epoch, "watermark": self.watermark, "time": self.time_ms} | asks)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """From JSON; raises ``WireError``."""
        kinds = {"epoch": str, "watermark": int, "time": int, "again": int}
        known = document_of(payload, kinds, frozenset({"again"}))
        return cls(known["epoch"], known["watermark"], known["time"], known["again"] == 1)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened on the gateway: ``alarm``, ``gap``, ``clock``, ``config``, ``actuator``...

    A ``gap`` event's body holds ``first``, ``last`` (sequence numbers, both included), ``count`` (readings lost,
    when known) and ``reason``; its numbers count as settled for the watermark.
    """

    kind: str
    time_ms: int
    body: Mapping[str, Any]

    def __post_init__(self) -> None:
        if LEVEL.match(self.kind) is None:
            raise WireError("bad_field", f"event kind {self.kind[:40]!r} is not a word")

    def encode(self) -> bytes:
        """As JSON."""
        return dump({"kind": self.kind, "time": self.time_ms, "body": dict(self.body)})

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """From JSON; raises ``WireError``."""
        known = document_of(payload, {"kind": str, "time": int, "body": dict}, frozenset())
        return cls(known["kind"], known["time"], MappingProxyType(known["body"]))


class _Signed:
    """Envelope and signature shared by all that must not be forged. The MAC covers the type's name too."""

    __slots__ = ()
    _KEYS: ClassVar[Mapping[str, type | tuple[type, ...]]]
    _OPTIONAL: ClassVar[frozenset[str]] = frozenset()

    def sign(self, secret: bytes) -> bytes:
        """The envelope ``{"hmac", "signed"}`` as bytes; ``secret`` is the gateway's own."""
        names = (field.name for field in fields(cast("Any", self)))
        text = dump({name: _plain(getattr(self, name)) for name in names})
        return dump({"hmac": self._mac(text, secret), "signed": text.decode()})

    @classmethod
    def verify(cls, payload: bytes, secret: bytes) -> Self:
        """Check the signature first, then the content; raises ``WireError``."""
        envelope = document_of(payload, {"hmac": str, "signed": str}, frozenset())
        text = envelope["signed"].encode("utf-8", "surrogatepass")
        if not hmac.compare_digest(cls._mac(text, secret).encode(), envelope["hmac"].encode("utf-8", "surrogatepass")):
            raise WireError("bad_signature", f"this {cls.__name__.lower()} was not signed with the gateway's secret")
        known = document_of(text, cls._KEYS, cls._OPTIONAL)
        return cls(
            **{key: MappingProxyType(value) if isinstance(value, dict) else value for key, value in known.items()}
        )

    @classmethod
    def _mac(cls, text: bytes, secret: bytes) -> str:
        return hmac.new(secret, f"{PREFIX} {cls.__name__}\n".encode() + text, sha256).hexdigest()


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


@dataclass(frozen=True, slots=True)
class Record(_Signed):
    """What a person did: ``feeding``, ``vaccination``, ``medication``, ``weighing``, ``tag``...; signed JSON."""

    kind: str
    time_ms: int
    body: Mapping[str, Any]

    _KEYS: ClassVar = {"kind": str, "time_ms": int, "body": dict}

    def __post_init__(self) -> None:
        if LEVEL.match(self.kind) is None:
            raise WireError("bad_field", f"record kind {self.kind[:40]!r} is not a word")


@dataclass(frozen=True, slots=True)
class Status(_Signed):
    """The gateway's own health, retained.

    The last will is one with state ``offline`` and the same ``boot``: the cloud ignores it unless that boot is
    the latest it has seen.

    Attributes:
        state: ``online``, ``degraded`` or ``offline``.
        boot: random id of this start of the agent.
        version: of the agent; empty in a will.
        body: figures such as ``spool``, ``clock``, ``rss_bytes``, ``disk_free_bytes``, ``drivers``.
    """

    state: str
    time_ms: int
    boot: str
    version: str
    body: Mapping[str, Any]

    _KEYS: ClassVar = {"state": str, "time_ms": int, "boot": str, "version": str, "body": dict}

    def __post_init__(self) -> None:
        if self.state not in {"online", "degraded", "offline"}:
            raise WireError("bad_field", f"no such state: {self.state[:40]!r}")


@dataclass(frozen=True, slots=True)
class Command(_Signed):
    """An order to one actuator, valid in ``not_before_ms <= now < expires_ms``, run at most once per ``id``.

    Attributes:
        id: unique; its result carries it back.
        gateway: the one it is for; anyone else refuses.
        operation: ``set`` (drive ``target`` to ``value``), ``release`` (back to the rules) or ``read``.
        by: who asked, for the audit, e.g. ``user:li``.
    """

    id: str
    gateway: str
    target: str
    operation: str
    value: float | None
    not_before_ms: int
    expires_ms: int
    by: str

    _KEYS: ClassVar = {
        "id": str,
        "gateway": str,
        "target": str,
        "operation": str,
        "value": (int, float),
        "not_before_ms": int,
        "expires_ms": int,
        "by": str,
    }
    _OPTIONAL: ClassVar = frozenset({"value"})

    def __post_init__(self) -> None:
        if LEVEL.match(self.id) is None or LEVEL.match(self.target) is None:
            raise WireError("bad_field", f"command id {self.id[:40]!r} or target {self.target[:40]!r} is not a word")


@dataclass(frozen=True, slots=True)
class Result(_Signed):
    """What became of a command: ``accepted``, then ``done``, ``refused``, ``expired`` or ``failed`` with a reason."""

    id: str
    outcome: str
    reason: str
    time_ms: int
    body: Mapping[str, Any]

    _KEYS: ClassVar = {"id": str, "outcome": str, "reason": str, "time_ms": int, "body": dict}

    def __post_init__(self) -> None:
        if self.outcome not in {"accepted", "done", "refused", "expired", "failed"}:
            raise WireError("bad_field", f"no such outcome: {self.outcome[:40]!r}")


@dataclass(frozen=True, slots=True)
class Wanted(_Signed):
    """Retained, cloud to edge: the configuration this gateway should have.

    Attributes:
        gateway: the one it is for.
        revision: counts up from 1; one that is not above all before is ignored.
        body: tables of the settings file (``gateway``: farm, timezone, status_s; ``page``, ``driver``, ``output``),
            each in the place of the file's own; empty means the file alone.
    """

    gateway: str
    revision: int
    body: Mapping[str, Any]

    _KEYS: ClassVar = {"gateway": str, "revision": int, "body": dict}

    def __post_init__(self) -> None:
        if not 1 <= self.revision <= MAX_SEQ:
            raise WireError("bad_field", f"revision {self.revision} lies outside 1..{MAX_SEQ}")


@dataclass(frozen=True, slots=True)
class Applied(_Signed):
    """Retained, edge to cloud: what became of wanted ``revision``.

    Attributes:
        outcome: ``trial``, then ``kept`` or ``rolled_back``; or ``refused``; with a reason.
        effective: the revision in effect; 0 is the gateway's own file.
    """

    revision: int
    outcome: str
    reason: str
    effective: int
    time_ms: int

    _KEYS: ClassVar = {"revision": int, "outcome": str, "reason": str, "effective": int, "time_ms": int}

    def __post_init__(self) -> None:
        if self.outcome not in {"trial", "kept", "rolled_back", "refused"}:
            raise WireError("bad_field", f"no such outcome: {self.outcome[:40]!r}")
