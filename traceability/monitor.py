"""A reader who tails any C2SP log: every entry fetched, every head checked against the one before.

A monitor needs no more trust than a policy gives: it reads the log's static files, hashes every new entry itself, and
accepts a new head only if its own tree has that root. It keeps one thing, the last head, so that a log which was rolled
back, rewritten or shows others something else is found out, with both signed heads as evidence.

Source: C2SP tlog-tiles.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import urlopen

from traceability import TraceError
from traceability.merkle import leaf_hash, root_hash
from traceability.notes import Checkpoint, Note
from traceability.policy import Accepted, Policy
from traceability.stores import HeadStore
from traceability.tiles import WIDTH, BadTile, Growth, TileReader, growth_at, stored_tiles, tile_name, unpack_bundle

Read = Callable[[str], bytes | None]
"""Content of one of the log's static files, None where there is none; raises `LogAway` if it cannot be asked."""

Seen = Callable[[int, bytes], None]
"""Told of every new entry: index, bytes."""

_MAX_FILE_BYTES: Final = WIDTH * 65_538
_TIMEOUT_S: Final = 20


class LogAway(TraceError):
    """The log's files cannot be read now."""

    default_code = "log_away"


class Contradiction(TraceError):
    """The log contradicts what it signed before; `kept` and `shown` are the two notes that prove it.

    Codes: ``rolled_back`` (it became shorter), ``forked`` (two trees), ``damaged`` (its files do not lead to its own
    head).
    """

    def __init__(self, message: str, *, code: str, kept: str, shown: str) -> None:
        super().__init__(message, code=code)
        self.kept, self.shown = kept, shown


@dataclass(frozen=True)
class Step:
    """One look at the log: from `old` entries to `new`."""

    old: int
    new: int
    accepted: Accepted


class Monitor:
    """Follows one log; `head` keeps the last good head. The policy's quorum does not matter to who reads everything."""

    def __init__(self, read: Read, policy: Policy, head: HeadStore) -> None:
        self._read, self._policy, self._head = read, replace(policy, quorum=0), head

    def step(self, *, now_ms: int, seen: Seen = lambda _index, _entry: None) -> Step:
        """Look once; a good head is kept. Raises `Contradiction`, `LogAway`, or what the policy has against it."""
        shown = self._checkpoint()
        accepted = self._policy.accept(Note.parse(shown), now_ms=now_ms)
        new, kept = accepted.checkpoint, self._head.read()
        old = Checkpoint.parse(Note.parse(kept).text) if kept else Checkpoint(new.origin, 0, Growth().root)
        growth = self._grown_so_far(old, new, kept or "", shown)
        for first, entries in self._entries(old.size, new.size, shown):
            growth, _ = growth.grown([leaf_hash(entry) for entry in entries])
            for index, entry in enumerate(entries, first):
                seen(index, entry)
        if growth.root != new.root:
            told = f"entries 0 to {new.size - 1} do not lead to the root that is signed for {new.size}"
            raise Contradiction(told, code="damaged", kept=kept or "", shown=shown)
        if kept is None or new.size > old.size:
            self._head.replace(kept, shown)
        return Step(old.size, new.size, accepted)

    def compare(self, note: str, *, now_ms: int) -> Checkpoint:
        """Hold a head that somebody else was shown against the log as it is here; raises `Contradiction` on a fork."""
        other = self._policy.accept(Note.parse(note), now_ms=now_ms).checkpoint
        kept = self._head.read()
        if kept is None:
            raise LogAway("nothing is known of the log yet: look at it first")
        mine = Checkpoint.parse(Note.parse(kept).text)
        if other.origin != mine.origin:
            raise LogAway(f"that head is of {other.origin}, this log is {mine.origin}", code="other_log")
        if other.size > mine.size:
            told = f"a head of {other.size} entries was signed, here the log has {mine.size}"
            raise Contradiction(told, code="rolled_back", kept=kept, shown=note)
        tiles = stored_tiles(self._read, mine.size)
        root = root_hash(other.size, TileReader(tiles, keep=WIDTH).node(other.size))
        if root != other.root:
            told = f"two trees of {other.size} entries were signed"
            raise Contradiction(told, code="forked", kept=kept, shown=note)
        return other

    def _checkpoint(self) -> str:
        data = self._read("checkpoint")
        if data is None:
            raise LogAway("the log shows no checkpoint")
        try:
            return data.decode()
        except UnicodeDecodeError as why:
            raise LogAway("the log's checkpoint is not UTF-8") from why

    def _grown_so_far(self, old: Checkpoint, new: Checkpoint, kept: str, shown: str) -> Growth:
        if new.origin != old.origin:
            raise LogAway(f"here is the log {new.origin}, known is {old.origin}", code="other_log")
        if new.size < old.size:
            told = f"the log had {old.size} entries and shows {new.size}"
            raise Contradiction(told, code="rolled_back", kept=kept, shown=shown)
        if new.size == old.size and new.root != old.root:
            told = f"two trees of {old.size} entries were signed"
            raise Contradiction(told, code="forked", kept=kept, shown=shown)
        try:
            growth = growth_at(old.size, stored_tiles(self._read, new.size))
        except BadTile as why:
            raise Contradiction(str(why), code="damaged", kept=kept, shown=shown) from why
        if growth.root != old.root:
            told = f"the log's tiles no longer lead to the head it signed for {old.size} entries"
            raise Contradiction(told, code="forked", kept=kept, shown=shown)
        return growth

    def _entries(self, start: int, stop: int, shown: str) -> Iterator[tuple[int, list[bytes]]]:
        try:
            yield from entries_of(self._read, start, stop)
        except BadTile as why:
            raise Contradiction(str(why), code="damaged", kept=self._head.read() or "", shown=shown) from why


def entries_of(read: Read, start: int, stop: int) -> Iterator[tuple[int, list[bytes]]]:
    """Entries from `start` to `stop` - 1 as the files have them, unverified: by bundle, with the first index."""
    for number in range(start // WIDTH, -(-stop // WIDTH)):
        first = number * WIDTH
        width = min(WIDTH, stop - first)
        fresh = max(start, first)
        yield fresh, _bundle(read, number, width)[fresh - first : width]


def _bundle(read: Read, number: int, width: int) -> list[bytes]:
    for named in dict.fromkeys((width, WIDTH)):  # the partial one goes when the full one is there
        data = read(tile_name("entries", number, named))
        if data is not None and len(held := unpack_bundle(data)) >= width:
            return held
    raise BadTile(f"{tile_name('entries', number, width)} is missing or cut short")


def files_at(place: str) -> Read:
    """`Read` over a log's prefix: an http(s) address, or a folder."""
    if place.startswith(("http://", "https://")):
        return lambda name: _fetch(f"{place.rstrip('/')}/{quote(name)}")
    folder = Path(place)
    if not folder.is_dir():
        raise LogAway(f"{place} is neither an http address nor a folder")
    return lambda name: path.read_bytes() if (path := folder / name).is_file() else None


def _fetch(url: str) -> bytes | None:
    try:
        with urlopen(url, timeout=_TIMEOUT_S) as response:  # noqa: S310  files_at lets http addresses through only
            data: bytes = response.read(_MAX_FILE_BYTES)
            return data
    except HTTPError as why:
        with why:
            if why.code == HTTPStatus.NOT_FOUND:
                return None
            raise LogAway(f"{url} answered {why.code}") from why
    except (URLError, OSError) as why:
        raise LogAway(f"no answer from {url}: {why}") from why
