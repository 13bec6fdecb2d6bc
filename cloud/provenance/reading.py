"""The strict door for captured documents: what two readers could understand in two ways is refused.

Events keep their fractions, so this is wider than the log's own canonical JSON; but a fraction that no double holds
would be stored as another one, and is refused. A key that stands twice, NaN, half a
surrogate pair, or nesting that no honest document has would let a signature, a rule and a reader see different events.
"""

import json
from collections.abc import Iterable
from typing import Any, Final

import orjson

from cloud.problems import Invalid, Unsupported
from traceability.epcis_checks import LONGEST_NUMBER, prints_back
from traceability.epcis_xml import read_xml

__all__ = ["read_document"]

JSON = ("", "application/json", "application/ld+json")
XML = ("application/xml", "text/xml")
DEEPEST = 40
_TOO_DEEP: Final = b"\n" + b"  " * (DEEPEST + 1)


def read_document(data: bytes, content_type: str = "application/json") -> dict[str, Any]:
    """A captured body as JSON; EPCIS XML becomes its JSON form. Raises `Unsupported`, `Invalid` or `TraceError`."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind in XML:
        return read_xml(data)
    if kind not in JSON:
        raise Unsupported(f"a body of type {kind[:60]} is not read here: send {', '.join((*JSON[1:], *XML))}")
    try:
        text = data.decode("utf-8")
        value = _QUICK.decode(text)
        if not (sound := _surely_sound(value, data)):
            value = _STRICT.decode(text)
    except UnicodeDecodeError as why:
        raise Invalid(f"the body is not UTF-8 at byte {why.start}", code="not_json") from why
    except RecursionError as why:
        raise Invalid(f"the body is nested deeper than {DEEPEST}", code="too_deep") from why
    except json.JSONDecodeError as why:
        raise Invalid(f"the body is not JSON: {why.msg} at character {why.pos}", code="not_json") from why
    if not isinstance(value, dict):
        raise Invalid("the body must be one JSON object", code="not_json")
    if not sound:
        _check(value, "", DEEPEST)
    return value


def _surely_sound(value: Any, data: bytes) -> bool:
    """Whether no key of the text stands twice, nothing is nested too deeply and no text is broken.

    False where that cannot be said at a glance. The value is written out again: half a surrogate pair the writer
    refuses, depth shows as indentation, and there are as many colons as in the text unless a key was lost (`003a` and
    its like, an escaped colon, would be one more).
    """
    try:
        written = orjson.dumps(value, option=orjson.OPT_INDENT_2)
    except TypeError:  # also a whole number beyond 64 bits
        return False
    return b"\\u003" not in data and written.count(b":") == data.count(b":") and _TOO_DEEP not in written


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Invalid(f"the key {twice!r} stands twice in one object", code="duplicate_key")
    return found


def _refuse(text: str) -> Any:
    raise Invalid(f"{text} is no JSON number", code="not_a_number")


def _float(text: str) -> float:
    number = float(text)
    if len(text) > LONGEST_NUMBER or not prints_back(text, number):
        raise Invalid(f"the number {text[:LONGEST_NUMBER]} cannot be kept exactly", code="not_a_number")
    return number


def _int(text: str) -> int:
    if len(text) > LONGEST_NUMBER:
        raise Invalid(f"the number {text[:LONGEST_NUMBER]}... is too long", code="not_a_number")
    return int(text)


_QUICK: Final = json.JSONDecoder(parse_constant=_refuse, parse_float=_float, parse_int=_int)
_STRICT: Final = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse, parse_float=_float, parse_int=_int)


def _check(value: Any, pointer: str, depth: int) -> None:
    if depth < 0:
        raise Invalid(f"nested deeper than {DEEPEST}", code="too_deep", pointer=pointer[:120])
    children: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        children = value.items()
        for key in value:
            _whole(key, pointer)
    elif isinstance(value, list):
        children = enumerate(value)
    elif isinstance(value, str):
        _whole(value, pointer)
    for key, child in children:
        _check(child, f"{pointer}/{key}", depth - 1)


def _whole(text: str, pointer: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as why:
        raise Invalid("text holds half a surrogate pair", code="surrogate", pointer=pointer) from why
