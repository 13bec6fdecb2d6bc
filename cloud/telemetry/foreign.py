"""Readings in other people's formats: Influx line protocol (Telegraf) and ThingsBoard's gateway telemetry.

Each becomes ordinary readings of one of our gateways and then goes the ordinary way; nothing is guessed that the
format does not say, except that a field named like a quantity of ours is in that quantity's unit.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from cloud.problems import Invalid
from edge import EdgeError
from edge.quantities import quantity_of
from edge.wire import DEFAULT_LIMITS, Reading

__all__ = ["from_line_protocol", "from_thingsboard"]

_PER_MS = {"ns": 1_000_000, "us": 1_000, "ms": 1}
# A comma, a space or an equals sign in a name is escaped by a backslash; texts in quotes may hold anything.
_PART = r"(?:\\.|[^\\,= ])+"
# No character can be read in two ways here: an ambiguous pattern would take for ever over a hostile line.
_TEXT = r"\"(?:\\.|[^\"\\])*\""
_LINE = re.compile(
    rf"(?P<name>{_PART})(?P<tags>(?:,{_PART}={_PART})*)"
    rf" (?P<fields>(?:\\.|{_TEXT}|[^ \"\\])+)(?: (?P<at>-?\d+))?\s*\Z"
)
_TAG = re.compile(rf",({_PART})=({_PART})")
_FIELD = re.compile(rf"({_PART})=({_TEXT}|[^,]+)(?:,|\Z)")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?\Z")


def from_line_protocol(text: str, now_ms: int, precision: str = "ns") -> list[Reading]:
    """Readings named `sensor/field`; the sensor is the tag `sensor`, else the measurement.

    `precision` is that of the times (ns, us, ms); a line without a time is of now. Fields that are no numbers are left
    out: they are states, not readings. Raises `Invalid` naming the line.
    """
    if precision not in _PER_MS:
        raise Invalid(f"precision must be one of {', '.join(_PER_MS)}", code="bad_precision", pointer="/precision")
    readings: list[Reading] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        found = _LINE.match(line)
        if found is None:
            raise Invalid(f"line {number} is not line protocol: {line[:60]!r}", code="not_line_protocol")
        tags = {_plain(key): _plain(value) for key, value in _TAG.findall(found["tags"])}
        sensor = tags.get("sensor", _plain(found["name"]))
        at = now_ms if found["at"] is None else int(found["at"]) // _PER_MS[precision]
        for field, value in _FIELD.findall(found["fields"]):
            readings += _reading(sensor, _plain(field), _number(value), at, f"line {number}")
    return _counted(readings)


def _plain(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _number(text: str) -> float | None:
    body = text[:-1] if text[-1:] in {"i", "u"} else text
    return float(body) if _NUMBER.match(body) else None


def from_thingsboard(payload: bytes, now_ms: int) -> list[Reading]:
    """Readings named `device/key` from `{"device": [{"ts": ms, "values": {...}}, ...]}`.

    An entry without `ts` and `values` is itself the values, of now. Raises `Invalid` with a pointer.
    """
    try:
        document = json.loads(payload)
    except (ValueError, RecursionError) as why:
        raise Invalid(f"not JSON: {why}"[:200], code="not_json") from why
    if not isinstance(document, dict):
        raise Invalid("gateway telemetry is an object of devices", code="not_thingsboard")
    return _counted([one for device, entries in document.items() for one in _device(device, entries, now_ms)])


def _device(device: str, entries: Any, now_ms: int) -> Iterator[Reading]:
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
        for key, value in (entry["values"] if dated else entry).items():
            number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
            yield from _reading(device, str(key), number, at, f"{where}/{n}")


def _reading(sensor: str, field: str, value: float | None, at_ms: int, where: str) -> list[Reading]:
    if value is None:
        return []
    quantity = quantity_of(field)
    try:
        name = f"{sensor}/{field}".replace(" ", "_")
        return [Reading(name, at_ms, value, quantity.unit if quantity else "")]
    except EdgeError as why:
        raise Invalid(f"{where}: {why}", code=why.code) from why


def _counted(readings: list[Reading]) -> list[Reading]:
    if not readings:
        raise Invalid("there is no number in it", code="empty")
    if len(readings) > DEFAULT_LIMITS.readings:
        raise Invalid(f"more than {DEFAULT_LIMITS.readings} readings at once", code="too_large")
    return readings
