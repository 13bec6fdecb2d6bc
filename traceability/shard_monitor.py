"""Following a log from one year to the next: every shard is read like a log of its own, and the joints are checked.

A log's first shard lies at its address, a later one in the folder of its year; the file `shards` lists their origins.
The list is a hint and proves nothing: whose heads count, the policy says, and that no year was dropped, the first entry
of the next one says.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from traceability import TraceError
from traceability.merkle import BadProof, inclusion_proof, leaf_hash, verify_inclusion
from traceability.monitor import Contradiction, LogAway, Monitor, Read, Seen, Step, entries_of
from traceability.notes import Checkpoint, Note
from traceability.policy import NotTrusted, Policy
from traceability.shards import previous_head, shard_name, shard_origin
from traceability.stores import HeadStore
from traceability.tiles import WIDTH, BadTile, TileReader, stored_tiles

LIST: Final = "shards"
_TITLE: Final = "tianmai-shards@1"


def list_of(origins: Iterable[str]) -> bytes:
    """The file `shards` of a log whose shards have these origins."""
    return "\n".join([_TITLE, *origins, ""]).encode()


@dataclass(frozen=True)
class Shown:
    """A shard as its files show it: `name` is its folder, empty for the first; `read` reads within it."""

    name: str
    origin: str
    read: Read


def shown_shards(read: Read, policy: Policy) -> Iterator[Shown]:
    """Shards whose files are there, oldest first: those that the log lists, and those that the policy knows of.

    Raises `LogAway` where there is no log, or a shard that is listed has no checkpoint.
    """
    log = Checkpoint.parse(Note.parse(checkpoint_of(read)).text).origin
    listed = {shard_name(origin, log) for origin in _listed(read)}
    known = {shard_name(each.origin, log) for each in policy.logs}
    for name in sorted({name for name in (*listed, *known, "") if name is not None}):
        shard = Shown(name, shard_origin(log, name), within(read, name))
        if name and name not in listed and shard.read("checkpoint") is None:
            continue  # a policy names the coming year in advance
        yield shard


def within(read: Read, name: str) -> Read:
    """The files of the shard of this name."""
    return read if not name else lambda file: read(f"{name}/{file}")


def checkpoint_of(read: Read) -> str:
    """A log's newest checkpoint as its files have it, unverified. Raises `LogAway`."""
    data = read("checkpoint")
    if data is None:
        raise LogAway("the log shows no checkpoint")
    return data.decode(errors="replace")


def _listed(read: Read) -> list[str]:
    try:
        data = read(LIST)
    except LogAway:  # of a log that is no log of ours a server may say anything
        return []
    title, *origins = (data or b"").decode(errors="replace").removesuffix("\n").split("\n")
    return origins if title == _TITLE else []


def last_head(shard: Shown, checkpoint: Checkpoint) -> Checkpoint:
    """The head that a later shard begins with, proven by the shard's own checkpoint.

    Raises `Contradiction`: ``broken_chain`` where it begins with something else, ``damaged`` where it cannot be proven.
    """
    entry = _first_entry(shard.read, checkpoint)
    try:
        note = previous_head(entry)
        if note is not None:
            return Checkpoint.parse(note.text)
        why = "it is no head of another log"
    except TraceError as wrong:
        why = str(wrong)
    told = f"{shard.origin} does not begin with the last head of the log before it: {why}"
    raise Contradiction(told, code="broken_chain", kept=entry.decode(errors="replace"), shown=checkpoint.text)


def check_joint(shard: Shown, last: Checkpoint, before: Checkpoint) -> None:
    """Whether a shard that begins with the head `last` goes on where the log before it ended, which now shows `before`.

    Raises `Contradiction` (``broken_chain``), or `LogAway` while the older log does not show all of its entries.
    """
    if last.origin != before.origin:
        told = f"{shard.origin} goes on where {last.origin} ended, which is not shown"
    elif last.size > before.size:
        raise LogAway(f"{before.origin} ended with {last.size} entries and shows {before.size} of them")
    elif last != before:
        told = f"{before.origin} ended with {last.size} entries, as {shard.origin} begins; it shows another head"
    else:
        return
    raise Contradiction(told, code="broken_chain", kept=last.text, shown=before.text)


def _first_entry(read: Read, checkpoint: Checkpoint) -> bytes:
    try:
        ((_, (entry, *_)),) = entries_of(read, 0, 1)
        node = TileReader(stored_tiles(read, checkpoint.size), keep=WIDTH).node(checkpoint.size)
        proof = inclusion_proof(0, checkpoint.size, node)
        verify_inclusion(leaf_hash(entry), 0, checkpoint.size, proof, checkpoint.root)
    except (BadTile, BadProof) as why:
        told = f"entry 0 of {checkpoint.origin}: {why}"
        raise Contradiction(told, code="damaged", kept="", shown=checkpoint.text) from why
    return entry


class YearlyMonitor:
    """Follows a log through its years; `head_of` gives where the last good head of a shard is kept, by its name."""

    def __init__(self, read: Read, policy: Policy, head_of: Callable[[str], HeadStore]) -> None:
        self._read, self._policy, self._head_of = read, policy, head_of
        self._begun: dict[str, Checkpoint] = {}  # what a shard begins with; its entry 0 is read and proven once

    def step(self, *, now_ms: int, seen: Seen = lambda _index, _entry: None) -> list[Step]:
        """Look once at every shard, oldest first. Raises what `Monitor.step`, `last_head` and `check_joint` raise.

        `NotTrusted` where the log goes on under a name that the policy does not know.
        """
        steps: list[Step] = []
        for shard in shown_shards(self._read, self._policy):
            if steps and all(log.origin != shard.origin for log in self._policy.logs):
                raise NotTrusted(f"the log goes on as {shard.origin!r}, which is not in the policy: see `keys follow`")
            step = self._monitor(shard.name).step(now_ms=now_ms, seen=seen)
            if steps:
                if shard.name not in self._begun:
                    self._begun[shard.name] = last_head(shard, step.accepted.checkpoint)
                check_joint(shard, self._begun[shard.name], steps[-1].accepted.checkpoint)
            steps.append(step)
        return steps

    def compare(self, note: str, *, now_ms: int) -> Checkpoint:
        """As `Monitor.compare`, against the shard that the head is of."""
        origin = Checkpoint.parse(Note.parse(note).text).origin
        shards = shown_shards(self._read, self._policy)
        name = next((shard.name for shard in shards if shard.origin == origin), "")
        return self._monitor(name).compare(note, now_ms=now_ms)

    def _monitor(self, name: str) -> Monitor:
        return Monitor(within(self._read, name), self._policy, self._head_of(name))
