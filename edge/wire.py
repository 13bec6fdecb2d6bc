"""The contract between gateway and cloud: topics, packs, watermarks, records, commands.

Everything the protocol needs is in topic and payload, so that a plain MQTT 3.1.1 broker will do.

``data``, ``record`` and ``event`` messages carry ``(epoch, seq)`` in the topic and share one sequence per
gateway. The epoch names one spool (new spool, new epoch); the cloud answers with a cumulative watermark
(:class:`Ack`), and only that lets the gateway forget. A pack is SenML JSON (RFC 8428), deflated or not,
with two extra labels that other SenML readers may ignore: ``q`` (:class:`Quality`, absent = good) and
``c`` (calibration id). A record without a value is legal only with ``q >= 4``.

What a person or an actuator relies on — farm records, status, commands and their results — is signed with
the gateway's secret. The signature covers the exact bytes of the JSON text inside the envelope
``{"hmac": hex, "signed": text}``: no canonical form is needed, so any language can check it.
"""

from __future__ import annotations

import binascii
import hmac
import json
import math
import re
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from enum import Enum, IntEnum
from hashlib import sha256
from types import MappingProxyType
from typing import Any, ClassVar, Self, cast

from edge import EdgeError

PREFIX = "tm/1"

_GATEWAY = re.compile(r"[a-z0-9][a-z0-9-]{0,35}\Z")
_EPOCH = re.compile(r"[0-9a-f]{8,32}\Z")
_SEQ = re.compile(r"[1-9][0-9]{0,18}\Z")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9\-:./_]{0,95}\Z")
_LEVEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9\-:._]{0,63}\Z")
_URN = "urn:dev:org:32473-"  # RFC 9039; 32473 is the number IANA keeps for documentation
_BASE = re.compile(r"urn:dev:org:32473-([a-z0-9][a-z0-9-]{0,35}):")
MAX_SEQ = 2**63 - 1
# Below 2**28 seconds a SenML time is relative to "now" (RFC 8428, 4.5.3): useless once stored.
_MIN_MS = 2**28 * 1000
_MAX_MS = 4_102_444_800_000  # the year 2100
_NO_VALUE_FROM = 4


class WireError(EdgeError):
    """A topic or payload breaks the contract.

    Codes: ``bad_topic``, ``too_large``, ``bomb``, ``torn``, ``not_json``, ``not_senml``, ``nan``,
    ``relative_time``, ``bad_time``, ``bad_name``, ``bad_value``, ``bad_quality``, ``duplicate_label``,
    ``must_understand``, ``bad_version``, ``mixed_gateways``, ``empty``, ``bad_field``, ``bad_signature``,
    ``bad_export``.
    """


class Quality(IntEnum):
    """How far a reading may be trusted; from 4 on the value is bad and may be missing."""

    GOOD = 0
    UNCERTAIN = 1
    SUBSTITUTED = 2
    DEVICE_ERROR = 4
    OUT_OF_RANGE = 5
    STALE = 6
    COMMS_LOST = 7


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of one series at one time.

    Attributes:
        name: ``sensor/quantity``, e.g. ``pond1/dissolved_oxygen``; the series within its gateway.
        time_ms: UTC, integer milliseconds, after mid-1978 and before 2100.
        value: finite, in ``unit``; None only where ``quality`` is 4 or more.
        unit: SenML name, else UCUM; sent and stored unconverted.
        quality: see :class:`Quality`.
        calibration: id of the calibration in force, if any.
    """

    name: str
    time_ms: int
    value: float | None
    unit: str
    quality: Quality = Quality.GOOD
    calibration: str | None = None

    def __post_init__(self) -> None:
        if _NAME.match(self.name) is None:
            raise WireError("bad_name", f"reading name {self.name[:100]!r} is not sensor/quantity as in RFC 8428")
        if not _MIN_MS <= self.time_ms < _MAX_MS:
            raise WireError("bad_time", f"{self.name}: time {self.time_ms} ms lies outside 1978..2100")
        if self.value is None:
            if self.quality < _NO_VALUE_FROM:
                raise WireError("bad_quality", f"{self.name}: no value although quality is {self.quality}")
        elif not math.isfinite(self.value):
            raise WireError("nan", f"{self.name}: value {self.value} is not a number")

    @property
    def sensor(self) -> str:
        """The part before the last slash; empty where the name has none."""
        return self.name.rpartition("/")[0]

    @property
    def quantity(self) -> str:
        """The part after the last slash."""
        return self.name.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Pack:
    """Readings of one gateway, in the order they were taken."""

    gateway: str
    readings: tuple[Reading, ...]

    def __post_init__(self) -> None:
        _check_gateway(self.gateway)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a receiver is willing to unpack (bytes; readings)."""

    wire_bytes: int = 64 * 1024
    inflated_bytes: int = 1024 * 1024
    ratio: int = 200
    readings: int = 2000


DEFAULT_LIMITS = Limits()


def encode_pack(pack: Pack, *, deflate: bool = True) -> bytes:
    """The pack as SenML JSON, zlib-deflated unless told otherwise; raises ``WireError`` when empty."""
    if not pack.readings:
        raise WireError("empty", "a pack needs at least one reading")
    base = pack.readings[0].time_ms
    records: list[dict[str, Any]] = [_record_of(reading, base) for reading in pack.readings]
    records[0] = {"bn": f"{_URN}{pack.gateway}:", "bt": base / 1000, **records[0]}
    text = json.dumps(records, separators=(",", ":"), allow_nan=False).encode()
    return zlib.compress(text, 6) if deflate else text


def _record_of(reading: Reading, base: int) -> dict[str, Any]:
    record: dict[str, Any] = {"n": reading.name}
    if reading.time_ms != base:
        record["t"] = (reading.time_ms - base) / 1000
    if reading.unit:
        record["u"] = reading.unit
    if reading.value is not None:
        record["v"] = reading.value
    if reading.quality:
        record["q"] = int(reading.quality)
    if reading.calibration is not None:
        record["c"] = reading.calibration
    return record


def decode_pack(payload: bytes, limits: Limits = DEFAULT_LIMITS) -> Pack:
    """Read a pack, deflated or plain (told by its first byte).

    Accepts any RFC 8428 JSON with numeric values and absolute times; times are rounded to the millisecond.
    Raises ``WireError`` with a code naming what is wrong; never any other exception.
    """
    records = _parse(_inflate(payload, limits))
    if not isinstance(records, list):
        raise WireError("not_senml", f"a pack is a JSON array, not {type(records).__name__}")
    if len(records) > limits.readings + 1:
        raise WireError("too_large", f"{len(records)} records exceed the limit of {limits.readings}")
    reader = _SenmlReader()
    readings = [reading for record in records if (reading := reader.read(record)) is not None]
    if not readings or reader.gateway is None:
        raise WireError("empty", "the pack holds no reading")
    return Pack(reader.gateway, tuple(readings))


def _inflate(payload: bytes, limits: Limits) -> bytes:
    if len(payload) > limits.wire_bytes:
        raise WireError("too_large", f"{len(payload)} bytes exceed the limit of {limits.wire_bytes}")
    if payload[:1] != b"\x78":
        return payload
    roof = min(limits.inflated_bytes, max(1024, limits.ratio * len(payload)))
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(payload, roof + 1)
    except zlib.error as why:
        raise WireError("torn", f"cannot inflate: {why}") from None
    if len(text) > roof:
        raise WireError("bomb", f"{len(payload)} bytes inflate to more than {roof}")
    if not inflater.eof or inflater.unused_data:
        raise WireError("torn", "the deflated text ends too early or too late")
    return text


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        raise WireError("duplicate_label", "a label occurs twice in one JSON object")
    return record


def _no_constant(text: str) -> float:
    raise WireError("nan", f"{text} is not JSON")


def _parse(text: bytes | str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant, parse_int=_whole)
    except (ValueError, RecursionError) as why:  # ValueError covers JSON, UTF-8 and over-long integers
        raise WireError("not_json", f"not JSON: {str(why)[:120]}") from None


class _SenmlReader:
    """The base values of RFC 8428, 4.1, carried from record to record."""

    def __init__(self) -> None:
        self.gateway: str | None = None
        self._name, self._time, self._value, self._unit = "", 0.0, 0.0, ""

    def read(self, record: Any) -> Reading | None:
        """One resolved reading, or None for a record that only sets base values."""
        if not isinstance(record, dict):
            raise WireError("not_senml", f"a record is a JSON object, not {type(record).__name__}")
        if record.keys() - _OWN:
            self._rebase(record)
        if not record.keys() & _OWN:
            return None
        quality, value = _quality(record), record.get("v")
        if value is not None:
            value = _number(value, "v") + self._value
        return Reading(
            name=self._resolve(record.get("n", "")),
            time_ms=self._time_ms(record.get("t", 0)),
            value=value,
            unit=_text(record.get("u", self._unit), "u"),
            quality=quality,
            calibration=None if (mark := record.get("c")) is None else _text(mark, "c"),
        )

    def _rebase(self, record: dict[str, Any]) -> None:
        if strange := [label for label in record if label.endswith("_")]:
            raise WireError("must_understand", f"label {strange[0][:20]!r} must be understood and is not")
        if wrong := record.keys() & {"vs", "vb", "vd", "s", "bs"}:
            raise WireError("bad_value", f"only numbers in 'v' are readings, not {min(wrong)!r}")
        if _number(record.get("bver", 10), "bver") > 10:  # noqa: PLR2004 - the version RFC 8428 defines
            raise WireError("bad_version", f"SenML version {record['bver']} is newer than 10")
        self._name = _text(record.get("bn", self._name), "bn")
        self._time = _number(record.get("bt", self._time), "bt")
        self._value = _number(record.get("bv", self._value), "bv")
        self._unit = _text(record.get("bu", self._unit), "bu")

    def _resolve(self, name: Any) -> str:
        full = self._name + _text(name, "n")
        found = _BASE.match(full)
        if found is None:
            raise WireError("bad_name", f"{full[:80]!r} does not start with {_URN}<gateway>:")
        gateway = found.group(1)
        if self.gateway not in {None, gateway}:
            raise WireError("mixed_gateways", f"one pack speaks for {self.gateway} and {gateway}")
        self.gateway = gateway
        return full[found.end() :]

    def _time_ms(self, offset: Any) -> int:
        seconds = self._time + _number(offset, "t")
        if not _MIN_MS <= seconds * 1000 < _MAX_MS:
            code = "relative_time" if abs(seconds) * 1000 < _MIN_MS else "bad_time"
            raise WireError(code, f"time {seconds} s is not an absolute time between 1978 and 2100")
        return round(seconds * 1000)


_OWN = frozenset({"n", "t", "u", "v", "q", "c"})  # labels of one record; all others set or forbid something


def _number(value: Any, label: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise WireError("bad_value", f"{label} must be a number, not {str(value)[:40]!r}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise WireError("nan", f"{label} is not finite")
    return number


def _text(value: Any, label: str) -> str:
    if not isinstance(value, str) or len(value) > 200 or not value.isascii():  # noqa: PLR2004 - no honest name is longer
        raise WireError("bad_field", f"{label} must be a short ASCII text")
    return value


def _quality(record: dict[str, Any]) -> Quality:
    value = record.get("q", 0)
    if isinstance(value, bool) or not isinstance(value, int):
        raise WireError("bad_quality", f"quality {str(value)[:20]!r} is not an integer")
    try:
        return Quality(value)
    except ValueError:
        raise WireError("bad_quality", f"quality {str(value)[:20]} is unknown") from None


# --- topics ---------------------------------------------------------------------------------------------


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


_SEQUENCED = frozenset({Kind.DATA, Kind.RECORD, Kind.EVENT})
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
        _check_gateway(self.gateway)
        numbered = self.epoch is not None and self.seq is not None
        if self.epoch is not None and _EPOCH.match(self.epoch) is None:
            raise WireError("bad_topic", f"epoch {self.epoch[:40]!r} is not 8 to 32 hex digits")
        if self.seq is not None and not 1 <= self.seq <= MAX_SEQ:
            raise WireError("bad_topic", f"sequence number {self.seq} lies outside 1..{MAX_SEQ}")
        if (self.epoch is None) != (self.seq is None) or (numbered and self.kind not in _SEQUENCED):
            raise WireError("bad_topic", f"epoch and sequence do not fit a {self.kind.value} topic")
        if not numbered and self.kind in {Kind.RECORD, Kind.EVENT}:
            raise WireError("bad_topic", f"a {self.kind.value} topic needs epoch and sequence")
        if (self.name is not None) != (self.kind in _NAMED) or (
            self.name is not None and _LEVEL.match(self.name) is None
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
    if kind in _SEQUENCED and len(rest) == 3 and _SEQ.match(rest[2]):  # noqa: PLR2004 - kind, epoch, seq
        return Topic(gateway, kind, epoch=rest[1], seq=int(rest[2]))
    raise WireError("bad_topic", f"{topic[:80]!r} is no topic of this protocol")


def _check_gateway(gateway: str) -> None:
    if _GATEWAY.match(gateway) is None:
        raise WireError("bad_topic", f"gateway id {gateway[:50]!r} is not [a-z0-9][a-z0-9-]{{0,35}}")


# --- exports: the same messages in a file, for valleys without network ------------------------------------

_EXPORT = "tianmai-export@1"


def export_head(gateway: str) -> bytes:
    """First line of an export file."""
    return _dump({"format": _EXPORT, "gateway": gateway}) + b"\n"


def export_line(topic: Topic, payload: bytes) -> bytes:
    """One message as a line of an export file."""
    return _dump({"topic": topic.text, "payload": b64encode(payload).decode("ascii")}) + b"\n"


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
    known = _document(line, {"format": str, "gateway": str}, frozenset())
    if known["format"] != _EXPORT:
        raise WireError("bad_export", f"is not {_EXPORT}")
    return Topic(known["gateway"], Kind.STATUS).gateway


def _read_line(line: bytes, gateway: str) -> tuple[Topic, bytes]:
    known = _document(line, {"topic": str, "payload": str}, frozenset())
    topic = parse_topic(known["topic"])
    if topic.gateway != gateway or topic.kind not in _SEQUENCED:
        raise WireError("bad_export", f"{topic.text} does not belong here")
    return topic, b64decode(known["payload"], validate=True)


# --- small messages -------------------------------------------------------------------------------------


_MAX_DOCUMENT = 256 * 1024


_TIMES = frozenset({"time", "time_ms"})
_LAST_MS = 253_402_300_799_999  # the end of the year 9999, UTC: beyond it no calendar follows


def _whole(text: str) -> int | float:
    """An integer that any store can hold, else the nearest fraction: a field that must be whole then refuses it."""
    number = int(text) if len(text) < 20 else None  # noqa: PLR2004 - digits and sign of a 64-bit integer
    return float(text) if number is None or not -MAX_SEQ <= number <= MAX_SEQ else number


def _document(
    payload: bytes | str, keys: Mapping[str, type | tuple[type, ...]], optional: frozenset[str]
) -> dict[str, Any]:
    """A JSON object with exactly these keys and types; ints are never bools."""
    if len(payload) > _MAX_DOCUMENT:
        raise WireError("too_large", f"{len(payload)} bytes exceed the limit of {_MAX_DOCUMENT}")
    document = _parse(payload)
    if not isinstance(document, dict):
        raise WireError("bad_field", "the message is not a JSON object")
    _dump(document)  # a lone surrogate would only be found by whoever stores it
    for key, kind in keys.items():
        value = document.get(key)
        if value is None and key in optional:
            continue
        if isinstance(value, bool) or not isinstance(value, kind):
            raise WireError("bad_field", f"field {key!r} is missing or of the wrong type")
        if key in _TIMES and isinstance(value, int) and not 0 <= value <= _LAST_MS:
            raise WireError("bad_field", f"field {key!r} is no time between 1970 and 9999")
    return {key: document.get(key) for key in keys}


@dataclass(frozen=True, slots=True)
class Ack:
    """Retained, cloud to edge: every number of ``epoch`` up to ``watermark`` is durable or in a reported gap.

    ``time_ms`` is the cloud's clock when it said so; a gateway without a better clock may use it.
    """

    epoch: str
    watermark: int
    time_ms: int

    def __post_init__(self) -> None:
        if _EPOCH.match(self.epoch) is None or not 0 <= self.watermark <= MAX_SEQ:
            raise WireError("bad_field", f"no such watermark: {self.epoch[:40]!r} {self.watermark}")

    def encode(self) -> bytes:
        """As JSON."""
        return _dump({"epoch": self.epoch, "watermark": self.watermark, "time": self.time_ms})

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """From JSON; raises ``WireError``."""
        known = _document(payload, {"epoch": str, "watermark": int, "time": int}, frozenset())
        return cls(known["epoch"], known["watermark"], known["time"])


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
        if _LEVEL.match(self.kind) is None:
            raise WireError("bad_field", f"event kind {self.kind[:40]!r} is not a word")

    def encode(self) -> bytes:
        """As JSON."""
        return _dump({"kind": self.kind, "time": self.time_ms, "body": dict(self.body)})

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """From JSON; raises ``WireError``."""
        known = _document(payload, {"kind": str, "time": int, "body": dict}, frozenset())
        return cls(known["kind"], known["time"], MappingProxyType(known["body"]))


def _dump(document: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(document, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as why:
        raise WireError("bad_field", f"cannot be sent as JSON: {why}") from None


class _Signed:
    """Envelope and signature shared by all that must not be forged. The MAC covers the type's name too."""

    __slots__ = ()
    _KEYS: ClassVar[Mapping[str, type | tuple[type, ...]]]
    _OPTIONAL: ClassVar[frozenset[str]] = frozenset()

    def sign(self, secret: bytes) -> bytes:
        """The envelope ``{"hmac", "signed"}`` as bytes; ``secret`` is the gateway's own."""
        names = (field.name for field in fields(cast("Any", self)))
        text = _dump({name: _plain(getattr(self, name)) for name in names})
        return _dump({"hmac": self._mac(text, secret), "signed": text.decode()})

    @classmethod
    def verify(cls, payload: bytes, secret: bytes) -> Self:
        """Check the signature first, then the content; raises ``WireError``."""
        envelope = _document(payload, {"hmac": str, "signed": str}, frozenset())
        text = envelope["signed"].encode("utf-8", "surrogatepass")
        if not hmac.compare_digest(cls._mac(text, secret).encode(), envelope["hmac"].encode("utf-8", "surrogatepass")):
            raise WireError("bad_signature", f"this {cls.__name__.lower()} was not signed with the gateway's secret")
        known = _document(text, cls._KEYS, cls._OPTIONAL)
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
        if _LEVEL.match(self.kind) is None:
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
        if _LEVEL.match(self.id) is None or _LEVEL.match(self.target) is None:
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
