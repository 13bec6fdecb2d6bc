"""The RFC 6962 tree: hashes, roots, inclusion and consistency proofs. Pure functions over hashes.

A tree of `size` leaves is cut into complete subtrees; `node(level, index)` is the hash of the complete subtree over
leaves ``[index << level, (index + 1) << level)``. Building a proof asks for complete nodes only: what hangs over on
the right is the `right_edge`, computed once for a size.

Source: RFC 6962 §2.1 (RFC 9162 §2.1 for the verification algorithms).
"""

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from typing import Final

from traceability import TraceError

EMPTY_ROOT: Final = sha256(b"").digest()
HASH_BYTES: Final = 32

Node = Callable[[int, int], bytes]


class BadProof(TraceError):
    """The hashes do not lead where they should."""

    default_code = "bad_proof"


def leaf_hash(entry: bytes) -> bytes:
    """Hash of one log entry; the prefix keeps a leaf from passing for a node."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of two neighbouring subtrees."""
    return sha256(b"\x01" + left + right).digest()


def right_edge(size: int, node: Node) -> tuple[bytes | None, ...]:
    """For each level the hash of the leaves right of the last complete node, None where there are none; last = root."""
    edge: list[bytes | None] = [None]
    for level in range(size.bit_length()):
        hanging = edge[-1]
        if size >> level & 1:
            complete = node(level, (size >> level) - 1)
            hanging = complete if hanging is None else node_hash(complete, hanging)
        edge.append(hanging)
    return tuple(edge)


def root_hash(size: int, node: Node) -> bytes:
    """Root of the tree of the first `size` leaves."""
    return right_edge(size, node)[-1] or EMPTY_ROOT


def inclusion_proof(
    index: int, size: int, node: Node, *, edge: Sequence[bytes | None] | None = None
) -> tuple[bytes, ...]:
    """Audit path of leaf `index` in the tree of `size`, bottom first; `edge` spares asking for it again."""
    if not 0 <= index < size:
        raise BadProof(f"no leaf {index} in a tree of {size}", code="no_such_leaf")
    return path(0, index, size, node, edge)


def consistency_proof(
    old: int, new: int, node: Node, *, edge: Sequence[bytes | None] | None = None
) -> tuple[bytes, ...]:
    """Proof that the tree of `new` leaves begins with the tree of `old` leaves."""
    if not 0 <= old <= new:
        raise BadProof(f"a tree of {new} cannot extend a tree of {old}", code="no_such_tree")
    if old in {0, new}:
        return ()
    level = (old & -old).bit_length() - 1  # the last complete subtree of the old tree: both trees have it
    last = (old >> level) - 1
    start = () if last == 0 else (node(level, last),)  # alone it is the old root, which the verifier holds
    return start + path(level, last, new, node, edge)


def path(
    level: int, index: int, size: int, node: Node, edge: Sequence[bytes | None] | None = None
) -> tuple[bytes, ...]:
    """Hashes that lead from node ``level/index`` to the root of the tree of `size`, bottom first."""
    found: list[bytes] = []
    while 1 << level < size:
        sibling = index ^ 1
        if (sibling + 1) << level <= size:
            found.append(node(level, sibling))
        elif sibling << level < size:
            edge = right_edge(size, node) if edge is None else edge
            found.append(edge[level] or EMPTY_ROOT)  # never empty: leaves lie right of the last complete node
        index >>= 1
        level += 1
    return tuple(found)


def root_from_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes:
    """The root that `proof` leads to from `leaf`; raises `BadProof` when its form does not fit (RFC 9162 §2.1.3.2)."""
    if not 0 <= index < size:
        raise BadProof(f"no leaf {index} in a tree of {size}")
    if any(len(item) != HASH_BYTES for item in (leaf, *proof)):
        raise BadProof("a hash is not 32 bytes long")
    found = leaf
    for item, on_the_left in _climb(index, size - 1, proof):
        found = node_hash(item, found) if on_the_left else node_hash(found, item)
    return found


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Raise `BadProof` unless `leaf` is leaf number `index` of the tree of `size` with `root`."""
    if root_from_inclusion(leaf, index, size, proof) != root:
        raise BadProof("inclusion proof does not lead to the root")


def verify_consistency(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> None:
    """Raise `BadProof` unless the tree (`new`, `new_root`) begins with (`old`, `old_root`): RFC 9162 §2.1.4.2."""
    if not 0 <= old <= new:
        raise BadProof(f"a tree of {new} cannot extend a tree of {old}")
    if old in {0, new}:
        _verify_trivial(old, new, proof, old_root, new_root)
        return
    if any(len(item) != HASH_BYTES for item in (old_root, new_root, *proof)):
        raise BadProof("a hash is not 32 bytes long")
    hashes = list(proof) if old & (old - 1) else [old_root, *proof]
    if not hashes:
        raise BadProof("consistency proof is empty")
    place, last = old - 1, new - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    found_old = found_new = hashes[0]
    for item, on_the_left in _climb(place, last, hashes[1:]):
        if on_the_left:
            found_old, found_new = node_hash(item, found_old), node_hash(item, found_new)
        else:
            found_new = node_hash(found_new, item)
    if found_old != old_root or found_new != new_root:
        raise BadProof("consistency proof does not join the two roots")


def _verify_trivial(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> None:
    if proof:
        raise BadProof("consistency proof must be empty here")
    if (old == 0 and old_root != EMPTY_ROOT) or (new == 0 and new_root != EMPTY_ROOT):
        raise BadProof("the root of an empty tree is the hash of nothing")
    if old == new and old_root != new_root:
        raise BadProof("two roots for one size")


def _climb(place: int, last: int, proof: Sequence[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Each hash of a proof with the side it joins on; a path longer or shorter than the tree is high is refused."""
    for item in proof:
        if last == 0:
            raise BadProof("proof too long")
        on_the_left = bool(place & 1) or place == last
        if on_the_left:
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        yield item, on_the_left
        place, last = place >> 1, last >> 1
    if last:
        raise BadProof("proof too short")
