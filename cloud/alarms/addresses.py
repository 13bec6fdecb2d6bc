"""Addresses of receivers: what cannot be told is refused when it is added, not found out when something happens."""

import ipaddress
import re
import unicodedata
from typing import Final

import httpx

from cloud.problems import Invalid

__all__ = ["check_address", "check_name"]

_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.IGNORECASE)
_LONGEST_HOST: Final = 253  # RFC 1035, 2.3.4, without the root
_LONGEST_LOCAL: Final = 64  # RFC 5321, 4.5.3.1.1, octets
# RFC 5322 dot-atom, with letters of any script (RFC 6531); quoted names are nobody's.
_ATOM: Final = r"[\w!#$%&'*+/=?^`{|}~-]+"
_LOCAL: Final = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
# Controls, surrogates, unassigned, and what ends a line: they break headers and let one line of a log look like two.
_UNPRINTABLE: Final = frozenset({"Cc", "Cs", "Cn", "Co", "Zl", "Zp"})


def check_name(name: str) -> None:
    """Raise `Invalid` (`bad_name`) for a receiver's name that is not one printable line."""
    if not _one_line(name):
        raise Invalid("a receiver's name is one line of printable characters", code="bad_name", pointer="/name")


def check_address(kind: str, address: str) -> None:
    """Raise `Invalid` (`bad_address`) for what a receiver of this kind (webhook, smtp, log) cannot be told by."""
    wrong = None if _one_line(address) else "an address is one line of printable characters"
    if wrong is None and kind == "webhook":
        wrong = _wrong_url(address)
    elif wrong is None and kind == "smtp":
        wrong = _wrong_mail(address)
    if wrong is not None:
        raise Invalid(wrong, code="bad_address", pointer="/address")


def _one_line(text: str) -> bool:
    return not any(unicodedata.category(mark) in _UNPRINTABLE for mark in text)


def _wrong_url(address: str) -> str | None:
    if not address.startswith(("http://", "https://")) or any(mark.isspace() for mark in address):
        return "a webhook's address is an http or https URL"
    try:
        url = httpx.URL(address)
        host, port = url.host, url.port
    except (httpx.InvalidURL, ValueError) as why:
        return f"a webhook's address is an http or https URL; this one is none: {why}"[:300]
    if not _is_host(host):
        return f"the URL {address[:80]!r} has no host that could exist"
    if port is not None and not 1 <= port <= 65535:  # noqa: PLR2004 - 16 bits
        return f"the URL has port {port}; there are 1..65535"
    return None


def _wrong_mail(address: str) -> str | None:
    local, _, domain = address.rpartition("@")
    if _LOCAL.fullmatch(local) and len(local.encode()) <= _LONGEST_LOCAL and _is_name(domain):
        return None
    return "a receiver of mail needs one mail address, like name@example.org"


def _is_host(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return _is_name(host)
    return True


def _is_name(host: str) -> bool:
    """Whether it can stand in the DNS; names in other scripts by their coded form."""
    try:
        url = httpx.URL(scheme="http", host=host)
        coded, shown = url.raw_host.decode("ascii"), url.host  # a wrong `xn--` shows only when it is read back
    except (httpx.InvalidURL, ValueError):
        return False
    coded = coded.removesuffix(".")
    return bool(shown) and len(coded) <= _LONGEST_HOST and all(_LABEL.fullmatch(one) for one in coded.split("."))
