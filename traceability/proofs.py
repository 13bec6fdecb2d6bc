"""The standard text form of one proof, ``c2sp.org/tlog-proof@v1``, for tools that know nothing of us.

Source: C2SP tlog-proof.
"""

import re
from dataclasses import dataclass
from typing import Final, Self

from traceability import TraceError
from traceability.canon import from_base64, to_base64
from traceability.merkle import HASH_BYTES, verify_inclusion
from traceability.notes import MAX_NOTE_CHARS, Note
from traceability.policy import Accepted, Policy

_TITLE: Final = "c2sp.org/tlog-proof@v1"
_INDEX: Final = re.compile(r"index (0|[1-9][0-9]{0,18})")
_MAX_HASHES: Final = 63


class BadProofText(TraceError):
    """Not a proof of this form."""

    default_code = "bad_proof_text"


@dataclass(frozen=True)
class TlogProof:
    """An entry's place, the path to the root, and the checkpoint verbatim. `extra` is not authenticated by anything."""

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: str
    extra: bytes | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Take the text apart; the checkpoint in it is not looked at yet. Raises `BadProofText`."""
        if len(text) > 2 * MAX_NOTE_CHARS:
            raise BadProofText(f"{len(text)} characters are too many")
        top, gap, checkpoint = text.partition("\n\n")
        title, *lines = top.split("\n")
        if title != _TITLE or not gap or not checkpoint:
            raise BadProofText(f"not a text of the form {_TITLE}")
        try:
            extra = (
                from_base64(lines.pop(0).removeprefix("extra ")) if lines and lines[0].startswith("extra ") else None
            )
            match = _INDEX.fullmatch(lines.pop(0)) if lines else None
            hashes = tuple(from_base64(line) for line in lines)
        except TraceError as why:
            raise BadProofText(str(why)) from why
        if match is None:
            raise BadProofText("no line `index` with a decimal number")
        if len(hashes) > _MAX_HASHES or any(len(each) != HASH_BYTES for each in hashes):
            raise BadProofText("a path is up to 63 hashes of 32 bytes")
        return cls(int(match[1]), hashes, checkpoint, extra)

    @property
    def text(self) -> str:
        """The proof as it is written."""
        extra = [] if self.extra is None else [f"extra {to_base64(self.extra)}"]
        return "\n".join([_TITLE, *extra, f"index {self.index}", *map(to_base64, self.hashes), "", self.checkpoint])

    def verify(self, leaf: bytes, policy: Policy, *, now_ms: int) -> Accepted:
        """The checkpoint under which the entry with leaf hash `leaf` stands; raises what does not hold."""
        accepted = policy.accept(Note.parse(self.checkpoint), now_ms=now_ms)
        checkpoint = accepted.checkpoint
        verify_inclusion(leaf, self.index, checkpoint.size, self.hashes, checkpoint.root)
        return accepted
