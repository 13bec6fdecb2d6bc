"""Signed notes and the checkpoints in them: the only form in which the log speaks.

A note is a text ending in a newline, an empty line, and signature lines ``— name base64(key id || signature)``. A
checkpoint is a note whose text is the log's origin, its size and its root. Lines by keys the reader does not know
are ignored; a line by a known key that does not verify spoils the note.

Source: C2SP signed-note, tlog-checkpoint, tlog-cosignature.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

from traceability import TraceError
from traceability.canon import NotCanonical, from_base64, to_base64
from traceability.keys import BadSignature, SigningKey, VerifierKey
from traceability.merkle import HASH_BYTES

MAX_NOTE_CHARS: Final = 100_000
MAX_SIGNATURES: Final = 100
_KEY_ID_BYTES: Final = 4
_DASH: Final = "\u2014 "
_SIGNATURE: Final = re.compile(r"— ([^\s+]+) ([A-Za-z0-9+/]+={0,2})")
_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_BODY_LINES: Final = 3


class BadNote(TraceError):
    """Not a signed note, or not the checkpoint it claims to be."""

    default_code = "bad_note"


@dataclass(frozen=True)
class NoteSignature:
    """One signature line."""

    name: str
    key_id: int
    blob: bytes

    @property
    def line(self) -> str:
        """The line with its newline."""
        return f"{_DASH}{self.name} {to_base64(self.key_id.to_bytes(_KEY_ID_BYTES, 'big') + self.blob)}\n"

    @classmethod
    def parse(cls, line: str) -> Self:
        """Signature of a line without its newline."""
        match = _SIGNATURE.fullmatch(line)
        if match is None:
            raise BadNote(f"not a signature line: {line[:60]!r}")
        try:
            data = from_base64(match[2])
        except NotCanonical as why:
            raise BadNote(f"signature of {match[1]}: {why}") from why
        if len(data) <= _KEY_ID_BYTES:
            raise BadNote(f"signature of {match[1]} is empty")
        return cls(match[1], int.from_bytes(data[:_KEY_ID_BYTES], "big"), data[_KEY_ID_BYTES:])

    def is_by(self, key: VerifierKey) -> bool:
        """Whether the line claims this key."""
        return (self.name, self.key_id) == (key.name, key.key_id)


@dataclass(frozen=True)
class Note:
    """A text and its signature lines, none of them checked yet."""

    text: str
    signatures: tuple[NoteSignature, ...]

    @classmethod
    def parse(cls, note: str) -> Self:
        """Take a note apart; raises `BadNote` naming what is wrong."""
        if len(note) > MAX_NOTE_CHARS:
            raise BadNote(f"a note of {len(note)} characters is too long")
        if any(char < " " and char != "\n" for char in note):
            raise BadNote("a control character in the note")
        text, gap, lines = note.rpartition("\n\n")
        if not gap or not lines.endswith("\n"):
            raise BadNote("no signatures after an empty line")
        signatures = lines.removesuffix("\n").split("\n")
        if len(signatures) > MAX_SIGNATURES:
            raise BadNote(f"{len(signatures)} signatures are too many")
        return cls(text + "\n", tuple(NoteSignature.parse(line) for line in signatures))

    @property
    def whole(self) -> str:
        """The note as it is written."""
        return self.text + "\n" + "".join(signature.line for signature in self.signatures)

    def signed_by(self, keys: Iterable[VerifierKey]) -> dict[VerifierKey, int | None]:
        """Keys that signed with the times they state (seconds, None if they state none).

        Lines by other keys are ignored. Raises `BadSignature` if a line by one of `keys` does not verify, or two lines
        are by one key. An empty result means that nobody known signed: the text must not be used.
        """
        found: dict[VerifierKey, int | None] = {}
        known = list(keys)
        for signature in self.signatures:
            for key in known:
                if signature.is_by(key):
                    if key in found:
                        raise BadSignature(f"two signatures by {key.name}")
                    found[key] = key.check(self.text.encode(), signature.blob)
        return found

    def with_signature(self, key: SigningKey, *, seconds: int = 0) -> "Note":
        """The same note with one more line."""
        blob = key.sign(self.text.encode(), seconds=seconds)
        line = NoteSignature(key.verifier.name, key.verifier.key_id, blob)
        return Note(self.text, (*self.signatures, line))


@dataclass(frozen=True)
class Checkpoint:
    """What a log says of itself at one moment: so many entries, this root."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Checkpoint of a note's text."""
        lines = text.split("\n")
        if len(lines) <= _BODY_LINES or lines[-1] or not all(lines[:-1]):
            raise BadNote("a checkpoint is three lines or more, none empty: origin, size, root")
        origin, size, root, *extensions = lines[:-1]
        if not _DECIMAL.fullmatch(size):
            raise BadNote(f"size {size[:24]!r} is not a decimal number")
        try:
            data = from_base64(root)
        except NotCanonical as why:
            raise BadNote(f"root hash: {why}") from why
        if len(data) != HASH_BYTES:
            raise BadNote(f"root hash of {len(data)} bytes instead of 32")
        return cls(origin, int(size), data, tuple(extensions))

    @property
    def text(self) -> str:
        """The text to be signed."""
        return "\n".join((self.origin, str(self.size), to_base64(self.root), *self.extensions, ""))

    def sign(self, *keys: SigningKey) -> Note:
        """A note of this checkpoint, signed by each key in order."""
        note = Note(self.text, ())
        for key in keys:
            note = note.with_signature(key)
        return note
