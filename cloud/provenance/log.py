"""The log's key, its folder, its witnesses and its public face, opened once by the process that owns the log."""

import fcntl
import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO

from sqlalchemy import Engine, inspect

from cloud.problems import Conflict, Invalid, NotFound, Unavailable
from cloud.provenance.auditing import audit_rows
from cloud.provenance.journal import Companion, SqlJournal
from cloud.provenance.log_keys import LogKeys
from cloud.provenance.schemas import LogState
from traceability import TraceError
from traceability.audit import Finding, audit
from traceability.keys import KeyKind, SigningKey, VerifierKey, load_key, save_key
from traceability.ledger import Ledger, Receipt
from traceability.notes import Checkpoint, Note
from traceability.policy import Trusted
from traceability.stores import DirectoryTiles, FileHead
from traceability.witness import Cosigned, WitnessClient, cosign, post_to

__all__ = ["LogBook", "LogPlace", "audit_log", "log_key", "open_key", "read_witnesses"]

# The files can be made again from the journal, so callers need not wait for them; readers see them this much later.
PUBLISH_EVERY_S = 0.5
# A witness that did not answer is not asked again for the same head before this time is over.
PATIENCE_MS = 30_000
# How soon a next key that another process announced is seen by the one that owns the log.
LOOK_EVERY_MS = 1_000
_MANY = 20
_PUBLIC_NAME = re.compile(r"checkpoint|tile/[a-z0-9/.]+")


@dataclass(frozen=True, slots=True)
class LogPlace:
    """Where a log lives, what it is called, and who cosigns it. `quorum` of `witnesses` must have signed a head."""

    folder: Path
    key_file: Path
    origin: str
    witnesses: tuple[WitnessClient, ...] = ()
    quorum: int = 0

    @property
    def key_list(self) -> Path:
        """The list of the log's keys, where there ever were several."""
        return self.key_file.with_suffix(".list")

    @property
    def public(self) -> Path:
        """The part that any web server may hand out."""
        return self.folder / "public"


class LogBook:
    """The ledger over the relational journal, with tiles and checkpoint as static files."""

    def __init__(self, engine: Engine, place: LogPlace, clock: Callable[[], int]) -> None:
        self._place = place
        self._clock = clock
        self._engine = engine
        log_key(engine, place)
        self._owned = _own(place.folder)
        self._turn = threading.Lock()
        self._looked_ms, self._list_ns = clock(), _changed_ns(place.key_list)
        try:
            self._keys = LogKeys.read(place.key_file, clock())
            self._ledger = self._opened()
        except BaseException:
            self._owned.close()
            raise
        self._attesting = threading.Lock()
        self._attested = Cosigned(Note.parse(self._ledger.checkpoint()), {})
        self._asked_ms = 0

    def _opened(self) -> Ledger:
        keys, public = self._keys, self._place.public
        ledger = Ledger(
            SqlJournal(self._engine),
            DirectoryTiles(public),
            FileHead(public / "checkpoint"),
            keys.signing,
            origin=self._place.origin,
            former=[each.key for each in keys.listed if each.key != keys.signing.verifier],
            publish_every_s=PUBLISH_EVERY_S,
        )
        if keys.entry is not None:
            ledger.append([keys.entry])  # in the log it stays; the same list again is found there
        return ledger

    def _current(self) -> Ledger:
        """The ledger, signed by the key of this moment. To be called with `_turn` held."""
        now = self._clock()
        due = self._keys.next_ms is not None and self._keys.next_ms <= now
        if not due and 0 <= now - self._looked_ms < LOOK_EVERY_MS:
            return self._ledger
        self._looked_ms, list_ns = now, _changed_ns(self._place.key_list)
        if due or list_ns != self._list_ns:
            self._ledger.close()
            self._keys, self._list_ns = LogKeys.read(self._place.key_file, now), list_ns
            self._ledger = self._opened()
        return self._ledger

    def append(self, entries: Sequence[bytes], companion: Companion) -> list[int]:
        """Put the events' entries into the log; durable and provable when this returns. Raises `Known` for a repeat."""
        return [receipt.index for receipt in self.submit(entries, companion).result()]

    def submit(self, entries: Sequence[bytes], companion: Companion) -> Future[tuple[Receipt, ...]]:
        """As `append`, without waiting: receipts, once the entries are durable and provable."""
        with self._turn:
            return self._current().submit(entries, companion=companion)

    @property
    def size(self) -> int:
        """Number of entries that are durable and provable."""
        return self._ledger.size

    def checkpoint(self) -> str:
        """The newest signed head, with the cosignatures that could be had."""
        return self._attest().note.whole

    def prove(self, index: int, size: int) -> Sequence[bytes]:
        """Inclusion proof of an entry in the tree of `size`."""
        return self._ledger.prove(index, size).hashes

    def file(self, name: str) -> bytes:
        """A public file of the log. Raises `NotFound`; a name cannot lead out of the folder."""
        path = self._place.public / name
        if not _PUBLIC_NAME.fullmatch(name) or ".." in name or not path.is_file():
            raise NotFound(f"the log has no file {name[:80]!r}")
        return path.read_bytes()

    @property
    def policy_text(self) -> str:
        """A policy file (`traceability.policy`) that trusts this log's keys, each in its time, and its witnesses."""
        log = "\n".join(_policy_lines(self._place.origin, each) for each in self._keys.listed)
        seen = "".join(f'\n[[witnesses]]\nvkey = "{witness.key.vkey}"\n' for witness in self._place.witnesses)
        return f'format = "tianmai-policy@1"\nquorum = {self._place.quorum}\n\n{log}{seen}'

    @property
    def fingerprint(self) -> str:
        """Eight hexadecimal digits of the log's key, to be compared with a printed label."""
        return f"{self._keys.signing.verifier.key_id:08x}"

    def state(self) -> LogState:
        """Size, root and age of the newest head, and which witnesses have signed it."""
        attested = self._attest()
        head = Checkpoint.parse(attested.note.text)
        file = self._place.public / "checkpoint"
        written = file.stat().st_mtime_ns // 1_000_000 if file.exists() else self._clock()
        signed = [witness.key.name for witness in self._place.witnesses if witness.key.name not in attested.missing]
        missing = {name: str(why) for name, why in attested.missing.items()}
        return LogState(self._place.origin, head.size, head.root.hex(), written, self.fingerprint, signed, missing)

    def close(self) -> None:
        """Finish what was submitted, and let another process own the log."""
        self._ledger.close()
        self._owned.close()

    def _attest(self) -> Cosigned:
        with self._turn:
            ledger = self._current()
        newest = ledger.checkpoint()
        if not self._place.witnesses:
            return Cosigned(Note.parse(newest), {})
        with self._attesting:
            fresh = not self._attested.note.whole.startswith(newest)
            patient = self._clock() - self._asked_ms < PATIENCE_MS
            if fresh or (len(self._attested.missing) > 0 and not patient) or self._asked_ms == 0:
                self._attested = cosign(ledger, self._place.witnesses)
                self._asked_ms = self._clock()
            return self._attested


def _policy_lines(origin: str, key: Trusted) -> str:
    times = (("from", key.from_ms), ("until", key.until_ms))
    told = "".join(f"{name} = {time_ms}\n" for name, time_ms in times if time_ms is not None)
    return f'[[logs]]\norigin = "{origin}"\nvkey = "{key.key.vkey}"\n{told}'


def _changed_ns(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _own(folder: Path) -> IO[str]:
    """Hold the log for this process. Raises `Unavailable` where another one holds it: a log has one writer."""
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / "owner").open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as why:
        file.close()
        raise Unavailable(f"the log in {folder} is owned by another process: one log, one writer") from why
    return file


def audit_log(engine: Engine, place: LogPlace) -> tuple[Finding, ...]:
    """Read journal, tiles and rows again; everything that is not as it was signed, the gravest first.

    Of the rows beside the journal at most `_MANY` findings are told.
    """
    key = load_key(place.key_file).verifier
    head = FileHead(place.public / "checkpoint").read()
    signed = audit(SqlJournal(engine), DirectoryTiles(place.public), head, key)
    return (*signed, *islice(audit_rows(engine), _MANY))


def log_key(engine: Engine, place: LogPlace) -> SigningKey:
    """The log's key, made when the log begins. Raises `Conflict` where the log has begun and its key is gone.

    A new key would sign on where nobody who holds the old one's policy could follow.
    """
    if not place.key_file.exists() and _begun(engine, place):
        raise Conflict(f"the key of this log is missing: restore {place.key_file}", code="key_missing")
    return open_key(place.key_file, place.origin)


def _begun(engine: Engine, place: LogPlace) -> bool:
    if (place.public / "checkpoint").exists():
        return True
    return inspect(engine).has_table("chain_entry") and SqlJournal(engine).count() > 0


def open_key(file: Path, name: str, kind: KeyKind = KeyKind.NOTE) -> SigningKey:
    """The signing key of a file, made on first use and readable by its owner alone."""
    if file.exists():
        return load_key(file)
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = SigningKey.new(name, kind)
    save_key(file, key)
    return key


def read_witnesses(text: str) -> tuple[WitnessClient, ...]:
    """Witnesses of a setting `VKEY=URL VKEY=URL ...`. Raises `Invalid` naming the part that is none."""
    found = []
    for part in text.split():
        # A vkey is base64 at its end, so the last "=http" is where the address begins.
        vkey, mark, url = part.rpartition("=http")
        try:
            key = VerifierKey.parse(vkey)
            send = post_to(f"http{url}")
        except TraceError as why:
            raise Invalid(f"setting witnesses: {part[:80]!r} is not VKEY=URL: {why}") from why
        if not mark or key.kind is not KeyKind.COSIGNATURE:
            raise Invalid(f"setting witnesses: {part[:80]!r} is not the cosignature key of a witness and its address")
        found.append(WitnessClient(key, send))
    return tuple(found)
