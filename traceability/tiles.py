"""The tree as C2SP tiles: growing it, and reading its nodes back fast.

A tile holds 256 neighbouring hashes of one level, eight tree levels below the next. `Growth` keeps the unfinished
tiles on the right and hands out finished ones; `TileReader` answers `node(level, index)` from files, unfolding a
tile once and keeping the unfolded ones.

Source: C2SP tlog-tiles.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Final

from traceability import TraceError
from traceability.merkle import EMPTY_ROOT, HASH_BYTES, node_hash, path

HEIGHT: Final = 8
WIDTH: Final = 1 << HEIGHT
TILE_BYTES: Final = WIDTH * HASH_BYTES

Unfolded = tuple[bytes, ...]
"""Complete nodes of a tile by height, 0 to 8: concatenated hashes."""

FullTile = tuple[int, int, bytes]
"""A tile that became full: (level, number, hashes)."""


# Where the siblings of leaf n of a full tile stand, by height.
_SIBLINGS: Final = tuple(
    tuple(slice((n >> height ^ 1) * HASH_BYTES, ((n >> height ^ 1) + 1) * HASH_BYTES) for height in range(HEIGHT))
    for n in range(WIDTH)
)


class BadTile(TraceError):
    """A tile or an entry bundle is not what the tree says it is."""

    default_code = "bad_tile"


def tile_name(level: int | str, number: int, width: int = WIDTH) -> str:
    """Name of a tile (``level`` a number) or an entry bundle (``"entries"``): 1234067 is ``x001/x234/067``."""
    digits = f"{number:03d}"
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    parts = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    name = "/".join(["tile", str(level), *(f"x{part}" for part in parts[:-1]), parts[-1]])
    return name if width == WIDTH else f"{name}.p/{width}"


def pack_bundle(entries: Sequence[bytes]) -> bytes:
    """Entries of one tile, each with two bytes of length in front."""
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def unpack_bundle(data: bytes) -> list[bytes]:
    """Entries of a bundle; raises `BadTile` when its lengths do not fit."""
    entries, at = [], 0
    while at < len(data):
        start = at + 2
        at = start + int.from_bytes(data[at:start], "big")
        if start > len(data) or at > len(data):
            raise BadTile("an entry bundle is cut short")
        entries.append(data[start:at])
    return entries


def unfold(tile: bytes) -> Unfolded:
    """All complete nodes over a tile's hashes, by height."""
    heights = [tile]
    for _ in range(HEIGHT):
        below = heights[-1]
        pairs = range(0, len(below) - 2 * HASH_BYTES + 1, 2 * HASH_BYTES)
        heights.append(b"".join([sha256(b"\x01" + below[at : at + 64]).digest() for at in pairs]))
    return tuple(heights)


@dataclass(frozen=True)
class Growth:
    """A tree of `size` leaves, as much of it as is needed to grow: unfinished tiles by level, and its peaks."""

    size: int = 0
    edges: tuple[bytes, ...] = ()
    peaks: tuple[bytes, ...] = ()  # roots of the complete subtrees, largest first

    @property
    def root(self) -> bytes:
        """RFC 6962 root."""
        if not self.peaks:
            return EMPTY_ROOT
        found = self.peaks[-1]
        for peak in self.peaks[-2::-1]:
            found = node_hash(peak, found)
        return found

    def grown(self, leaves: Sequence[bytes]) -> tuple["Growth", list[FullTile]]:
        """The tree with more leaf hashes, and the tiles that became full: (level, number, hashes)."""
        finished: list[FullTile] = []
        edges = list(self.edges)
        peaks, roots = self._raised(leaves)
        carried, level = b"".join(leaves), 0
        while carried:
            held = edges[level] if level < len(edges) else b""
            first = (self.size >> HEIGHT * level) >> HEIGHT
            whole = held + carried
            full = len(whole) // TILE_BYTES
            finished += [(level, first + n, whole[n * TILE_BYTES : (n + 1) * TILE_BYTES]) for n in range(full)]
            edges[level : level + 1] = [whole[full * TILE_BYTES :]]
            level += 1
            carried = b"".join(roots.get(level, ()))
        return Growth(self.size + len(leaves), tuple(edges), peaks), finished

    def _raised(self, leaves: Sequence[bytes]) -> tuple[tuple[bytes, ...], dict[int, list[bytes]]]:
        """The peaks with more leaves, and the roots of the tiles that became full, by the level they are hashes of."""
        peaks, roots = list(self.peaks), dict[int, list[bytes]]()
        for size, leaf in enumerate(leaves, self.size):
            found, height = leaf, 0
            while size >> height & 1:
                found, height = node_hash(peaks.pop(), found), height + 1
                if height % HEIGHT == 0:
                    roots.setdefault(height // HEIGHT, []).append(found)
            peaks.append(found)
        return tuple(peaks), roots

    def partial_tiles(self) -> Iterator[tuple[int, int, bytes]]:
        """The unfinished tiles: (level, number, hashes)."""
        for level, edge in enumerate(self.edges):
            if edge:
                yield level, (self.size >> HEIGHT * level) >> HEIGHT, edge


Load = Callable[[int, int, int], bytes]
"""The hashes of a tile: (level, number, width) -> width times 32 bytes; raises `BadTile` where there are none."""


class TileReader:
    """Nodes of a tree out of its tiles; of the tiles it read it keeps the last `keep` unfolded."""

    def __init__(self, load: Load, *, keep: int) -> None:
        self._unfolded = lru_cache(maxsize=keep)(lambda level, number, width: unfold(load(level, number, width)))

    def node(self, size: int) -> Callable[[int, int], bytes]:
        """The function ``(level, index) -> hash`` over the complete subtrees of the tree of `size` leaves."""
        unfolded = self._unfolded
        widths = [size >> HEIGHT * level for level in range(size.bit_length() // HEIGHT + 1)]

        def node(level: int, index: int) -> bytes:
            tile_level, height = divmod(level, HEIGHT)
            number = index >> HEIGHT - height
            width = min(WIDTH, widths[tile_level] - number * WIDTH)
            at = (index - (number << HEIGHT - height)) * HASH_BYTES
            found: bytes = unfolded(tile_level, number, width)[height][at : at + HASH_BYTES]
            if len(found) != HASH_BYTES:
                raise BadTile(f"tile {tile_name(tile_level, number, width)} lacks node {level}/{index}")
            return found

        return node

    def inclusion_proof(self, index: int, size: int, edge: Sequence[bytes | None]) -> tuple[bytes, ...]:
        """As `merkle.inclusion_proof`, a full tile at a time."""
        found: list[bytes] = []
        level, place = 0, index
        while (number := place >> HEIGHT) + 1 << HEIGHT * (level + 1) <= size:
            unfolded = self._unfolded(level, number, WIDTH)
            found += [nodes[at] for nodes, at in zip(unfolded, _SIBLINGS[place % WIDTH], strict=False)]
            level, place = level + 1, number
        return (*found, *path(HEIGHT * level, place, size, self.node(size), edge))


def growth_at(size: int, load: Load) -> Growth:
    """The tree of `size` leaves by its right edge alone, ready to grow on; its root is still to be compared."""
    edges = []
    for level in range(max(1, -(-size.bit_length() // HEIGHT))):
        width = (size >> HEIGHT * level) % WIDTH
        edges.append(load(level, (size >> HEIGHT * level) >> HEIGHT, width) if width else b"")
    node = TileReader(load, keep=len(edges) * HEIGHT).node(size)
    levels = [level for level in range(size.bit_length() - 1, -1, -1) if size >> level & 1]
    return Growth(size, tuple(edges), tuple(node(level, (size >> level) - 1) for level in levels))


def stored_tiles(read: Callable[[str], bytes | None], size: int) -> Load:
    """`Load` over named files of a log of `size` entries: a prefix is cut out of the widest tile there is."""

    def load(level: int, number: int, width: int) -> bytes:
        widest = min(WIDTH, (size >> HEIGHT * level) - number * WIDTH)
        for held in dict.fromkeys((widest, WIDTH, width)):  # a partial tile goes when the full one is there
            data = read(tile_name(level, number, held)) if held >= width else None
            if data is not None and len(data) == held * HASH_BYTES:
                return data[: width * HASH_BYTES]
        raise BadTile(f"{tile_name(level, number, width)} is missing or cut short")

    return load
