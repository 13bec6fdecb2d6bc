"""GS1 Digital Link: the web address on a pack that is also its GS1 identity.

`parse_link` reads any uncompressed link of any domain, `build_link` writes one, and both check every value against the
table of application identifiers in ``data/application_identifiers.tsv``. One form is canonical: ``https://id.gs1.org``,
numbers at full length, percent escapes only where needed; two links name the same thing exactly when their
canonical forms are equal.

The strict reading follows the syntax in force. The lenient one also takes what older printers and scanners produce:
words instead of numbers (``/gtin/``), a GTIN with its leading zeros cut off, and identifiers newer than our table.

Source: GS1 Digital Link Standard: URI Syntax 1.6; GS1 Barcode Syntax Dictionary (see the table's head).
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib import resources
from typing import Final
from urllib.parse import quote

from traceability import TraceError
from traceability.codes import CodeError, check_digit, gtin

__all__ = ["CANONICAL_DOMAIN", "DigitalLink", "LinkError", "build_link", "parse_link"]

CANONICAL_DOMAIN: Final = "https://id.gs1.org"

_HEXADECIMAL = re.compile(r"[0-9A-Fa-f]{2}")
_URI_CHARACTERS = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]*")
_DOMAIN = re.compile(r"[A-Za-z0-9.\-]+(:[0-9]{1,5})?")
_COMPONENT = re.compile(r"(\[?)([NXYZ])(\.\.)?([0-9]+)\]?((?:,[a-z0-9]+)*)\]?((?:,[a-z0-9]+)*)")
_SETS = {
    "N": re.compile(r"[0-9]*"),
    "X": re.compile(r"[!\"%&'()*+,\-./0-9:;<=>?A-Z_a-z]*"),
    "Y": re.compile(r"[#\-/0-9A-Z]*"),
    "Z": re.compile(r"[\-0-9A-Z_a-z]*=*"),
}
_OLD_NAMES: Final = {
    "sscc": "00", "gtin": "01", "cpv": "22", "lot": "10", "ser": "21", "gdti": "253", "gcn": "255", "ginc": "401",
    "gsin": "402", "gln": "414", "glnx": "254", "payto": "415", "refno": "8020", "party": "417", "partygln": "417",
    "grai": "8003", "giai": "8004", "itip": "8006", "cpid": "8010", "cpsn": "8011", "gmn": "8013", "gsrnp": "8017",
    "gsrn": "8018", "srin": "8019",
}  # fmt: skip


class LinkError(TraceError):
    """An address is not a GS1 Digital Link."""

    default_code = "bad_link"


@dataclass(frozen=True, slots=True)
class _Part:
    characters: str
    shortest: int
    longest: int
    optional: bool
    checks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Identifier:
    ai: str
    fixed: bool
    attribute: bool
    parts: tuple[_Part, ...]
    qualifiers: tuple[tuple[str, ...], ...] | None  # None: not a primary key
    title: str


def _part(text: str) -> _Part:
    match = _COMPONENT.fullmatch(text)
    if match is None:
        raise ValueError(f"unreadable format {text!r} in the table of application identifiers")
    bracket, characters, dots, length, inner, outer = match.groups()
    checks = tuple(name for name in (inner + outer).split(",") if name)
    longest = int(length)
    return _Part(characters, 1 if dots else longest, longest, bool(bracket), checks)


@cache
def _table() -> dict[str, _Identifier]:
    text = resources.files("traceability").joinpath("data/application_identifiers.tsv").read_text("utf-8")
    table: dict[str, _Identifier] = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        numbers, flags, form, key, title = line.split("\t")
        first, _, last = numbers.partition("-")
        parts = tuple(map(_part, form.split()))
        qualifiers = None
        if key.startswith("key"):
            qualifiers = tuple(tuple(q for q in row.split(",") if q) for row in key[4:].split("|"))
        for number in range(int(first), int(last or first) + 1):
            ai = str(number).zfill(len(first))
            table[ai] = _Identifier(ai, flags[0] == "f", "a" in flags, parts, qualifiers, title)
    return table


def _is_date(digits: str, *, day_zero: bool, year_digits: int = 2) -> bool:
    year, month, day = int(digits[:year_digits]), int(digits[-4:-2]), int(digits[-2:])
    if day_zero and day == 0:
        day = 1
    try:
        date(year + 2000 if year_digits == 2 else year, month, day)  # noqa: PLR2004 - two-digit years
    except ValueError:
        return False
    return True


def _check_pair_ok(text: str) -> bool:
    """The two check characters of a model number (AI 8013): weights are primes from the right, modulo 1021."""
    body, pair = text[:-2], text[-2:]
    alphabet = "!\"%&'()*+,-./0123456789:;<=>?ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
    tail = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
    primes = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83)
    if not body or len(body) > len(primes):
        return False
    total = sum(alphabet.index(c) * p for c, p in zip(reversed(body), primes, strict=False)) % 1021
    return pair == tail[total >> 5] + tail[total & 31]


_CHECKS: Final[dict[str, Callable[[str], bool]]] = {
    "csum": lambda v: check_digit(v[:-1]) == v[-1],
    "csumalpha": _check_pair_ok,
    "gcppos1": lambda v: v[:1].isdigit(),
    "gcppos2": lambda v: v[1:2].isdigit(),
    "yymmd0": lambda v: _is_date(v, day_zero=True),
    "yymmdd": lambda v: _is_date(v, day_zero=False),
    "yyyymmdd": lambda v: _is_date(v, day_zero=False, year_digits=4),
    "hhmi": lambda v: v[:2] < "24" and v[2:] < "60",
    "hh": lambda v: v < "24",
    "mi": lambda v: v < "60",
    "ss": lambda v: v < "60",
    "yesno": lambda v: v in {"0", "1"},
    "zero": lambda v: v.strip("0") == "",
    "nonzero": lambda v: v.strip("0") != "",
    "nozeroprefix": lambda v: v == "0" or not v.startswith("0"),
    "hasnondigit": lambda v: not v.isdigit(),
    "hyphen": lambda v: v.strip("-") == "",
    "winding": lambda v: v in {"0", "1", "9"},
    "pieceoftotal": lambda v: "00" < v[:2] <= v[2:],
    "latitude": lambda v: v <= "1800000000",
    "longitude": lambda v: v <= "3600000000",
    "iso5218": lambda v: v in {"0", "1", "2", "9"},
    "pcenc": lambda v: all(_HEXADECIMAL.match(rest) for rest in v.split("%")[1:]),
}


_SAID: Final = {
    "csum": "has a wrong check digit",
    "csumalpha": "has wrong check characters",
    **dict.fromkeys(("yymmd0", "yymmdd", "yyyymmdd"), "holds a day that no calendar has"),
    **dict.fromkeys(("hhmi", "hh", "mi", "ss"), "holds a time that no clock shows"),
}


def _check_value(ai: str, value: str) -> None:
    rest = value
    for part in _table()[ai].parts:
        if part.optional and not rest:
            continue
        piece, rest = rest[: part.longest], rest[part.longest :]
        if len(piece) < part.shortest:
            raise LinkError(f"({ai}) {value!r} is too short")
        if not _SETS[part.characters].fullmatch(piece):
            raise LinkError(f"({ai}) {value!r} holds a character that this identifier does not allow")
        for name in part.checks:
            check = _CHECKS.get(name)
            if check is not None and not check(piece):
                raise LinkError(f"({ai}) {value!r} {_SAID.get(name, f'fails its {name} check')}")
    if rest:
        raise LinkError(f"({ai}) {value!r} is too long")


@dataclass(frozen=True, slots=True)
class DigitalLink:
    """What a link says: the primary key and its qualifiers (``path``), and further facts (``attributes``)."""

    path: tuple[tuple[str, str], ...]
    attributes: tuple[tuple[str, str], ...] = ()

    def value(self, ai: str) -> str | None:
        """The value of one application identifier; ``None`` when the link does not carry it."""
        return next((value for key, value in (*self.path, *self.attributes) if key == ai), None)

    @property
    def gtin(self) -> str | None:
        """The 14-digit trade item number."""
        return self.value("01")

    @property
    def lot(self) -> str | None:
        """The batch."""
        return self.value("10")

    @property
    def serial(self) -> str | None:
        """The single pack's number."""
        return self.value("21")

    @property
    def canonical(self) -> str:
        """The one address that all spellings of this identity share (attributes sorted by number)."""
        return _write(CANONICAL_DOMAIN, self.path, sorted(self.attributes))

    @property
    def element_string(self) -> str:
        """The same data as in a GS1 barcode; ``^`` stands for FNC1."""
        text, separator = "", "^"
        for ai, value in (*self.path, *self.attributes):
            text += separator + ai + value
            known = _table().get(ai)
            separator = "" if known is not None and known.fixed else "^"
        return text


def parse_link(uri: str, *, lenient: bool = False) -> DigitalLink:
    """Read an uncompressed Digital Link of any domain. Raises `LinkError` with the part that is wrong.

    ``lenient`` also accepts old word names, GTINs of 8, 12 or 13 digits, and identifiers our table does not know yet.
    """
    if not _URI_CHARACTERS.fullmatch(uri):
        raise LinkError(f"{uri!r} holds a character that no web address may hold")
    path_text, query = _split(uri)
    segments = path_text.split("/")
    start = _key_position(segments, lenient=lenient)
    names = segments[start::2]
    path = tuple(
        _element(_number(name, lenient=lenient), _unescape(text, plus=False), lenient=lenient)
        for name, text in zip(names, segments[start + 1 :: 2], strict=True)
    )
    attributes = tuple(_attributes(query, lenient=lenient))
    _check_structure(path, attributes)
    return DigitalLink(path, attributes)


def build_link(
    path: Sequence[tuple[str, str]],
    *,
    domain: str = CANONICAL_DOMAIN,
    attributes: Iterable[tuple[str, str]] = (),
    upper: bool = False,
) -> str:
    """Write a link: the primary key first, then its qualifiers in the standard's order.

    ``upper`` writes scheme and host in capitals, so that a QR symbol can use its denser alphanumeric mode; the values
    must then be capitals too, since they are not changed. Raises `LinkError`.
    """
    elements = tuple(_element(ai, value, lenient=False) for ai, value in path)
    facts = tuple(_element(ai, value, lenient=False) for ai, value in attributes)
    _check_structure(elements, facts)
    stem = domain.rstrip("/")
    _split(f"{stem}/")
    return _write(stem.upper() if upper else stem, elements, facts)


def _write(stem: str, path: Iterable[tuple[str, str]], attributes: Iterable[tuple[str, str]]) -> str:
    text = stem + "".join(f"/{ai}/{quote(value, safe='')}" for ai, value in path)
    query = "&".join(f"{ai}={quote(value, safe='')}" for ai, value in attributes)
    return f"{text}?{query}" if query else text


def _split(uri: str) -> tuple[str, str]:
    """The path behind the domain and the query, fragment gone."""
    scheme, mark, rest = uri.partition("://")
    if not mark or scheme not in {"http", "https", "HTTP", "HTTPS"}:
        raise LinkError(f"{uri!r} must begin with http:// or https:// (all small or all capital letters)")
    rest = rest.partition("#")[0]
    rest, _, query = rest.partition("?")
    domain, slash, path = rest.partition("/")
    if not _DOMAIN.fullmatch(domain) or not slash:
        raise LinkError(f"{uri!r} names no usable domain and path")
    return path, query


def _number(name: str, *, lenient: bool) -> str:
    if lenient and name.lower() in _OLD_NAMES and not name.isdigit():
        return _OLD_NAMES[name.lower()]
    return name


def _key_position(segments: list[str], *, lenient: bool) -> int:
    """Where the primary key stands: the last one that leaves whole pairs behind it."""
    for start in range(len(segments) - 2, -1, -2):
        known = _table().get(_number(segments[start], lenient=lenient))
        if known is not None and known.qualifiers is not None:
            return start
    raise LinkError(f"no primary key (such as /01/…) in path {'/'.join(segments)!r}")


def _unescape(text: str, *, plus: bool) -> str:
    pieces = (text.replace("+", " ") if plus else text).split("%")
    read = pieces[0]
    for piece in pieces[1:]:
        if not _HEXADECIMAL.match(piece):
            raise LinkError(f"broken percent escape in {text!r}")
        read += chr(int(piece[:2], 16)) + piece[2:]
    if not read:
        raise LinkError("an identifier has an empty value")
    return read


def _attributes(query: str, *, lenient: bool) -> Iterable[tuple[str, str]]:
    for item in re.split("[&;]", query):
        name, equals, text = item.partition("=")
        if not equals or not name.isdigit():
            continue  # other parameters travel along; they say nothing about the thing
        known = _table().get(name)
        if known is None and not (lenient and _may_be_new(name)):
            raise LinkError(f"({name}) is no application identifier")
        if known is not None and not known.attribute:
            raise LinkError(f"({name}) may not stand behind the question mark")
        yield _element(name, _unescape(text, plus=True), lenient=lenient)


def _may_be_new(name: str) -> bool:
    """Could this be an identifier younger than our table? The first two digits fix how long a number is."""
    kin = {len(ai) for ai in _table() if ai[:2] == name[:2]}
    return len(name) in (kin or {2, 3, 4})


def _element(ai: str, value: str, *, lenient: bool) -> tuple[str, str]:
    known = _table().get(ai)
    if known is None:
        if not lenient or not ai.isdigit() or not _SETS["X"].fullmatch(value):
            raise LinkError(f"({ai}) is no application identifier")
        return ai, value
    if lenient and ai == "01" and len(value) in {8, 12, 13}:
        try:
            value = gtin(value)
        except CodeError as why:
            raise LinkError(str(why)) from why
    _check_value(ai, value)
    return ai, value


def _check_structure(path: tuple[tuple[str, str], ...], attributes: tuple[tuple[str, str], ...]) -> None:
    if not path or (key := _table().get(path[0][0])) is None or key.qualifiers is None:
        raise LinkError("a link begins with a primary key such as 01, 00, 414 or 8004")
    numbers = [ai for ai, _ in (*path, *attributes)]
    if len(set(numbers)) != len(numbers):
        raise LinkError("an identifier stands twice")
    present = [ai for ai, _ in path[1:]]
    fitting = [row for row in key.qualifiers if _in_order(present, row)]
    if not fitting:
        raise LinkError(f"qualifiers {present} do not follow ({key.ai}) in the standard's order")
    for ai, _ in attributes:
        if any(ai in row for row in fitting):
            raise LinkError(f"({ai}) belongs into the path, not behind the question mark")


def _in_order(present: list[str], row: tuple[str, ...]) -> bool:
    remaining = iter(row)
    return all(ai in remaining for ai in present)
