"""Trees beside the nets, as flat arrays: boosted ones, and extremely randomised ones by kinds where a look is rare."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier

from remote_sensing.cubes import Float
from remote_sensing.kernels import forest_shares

UNSEEN = -6.0
"""What a tree is told where nothing was seen: outside all that can be seen."""
LEAST_SHARE = 0.004
RAREST = 0.02
"""With a look rarer than this the trees beside the nets are extremely randomised and learn kinds, as the nets do.

Boosted trees know looks only, and drown the rare one among all that are unlike it: on Central Asian fallow, one field
in seventy, the average precision was 0.57 with them.
"""


@dataclass(frozen=True, slots=True)
class Trees:
    """Trees as flat arrays, see ``kernels.forest_shares``; no trees at all is possible too.

    ``leaves`` (nodes, C): what a leaf adds to the score of each look, or, with ``shares``, how often each look came
    to lie there.
    """

    feature: NDArray[np.int32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    splits: Float
    leaves: Float
    roots: NDArray[np.int32]
    shares: bool = False

    @staticmethod
    def none(classes: int) -> Trees:
        """No trees, of so many looks."""
        empty = np.zeros(0, np.int32)
        return Trees(empty, empty, empty, np.zeros(0, np.float32), np.zeros((0, classes), np.float32), empty)

    def scores(self, x: Float) -> Float:
        """Log-probability (N, C) of looks for rows (N, F), not under log of ``LEAST_SHARE``."""
        mean = forest_shares(x, (self.feature, self.left, self.right), self.splits, self.leaves, self.roots)
        if self.shares:
            return np.log(np.maximum(mean, np.float32(LEAST_SHARE)))
        answer: Float = np.maximum(log_softmax(mean * np.float32(self.roots.size)), np.float32(np.log(LEAST_SHARE)))
        return answer


def by_kinds(x: Float, looks: NDArray[np.int64], kinds: NDArray[np.int64], trees: int, seed: int) -> Trees:
    """Extremely randomised trees of scikit-learn over kinds, flattened, kinds added up to looks in the leaves.

    ``x`` (N, F) without NaN; ``looks`` (N,); ``kinds`` (N,), each within one look.
    """
    _, first, target = np.unique(kinds, return_index=True, return_inverse=True)
    together = together_of(tuple(int(look) for look in looks[first]))
    forest = ExtraTreesClassifier(trees, min_samples_leaf=2, max_features=0.3, random_state=seed, n_jobs=1)
    grown = [one.tree_ for one in forest.fit(x, target).estimators_]
    sizes = [tree.node_count for tree in grown]
    roots = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int32)
    start = np.repeat(roots, sizes)
    held = np.concatenate([tree.value[:, 0, :] for tree in grown]) @ together
    left, right, feature, splits = (
        np.concatenate([getattr(tree, name) for tree in grown])
        for name in ("children_left", "children_right", "feature", "threshold")
    )
    return Trees(
        np.where(left < 0, -1, feature).astype(np.int32),
        (left + start).astype(np.int32),
        (right + start).astype(np.int32),
        splits.astype(np.float32),
        (held / held.sum(axis=1, keepdims=True)).astype(np.float32),
        roots,
        shares=True,
    )


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
    ).fit(x, target)
    # scikit-learn shows its boosted trees nowhere else; a test holds the flat ones to what it says itself
    trees = [(place, tree.nodes) for row in grown._predictors for place, tree in enumerate(row)]  # noqa: SLF001
    sizes = [nodes.size for _, nodes in trees]
    roots = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int32)
    base = np.asarray(grown._baseline_prediction, np.float32).ravel()  # noqa: SLF001 - as above
    leaves = np.zeros((sum(sizes), classes), np.float32)
    for root, (place, nodes) in zip(roots, trees, strict=True):
        # of two looks only the second has trees of its own; each round carries its part of the starting score
        adds = np.where(nodes["is_leaf"], nodes["value"] + base[place] / rounds, 0)
        leaves[root : root + nodes.size, place + int(classes == 2)] = adds  # noqa: PLR2004 - two looks
    every = np.concatenate([nodes for _, nodes in trees])
    start = np.repeat(roots, sizes)
    return Trees(
        np.where(every["is_leaf"], -1, every["feature_idx"]).astype(np.int32),
        (every["left"] + start).astype(np.int32),
        (every["right"] + start).astype(np.int32),
        every["num_threshold"].astype(np.float32),
        leaves,
        roots,
    )


def log_softmax(scores: Float) -> Float:
    """Scores (..., C) as log-probabilities."""
    moved = scores - scores.max(axis=-1, keepdims=True)
    answer: Float = moved - np.log(np.exp(moved).sum(axis=-1, keepdims=True))
    return answer


def together_of(kinds: tuple[int, ...]) -> Float:
    """Kinds (K,) -> 0/1 (K, C): which kinds make up each look, looks ascending."""
    looks = np.unique(kinds)
    answer: Float = (np.asarray(kinds)[:, None] == looks).astype(np.float32)
    return answer
