"""Small checks that, put together, say what a document must look like.

A check takes a value and answers with what is wrong in it, or with nothing. Complaints carry a JSON pointer that is
built on the way back, so a good value costs no string work: that is what makes checking fast enough to stand in front
of every capture.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from math import isfinite
from typing import Any, Final, Literal

__all__ = [
    "CBV_PREFIXES",
    "LONGEST_NUMBER",
    "VOC_PREFIXES",
    "Check",
    "Found",
    "Problem",
    "boolean",
    "context",
    "either",
    "list_of",
    "matching",
    "number",
    "prints_back",
    "read_ms",
    "read_time",
    "record",
    "say",
    "text",
    "time_stamp",
    "uri",
    "word",
]


def prints_back(text: str, number: float) -> bool:
    """Whether a double prints back to the decimal `text` that it was read from, in whatever spelling.

    If not, it would be stored as another number, and nobody would be told.
    """
    if len(text) <= _SURE and "e" not in text and "E" not in text:
        return True
    try:
        return isfinite(number) and Decimal(text) == Decimal(repr(number))
    except InvalidOperation:  # an exponent that even a decimal has no room for
        return False


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where (RFC 6901 pointer, empty for the whole) and what."""

    pointer: str
    message: str

    def under(self, key: str | int) -> "Problem":
        """The same complaint seen from one level up."""
        step = key.replace("~", "~0").replace("/", "~1") if isinstance(key, str) else key
        return Problem(f"/{step}{self.pointer}", self.message)


Found = list[Problem] | None
Check = Callable[[Any], Found]

# One character class, then a look for escapes only where there is a percent sign: four times as fast as an alternation.
# Two slashes begin a host, brackets stand only around an IPv6 one, a port is of digits, and there is one fragment at
# most (RFC 3986).
_URI = re.compile(
    r"[A-Za-z][A-Za-z0-9+.\-]*:(?:(?!//)|//(?:[A-Za-z0-9\-._~:!$&'()*+,;=%]*@)?"
    r"(?:[A-Za-z0-9\-._~!$&'()*+,;=%]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?(?=[/?#]|$))"
    r"[A-Za-z0-9\-._~:/?@!$&'()*+,;=%]*(?:#[A-Za-z0-9\-._~:/?@!$&'()*+,;=%]*)?"
).fullmatch
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})").search
_TIME = re.compile(
    r"(\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])[Tt](?:[01]\d|2[0-3]):[0-5]\d):([0-5]\d|60)"
    r"(\.\d+)?([Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)",
    re.ASCII,
).fullmatch
_DAYS_EVERY_MONTH_HAS: Final = "28"
_LEAP: Final = "60"
_SHORT: Final = 100  # characters of a key that is remembered
# No calendar of the computer holds a moment of these in every zone.
_EDGE_YEARS: Final = frozenset({"0000", "0001", "9999"})

LONGEST_NUMBER: Final = 40  # characters of a number in a document
_SURE: Final = 15  # digits that every double keeps
CBV_PREFIXES: Final = ("urn:epcglobal:cbv", "http://ns.gs1.org/cbv/", "https://ns.gs1.org/cbv/")
VOC_PREFIXES: Final = tuple(f"{s}://{h}gs1.org/voc/" for s in ("http", "https") for h in ("", "www."))


def say(message: str) -> list[Problem]:
    """One complaint about the value itself."""
    return [Problem("", message)]


def _show(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."  # noqa: PLR2004 - a line of a report


def _is_uri(value: Any) -> bool:
    return isinstance(value, str) and _URI(value) is not None and not ("%" in value and _BAD_ESCAPE(value))


@lru_cache(maxsize=1_024)
def _is_known_name(key: str) -> bool:
    return _is_uri(key)


def _is_name(key: str) -> bool:
    """Whether a key is a URI. Every event of a sender has the same few, so short ones are looked through once."""
    return _is_known_name(key) if len(key) <= _SHORT else _is_uri(key)


def uri(value: Any) -> Found:
    """A full web address or name."""
    if isinstance(value, str) and _URI(value) is not None and "%" not in value:
        return None
    return None if _is_uri(value) else say(f"must be a full web address or name (URI), not {_show(value)}")


def text(value: Any) -> Found:
    """Any string."""
    return None if isinstance(value, str) else say(f"must be text, not {_show(value)}")


def number(value: Any) -> Found:
    """A finite number; true and false are none."""
    if type(value) is int or (type(value) is float and isfinite(value)):
        return None
    return say(f"must be a number, not {_show(value)}")


def boolean(value: Any) -> Found:
    """True or false."""
    return None if isinstance(value, bool) else say(f"must be true or false, not {_show(value)}")


def read_time(stamp: str) -> datetime:
    """A time stamp with its zone (RFC 3339; a leap second counts as the second before). Raises ``ValueError``.

    A leap second is only ever the last of a day, in UTC.
    """
    match = _TIME(stamp)
    if match is None:
        raise ValueError(f"{stamp!r} is no date and time with a zone, such as 2026-11-22T08:00:00+08:00")
    if stamp[:4] in _EDGE_YEARS:
        raise ValueError(f"{stamp!r} is no moment of the years 0002 to 9998")
    head, second, fraction, zone = match.groups()
    moment = datetime.fromisoformat(f"{head.upper()}:{min(second, '59')}{(fraction or '')[:7]}{zone.upper()}")
    if second == _LEAP and moment.astimezone(UTC).strftime("%H:%M") != "23:59":
        raise ValueError(f"{stamp!r} has a 61st second, which only the last minute of a day (UTC) can have")
    return moment


def read_ms(stamp: str) -> int:
    """As `read_time`, in whole milliseconds UTC. The events of a document lie close together: a minute is read once."""
    match = _TIME(stamp)
    if match is not None:
        minute, second, fraction, zone = match.groups()
        if second != _LEAP and (fraction is None or len(fraction) <= len(".000")):
            return _minute_ms(minute, zone) + 1000 * int(second) + (int(fraction[1:].ljust(3, "0")) if fraction else 0)
    return round(read_time(stamp).timestamp() * 1000)


@lru_cache(maxsize=4_096)
def _minute_ms(minute: str, zone: str) -> int:
    return round(read_time(f"{minute}:00{zone}").timestamp() * 1000)


def time_stamp(value: Any) -> Found:
    """A date and time with a zone."""
    if isinstance(value, str) and _TIME(value):
        if value[8:10] <= _DAYS_EVERY_MONTH_HAS and value[:4] not in _EDGE_YEARS and value[17:19] != _LEAP:
            return None
        try:
            read_ms(value)
        except ValueError:
            return say(f"{_show(value)} is no moment there was, or outside the years 0002 to 9998")
        return None
    return say(f"must be a date and time with a zone (RFC 3339), not {_show(value)}")


def matching(pattern: str, what: str) -> Check:
    """Text of a pattern, called ``what`` in the complaint."""
    match = re.compile(pattern, re.ASCII).fullmatch

    def check(value: Any) -> Found:
        return None if isinstance(value, str) and match(value) else say(f"must be {what}, not {_show(value)}")

    return check


def word(allowed: frozenset[str], what: str, reserved: tuple[str, ...] | None = CBV_PREFIXES) -> Check:
    """One of a closed list; or, when ``reserved`` is given, a URI of one's own outside the standard's namespaces."""

    def check(value: Any) -> Found:
        if isinstance(value, str) and value in allowed:
            return None
        if reserved is None:
            return say(f"must be one of {', '.join(sorted(allowed))}, not {_show(value)}")
        if _is_uri(value) and not value.startswith(reserved):
            return None
        return say(f"{_show(value)} is no {what} of the standard and no URI of your own")

    return check


def list_of(item: Check, *, least: int = 0, distinct: bool = False) -> Check:
    """A list of values that each pass ``item``."""

    def check(value: Any) -> Found:
        if not isinstance(value, list):
            return say(f"must be a list, not {_show(value)}")
        if len(value) < least:
            return say("must not be empty")
        out: list[Problem] = []
        for index, each in enumerate(value):
            if found := item(each):
                out += [p.under(index) for p in found]
        if distinct and not out and len(value) > 1 and len({repr(each) for each in value}) != len(value):
            return say("holds the same entry twice")
        return out or None

    return check


def either(first: Check, second: Check, what: str) -> Check:
    """A value that passes one of two checks."""

    def check(value: Any) -> Found:
        return say(f"must be {what}") if first(value) and second(value) else None

    return check


def record(
    fields: Mapping[str, Check], required: Iterable[str] = (), *, others: Literal["any", "uri", "none"] = "any"
) -> Check:
    """An object; ``others`` says what else it may hold: ``any`` key, keys that are a ``uri``, or ``none``."""
    needed = tuple(required)
    all_needed = frozenset(needed)

    def check(value: Any) -> Found:
        if not isinstance(value, dict):
            return say(f"must be an object, not {_show(value)}")
        out: list[Problem] = []
        if not all_needed <= value.keys():
            out = [Problem(f"/{key}", "is missing") for key in needed if key not in value]
        for key, each in value.items():
            known = fields.get(key)
            if known is not None:
                if found := known(each):
                    out += [p.under(key) for p in found]
            elif others != "any" and (others == "none" or not _is_name(key)):
                out.append(Problem("", "is not part of the standard; own fields need a namespace").under(key))
        return out or None

    return check


def context(value: Any) -> Found:
    """A JSON-LD context: a URI, an object, or a list of these with none twice."""
    entries = value if isinstance(value, list) else [value]
    good = all(isinstance(each, dict) or _is_uri(each) for each in entries)
    if good and len({repr(each) for each in entries}) == len(entries):
        return None
    return say("must be a URI, an object or a list of these, none twice")
