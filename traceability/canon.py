"""One value, one byte string: canonical JSON for everything that is hashed or signed.

RFC 8785 on a subset that every language reads alike: strings, integers within ±(2^53 - 1), booleans, null, lists, and
objects whose keys are sorted by UTF-16 code units, without white space, in UTF-8. Fractions are refused, because two
languages may print one double in two ways: decimals travel as strings, or as integers in a smaller unit (grams, ms).

`decode` is the strict door: duplicate keys, NaN, fractions, lone surrogates, deep nesting and oversized input are
refused with one clear line. `decode_canonical` also refuses any text that is not byte-equal to its own canonical
form, so that no byte of a proof is without meaning.
"""

import base64
import binascii
import json
from collections.abc import Collection, Mapping
from typing import Final, cast

import orjson

from traceability import TraceError

Json = str | int | bool | None | list["Json"] | dict[str, "Json"]

LARGEST_INT: Final = 2**53 - 1
MAX_DEPTH: Final = 64
MAX_BYTES: Final = 4 * 1024 * 1024


class NotCanonical(TraceError):
    """The value or the text has no canonical form, or is not in it."""

    default_code = "not_canonical"


# This writer and the one below agree byte for byte on the subset; it is five times as quick, and sorts by code points,
# which is the order of UTF-16 where keys are ASCII. Half a surrogate pair it refuses, and the other one says which.
_FAST: Final = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER
_TEXT: Final = frozenset({str})
_SCALARS: Final = frozenset({str, int, bool, type(None)})
_WRITER_IN_ORDER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False)


def encode(value: object, *, max_depth: int = MAX_DEPTH) -> bytes:
    """Canonical bytes of `value`; raises `NotCanonical` naming the JSON pointer of what has none."""
    try:
        if type(value) is str or _plain(value, max_depth):
            try:
                return orjson.dumps(value, option=_FAST)
            except TypeError:
                pass  # half a surrogate pair, or an integer beyond 2^53: below it is said where
        return _WRITER_IN_ORDER.encode(_ordered(value, "", max_depth)).encode()
    except UnicodeEncodeError as why:
        raise NotCanonical(f"text holds a lone surrogate U+{ord(why.object[why.start]):04X}") from why


def encode_checked(value: object) -> bytes:
    """As `encode`, of a value that its caller has looked through: kinds of the subset only, and ASCII keys.

    What is left to find is an integer that is too large and text that is broken.
    """
    try:
        return orjson.dumps(value, option=_FAST)
    except TypeError:
        return encode(value)


def _plain(value: object, depth: int) -> bool:
    """Whether the value is of the subset, with ASCII keys only: then the writer's own order is the right one.

    Kinds are compared exactly and a whole container at once, because every entry of the log comes by here. That an
    integer is too large, or a text broken, the writer finds by itself.
    """
    inner: Collection[object]
    kind = type(value)
    if kind is dict:
        table = cast("dict[object, object]", value)
        if not set(map(type, table)) <= _TEXT or not "".join(cast("dict[str, object]", table)).isascii():
            return False
        inner = table.values()
    elif kind is list or kind is tuple:
        inner = cast("Collection[object]", value)
    else:
        return kind in _SCALARS
    if not set(map(type, inner)) <= _SCALARS:
        for item in inner:
            if type(item) not in _SCALARS and not _plain(item, depth - 1):
                return False
    return depth >= 0


def decode(data: bytes, *, max_depth: int = MAX_DEPTH, max_bytes: int = MAX_BYTES) -> Json:
    """Value of a JSON text of the subset; white space and key order are free."""
    if len(data) > max_bytes:
        raise NotCanonical(f"{len(data)} bytes are more than the {max_bytes} allowed")
    try:
        value: Json = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_no_duplicates,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
            parse_int=_small_int,
        )
    except UnicodeDecodeError as why:
        raise NotCanonical(f"not UTF-8 at byte {why.start}") from why
    except RecursionError as why:
        raise NotCanonical("nested too deeply") from why
    except json.JSONDecodeError as why:
        raise NotCanonical(f"not JSON: {why.msg} at character {why.pos}") from why
    encode(value, max_depth=max_depth)  # surrogate escapes and depth show only here
    return value


def decode_canonical(data: bytes, *, max_depth: int = MAX_DEPTH, max_bytes: int = MAX_BYTES) -> Json:
    """As `decode`, and the text must be byte-equal to the canonical form of its value."""
    value = decode(data, max_depth=max_depth, max_bytes=max_bytes)
    again = encode(value, max_depth=max_depth)
    if again != data:
        at = next((n for n, (a, b) in enumerate(zip(again, data, strict=False)) if a != b), min(len(again), len(data)))
        raise NotCanonical(f"not in canonical form at byte {at}")
    return value


def _ordered(value: object, pointer: str, depth: int) -> object:
    if depth < 0:
        raise NotCanonical(f"nested too deeply at {pointer[:80]}")
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int):
        if not -LARGEST_INT <= value <= LARGEST_INT:
            raise NotCanonical(f"integer beyond 2^53 at {pointer or '/'}")
        return int(value)
    if isinstance(value, list | tuple):
        return [_ordered(item, f"{pointer}/{n}", depth - 1) for n, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {key: _ordered(value[key], f"{pointer}/{key}", depth - 1) for key in _sorted_keys(value, pointer)}
    raise NotCanonical(
        f"{type(value).__name__} at {pointer or '/'}: only text, integers, booleans, null, lists, objects"
    )


def _sorted_keys(value: Mapping[object, object], pointer: str) -> list[str]:
    keys = [key for key in value if isinstance(key, str)]
    if len(keys) != len(value):
        raise NotCanonical(f"a key that is not text at {pointer or '/'}")
    if all(map(str.isascii, keys)):
        return sorted(keys)
    return sorted(keys, key=lambda key: key.encode("utf-16-be"))  # RFC 8785, 3.2.3: JavaScript's order


def _no_duplicates(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise NotCanonical(f"key {twice!r} stands twice in one object")
    return found


def _refuse_number(text: str) -> Json:
    raise NotCanonical(f"number {text[:40]} is not an integer: send decimals as text or in a smaller unit")


def _small_int(text: str) -> int:
    if len(text) > len(str(-LARGEST_INT)):
        raise NotCanonical(f"integer {text[:24]}... beyond 2^53")
    return int(text)


def to_base64(data: bytes) -> str:
    """Standard alphabet, padded."""
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def from_base64(text: str) -> bytes:
    """Bytes of a canonical base64 text: one value has one spelling, so no bit of the text is free."""
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as why:
        raise NotCanonical(f"not base64: {text[:40]!r}") from why
    if to_base64(data) != text:
        raise NotCanonical(f"base64 not in canonical form: {text[:40]!r}")
    return data
