"""Reading a whole log again: does the journal say what was signed, and if not, from which event on?

The signed head decides. If the journal leads to its root, every event is as it was, and a tile that differs is a
mere copy gone bad. If it does not, the hash tiles say which event was changed, unless they were changed too; then
the heads that somebody else kept (a witness, a monitor, a printed notice) still say between which two of them the
change lies.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from traceability import TraceError
from traceability.keys import VerifierKey
from traceability.merkle import leaf_hash
from traceability.notes import Checkpoint, Note
from traceability.stores import EntryStore, StoreError, TileStore
from traceability.tiles import WIDTH, Growth, pack_bundle, tile_name

_CHUNK: Final = 4_096
_HASH: Final = 32


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. `index` is the first event it touches, None where it touches none.

    Codes: ``head`` (not signed as it must be), ``rolled_back``, ``missing``, ``edited``, ``removed``, ``moved``,
    ``forked`` (a head kept elsewhere contradicts), ``rewritten`` (journal and tiles contradict the head), ``tile``,
    ``bundle`` (can be rebuilt); from who keeps rows beside the journal also ``row``, from who keeps a log a year also
    ``joint``.
    """

    code: str
    index: int | None
    message: str


def audit(
    entries: EntryStore,
    tiles: TileStore,
    head: str | None,
    key: VerifierKey,
    *,
    former: Sequence[VerifierKey] = (),
    kept: Iterable[str] = (),
) -> tuple[Finding, ...]:
    """Everything that is wrong with a log, the gravest first; empty when all is as signed.

    `head` is the log's newest checkpoint note, `kept` are checkpoint notes of this log that others remember; `key`, or
    one of the `former` ones, must have signed each. Reads every entry and tile once; writes nothing.
    """
    keys = (key, *former)
    signed, findings = _signed(head, keys)
    if signed is None:
        return tuple(findings)
    count = entries.count()
    heads = _kept(kept, keys, findings)
    inside = sorted({old.size for old in heads if old.size <= min(count, signed.size)} | {min(count, signed.size)})
    roots, lost = _roots(entries, inside)
    if lost is not None:
        findings.append(lost)
    elif roots.get(signed.size) != signed.root:
        findings.append(_locate(entries, tiles, signed, min(count, signed.size)))
    findings += _contradictions(heads, roots, count)
    if not findings:
        findings += _copies(entries, tiles, signed.size)
    return tuple(findings)


def restore(
    entries: EntryStore, tiles: TileStore, head: str | None, key: VerifierKey, former: Sequence[VerifierKey] = ()
) -> tuple[str, ...]:
    """Write again every tile and bundle that is gone or differs, from the journal; returns their names.

    Only where the journal leads to the root that was signed: else nothing is written. The log must not be growing.
    """
    found = audit(entries, tiles, head, key, former=former)
    signed, _ = _signed(head, (key, *former))
    if signed is None or not {finding.code for finding in found} <= {"tile", "bundle"}:
        return ()
    written = []
    for name, data in _files(entries, signed.size) if found else ():
        if tiles.read(name) != data:
            tiles.write(name, data)
            written.append(name)
    return tuple(written)


def _files(entries: EntryStore, size: int) -> Iterator[tuple[str, bytes]]:
    growth = Growth()
    for first in range(0, size, WIDTH):
        held = entries.read(first, min(size, first + WIDTH))
        yield tile_name("entries", first // WIDTH, len(held)), pack_bundle(held)
        growth, finished = growth.grown([leaf_hash(entry) for entry in held])
        yield from ((tile_name(level, number), tile) for level, number, tile in finished)
    for level, number, tile in growth.partial_tiles():
        yield tile_name(level, number, len(tile) // _HASH), tile


def _signed(head: str | None, keys: Sequence[VerifierKey]) -> tuple[Checkpoint | None, list[Finding]]:
    if head is None:
        return None, [Finding("head", None, "the log has no signed head")]
    try:
        note = Note.parse(head)
        if note.signed_by(keys):
            return Checkpoint.parse(note.text), []
        return None, [Finding("head", None, f"the head is not signed by {keys[0].name}")]
    except TraceError as why:
        return None, [Finding("head", None, f"the head is not as it was signed: {why}")]


def _kept(kept: Iterable[str], keys: Sequence[VerifierKey], findings: list[Finding]) -> list[Checkpoint]:
    heads = []
    for note in kept:
        checkpoint, wrong = _signed(note, keys)
        if checkpoint is not None:
            heads.append(checkpoint)
        findings += [Finding("head", None, f"a kept head: {each.message}") for each in wrong]
    return sorted(heads, key=lambda head: head.size)


def _roots(entries: EntryStore, sizes: Sequence[int]) -> tuple[dict[int, bytes], Finding | None]:
    """Roots of the journal at these sizes, as far as it can be read."""
    growth = Growth()
    roots: dict[int, bytes] = {}
    for size in sizes:
        while growth.size < size:
            stop = min(size, growth.size + _CHUNK)
            try:
                held = entries.read(growth.size, stop)
            except StoreError as why:
                index = next(n for n in range(growth.size, stop) if not _readable(entries, n))
                return roots, Finding("missing", index, f"event {index} cannot be read: {why}")
            growth, _ = growth.grown([leaf_hash(entry) for entry in held])
        roots[size] = growth.root
    return roots, None


def _readable(entries: EntryStore, index: int) -> bool:
    try:
        return len(entries.read(index, index + 1)) == 1
    except StoreError:
        return False


def _locate(entries: EntryStore, tiles: TileStore, signed: Checkpoint, count: int) -> Finding:
    leaves = list(_tile_leaves(tiles, signed.size))
    trusted = len(leaves) == signed.size and Growth().grown(leaves)[0].root == signed.root
    places = {leaf: index for index, leaf in enumerate(leaves)}
    for index in range(count if trusted else 0):
        found = leaf_hash(entries.read(index, index + 1)[0])
        if found != leaves[index]:
            return _changed(index, places.get(found))
    if count < signed.size:
        told = f"the journal ends before event {count}, the signed head covers {signed.size}"
        return Finding("rolled_back", count, told)
    return Finding("rewritten", None, "neither journal nor tiles lead to the root that was signed")


def _changed(index: int, place: int | None) -> Finding:
    if place is None:
        return Finding("edited", index, f"event {index} was changed")
    if place == index + 1:
        return Finding("removed", index, f"event {index} was taken out: event {place} stands in its place")
    return Finding("moved", index, f"event {index} was exchanged: there stands what was event {place}")


def _tile_leaves(tiles: TileStore, size: int) -> Iterator[bytes]:
    for first in range(0, size, WIDTH):
        width = min(WIDTH, size - first)
        tile = tiles.read(tile_name(0, first // WIDTH, width)) or b""
        yield from (tile[at : at + _HASH] for at in range(0, len(tile) - _HASH + 1, _HASH))


def _contradictions(heads: Sequence[Checkpoint], roots: dict[int, bytes], count: int) -> Iterator[Finding]:
    good = 0
    for head in heads:
        if head.size > count:
            message = f"a kept head covers {head.size} events; from event {count} on they are gone"
            yield Finding("rolled_back", count, message)
            return
        if head.size in roots and roots[head.size] != head.root:
            message = f"a kept head contradicts the journal: of events {good} to {head.size - 1} some were rewritten"
            yield Finding("forked", good, message)
            return
        good = head.size


def _copies(entries: EntryStore, tiles: TileStore, size: int) -> Iterator[Finding]:
    growth = Growth()
    for first in range(0, size, WIDTH):
        held = entries.read(first, min(size, first + WIDTH))
        bundle = tile_name("entries", first // WIDTH, len(held))
        if tiles.read(bundle) != pack_bundle(held):
            yield Finding("bundle", first, f"{bundle} is not what the journal says")
        growth, finished = growth.grown([leaf_hash(entry) for entry in held])
        yield from _wrong_tiles(tiles, finished)
    yield from _wrong_tiles(tiles, growth.partial_tiles())


def _wrong_tiles(tiles: TileStore, made: Iterable[tuple[int, int, bytes]]) -> Iterator[Finding]:
    for level, number, tile in made:
        name = tile_name(level, number, len(tile) // _HASH)
        found = tiles.read(name)
        if found == tile:
            continue
        first = number * WIDTH ** (level + 1)
        at = next((n for n in range(0, len(tile), _HASH) if (found or b"")[n : n + _HASH] != tile[n : n + _HASH]), 0)
        yield Finding("tile", first + at // _HASH * WIDTH**level, f"{name} is not what the journal says")
