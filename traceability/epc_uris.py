"""One name for one thing: EPC names and Digital Links brought to the same canonical link.

Older systems name things as ``urn:epc:id:sgtin:4012345.011111.9876``, newer ones by a link of any domain. For
comparing and hashing both become ``https://id.gs1.org/01/04012345111118/21/9876``: canonical domain, 14-digit
trade numbers, only the finest level (a serial makes the lot redundant), no query. Text that is neither comes
back unchanged.

Source: GS1 EPC Tag Data Standard §§6-7 (how company prefix and reference are put together); CBV 2.0 §8.9
(which form is hashed).
"""

import re
from functools import lru_cache
from typing import Final

from traceability.codes import check_digit
from traceability.digital_link import CANONICAL_DOMAIN

__all__ = ["canonical_event_id", "canonical_name"]

_EPC = re.compile(r"urn:epc:(id|class|idpat):([a-z]+):(\d{6,12})\.(.*)")
_LINK = re.compile(r"https?://[^/?#]+(/[^?#]*)?", re.IGNORECASE)
_NAMES: Final = {
    "sscc": "00", "gtin": "01", "gdti": "253", "gcn": "255", "ginc": "401", "gsin": "402", "gln": "414", "party": "417",
    "grai": "8003", "giai": "8004", "itip": "8006", "cpid": "8010", "gsrnp": "8017", "gsrn": "8018",
    "cpv": "22", "lot": "10", "ser": "21",
}  # fmt: skip
_VALUE = r"(?:[\"'\-.0-9;<=>?A-Z_a-z]|%[0-9A-Fa-f]{2})"
# primary key -> (what its value looks like, finest qualifiers first: the first one present is kept)
_SHAPES: Final = {
    "00": (r"\d{18}", ()),
    "01": (r"\d{14}", ("21", "235", "10")),
    "253": (rf"\d{{13}}{_VALUE}{{0,17}}", ()),
    "255": (r"\d{13}\d{0,12}", ()),
    "401": (rf"{_VALUE}{{1,30}}", ()),
    "402": (r"\d{17}", ()),
    "414": (r"\d{13}", ("254",)),
    "417": (r"\d{13}", ()),
    "8003": (rf"\d{{14}}{_VALUE}{{0,16}}", ()),
    "8004": (rf"{_VALUE}{{1,30}}", ()),
    "8006": (r"\d{18}", ("21", "10")),
    "8010": (r"(?:[#\-/0-9A-Z]|%2[3fF])+", ("8011",)),
    "8017": (r"\d{18}", ()),
    "8018": (r"\d{18}", ()),
}
_KEY_PATTERNS = {ai: re.compile(shape) for ai, (shape, _) in _SHAPES.items()}
_QUALIFIER = re.compile(rf"{_VALUE}{{1,30}}")


# Most things come under their canonical link already, each new one once: no need to take that apart.
_CANONICAL: Final = re.compile(
    rf"{re.escape(CANONICAL_DOMAIN)}/01/[0-9]{{14}}(?:/(?:21|10)/[\"'\-.0-9;<=>A-Z_a-z]{{1,30}})?"
).fullmatch


@lru_cache(maxsize=65_536)
def canonical_name(text: str) -> str:
    """The canonical link of an EPC name or a Digital Link; any other text as it is. Check digits are not judged."""
    if _CANONICAL(text):
        return text
    if text.startswith("urn:epc:"):
        return _from_epc(text) or text
    if text[:4].lower() == "http":
        return _from_link(text) or text
    return text


def canonical_event_id(text: str) -> str:
    """An event's id in the one spelling by which two are compared; what is no URN comes back unchanged.

    The word ``urn`` and the namespace of a URN are of no case (RFC 8141 §3.1), a UUID of none at all (RFC 9562 §4).
    """
    scheme, _, rest = text.partition(":")
    if scheme.lower() != "urn":
        return text
    namespace, mark, name = rest.partition(":")
    namespace = namespace.lower()
    return f"urn:{namespace}{mark}{name.lower() if namespace == 'uuid' else name}"


def _escape(text: str) -> str:
    """EPC names leave some characters bare that a link must escape; what is escaped already stays."""
    return re.sub(r"[!()*+,:]", lambda m: f"%{ord(m[0]):02X}", text)


def _from_epc(text: str) -> str | None:
    match = _EPC.fullmatch(text)
    if match is None:
        return None
    form, scheme, prefix, rest = match.groups()
    reference, _, tail = rest.partition(".")
    if form == "idpat":
        tail = tail.removesuffix("*").removesuffix(".")
    path = _path(scheme, prefix, reference, tail, whole=form != "idpat")
    return None if path is None else f"{CANONICAL_DOMAIN}/{path}"


def _path(scheme: str, prefix: str, reference: str, tail: str, *, whole: bool) -> str | None:
    if scheme in {"giai", "ginc"}:
        key = {"giai": "8004", "ginc": "401"}[scheme]
        dotted = f"{reference}.{tail}" if tail else reference
        return f"{key}/{prefix}{_escape(dotted)}"
    if scheme == "cpi":
        return f"8010/{prefix}{_escape(reference)}" + (f"/8011/{tail}" if whole else "")
    digits = {"sgtin": 13, "lgtin": 13, "upui": 13, "itip": 13, "sscc": 17, "gsrn": 17, "gsrnp": 17, "gsin": 16}
    expected = digits.get(scheme, 12)
    if len(prefix) + len(reference) != expected or (reference and not reference.isdigit()):
        return None
    if scheme in {"sgtin", "lgtin", "upui", "itip", "sscc"}:
        body = reference[:1] + prefix + reference[1:]
    else:
        body = prefix + reference
    return _assembled(scheme, body + check_digit(body), tail, whole=whole)


def _assembled(scheme: str, number: str, tail: str, *, whole: bool) -> str | None:
    serial = _escape(tail)
    if scheme == "itip":
        piece, _, rest = tail.partition(".")
        total, _, rest = rest.partition(".")
        return f"8006/{number}{piece}{total}" + (f"/21/{_escape(rest)}" if whole else "")
    plain = {"sscc": "00", "gsrn": "8018", "gsrnp": "8017", "gsin": "402", "pgln": "417"}
    if scheme in plain:
        return f"{plain[scheme]}/{number}"
    joined = {"grai": "8003/0", "gdti": "253/", "sgcn": "255/"}
    if scheme in joined:
        return f"{joined[scheme]}{number}{serial}"
    if scheme == "sgln":
        return f"414/{number}" + ("" if tail in {"", "0"} else f"/254/{serial}")
    qualifier = {"sgtin": "21", "lgtin": "10", "upui": "235"}.get(scheme)
    if qualifier is None:
        return None
    return f"01/{number}" + (f"/{qualifier}/{serial}" if whole else "")


def _from_link(text: str) -> str | None:
    match = _LINK.match(text)
    if match is None or not match[1]:
        return None
    segments = match[1].strip("/").split("/")
    for start in range(len(segments) % 2, len(segments), 2):
        # A name stands for its number where an identifier is due; the serial "lot" is a serial.
        pairs = [_NAMES.get(one, one) if at % 2 == 0 else one for at, one in enumerate(segments[start:])]
        if pairs[0] in _SHAPES:
            return _from_pairs(pairs)
    return None


def _from_pairs(segments: list[str]) -> str | None:
    key, value = segments[:2]
    if key == "01" and value.isdigit() and len(value) in {8, 12, 13}:
        value = value.zfill(14)
    given = dict(zip(segments[2::2], segments[3::2], strict=True))
    if not _KEY_PATTERNS[key].fullmatch(value):
        return None
    for qualifier in _SHAPES[key][1]:
        if qualifier in given:
            if not _QUALIFIER.fullmatch(given[qualifier]):
                return None
            return f"{CANONICAL_DOMAIN}/{key}/{value}/{qualifier}/{given[qualifier]}"
    return f"{CANONICAL_DOMAIN}/{key}/{value}"
