"""Packs of readings: SenML JSON (RFC 8428), deflated or not, with quality and calibration."""

from __future__ import annotations

import json
import math
import re
import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from edge.wire.texts import WireError, parse
from edge.wire.topics import check_gateway

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9\-:./_]{0,95}\Z")
_URN = "urn:dev:org:32473-"  # RFC 9039; 32473 is the number IANA keeps for documentation
_BASE = re.compile(r"urn:dev:org:32473-([a-z0-9][a-z0-9-]{0,35}):")
# Below 2**28 seconds a SenML time is relative to "now" (RFC 8428, 4.5.3): useless once stored.
_MIN_MS = 2**28 * 1000
_MAX_MS = 4_102_444_800_000  # the year 2100
_NO_VALUE_FROM = 4


def identity(gateway: str, name: str = "") -> str:
    """The URN of a gateway's sensor or series (RFC 9039); without a name, the start that all of them share."""
    return f"{_URN}{gateway}:{name}"


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
        check_gateway(self.gateway)


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
    records[0] = {"bn": identity(pack.gateway), "bt": base / 1000, **records[0]}
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
    records = parse(_inflate(payload, limits))
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
