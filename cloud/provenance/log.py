"""The log's key, folder, years, witnesses and public face, opened once by the process that owns the log.

The log is a log a year over one journal (`traceability.shards`): what is captured stands under a place that counts over
all of them, what is proven under an index of one. Keys stay valid over the years.
"""

import fcntl
import logging
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sqlalchemy import Engine, inspect

from cloud.problems import Conflict, Invalid, NotFound, Unavailable
from cloud.provenance.heads import Heads
from cloud.provenance.journal import Companion, SqlJournal
from cloud.provenance.log_keys import LogKeys
from cloud.provenance.schemas import LogState, ShardState
from cloud.provenance.years import SqlYears, check_years, origins_of, policy_of
from traceability import TraceError
from traceability.keys import KeyKind, SigningKey, VerifierKey, load_key, save_key
from traceability.ledger import Ledger, Receipt
from traceability.notes import Checkpoint
from traceability.packs import Leaf, Pack, assemble, together
from traceability.shard_monitor import LIST, list_of
from traceability.shards import Shard, Span, YearlyLedgers, shard_origin, spans_of, year_of
from traceability.stores import DirectoryTiles, EntryStore, FileHead, replace_file
from traceability.witness import Cosigned, WitnessClient, post_to

__all__ = ["LogBook", "LogPlace", "log_key", "log_policy", "open_key", "own_log", "read_witnesses"]

_LOG = logging.getLogger(__name__)
# The files can be made again from the journal, so callers need not wait for them; readers see them this much later.
PUBLISH_EVERY_S = 0.5
# How soon a next key that another process announced is seen by the one that owns the log.
LOOK_EVERY_MS = 1_000
_PUBLIC_NAME = re.compile(rf"(?:[0-9]{{4}}/)?(?:checkpoint|tile/[a-z0-9/.]+)|{LIST}")


@dataclass(frozen=True, slots=True)
class LogPlace:
    """Where a log lives, what it is called, and who cosigns it. `quorum` of `witnesses` must have signed a head.

    `policy_file` is where its policy is kept for readers, if anywhere.
    """

    folder: Path
    key_file: Path
    origin: str
    witnesses: tuple[WitnessClient, ...] = ()
    quorum: int = 0
    policy_file: Path | None = None

    @property
    def key_list(self) -> Path:
        """The list of the log's keys, where there ever were several."""
        return self.key_file.with_suffix(".list")

    @property
    def public(self) -> Path:
        """The part that any web server may hand out."""
        return self.folder / "public"


class LogBook:
    """The ledgers over the relational journal, with tiles and checkpoints as static files."""

    def __init__(self, engine: Engine, place: LogPlace, clock: Callable[[], int]) -> None:
        self._place = place
        self._clock = clock
        log_key(engine, place)
        self._owned = own_log(place.folder)
        self._turn = threading.Lock()
        self._looked_ms, self._list_ns = clock(), _changed_ns(place.key_list)
        self._heads: defaultdict[str, Heads] = defaultdict(lambda: Heads(place.witnesses, clock))
        self._settled_for: tuple[object, ...] = ()
        try:
            self._keys = LogKeys.read(place.key_file, clock())
            check_years(engine)
            self._years = YearlyLedgers(SqlJournal(engine), SqlYears(engine), self._opened, now_ms=clock())
            self._current()
        except BaseException:
            self._owned.close()
            raise

    def _opened(self, span: Span, entries: EntryStore) -> Ledger:
        keys, public = self._keys, self._place.public / span.name
        return Ledger(
            entries,
            DirectoryTiles(public),
            FileHead(public / "checkpoint"),
            keys.signing,
            origin=shard_origin(self._place.origin, span.name),
            former=[each.key for each in keys.listed if each.key != keys.signing.verifier],
            publish_every_s=PUBLISH_EVERY_S,
            first=span.first,
        )

    def _current(self) -> Shard:
        """The shard of this moment, signed by the key of this moment. To be called with `_turn` held."""
        now = self._clock()
        due = self._keys.next_ms is not None and self._keys.next_ms <= now
        if due or not 0 <= now - self._looked_ms < LOOK_EVERY_MS:
            self._looked_ms, list_ns = now, _changed_ns(self._place.key_list)
            if due or list_ns != self._list_ns:
                self._keys, self._list_ns = LogKeys.read(self._place.key_file, now), list_ns
                self._years.reopen()
        shard = self._years.at(now)
        if self._settled_for != (shard, self._keys):
            self._settle(shard)
            self._settled_for = (shard, self._keys)
        return shard

    def _settle(self, shard: Shard) -> None:
        """What follows a change of year or key: the list of keys in the log, closed shards signed anew, the files."""
        if self._keys.entry is not None:
            shard.ledger.append([self._keys.entry])  # in the log it stays; the same list again is found there
        for span in self._years.spans[:-1]:
            try:
                self._years.shard(span)
            except TraceError:  # it is asked for again by whoever needs a proof from it; this year's work goes on
                _LOG.exception("the log of %s cannot be opened", span.year)
        files = {self._place.public / LIST: list_of(self._origins())}
        if self._place.policy_file is not None:
            files[self._place.policy_file] = self.policy_text.encode()
        for file, data in files.items():
            try:
                replace_file(file, data, durable=False)
            except TraceError:  # what it says can be had elsewhere, and is written again at the next start
                _LOG.exception("%s is out of date", file)

    def _origins(self) -> list[str]:
        return [shard_origin(self._place.origin, span.name) for span in self._years.spans]

    def append(self, entries: Sequence[bytes], companion: Companion) -> list[int]:
        """Put the events' entries into the log; durable and provable when this returns. Raises `Known` for a repeat.

        Returns their places, which count over all years.
        """
        return [receipt.place for receipt in self.submit(entries, companion).result()]

    def submit(self, entries: Sequence[bytes], companion: Companion) -> Future[tuple[Receipt, ...]]:
        """As `append`, without waiting: receipts, once the entries are durable and provable."""
        with self._turn:
            return self._current().ledger.submit(entries, companion=companion)

    @property
    def size(self) -> int:
        """Number of places in use, over all years: so many entries are durable and provable."""
        shard = self._years.newest
        return shard.span.first + shard.ledger.size

    def checkpoint(self) -> str:
        """The newest signed head of this year's log, with the cosignatures that could be had."""
        return self._attest()[1].note.whole

    def prove(self, place: int, size: int) -> Sequence[bytes]:
        """Inclusion proof of the entry at a place, in the tree of `size` of its year's log."""
        shard = self._years.holding(place)
        return shard.ledger.prove(place - shard.span.first, size).hashes

    def pack(self, subject: str, leaves: Iterable[tuple[Leaf, int]]) -> Pack:
        """The pack of a thing: its leaves with their places, each under the newest head of its year's log."""
        self._attest()
        parts: dict[str, tuple[Shard, list[tuple[Leaf, int]]]] = {}
        for leaf, place in sorted(leaves, key=lambda each: each[1]):
            shard = self._years.holding(place)
            parts.setdefault(shard.span.name, (shard, []))[1].append((leaf, place - shard.span.first))
        return together([self._part(subject, *part) for part in parts.values()])

    def _part(self, subject: str, shard: Shard, items: Sequence[tuple[Leaf, int]]) -> Pack:
        head = self._heads[shard.span.name].newest(shard.ledger).note.whole
        return assemble(subject, items, checkpoint=head, prove=lambda n, size: shard.ledger.prove(n, size).hashes)

    def file(self, name: str) -> bytes:
        """A public file of the log. Raises `NotFound`; a name cannot lead out of the folder."""
        path = self._place.public / name
        if not _PUBLIC_NAME.fullmatch(name) or ".." in name or not path.is_file():
            raise NotFound(f"the log has no file {name[:80]!r}")
        return path.read_bytes()

    @property
    def policy_text(self) -> str:
        """A policy file (`traceability.policy`) that trusts this log's keys, each in its time, and its witnesses.

        It names every year's log, and the next one.
        """
        origins = origins_of(self._place.origin, self._years.spans, year_of(self._clock()))
        return _policy(self._place, origins, self._keys)

    @property
    def fingerprint(self) -> str:
        """Eight hexadecimal digits of the log's key, to be compared with a printed label."""
        return f"{self._keys.signing.verifier.key_id:08x}"

    def state(self) -> LogState:
        """Size, root and age of the newest head, which witnesses have signed it, and the logs of all years."""
        shard, attested = self._attest()
        head = Checkpoint.parse(attested.note.text)
        file = self._place.public / shard.span.name / "checkpoint"
        written = file.stat().st_mtime_ns // 1_000_000 if file.exists() else self._clock()
        signed = [witness.key.name for witness in self._place.witnesses if witness.key.name not in attested.missing]
        missing = {name: str(why) for name, why in attested.missing.items()}
        spans = zip(self._years.spans, self._origins(), strict=True)
        shards = [
            ShardState(origin, span.name, span.first, None if span.end is None else span.end - 1)
            for span, origin in spans
        ]
        return LogState(
            head.origin, head.size, head.root.hex(), written, self.fingerprint, signed, missing, shards=shards
        )

    def close(self) -> None:
        """Finish what was submitted, and let another process own the log."""
        self._years.close()
        self._owned.close()

    def _attest(self) -> tuple[Shard, Cosigned]:
        with self._turn:
            shard = self._current()
        return shard, self._heads[shard.span.name].newest(shard.ledger)


def log_policy(engine: Engine, place: LogPlace, now_ms: int) -> str:
    """As `LogBook.policy_text`, for who does not own the log; its key is made when the log begins."""
    log_key(engine, place)
    origins = origins_of(place.origin, spans_of(SqlYears(engine).begun()), year_of(now_ms))
    return _policy(place, origins, LogKeys.read(place.key_file, now_ms))


def _policy(place: LogPlace, origins: Iterable[str], keys: LogKeys) -> str:
    return policy_of(origins, keys.listed, [witness.key.vkey for witness in place.witnesses], place.quorum)


def _changed_ns(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def own_log(folder: Path) -> IO[str]:
    """Hold the log for this process. Raises `Unavailable` where another one holds it: a log has one writer."""
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / "owner").open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as why:
        file.close()
        raise Unavailable(f"the log in {folder} is owned by another process: one log, one writer") from why
    return file


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
