"""Serial numbers that cannot be guessed, and the life of a code.

A serial is twelve characters of Crockford's base 32 (no I, L, O, U): seven are random (35 bits), five are the
first 25 bits of an HMAC over the code's context and those seven. Whoever holds the batch key can tell an
issued number from an invented one without asking a database; whoever does not guesses right once in 33 million
tries. What a label shows can still be copied: a copy is caught by where and when it is scanned, not by its number.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable
from typing import Final

from traceability import TraceError

__all__ = [
    "ALPHABET",
    "SERIAL_LENGTH",
    "SerialError",
    "genuine",
    "issue",
    "next_state",
    "read_scratch",
    "read_serial",
    "scratch_code",
]

ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
RANDOM_LENGTH: Final = 7
SERIAL_LENGTH: Final = 12
SCRATCH_LENGTH: Final = 8
LEAST_KEY_BYTES: Final = 16

# A mis-typed letter has one meaning only: that is why these are not in the alphabet.
_SPOKEN = str.maketrans("ILOilo", "110110", "- ")
_MOVES: Final = {
    ("issued", "activate"): "activated",
    ("activated", "sell"): "sold",
    ("sold", "take_back"): "activated",
    ("sold", "retire"): "retired",
    ("activated", "retire"): "retired",
    ("issued", "void"): "void",
    ("activated", "void"): "void",
    ("sold", "void"): "void",
}


class SerialError(TraceError):
    """A serial, its key or its state does not allow what was asked."""

    default_code = "bad_serial"


def read_serial(text: str) -> str:
    """A serial as typed or spoken by a person, in its one true form. Raises `SerialError`."""
    serial = text.translate(_SPOKEN).upper()
    if len(serial) != SERIAL_LENGTH or any(c not in ALPHABET for c in serial):
        raise SerialError(f"serial {text!r} must be {SERIAL_LENGTH} characters of {ALPHABET}")
    return serial


def _letters(number: int, length: int) -> str:
    return "".join(ALPHABET[number >> 5 * (length - 1 - n) & 31] for n in range(length))


def _tag(key: bytes, purpose: bytes, context: str, text: str, length: int) -> str:
    message = b"\0".join((purpose, context.encode(), text.encode()))
    digest = hmac.new(key, message, hashlib.sha256).digest()
    return _letters(int.from_bytes(digest[:8], "big") >> 64 - 5 * length, length)


def _check_key(key: bytes) -> None:
    if len(key) < LEAST_KEY_BYTES:
        raise SerialError(f"a batch key has at least {LEAST_KEY_BYTES} bytes, this one {len(key)}")


def issue(
    key: bytes, context: str, count: int, *, randbits: Callable[[int], int] = secrets.randbits
) -> tuple[str, ...]:
    """``count`` different serials for one ``context`` (trade item and lot). Raises `SerialError`."""
    _check_key(key)
    if not 0 < count <= 1 << 5 * RANDOM_LENGTH - 5:
        raise SerialError(f"{count} serials cannot be issued for one lot")
    found: dict[str, None] = {}
    while len(found) < count:
        found[_letters(randbits(5 * RANDOM_LENGTH), RANDOM_LENGTH)] = None
    return tuple(front + _tag(key, b"serial", context, front, SERIAL_LENGTH - RANDOM_LENGTH) for front in found)


def genuine(key: bytes, context: str, serial: str) -> bool:
    """Whether the holder of ``key`` issued ``serial`` (in its true form) for this context."""
    front, tag = serial[:RANDOM_LENGTH], serial[RANDOM_LENGTH:]
    return hmac.compare_digest(
        tag.encode(), _tag(key, b"serial", context, front, SERIAL_LENGTH - RANDOM_LENGTH).encode()
    )


def scratch_code(key: bytes, context: str, serial: str) -> str:
    """The eight characters under the scratch layer: only who has bought and scratched can know them."""
    _check_key(key)
    return _tag(key, b"scratch", context, serial, SCRATCH_LENGTH)


def read_scratch(text: str) -> str:
    """A scratch code as typed by a person, in its one true form. Raises `SerialError`."""
    code = text.translate(_SPOKEN).upper()
    if len(code) != SCRATCH_LENGTH or any(c not in ALPHABET for c in code):
        raise SerialError(f"a scratch code has {SCRATCH_LENGTH} characters of {ALPHABET}", code="bad_scratch")
    return code


def next_state(state: str, move: str) -> str:
    """The state of a code (issued, activated, sold, retired, void) after a move. Raises `SerialError`.

    Moves: activate, sell, take_back (what was sold stands on the shelf again), retire, void.
    """
    try:
        return _MOVES[state, move]
    except KeyError as why:
        allowed = ", ".join(m for s, m in _MOVES if s == state) or "nothing any more"
        raise SerialError(f"a code that is {state} cannot {move}; it allows {allowed}") from why
