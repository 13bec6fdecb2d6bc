"""The numbers that name things: GS1 keys, ear tags, credit codes.

Each function reads one kind of number and answers in the one form the rest of the package uses, or refuses with a
sentence that says which number is wrong and why. Check digits are the GS1 modulo-10 ones (every single-digit slip and
most swaps of neighbours are caught); an ear tag has none, so all that can be asked is its shape and its county.

Farms without a company prefix get restricted numbers (02, 04, 20-29: meant for use inside one company or region).
A number that looks like China's 690-699 but was never issued is never made here.

Sources: GS1 General Specifications §7.9 (check digit) and §2.1.11 (restricted numbers); MOA Order 67 (ear tags);
GB 32100-2015 (unified social credit code).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Final

from traceability import TraceError

__all__ = [
    "CodeError",
    "EarTag",
    "check_digit",
    "credit_code",
    "ear_tag",
    "gln",
    "gtin",
    "restricted_gtin",
    "sscc",
]

SPECIES: Final = {"1": "pig", "2": "cattle", "3": "sheep"}
RESTRICTED_PREFIXES: Final = ("02", "04", *(str(n) for n in range(20, 30)))
EAR_TAG_URI: Final = "urn:tianmai:ear:"

_DIGITS = re.compile(r"[0-9]+")
_EAR_TAG = re.compile(r"([123])([0-9]{6})([0-9]{8})")
_CREDIT_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_CREDIT_WEIGHTS = tuple(3**n % 31 for n in range(17))


class CodeError(TraceError):
    """A number is not what it claims to be."""

    default_code = "bad_code"


def check_digit(body: str) -> str:
    """The GS1 modulo-10 digit that belongs behind ``body`` (digits only, any length >= 1)."""
    if not _DIGITS.fullmatch(body):
        raise CodeError(f"{body!r} holds something other than the digits 0-9")
    total = 3 * sum(map(int, body[::-2])) + sum(map(int, body[-2::-2]))
    return str(-total % 10)


def _checked(text: str, lengths: tuple[int, ...], name: str) -> str:
    if len(text) not in lengths or not _DIGITS.fullmatch(text):
        allowed = " or ".join(map(str, lengths))
        raise CodeError(f"{name} {text!r} must be {allowed} digits")
    if text[-1] != (right := check_digit(text[:-1])):
        raise CodeError(f"{name} {text!r} ends in {text[-1]}, its check digit is {right}")
    return text


def gtin(text: str) -> str:
    """A GTIN-8, -12, -13 or -14 as its 14-digit form. Raises `CodeError`."""
    return _checked(text, (8, 12, 13, 14), "GTIN").zfill(14)


def gln(text: str) -> str:
    """A 13-digit place or party number. Raises `CodeError`."""
    return _checked(text, (13,), "GLN")


def sscc(text: str) -> str:
    """An 18-digit number of a crate, hook or lorry load. Raises `CodeError`."""
    return _checked(text, (18,), "SSCC")


def restricted_gtin(prefix: str, item: str) -> str:
    """A 14-digit number for a farm without a company prefix; only unique inside the one who issues it.

    ``prefix`` is one of 02, 04, 20-29, ``item`` at most 10 digits chosen by the issuer. Raises `CodeError` for any
    other prefix, above all for one that would claim membership of GS1 China.
    """
    if prefix not in RESTRICTED_PREFIXES:
        raise CodeError(f"prefix {prefix!r} is not free for own use; take one of {', '.join(RESTRICTED_PREFIXES)}")
    if not 1 <= len(item) <= 10 or not _DIGITS.fullmatch(item):  # noqa: PLR2004 - 13 = prefix 2 + item 10 + check 1
        raise CodeError(f"item number {item!r} must be 1 to 10 digits")
    body = f"0{prefix}{item.zfill(10)}"
    return body + check_digit(body)


@dataclass(frozen=True, slots=True)
class EarTag:
    """One animal for life: species digit, county of issue (GB/T 2260), eight digits of the county's own series."""

    species: str
    county: str
    serial: str

    @property
    def number(self) -> str:
        """The 15 digits printed on the tag."""
        return self._digit + self.county + self.serial

    @property
    def uri(self) -> str:
        """The name of the animal in events."""
        return EAR_TAG_URI + self.number

    @property
    def _digit(self) -> str:
        return next(digit for digit, name in SPECIES.items() if name == self.species)


def ear_tag(
    text: str, on: date | None = None, known: Callable[[str, date | None], bool | None] | None = None
) -> EarTag:
    """Read 15 digits (or the tag's URI): 1 species + 6 county + 8 serial.

    ``known(county, on)`` says whether the county code was valid on that day (``None``: today), or ``None`` where the
    caller's register of regions cannot tell: only a plain no refuses a tag. Raises `CodeError`.
    """
    number = text.removeprefix(EAR_TAG_URI)
    match = _EAR_TAG.fullmatch(number)
    if match is None:
        raise CodeError(f"ear tag {number!r} must be 15 digits that begin with 1 (pig), 2 (cattle) or 3 (sheep)")
    digit, county, serial = match.groups()
    if known is not None and known(county, on) is False:
        when = on.isoformat() if on else "today"
        raise CodeError(f"ear tag {number!r} names county {county}, which did not exist ({when})")
    return EarTag(SPECIES[digit], county, serial)


def credit_code(text: str) -> str:
    """A unified social credit code (18 characters, modulo-31 check character). Raises `CodeError`."""
    if len(text) != 18 or any(c not in _CREDIT_ALPHABET for c in text):  # noqa: PLR2004 - GB 32100
        raise CodeError(f"credit code {text!r} must be 18 of {_CREDIT_ALPHABET}")
    total = sum(_CREDIT_ALPHABET.index(c) * weight for c, weight in zip(text[:17], _CREDIT_WEIGHTS, strict=True))
    right = _CREDIT_ALPHABET[-total % 31]
    if text[-1] != right:
        raise CodeError(f"credit code {text!r} ends in {text[-1]}, its check character is {right}")
    return text
