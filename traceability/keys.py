"""Keys that sign: the log's, the witnesses', and the one strict rule by which a signature counts.

A verifier key (vkey) is ``name+id+base64(type || public key)``; the type byte chooses the kind of signature, so that
another algorithm is a row more and no new format. A signing key is the same with ``PRIVATE+KEY+`` in front and the
seed inside; its file is readable by its owner only, and a file that others may read is refused.

Libraries disagree on odd Ed25519 signatures (of 914 published edge cases one accepts 208, another 43), and a proof
that is good on the server and bad on the phone is worse than none. The rule here is the strict one: see
`verify_ed25519`.

Source: C2SP signed-note and tlog-cosignature; RFC 8032.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property, lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from traceability import TraceError
from traceability.canon import from_base64, to_base64

_P: Final = 2**255 - 19
_L: Final = 2**252 + 27742317777372353535851937790883648493
_SIGN_BIT: Final = 1 << 255
_Y_OF_ORDER_EIGHT: Final = 2707385501144840649318225287225658788936804267575313519463743609750303402022
# Points whose order divides 8, by y: (0, 1), (0, -1), the two of order 4, the four of order 8.
_LOW_ORDER_Y: Final = frozenset({0, 1, _P - 1, _Y_OF_ORDER_EIGHT, _P - _Y_OF_ORDER_EIGHT})
_PUBLIC_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64
_PRIVATE: Final = "PRIVATE+KEY+"
_OWNER_ONLY: Final = 0o600


class BadKey(TraceError):
    """The key is malformed, of an unknown kind, or not kept as a key must be."""

    default_code = "bad_key"


class BadSignature(TraceError):
    """A signature does not stand."""

    default_code = "bad_signature"


class KeyKind(IntEnum):
    """Signature type byte of a vkey."""

    NOTE = 0x01
    COSIGNATURE = 0x04


def verify_ed25519(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether the signature stands by the strict rule.

    Refused before any curve arithmetic: S not below the group order; public key A or commitment R not in canonical form
    (y below 2^255 - 19) or of low order. The equation is the cofactorless one. Lengths: 32, 64, any.
    """
    if len(public) != _PUBLIC_BYTES or len(signature) != _SIGNATURE_BYTES:
        return False
    if int.from_bytes(signature[32:], "little") >= _L or not (_sound(public) and _sound(signature[:32])):
        return False
    try:
        _public_key(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _sound(point: bytes) -> bool:
    y = int.from_bytes(point, "little") % _SIGN_BIT
    return y < _P and y not in _LOW_ORDER_Y


@lru_cache(maxsize=256)
def _public_key(public: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(public)


@dataclass(frozen=True)
class VerifierKey:
    """A name and a public key: who may have signed."""

    name: str
    kind: KeyKind
    public: bytes

    def __post_init__(self) -> None:
        if not self.name or "+" in self.name or any(char.isspace() or char < " " for char in self.name):
            raise BadKey(f"key name {self.name[:60]!r}: not empty, no spaces, no plus")
        if len(self.public) != _PUBLIC_BYTES:
            raise BadKey(f"key {self.name}: {len(self.public)} bytes instead of 32")

    @classmethod
    def parse(cls, vkey: str) -> Self:
        """Key of a vkey line; the short id in it must fit the key."""
        name, hint, kind, public = _take_apart(vkey.strip())
        key = cls(name, kind, public)
        if f"{key.key_id:08x}" != hint:
            raise BadKey(f"vkey {name}: id {hint[:8]} does not belong to this key")
        return key

    @cached_property
    def key_id(self) -> int:
        """First four bytes of SHA-256(name, newline, type, key): a hint, not a fingerprint."""
        return int.from_bytes(sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public).digest()[:4], "big")

    @property
    def vkey(self) -> str:
        """The text that stands in a policy."""
        return f"{self.name}+{self.key_id:08x}+{to_base64(bytes([self.kind]) + self.public)}"

    def check(self, text: bytes, blob: bytes) -> int | None:
        """Time the signer stated, in seconds since 1970 (None for a plain note); raises `BadSignature`."""
        if self.kind is KeyKind.NOTE:
            stated, message, signature = None, text, blob
        else:
            stated = int.from_bytes(blob[:8], "big")
            message, signature = _timed(text, stated), blob[8:]
        if not verify_ed25519(self.public, signature, message):
            raise BadSignature(f"the signature of {self.name} does not fit")
        return stated


@dataclass(frozen=True)
class SigningKey:
    """A verifier key with its secret seed."""

    verifier: VerifierKey
    seed: bytes = field(repr=False)

    @classmethod
    def new(cls, name: str, kind: KeyKind = KeyKind.NOTE, *, random: Callable[[int], bytes] = os.urandom) -> Self:
        """A fresh key; `random` gives that many secret bytes."""
        return cls._from_seed(name, kind, random(32))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Key of the text that `text` gives."""
        stripped = text.strip()
        if not stripped.startswith(_PRIVATE):
            raise BadKey("not a signing key: it begins with PRIVATE+KEY+")
        name, hint, kind, seed = _take_apart(stripped.removeprefix(_PRIVATE))
        key = cls._from_seed(name, kind, seed)
        if f"{key.verifier.key_id:08x}" != hint:
            raise BadKey(f"signing key {name}: its id does not belong to it")
        return key

    @classmethod
    def _from_seed(cls, name: str, kind: KeyKind, seed: bytes) -> Self:
        if len(seed) != _PUBLIC_BYTES:
            raise BadKey(f"signing key {name}: {len(seed)} bytes instead of 32")
        public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
        return cls(VerifierKey(name, kind, public), seed)

    @property
    def text(self) -> str:
        """Secret text of the key, one line."""
        held = to_base64(bytes([self.verifier.kind]) + self.seed)
        return f"{_PRIVATE}{self.verifier.name}+{self.verifier.key_id:08x}+{held}"

    def sign(self, text: bytes, *, seconds: int = 0) -> bytes:
        """Signature blob over a note's text; `seconds` since 1970 are stated by a cosignature only."""
        if self.verifier.kind is KeyKind.NOTE:
            return self._secret.sign(text)
        return seconds.to_bytes(8, "big") + self._secret.sign(_timed(text, seconds))

    @cached_property
    def _secret(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)


def load_key(path: Path) -> SigningKey:
    """The signing key in a file; raises `BadKey` when others than the owner may read it."""
    try:
        mode = path.stat().st_mode & 0o777
        text = path.read_text("ascii")
    except (OSError, UnicodeDecodeError) as why:
        raise BadKey(f"cannot read the key file {path}: {why}") from why
    if mode & 0o077:
        raise BadKey(f"key file {path} may be read by others (mode {mode:o}): chmod 600 it")
    return SigningKey.parse(text)


def save_key(path: Path, key: SigningKey) -> None:
    """Write a new key file, readable by its owner only; an existing file is never overwritten."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY)
    except FileExistsError as why:
        raise BadKey(f"{path} exists: a key is never overwritten") from why
    except OSError as why:
        raise BadKey(f"cannot write the key file {path}: {why.strerror}") from why
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(key.text + "\n")
        file.flush()
        os.fsync(file.fileno())


def _timed(text: bytes, seconds: int) -> bytes:
    return b"cosignature/v1\ntime %d\n" % seconds + text


def _take_apart(text: str) -> tuple[str, str, KeyKind, bytes]:
    parts = text.split("+", 2)
    if len(parts) != len(("name", "id", "key")):
        raise BadKey(f"not a key: {text[:40]!r}")
    name, hint, held = parts
    try:
        data = from_base64(held)
    except TraceError as why:
        raise BadKey(f"key {name[:60]}: {why}") from why
    if not data or data[0] not in set(KeyKind):
        raise BadKey(f"key {name[:60]}: unknown type byte {data[:1].hex()}")
    return name, hint, KeyKind(data[0]), data[1:]
