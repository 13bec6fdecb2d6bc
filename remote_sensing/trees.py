"""Trees beside the nets: boosted ones, as flat arrays, and extremely randomised ones by kinds where a look is rare.

Boosted trees are small and judge at the nets' side. The others have a thousand nodes each: they only teach.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from remote_sensing.cubes import Float
from remote_sensing.kernels import SMALL, sifted

Children = tuple[NDArray[np.integer], NDArray[np.integer], NDArray[np.integer]]

UNSEEN = -6.0
"""What a tree is told where nothing was seen: outside all that can be seen."""
LEAST_SHARE = 0.004
LEAST_ROWS = 5
"""Rows in a leaf of an extremely randomised tree: with 2 it has twice as many nodes and ranks no better."""
RAREST = 0.02
"""With a look rarer than this the trees are extremely randomised and learn kinds, as the nets do, and teach.

Boosted trees know looks only, and drown the rare one among all that are unlike it: on Central Asian fallow, one field
in seventy, the average precision was 0.57 with them.
"""


@dataclass(frozen=True)
class Trees:
    """Small trees as flat arrays, one after the other, each about one look; no trees at all is possible too.

    ``feature`` of every node (nodes,), -1 where it is a leaf; ``below``: its first child, the second follows it, both
    behind their parent; ``splits``: to the first child if x <= it; ``leaves`` (nodes, C): what a leaf adds to the
    score of each look; ``roots`` (trees,).
    """

    feature: NDArray[np.int32]
    below: NDArray[np.int32]
    splits: Float
    leaves: Float
    roots: NDArray[np.int32]

    @staticmethod
    def none(classes: int) -> Trees:
        """No trees, of so many looks."""
        empty = np.zeros(0, np.int32)
        return Trees(empty, empty, np.zeros(0, np.float32), np.zeros((0, classes), np.float32), empty)

    def flat(self) -> dict[str, NDArray[Any]]:
        """What ``of_flat`` takes: the arrays as they go into a file, with both children of every node named."""
        return {
            "feature": self.feature,
            "left": self.below,
            "right": self.below + np.int32(1),
            "splits": self.splits,
            "leaves": self.leaves,
            "roots": self.roots,
        }

    @staticmethod
    def of_flat(held: Mapping[str, NDArray[Any]], features: int) -> Trees:
        """Trees over so many features from the arrays of a file; ``ValueError`` where they are not trees."""
        if held.get("shares"):
            raise ValueError("large trees stand beside its nets, as in earlier versions: train it again")
        feature, roots, leaves = held["feature"], held["roots"], held["leaves"]
        if not roots.size:
            return Trees.none(leaves.shape[1])
        if feature.max() >= features:
            raise ValueError(f"a tree asks for number {feature.max()} of {features}")
        cuts = itertools.pairwise(np.append(roots, feature.size))
        grown = [
            ((feature[a:b], held["left"][a:b] - a, held["right"][a:b] - a), held["splits"][a:b], leaves[a:b])
            for a, b in cuts
        ]
        return laid_out(grown)

    def in_units(self, centre: Float, spread: Float, clip: float) -> Trees:
        """The same for numbers as they are instead of standardised ones, which were cut to +-clip: NaN = nothing seen.

        What lies under all that can be seen, only what was not seen lies under: NaN is above nothing.
        """
        inner = np.maximum(self.feature, 0)
        splits = self.splits * spread[inner] + centre[inner]
        return replace(self, splits=np.where(self.splits < -clip, -np.inf, splits).astype(np.float32))

    def scores(self, x: Float, begin: int = 0, count: int | None = None) -> Float:
        """Log-probability (C, n) of looks for n columns of ``x`` (F, N), not under log of ``LEAST_SHARE``."""
        total = sifted(x, (begin, x.shape[1] if count is None else begin + count), *self.for_sifting)
        answer: Float = np.maximum(log_softmax(total, axis=0), np.float32(np.log(LEAST_SHARE)))
        return answer

    @cached_property
    def for_sifting(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64]]:
        """What ``kernels.sifted`` takes."""
        sizes = np.diff(self._ends)
        speaks = np.logical_or.reduceat(self.leaves != 0, self.roots)
        about, tree = speaks.argmax(axis=1), np.repeat(np.arange(sizes.size), sizes)
        inner, ends = np.flatnonzero(self.feature >= 0), np.flatnonzero(self.feature < 0)
        below = (self._places[inner] << 8) | self._placed(self.below)[inner]
        nodes = self.splits[inner].view(np.uint32).astype(np.uint64) << np.uint64(32)
        nodes |= (self.feature[inner].astype(np.uint64) << np.uint64(16)) | below.astype(np.uint64)
        says = self.leaves[ends, about[tree[ends]]].view(np.uint32).astype(np.uint64)
        leaves = (says << np.uint64(32)) | self._places[ends].astype(np.uint64)
        starts = np.stack([np.searchsorted(tree[kind], np.arange(sizes.size + 1)) for kind in (inner, ends)])
        return nodes, leaves, starts, np.append(about, self.leaves.shape[1])

    @property
    def _ends(self) -> NDArray[np.int64]:
        """Where each tree begins and the last ends (trees + 1,)."""
        return np.append(self.roots, self.feature.size).astype(np.int64)

    @property
    def _places(self) -> NDArray[np.int64]:
        """Place of every node in its tree."""
        return self._placed(np.arange(self.feature.size))

    def _placed(self, nodes: NDArray[np.integer]) -> NDArray[np.int64]:
        """Numbers (nodes,) counted from the root of each node's tree."""
        return nodes.astype(np.int64) - np.repeat(self._ends[:-1], np.diff(self._ends))


def laid_out(grown: Sequence[tuple[Children, Float, Float]]) -> Trees:
    """Trees of scikit-learn, each ((feature, left, right), splits, leaves (nodes, C)), as ``Trees``.

    What two leaves of one parent both say, the parent says itself. ``ValueError`` for a tree of more than ``SMALL``
    nodes, or that speaks of more than one look.
    """
    made = [_breadth_first(*one) for one in grown]
    sizes = [splits.size for _, _, splits, _ in made]
    if max(sizes) > SMALL or any((says != 0).any(axis=0).sum() > 1 for *_, says in made):
        raise ValueError(f"a tree has more than {SMALL} nodes or speaks of several looks")
    roots = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int32)
    feature, below, splits, leaves = (np.concatenate(part) for part in zip(*made, strict=True))
    return Trees(feature, below + np.repeat(roots, sizes), splits, leaves, roots)


def _breadth_first(children: Children, splits: Float, leaves: Float) -> tuple[NDArray[np.int32], ...]:
    feature, left, right = children
    inner, said = feature >= 0, leaves.copy()
    place = np.arange(feature.size)
    if (inner & ((left <= place) | (right <= place))).any():
        raise ValueError("a node lies before its parent")
    left, right = np.where(inner, left, place), np.where(inner, right, place)
    while True:
        same = np.flatnonzero(inner & ~inner[left] & ~inner[right])
        same = same[(said[left[same]] == said[right[same]]).all(axis=1)]
        if not same.size:
            break
        inner[same], said[same] = False, said[left[same]]
    order, level = [np.zeros(1, np.int64)], np.zeros(1, np.int64)
    while level.size:
        parents = level[inner[level]]
        level = np.stack([left[parents], right[parents]], axis=1).ravel().astype(np.int64)
        order.append(level)
    nodes = np.concatenate(order)
    kept = inner[nodes]
    below = np.where(kept, 2 * np.cumsum(kept) - 1, 0)
    return (
        np.where(kept, feature[nodes], -1).astype(np.int32),
        below.astype(np.int32),
        splits[nodes].astype(np.float32),
        np.where(kept[:, None], 0, said[nodes]).astype(np.float32),
    )


def rare(looks: NDArray[np.int64]) -> bool:
    """Whether one of the looks (N,) is rarer than ``RAREST``."""
    _, count = np.unique(looks, return_counts=True)
    return bool(count.min() < RAREST * looks.size)


def by_kinds(
    x: Float, looks: NDArray[np.int64], kinds: NDArray[np.int64], trees: int, seed: int
) -> Callable[[Float], Float]:
    """Extremely randomised trees of scikit-learn over kinds, whose chances are added up to looks.

    ``x`` (N, F) without NaN; ``looks`` (N,); ``kinds`` (N,), each within one look. The answer takes rows (N, F) and
    gives log-probabilities (N, C), none under that of ``LEAST_SHARE``.
    """
    known, first = np.unique(kinds, return_index=True)
    together = together_of(tuple(int(look) for look in looks[first]))
    forest = ExtraTreesClassifier(trees, min_samples_leaf=LEAST_ROWS, max_features=0.3, random_state=seed, n_jobs=1)
    forest.fit(x, np.searchsorted(known, kinds))

    def said(asked: Float) -> Float:
        logs: Float = np.log(np.maximum(forest.predict_proba(asked) @ together, LEAST_SHARE)).astype(np.float32)
        return logs

    return said


def boosted(x: Float, looks: NDArray[np.int64], plan: tuple[int, float, int], seed: int) -> Trees:
    """Histogram gradient boosting of scikit-learn, flattened.

    ``x`` (N, F) without NaN; ``looks`` (N,); ``plan``: rounds, learning rate, least rows in a leaf.
    """
    rounds, step, leaf = plan
    known, target = np.unique(looks, return_inverse=True)
    classes = known.size
    grown = HistGradientBoostingClassifier(
        max_iter=rounds,
        learning_rate=step,
        max_leaf_nodes=15,
        min_samples_leaf=leaf,
        l2_regularization=1.0,
        max_features=0.2,
        early_stopping=False,
        random_state=seed,
    )
    # OpenMP's threads wait for each other by turning in circles: beside other work two took 15 times as long as one
    with threadpool_limits(limits=1, user_api="openmp"):
        grown.fit(x, target)
    # scikit-learn shows its boosted trees nowhere else; a test holds the flat ones to what it says itself
    trees = [(place, tree.nodes) for row in grown._predictors for place, tree in enumerate(row)]  # noqa: SLF001
    base = np.asarray(grown._baseline_prediction, np.float32).ravel()  # noqa: SLF001 - as above
    flat = []
    for place, nodes in trees:
        inner = ~nodes["is_leaf"].astype(bool)
        leaves = np.zeros((nodes.size, classes), np.float32)
        # of two looks only the second has trees of its own; each round carries its part of the starting score
        adds = np.where(inner, 0, nodes["value"] + base[place] / rounds)
        leaves[:, place + int(classes == 2)] = adds  # noqa: PLR2004 - two looks
        children = (np.where(inner, nodes["feature_idx"], -1), nodes["left"], nodes["right"])
        flat.append((children, nodes["num_threshold"], leaves))
    return laid_out(flat)


def log_softmax(scores: Float, axis: int = -1) -> Float:
    """Scores as log-probabilities, looks along ``axis``."""
    moved = scores - scores.max(axis=axis, keepdims=True)
    answer: Float = moved - np.log(np.exp(moved).sum(axis=axis, keepdims=True))
    return answer


def together_of(kinds: tuple[int, ...]) -> Float:
    """Kinds (K,) -> 0/1 (K, C): which kinds make up each look, looks ascending."""
    looks = np.unique(kinds)
    answer: Float = (np.asarray(kinds)[:, None] == looks).astype(np.float32)
    return answer
