"""The log's key, its folder and its public face, opened once by the process that owns the log."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from sqlalchemy import Engine

from cloud.problems import NotFound
from cloud.provenance.journal import EventRow, SqlJournal
from cloud.provenance.schemas import LogState
from traceability.keys import SigningKey, load_key, save_key
from traceability.ledger import Ledger
from traceability.notes import Checkpoint, Note
from traceability.stores import DirectoryTiles, FileHead

__all__ = ["LogBook"]

# The files can be made again from the journal, so callers need not wait for them; readers see them this much later.
PUBLISH_EVERY_S = 0.5
_PUBLIC_NAME = re.compile(r"checkpoint|tile/[a-z0-9/.]+")


class LogBook:
    """The ledger over the relational journal, with tiles and checkpoint as static files in `folder`/public."""

    def __init__(self, engine: Engine, folder: Path, key_file: Path, origin: str, clock: Callable[[], int]) -> None:
        self._public = folder / "public"
        self._clock = clock
        self._key = _key(key_file, origin)
        head = FileHead(self._public / "checkpoint")
        self._ledger = Ledger(
            SqlJournal(engine), DirectoryTiles(self._public), head, self._key, publish_every_s=PUBLISH_EVERY_S
        )

    def append(self, entries: Sequence[bytes], rows: tuple[EventRow, ...]) -> list[int]:
        """Put the events' entries into the log; durable and provable when this returns. Raises `Known` for a repeat."""
        return [receipt.index for receipt in self._ledger.append(entries, companion=rows)]

    def checkpoint(self) -> str:
        """The newest signed head."""
        return self._ledger.checkpoint()

    def prove(self, index: int, size: int) -> Sequence[bytes]:
        """Inclusion proof of an entry in the tree of `size`."""
        return self._ledger.prove(index, size).hashes

    def file(self, name: str) -> bytes:
        """A public file of the log. Raises `NotFound`; a name cannot lead out of the folder."""
        path = self._public / name
        if not _PUBLIC_NAME.fullmatch(name) or ".." in name or not path.is_file():
            raise NotFound(f"the log has no file {name[:80]!r}")
        return path.read_bytes()

    @property
    def policy_text(self) -> str:
        """A policy file (`traceability.policy`) that trusts this log's key and asks for no witness."""
        log = f'[[logs]]\norigin = "{self._ledger.origin}"\nvkey = "{self._key.verifier.vkey}"\n'
        return f'format = "tianmai-policy@1"\nquorum = 0\n\n{log}'

    @property
    def fingerprint(self) -> str:
        """Eight hexadecimal digits of the log's key, to be compared with a printed label."""
        return f"{self._key.verifier.key_id:08x}"

    def state(self) -> LogState:
        """Size, root and age of the newest head."""
        head = Checkpoint.parse(Note.parse(self.checkpoint()).text)
        written = (self._public / "checkpoint").stat().st_mtime_ns // 1_000_000
        return LogState(self._ledger.origin, head.size, head.root.hex(), written, self.fingerprint)

    def close(self) -> None:
        """Finish what was submitted."""
        self._ledger.close()


def _key(file: Path, origin: str) -> SigningKey:
    if file.exists():
        return load_key(file)
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = SigningKey.new(origin)
    save_key(file, key)
    return key
