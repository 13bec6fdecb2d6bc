"""Radio payloads -> values. A decoder is a data file beside this module, chosen by the device's profile.

It is never guessed from the bytes: two sensors of one vendor fill the same bytes with different quantities. A model
without a file is not decoded at all; its payload is kept raw and flagged by whoever asked.

Three layouts cover what ships: ``blocks`` (16-bit words behind a bit field that says which are there), ``fields``
(fixed places) and ``channels`` (id, type, value, repeated).
"""

from __future__ import annotations

import re
import struct
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

from edge import EdgeError
from edge.quantities import quantity_of
from edge.rules.expressions import Expression, RuleError, parse_expression
from edge.rules.samples import calculate
from edge.wire import Quality

_FORMAT = "tianmai-decoder@1"
_WORD = struct.Struct(">H")
_KEYS = {"name", "unit", "value", "define", "series", "to", "sentinel", "at", "bytes", "sign", "mask", "shift", "when"}
_KEYS |= {"id", "type", "order"}


class DecodeError(EdgeError):
    """A payload or a decoder file is wrong.

    Codes: ``unknown_model``, ``unknown_port``, ``wrong_version``, ``torn``, ``bad_decoder``.
    """


@dataclass(frozen=True, slots=True)
class Value:
    """One decoded value: under the vendor's own name and unit, and, where we have a quantity for it, as ours.

    ``series`` is a quantity of ``edge.quantities`` with an optional variant behind a dot; ``reading`` the value in
    that quantity's unit; ``quality`` says where the value is a sentinel or physically impossible.
    """

    name: str
    value: float
    unit: str | None
    series: str | None = None
    reading: float | None = None
    quality: Quality = Quality.GOOD


@dataclass(frozen=True, slots=True)
class _Rule:
    """One row of a decoder file."""

    name: str
    unit: str | None
    expression: Expression
    series: str | None
    to: Expression
    sentinel: float | None
    place: Mapping[str, Any]

    def of(self, raw: Mapping[str, float]) -> Value:
        number = calculate(self.expression, raw)
        if number is None:
            raise DecodeError("torn", f"{self.name}: no value for {dict(raw)}")
        value = int(number) if number.is_integer() else number
        if self.series is None:
            return Value(self.name, value, self.unit)
        reading, known = calculate(self.to, {"v": number}), quantity_of(self.series)
        if self.sentinel is not None and abs(number - self.sentinel) < 1e-6:  # noqa: PLR2004 - one value, exactly
            quality = Quality.DEVICE_ERROR
        else:
            possible = reading is not None and known is not None and known.holds(reading)
            quality = Quality.GOOD if possible else Quality.OUT_OF_RANGE
        return Value(self.name, value, self.unit, self.series, reading, quality)


@dataclass(frozen=True, slots=True)
class Decoder:
    """What one model's payloads mean; ``ports`` empty = any port.

    ``short_is_zero``: the vendor reads bytes that were not sent as zero; such values are marked uncertain.
    """

    vendor: str
    model: str
    source: str
    scheme: str
    ports: frozenset[int]
    short_is_zero: bool
    blocks: tuple[tuple[int, tuple[_Rule, ...]], ...]
    rules: tuple[_Rule, ...]

    def decode(self, port: int, payload: bytes) -> list[Value]:
        """The values of one uplink; raises ``DecodeError`` (``unknown_port``, ``wrong_version``, ``torn``)."""
        if self.ports and port not in self.ports:
            raise DecodeError("unknown_port", f"{self.model}: nothing is defined for fPort {port}")
        try:
            return list(_SCHEMES[self.scheme](self, payload))
        except (IndexError, struct.error):
            raise DecodeError("torn", f"{self.model}: {len(payload)} bytes are too few") from None


def _blocks(decoder: Decoder, payload: bytes) -> Iterator[Value]:
    version, device, flags = struct.unpack_from(">BHH", payload)
    if version != 2:  # noqa: PLR2004 - the only version of this layout
        raise DecodeError("wrong_version", f"{decoder.model}: protocol version {version} is not 2")
    yield Value("Device ID", device, None)
    yield Value("Protocol version", version, None)
    at = 5
    for bit, (words, rules) in enumerate(decoder.blocks):
        if flags >> bit & 1:
            raw = {f"x{n}": float(_WORD.unpack_from(payload, at + 2 * n)[0]) for n in range(words)}
            at += 2 * words
            yield from (rule.of(raw) for rule in rules)


def _fields(decoder: Decoder, payload: bytes) -> Iterator[Value]:
    seen: dict[str, float] = {}
    for rule in decoder.rules:
        if all(seen.get(name) == wanted for name, wanted in rule.place.get("when", {}).items()):
            start, size = rule.place["at"], rule.place.get("bytes", 1)
            cut = start + size > len(payload)
            if cut and not decoder.short_is_zero:
                raise IndexError
            value = rule.of({"x": _integer(payload[start : start + size].ljust(size, b"\0"), rule.place)})
            value = replace(value, quality=max(value.quality, Quality.UNCERTAIN)) if cut else value
            seen[rule.name] = value.value
            yield value


def _channels(decoder: Decoder, payload: bytes) -> Iterator[Value]:
    known = {(rule.place["id"], rule.place["type"]): rule for rule in decoder.rules}
    at = 0
    while at + 2 <= len(payload):
        rule = known.get((payload[at], payload[at + 1]))
        if rule is None:
            return  # its length is unknown, and so is all that follows
        size = rule.place.get("bytes", 1)
        if at + 2 + size > len(payload):
            raise IndexError
        yield rule.of({"x": _integer(payload[at + 2 : at + 2 + size], rule.place)})
        at += 2 + size


_SCHEMES = {"blocks": _blocks, "fields": _fields, "channels": _channels}


def _integer(data: bytes, place: Mapping[str, Any]) -> float:
    """The raw number: byte order, sign (``twos``, or the vendors' slip ``ones``), mask and shift."""
    number = int.from_bytes(data, place.get("order", "big"))
    top = 1 << (8 * len(data) - 1)
    if place.get("sign", "no") != "no" and number & top:
        number -= 2 * top if place["sign"] == "twos" else 2 * top - 1
    return float((number & place.get("mask", -1)) >> place.get("shift", 0))


def _names() -> dict[tuple[str, str], str]:
    found = {}
    for path in files(__name__).iterdir():
        if path.name.endswith(".toml"):
            vendor, _, model = path.name[:-5].partition("-")
            found[vendor, model] = path.name
    return found


def _key(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


@cache
def find_decoder(vendor: str, model: str) -> Decoder:
    """The decoder of a model (upper or lower case); raises ``DecodeError`` (``unknown_model``) where none ships."""
    wanted = _names().get((_key(vendor).partition("-")[0], _key(model)))
    if wanted is None:
        raise DecodeError("unknown_model", f"no decoder for {vendor} {model}")
    return parse_decoder(files(__name__).joinpath(wanted).read_text("utf-8"), where=wanted)


def decoder_models() -> tuple[tuple[str, str], ...]:
    """Vendor and model (as in file names) of every decoder that ships."""
    return tuple(sorted(_names()))


def parse_decoder(text: str, *, where: str) -> Decoder:
    """Read a decoder file; raises ``DecodeError`` (``bad_decoder``) naming file and row."""
    try:
        document = tomllib.loads(text)
        if document["format"] != _FORMAT or document["scheme"] not in _SCHEMES:
            raise DecodeError("bad_decoder", f"{where}: not a {_FORMAT} of a known scheme")
        blocks = tuple(
            (int(block["words"]), tuple(_rules(block["values"], [f"x{n}" for n in range(block["words"])])))
            for block in document.get("block", [])
        )
        rules = tuple(_rules(document.get("values", []), ["x"]))
        vendor, model, source, scheme = (str(document[key]) for key in ("vendor", "model", "source", "scheme"))
        ports, short = frozenset(document.get("ports", [])), document.get("short") == "zeros"
        return Decoder(vendor, model, source, scheme, ports, short, blocks, rules)
    except (tomllib.TOMLDecodeError, RuleError, KeyError, TypeError) as why:
        raise DecodeError("bad_decoder", f"{where}: {why}") from None


def _rules(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Iterator[_Rule]:
    for row in rows:
        if strange := row.keys() - _KEYS:
            raise KeyError(f"{row.get('name')}: unknown key {min(strange)}")
        inputs = frozenset(names)
        define: dict[str, Expression] = {}
        for alias, text in row.get("define", {}).items():
            define[alias] = parse_expression(text, inputs, define)
        series = row.get("series")
        if series is not None and quantity_of(series) is None:
            raise KeyError(f"{row['name']}: no quantity {series!r}")
        yield _Rule(
            name=row["name"],
            unit=row.get("unit"),
            expression=parse_expression(row["value"], inputs, define),
            series=series,
            to=parse_expression(row.get("to", "v"), frozenset({"v"})),
            sentinel=row.get("sentinel"),
            place=row,
        )
