"""Readings in other people's formats: Influx line protocol (Telegraf) and ThingsBoard's gateway telemetry.

Each becomes ordinary readings of one of our gateways and then goes the ordinary way; nothing is guessed that the
format does not say, except that a field named like a quantity of ours is in that quantity's unit.

Whatever is not taken is named. Two kinds: a *state* (a text, a switch, an object under a name that is no quantity of
ours) was never a reading; anything else should have been one and could not be read, so the body must be kept.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cloud.problems import Invalid
from edge import EdgeError
from edge.quantities import quantity_of
from edge.wire import DEFAULT_LIMITS, Reading, WireError, decode_pack, parse

__all__ = ["Understood", "from_line_protocol", "from_thingsboard", "understood"]

_PER_MS = {"ns": 1_000_000, "us": 1_000, "ms": 1}
# A comma, a space or an equals sign in a name is escaped by a backslash; texts in quotes may hold anything.
_PART = r"(?:\\.|[^\\,= ])+"
# No character can be read in two ways here: an ambiguous pattern would take for ever over a hostile line.
_TEXT = r"\"(?:\\.|[^\"\\])*\""
_LINE = re.compile(
    rf"(?P<name>{_PART})(?P<tags>(?:,{_PART}={_PART})*)"
    rf" (?P<fields>(?:\\.|{_TEXT}|[^ \"\\])+)(?: (?P<at>-?\d+))?\s*\Z",
    re.ASCII,
)
_QUOTED = re.compile(rf"{_TEXT}\Z")
_TAG = re.compile(rf",({_PART})=({_PART})")
_FIELD = re.compile(rf"({_PART})=({_TEXT}|[^,]*)(?:,|\Z)")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?\Z", re.ASCII)
_WHOLE = re.compile(r"[-+]?\d+[iu]\Z", re.ASCII)
_SWITCHES = frozenset({"t", "T", "true", "True", "TRUE", "f", "F", "false", "False", "FALSE"})
_TIME_DIGITS = 19  # of a 64-bit integer


@dataclass(slots=True)
class Understood:
    """What a body comes down to.

    `refused` are sentences by reason about what should have been a reading, `states` about what never was one.
    """

    readings: list[Reading] = field(default_factory=list)
    refused: dict[str, list[str]] = field(default_factory=dict)
    states: list[str] = field(default_factory=list)

    def take(self, name: str, value: float | None, at_ms: int, where: str, shown: str) -> None:
        """One value under its name; None is none that could be a number, and `shown` is how it was written."""
        quantity = quantity_of(name)
        told = f"{where}: {name[:100]!r}"
        if value is None:
            reason, detail = "bad_value", f"{told}: {shown[:40]!r} is no number"
            self.refused.setdefault(reason, []).append(detail)
            return
        try:
            self.readings.append(Reading(name.replace(" ", "_"), at_ms, value, quantity.unit if quantity else ""))
        except EdgeError as why:
            self.refused.setdefault(why.code, []).append(f"{where}: {why}")

    def pass_by(self, name: str, at_ms: int, where: str, shown: str) -> None:
        """A text, a switch or an object: a state, unless a number was due under this name."""
        if quantity_of(name) is not None:
            self.take(name, None, at_ms, where, shown)
        else:
            self.states.append(f"{where}: {name[:100]!r}: {shown[:40]!r} is a state, not a reading")

    def checked(self) -> "Understood":
        """Itself. Raises `Invalid` where there is no reading in it, or more than a body may hold."""
        for reason, details in self.refused.items():
            if not self.readings:
                raise Invalid(_first(details), code=reason)
        if not self.readings:
            raise Invalid("there is no number in it", code="empty")
        if len(self.readings) > DEFAULT_LIMITS.readings:
            raise Invalid(f"more than {DEFAULT_LIMITS.readings} readings at once", code="too_large")
        return self


def _first(details: list[str]) -> str:
    return details[0] + (f" (and {len(details) - 1} more)" if len(details) > 1 else "")


def understood(gateway: str, body: bytes, kind: str, received_ms: int, precision: str) -> Understood:
    """What a body of this media type says that came by HTTP for this gateway. Raises `Invalid`."""
    if kind == "application/senml+json":
        try:
            pack = decode_pack(body)
        except WireError as why:
            raise Invalid(str(why), code=why.code) from why
        if pack.gateway != gateway:
            raise Invalid(f"the address is {gateway}'s, the pack says {pack.gateway}", code="wrong_gateway")
        return Understood(list(pack.readings))
    if kind == "application/json":
        return from_thingsboard(body, received_ms)
    if kind == "text/plain":
        return from_line_protocol(body.decode("utf-8", "replace"), received_ms, precision)
    raise Invalid(f"readings come as senml+json, json or text/plain, not {kind[:40]!r}", code="bad_media_type")


def from_line_protocol(text: str, now_ms: int, precision: str = "ns") -> Understood:
    """Readings named `sensor/field`; the sensor is the tag `sensor`, else the measurement.

    `precision` is that of the times (ns, us, ms); a line without a time is of now. Texts and booleans are states, not
    readings. Raises `Invalid` naming the line.
    """
    if precision not in _PER_MS:
        raise Invalid(f"precision must be one of {', '.join(_PER_MS)}", code="bad_precision", pointer="/precision")
    found = Understood()
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            _line(line, f"line {number}", now_ms, _PER_MS[precision], found)
    return found.checked()


def _line(line: str, where: str, now_ms: int, per_ms: int, found: Understood) -> None:
    read = _LINE.match(line)
    if read is None:
        raise Invalid(f"{where} is not line protocol: {line[:60]!r}", code="not_line_protocol")
    tags = {_plain(key): _plain(value) for key, value in _TAG.findall(read["tags"])}
    sensor = tags.get("sensor", _plain(read["name"]))
    at = read["at"]
    if at is not None and len(at.lstrip("-")) > _TIME_DIGITS:
        raise Invalid(f"{where}: time {at[:30]} has more digits than a time can have", code="bad_time")
    at_ms = now_ms if at is None else int(at) // per_ms
    for key, value in _fields(read["fields"], where):
        name = f"{sensor}/{_plain(key)}"
        if _QUOTED.match(value) or value in _SWITCHES:
            found.pass_by(name, at_ms, where, value)
        else:
            found.take(name, _number(value), at_ms, where, value)


def _fields(text: str, where: str) -> Iterator[tuple[str, str]]:
    """Every field as it stands there; what is between them is refused, not passed over."""
    at = 0
    while at < len(text):
        one = _FIELD.match(text, at)
        if one is None:
            raise Invalid(f"{where} is not line protocol at {text[at : at + 60]!r}", code="not_line_protocol")
        yield one[1], one[2]
        at = one.end()


def _plain(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _number(text: str) -> float | None:
    if _WHOLE.match(text):
        text = text[:-1]
    return float(text) if _NUMBER.match(text) else None


def from_thingsboard(payload: bytes, now_ms: int) -> Understood:
    """Readings named `device/key` from `{"device": [{"ts": ms, "values": {...}}, ...]}`.

    An entry without `ts` and `values` is itself the values, of now. A text that is a number is that number, as
    ThingsBoard itself casts it (`JSON_TYPE_CAST_ENABLED`). Raises `Invalid` with a pointer; a key that stands twice in
    one object is refused, as in SenML.
    """
    try:
        document = parse(payload)
        json.dumps(document, ensure_ascii=False).encode()
    except WireError as why:
        raise Invalid(str(why), code=why.code) from why
    except UnicodeEncodeError as why:
        raise Invalid("text holds half a surrogate pair", code="surrogate") from why
    if not isinstance(document, dict):
        raise Invalid("gateway telemetry is an object of devices", code="not_thingsboard")
    found = Understood()
    for device, entries in document.items():
        for where, at_ms, values in _entries(device, entries, now_ms):
            _values(device, where, at_ms, values, found)
    return found.checked()


def _entries(device: str, entries: Any, now_ms: int) -> Iterator[tuple[str, int, Iterable[tuple[str, Any]]]]:
    """Where each entry of a device stands, its time and its values."""
    where = f"/{device[:40]}"
    if not isinstance(entries, list):
        raise Invalid(f"the entries of {device[:40]!r} are not a list", code="not_thingsboard", pointer=where)
    for n, entry in enumerate(entries):
        if not isinstance(entry, Mapping):
            raise Invalid(
                f"an entry of {device[:40]!r} is not an object", code="not_thingsboard", pointer=f"{where}/{n}"
            )
        dated = isinstance(entry.get("values"), Mapping)
        at = entry.get("ts", now_ms) if dated else now_ms
        if isinstance(at, bool) or not isinstance(at, int):
            raise Invalid("ts must be a whole number of milliseconds", code="bad_time", pointer=f"{where}/{n}/ts")
        yield f"{where}/{n}", at, (entry["values"] if dated else entry).items()


def _values(device: str, where: str, at_ms: int, values: Iterable[tuple[str, Any]], found: Understood) -> None:
    for key, value in values:
        name = f"{device}/{key}"
        if isinstance(value, int | float) and not isinstance(value, bool):
            found.take(name, float(value), at_ms, where, str(value))
        elif isinstance(value, str) and _NUMBER.match(value.strip()):
            found.take(name, float(value), at_ms, where, value)
        else:
            found.pass_by(name, at_ms, where, json.dumps(value, ensure_ascii=False))
