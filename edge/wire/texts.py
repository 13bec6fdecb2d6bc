"""JSON as this protocol reads and writes it: strict, bounded, and every refusal with its code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from edge import EdgeError

MAX_SEQ = 2**63 - 1
_MAX_DOCUMENT = 256 * 1024
_TIMES = frozenset({"time", "time_ms"})
_LAST_MS = 253_402_300_799_999  # the end of the year 9999, UTC: beyond it no calendar follows


class WireError(EdgeError):
    """A topic or payload breaks the contract.

    Codes: ``bad_topic``, ``too_large``, ``bomb``, ``torn``, ``not_json``, ``not_senml``, ``nan``,
    ``relative_time``, ``bad_time``, ``bad_name``, ``bad_value``, ``bad_quality``, ``duplicate_label``,
    ``must_understand``, ``bad_version``, ``mixed_gateways``, ``empty``, ``bad_field``, ``bad_signature``,
    ``bad_export``.
    """


def parse(text: bytes | str) -> Any:
    """Any JSON text; raises ``WireError`` (``not_json``, ``nan``, ``duplicate_label``)."""
    try:
        return json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant, parse_int=_whole)
    except (ValueError, RecursionError) as why:  # ValueError covers JSON, UTF-8 and over-long integers
        raise WireError("not_json", f"not JSON: {str(why)[:120]}") from None


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        raise WireError("duplicate_label", "a label occurs twice in one JSON object")
    return record


def _no_constant(text: str) -> float:
    raise WireError("nan", f"{text} is not JSON")


def _whole(text: str) -> int | float:
    """An integer that any store can hold, else the nearest fraction: a field that must be whole then refuses it."""
    number = int(text) if len(text) < 20 else None  # noqa: PLR2004 - digits and sign of a 64-bit integer
    return float(text) if number is None or not -MAX_SEQ <= number <= MAX_SEQ else number


def document_of(
    payload: bytes | str, keys: Mapping[str, type | tuple[type, ...]], optional: frozenset[str]
) -> dict[str, Any]:
    """A JSON object with exactly these keys and types; ints are never bools."""
    if len(payload) > _MAX_DOCUMENT:
        raise WireError("too_large", f"{len(payload)} bytes exceed the limit of {_MAX_DOCUMENT}")
    document = parse(payload)
    if not isinstance(document, dict):
        raise WireError("bad_field", "the message is not a JSON object")
    dump(document)  # a lone surrogate would only be found by whoever stores it
    for key, kind in keys.items():
        value = document.get(key)
        if value is None and key in optional:
            continue
        if isinstance(value, bool) or not isinstance(value, kind):
            raise WireError("bad_field", f"field {key!r} is missing or of the wrong type")
        if key in _TIMES and isinstance(value, int) and not 0 <= value <= _LAST_MS:
            raise WireError("bad_field", f"field {key!r} is no time between 1970 and 9999")
    return {key: document.get(key) for key in keys}


def dump(document: Mapping[str, Any]) -> bytes:
    """As compact UTF-8 JSON; raises ``WireError`` (``bad_field``) for what JSON cannot say."""
    try:
        return json.dumps(document, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as why:
        raise WireError("bad_field", f"cannot be sent as JSON: {why}") from None
