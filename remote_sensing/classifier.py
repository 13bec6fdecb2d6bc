"""From few labels to P(look | evidence): a small ensemble of networks, honest about cloud and place.

Trained on the same years many times under different cloud masks (``teaching``), so that a gap is something it has
seen; calibrated on blocks of places it was not trained on; tempered by the number of clear looks. Small dense
networks because they must keep up with the satellite. Where labels come from few places trees are grown beside them,
and then smaller nets learn what the nets say, and what those trees say that are too large to be asked each time
(distillation: Bucila et al. 2006, Hinton et al. 2015).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from remote_sensing.cubes import Float, LandError
from remote_sensing.evidence import Evidence
from remote_sensing.kernels import bend, less_best, mean_share, standardise
from remote_sensing.states import LOOKS
from remote_sensing.trees import UNSEEN, Trees, boosted, by_kinds, log_softmax, rare, together_of

CLIP = 4.0
"""Standardised evidence beyond this is cut: one freak value must not decide."""
ROWS = 2048
"""Rows the nets look at in one product: what is between their layers stays in the cache."""
FLOOR = -7.0
"""Log-probability floor: no year is ever more than 1 : 1100 sure of itself."""
STUDENTS, LESSONS, DECAY = 2, 40, 1e-3
"""Nets that are taught what others say and have trees beside them; of all students: years shown to them a step of
``Recipe.steps``, and their weight decay."""
SHAKEN, SWAPPED, EVEN = 0.3, 0.3, 0.3
"""Of years shown to students: sd of the noise on all numbers; share of them that another year's take the place of; and,
where a look is rare, instead of that the share of years drawn from all looks alike.

Teachers can be asked about any year, and what they say far from the labels is a part of what they know: on MODIS
samples judged a quarter of the places apart the log-loss of students of nets and trees was 0.057 without, 0.050 with
swapped numbers, 0.055 if only years of the same look swap. A rare look drowns in that: on Central Asian fallow (four
seeds, the first judged fold left out) the average precision was 0.66 with it, 0.69 without; with ``EVEN`` it was 0.68
to 0.70 in four trials; of the teachers themselves it was 0.70.
"""


@dataclass(frozen=True, slots=True)
class Labelled:
    """Labelled pixel-years.

    ``features`` (N, F) as in ``Evidence``; ``looks`` place in ``LOOKS`` (N,); ``clear`` looks a year (N,);
    ``block`` number of the place (N,): calibration folds keep blocks whole; ``kinds`` (N,) finer classes inside
    the looks (this crop, that crop), each within one look: they are learnt
    apart and answered together. None given: the looks themselves.
    """

    features: Float
    looks: NDArray[np.int64]
    clear: NDArray[np.int64]
    block: NDArray[np.int64]
    kinds: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def __post_init__(self) -> None:
        if self.kinds.size != self.looks.size:
            object.__setattr__(self, "kinds", self.looks)

    def pick(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Labelled:
        """The same for some rows only."""
        return Labelled(self.features[rows], self.looks[rows], self.clear[rows], self.block[rows], self.kinds[rows])

    @staticmethod
    def join(parts: Sequence[Labelled]) -> Labelled:
        """Several sets as one."""
        return Labelled(
            np.concatenate([part.features for part in parts]),
            np.concatenate([part.looks for part in parts]),
            np.concatenate([part.clear for part in parts]),
            np.concatenate([part.block for part in parts]),
            np.concatenate([part.kinds for part in parts]),
        )


def labelled(
    evidence: Evidence,
    looks: NDArray[np.int64],
    block: NDArray[np.int64],
    kinds: NDArray[np.int64] | None = None,
) -> Labelled:
    """Evidence (F, Y, N) with one label per year and pixel (Y, N) or per pixel (N,); -1 = no label.

    ``kinds`` like ``looks``: finer classes, see ``Labelled``; None: the looks themselves.
    """
    years, pixels = evidence.looks.shape
    tall = np.broadcast_to(looks, (years, pixels)).ravel()
    fine = tall if kinds is None else np.broadcast_to(kinds, (years, pixels)).ravel()
    known = tall >= 0
    features = evidence.values.transpose(1, 2, 0).reshape(years * pixels, -1)
    return Labelled(
        features[known],
        tall[known].astype(np.int64),
        evidence.all_looks.ravel()[known].astype(np.int64),
        np.broadcast_to(block, (years, pixels)).ravel()[known].astype(np.int64),
        fine[known].astype(np.int64),
    )


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train: nets in the ensemble, hidden units, steps of Adam, rows a step, weight decay.

    ``shake``: sd of the noise on every standardised number each time a net is shown it. Another place is another light,
    soil and calendar: on places left out (two ways of leaving out, 3,800 series each) 0.3 made F1 of abandonment 0.961
    and 0.983 instead of 0.958 and 0.980, the onset exact in 0.949 and 0.953 instead of 0.947 and 0.951.

    ``boosts`` > 0 rounds of boosted trees stand beside the nets, ``step`` their learning rate, ``leaf`` the least
    rows in a leaf: steadier where labels come from few places. ``STUDENTS`` nets of half as many units then take the
    nets' place. With a look rarer than ``trees.RAREST`` so many extremely randomised trees are grown instead, and the
    students, as many and as large as the nets, learn what nets and trees say together and judge alone.
    """

    nets: int = 4
    hidden: int = 64
    steps: int = 1000
    batch: int = 256
    rate: float = 4e-3
    decay: float = 6e-2
    shake: float = 0.0
    boosts: int = 0
    step: float = 0.06
    leaf: int = 40


@dataclass(frozen=True, slots=True)
class _Nets:
    """Weights of an ensemble, first axis the net: (E, F, H), (E, 1, H), (E, H, C), (E, 1, C)."""

    first: Float
    first_bias: Float
    last: Float
    last_bias: Float

    def chances(self, x: Float) -> Float:
        """The nets' mean probability (K, N) for standardised columns (F, N): where they quarrel, it doubts."""
        count, inputs, hidden = self.first.shape
        wide = self.first.transpose(0, 2, 1).reshape(count * hidden, inputs)
        inner = wide @ x
        bend(inner, self.first_bias.ravel())
        scores = self.last.transpose(0, 2, 1) @ inner.reshape(count, hidden, -1)
        less_best(scores, self.last_bias[:, 0])
        total = np.empty(scores.shape[1:], np.float32)
        mean_share(np.exp(scores, out=scores), total)
        return total


def _fit(x: Float, wanted: Float, recipe: Recipe, seed: int) -> _Nets:
    """Nets that say ``wanted`` (N, C), shares of each row (N, F), 0 where nothing was seen.

    Adam with decoupled weight decay and a cosine rate, all nets in one batched product.
    """
    rng = np.random.default_rng(seed)
    nets, hidden, classes = recipe.nets, recipe.hidden, wanted.shape[1]
    shapes = ((nets, x.shape[1], hidden), (nets, 1, hidden), (nets, hidden, classes), (nets, 1, classes))
    gains = (np.sqrt(2 / x.shape[1]), 0.0, np.sqrt(1 / hidden), 0.0)
    weights = [
        (rng.standard_normal(shape) * gain).astype(np.float32) for shape, gain in zip(shapes, gains, strict=True)
    ]
    slow = [np.zeros_like(part) for part in weights]
    wild = [np.zeros_like(part) for part in weights]
    for step in range(recipe.steps):
        rows = rng.integers(0, x.shape[0], (nets, recipe.batch))
        shown = x[rows]
        if recipe.shake:
            shown += np.float32(recipe.shake) * rng.standard_normal(shown.shape, np.float32)
        grads = _gradients(weights, shown, wanted[rows])
        rate = np.float32(recipe.rate * 0.5 * (1 + np.cos(np.pi * step / recipe.steps)) + 1e-5)
        for place, (part, grad) in enumerate(zip(weights, grads, strict=True)):
            slow[place] = 0.9 * slow[place] + 0.1 * grad
            wild[place] = 0.99 * wild[place] + 0.01 * grad * grad
            push = (slow[place] / (1 - 0.9 ** (step + 1))) / (np.sqrt(wild[place] / (1 - 0.99 ** (step + 1))) + 1e-7)
            shrink = recipe.decay * part if part.shape[1] > 1 else 0
            np.subtract(part, rate * (push + shrink), out=part, casting="same_kind")
    return _Nets(*weights)


def _log(chances: Float) -> Float:
    answer: Float = np.log(np.maximum(chances, np.float32(1e-6)))
    return answer


def _taught(x: Float, data: Labelled, nets: _Nets, together: Float, recipe: Recipe, seed: int) -> tuple[_Nets, Trees]:
    """Students who say of looks what nets say of years like those of ``x`` (N, F), and the trees beside them.

    Where a look is rare they say what nets and trees say, with equal say, and nothing stands beside them.
    """
    told, alone = np.nan_to_num(x, nan=UNSEEN), rare(data.looks)
    trees = by_kinds(told, data.looks, data.kinds, recipe.boosts, seed) if alone else None
    shown = _invented(x, data.looks if alone else None, LESSONS * recipe.steps, seed)
    filled = np.nan_to_num(shown, nan=0.0)
    wanted = np.empty((len(shown), together.shape[1]), np.float32)
    for begin in range(0, len(shown), ROWS):
        cut = slice(begin, begin + ROWS)
        wanted[cut] = _log(nets.chances(np.ascontiguousarray(filled[cut].T)).T @ together)
        if trees:
            wanted[cut] = np.float32(0.5) * (wanted[cut] + trees(np.nan_to_num(shown[cut], nan=UNSEEN)))
    plan = replace(recipe, steps=2 * recipe.steps, decay=DECAY, shake=0.0)
    shares = np.exp(log_softmax(wanted))
    if alone:
        return _fit(filled, shares, plan, seed), Trees.none(together.shape[1])
    few = replace(plan, nets=STUDENTS, hidden=recipe.hidden // 2)
    grown = boosted(told, data.looks, (recipe.boosts, recipe.step, recipe.leaf), seed)
    return _fit(filled, shares, few, seed), grown


def _invented(x: Float, looks: NDArray[np.int64] | None, count: int, seed: int) -> Float:
    """So many rows like those of ``x`` (N, F): numbers swapped between rows, or with ``looks`` (N,) drawn evenly."""
    rng = np.random.default_rng(seed)
    if looks is None:
        shown = x[rng.integers(0, len(x), count)]
        swapped = rng.random(shown.shape, np.float32) < SWAPPED
        np.copyto(shown, x[rng.integers(0, len(x), count)], where=swapped)
    else:
        _, place, often = np.unique(looks, return_inverse=True, return_counts=True)
        chance = (1 - EVEN) / looks.size + EVEN / (often.size * often[place])
        shown = x[rng.choice(looks.size, count, p=chance)]
    shown += np.float32(SHAKEN) * rng.standard_normal(shown.shape, np.float32)
    return np.clip(shown, -CLIP, CLIP, out=shown)


def _gradients(weights: list[Float], x: Float, wanted: Float) -> list[Float]:
    first, first_bias, last, last_bias = weights
    before = x @ first + first_bias
    hidden = np.maximum(before, 0)
    error = (np.exp(log_softmax(hidden @ last + last_bias)) - wanted) / x.shape[1]
    back = (error @ last.transpose(0, 2, 1)) * (before > 0)
    return [
        x.transpose(0, 2, 1) @ back,
        back.sum(axis=1, keepdims=True),
        hidden.transpose(0, 2, 1) @ error,
        error.sum(axis=1, keepdims=True),
    ]


@dataclass(frozen=True)
class Trained:
    """A trained, calibrated emission (see ``states.Emission``). Save and load as npz; nothing is pickled.

    ``kinds``: the look of every class that the nets tell apart; ``prior`` per known look.
    """

    layers: tuple[str, ...]
    names: tuple[str, ...]
    kinds: tuple[int, ...]
    nets: _Nets = field(repr=False)
    trees: Trees = field(repr=False)
    centre: Float = field(repr=False)
    spread: Float = field(repr=False)
    prior: Float = field(repr=False)
    temperature: float = 1.0
    half_looks: float = 0.0
    origin: str = "labels"

    @override
    def __getstate__(self) -> dict[str, Any]:
        """The model alone travels, and names a finished tile: not what was laid ready of it."""
        return {part.name: getattr(self, part.name) for part in fields(self)}

    @cached_property
    def _trees(self) -> Trees:
        """The trees for evidence as it is, not standardised."""
        return self.trees.in_units(self.centre, self.spread, CLIP)

    @property
    def known(self) -> tuple[int, ...]:
        """Looks it was shown, ascending places in ``LOOKS``."""
        return tuple(sorted(set(self.kinds)))

    @property
    def id(self) -> str:
        """Name with the first digits of the weights' hash: the same weights, the same id."""
        digest = hashlib.sha256(self.nets.first.tobytes() + self.nets.last.tobytes()).hexdigest()
        return f"nets-{self.origin}-{digest[:8]}"

    @property
    def calibration(self) -> str:
        """Temperature and tempering chosen on held-out blocks."""
        return f"blocks-t{self.temperature:.2f}-n{self.half_looks:g}"

    def log_odds(self, features: Float, clear: NDArray[np.integer]) -> Float:
        """Calibrated log P(look | evidence) - log P(look) of the known looks: float32 (N, C), ``features`` (N, F)."""
        return self._log_odds(np.ascontiguousarray(features.T), clear).T

    def _log_odds(self, features: Float, clear: NDArray[np.integer]) -> Float:
        """The same with one column a pixel-year: (F, N) -> (C, N), so many at a time as the cache holds."""
        count, rows = features.shape
        out = np.empty((len(self.known), rows), np.float32)
        seen = np.empty((count, min(ROWS, rows)), np.float32)
        share, together = np.log(self.prior)[:, None], together_of(self.kinds)
        by = np.reciprocal(self.spread)
        for begin in range(0, rows, ROWS):
            cut = slice(begin, min(begin + ROWS, rows))
            if cut.stop - begin < seen.shape[1]:
                seen = np.empty((count, cut.stop - begin), np.float32)
            standardise(features, begin, self.centre, by, CLIP, seen)
            scores = _log(together.T @ self.nets.chances(seen))
            if self.trees.roots.size:
                # nets and trees have equal say
                scores = np.float32(0.5) * (scores + self._trees.scores(features, begin, cut.stop - begin))
            out[:, cut] = scores - share
        voice = clear / (clear + self.half_looks) if self.half_looks else np.ones(clear.shape)
        answer: Float = np.maximum(out, FLOOR) * (voice / self.temperature).astype(np.float32)
        return answer

    def loglik(self, evidence: Evidence) -> Float:
        """See ``Emission``. Looks it was never shown get the floor."""
        if evidence.names != self.names:
            raise LandError("missing_band", f"model {self.id} needs layers {', '.join(self.layers)}")
        count, years, pixels = evidence.values.shape
        scores = self._log_odds(evidence.values.reshape(count, -1), evidence.all_looks.ravel())
        out = np.empty((years, len(LOOKS), pixels), np.float32)
        out[:] = (scores.min(axis=0) - np.float32(1)).reshape(years, 1, pixels)
        out[:, list(self.known)] = scores.reshape(-1, years, pixels).transpose(1, 0, 2)
        out *= evidence.heard[:, None, :]
        return out

    def save(self, path: Path) -> None:
        """Write as npz."""
        np.savez(
            path,
            layers=np.array(self.layers),
            names=np.array(self.names),
            kinds=np.array(self.kinds),
            first=self.nets.first,
            first_bias=self.nets.first_bias,
            last=self.nets.last,
            last_bias=self.nets.last_bias,
            centre=self.centre,
            spread=self.spread,
            prior=self.prior,
            numbers=np.array([self.temperature, self.half_looks]),
            origin=np.array(self.origin),
            **self.trees.flat(),  # type: ignore[arg-type]
        )

    @staticmethod
    def load(path: Path) -> Trained:
        """Read what ``save`` wrote. Raises ``LandError`` (``no_file``, ``bad_model``)."""
        if not path.exists():
            raise LandError("no_file", f"{path}: no such file")
        try:
            with np.load(path, allow_pickle=False) as held:
                return Trained(
                    layers=tuple(held["layers"].tolist()),
                    names=tuple(held["names"].tolist()),
                    kinds=tuple(held["kinds"].tolist()),
                    nets=_Nets(held["first"], held["first_bias"], held["last"], held["last_bias"]),
                    trees=Trees.of_flat(held, len(held["names"])),
                    centre=held["centre"],
                    spread=held["spread"],
                    prior=held["prior"],
                    temperature=float(held["numbers"][0]),
                    half_looks=float(held["numbers"][1]),
                    origin=str(held["origin"]),
                )
        except (OSError, ValueError, KeyError, IndexError) as why:
            raise LandError("bad_model", f"{path.name}: not a model ({str(why)[:80]})") from why


def train(
    data: Labelled,
    names: tuple[str, ...],
    layers: tuple[str, ...],
    *,
    recipe: Recipe | None = None,
    seed: int = 0,
    origin: str = "labels",
) -> Trained:
    """Train and calibrate an emission from labelled pixel-years.

    ``names``: evidence names in the order of ``data.features``; ``layers``: what must be gathered for it.
    Calibration (temperature, voice of a cloudy year) is chosen on blocks of places left out of the training.
    Raises ``LandError("too_few_labels")`` with fewer than two looks or ten rows.
    """
    known = np.unique(data.looks)
    if known.size < 2 or data.looks.size < 10:  # noqa: PLR2004 - the least that can be told apart
        raise LandError("too_few_labels", f"{data.looks.size} labels of {known.size} looks: needs 10 of 2")
    plan = recipe or Recipe()
    temperature, half = _calibrate(data, names, layers, plan, seed)
    return _train_plain(data, names, layers, plan, seed, (temperature, half, origin))


def _train_plain(
    data: Labelled,
    names: tuple[str, ...],
    layers: tuple[str, ...],
    recipe: Recipe,
    seed: int,
    rest: tuple[float, float, str],
) -> Trained:
    kinds, first, target = np.unique(data.kinds, return_index=True, return_inverse=True)
    centre, spread = _standards(data.features)
    x = np.clip((data.features - centre) / spread, -CLIP, CLIP).astype(np.float32)
    share = np.unique(data.looks, return_counts=True)[1] / target.size
    look_of = tuple(int(look) for look in data.looks[first])
    together = together_of(look_of)
    nets = _fit(np.nan_to_num(x, nan=0.0), np.eye(kinds.size, dtype=np.float32)[target], recipe, seed)
    trees = Trees.none(together.shape[1])
    if recipe.boosts:
        nets, trees = _taught(x, data, nets, together, recipe, seed)
        look_of = tuple(sorted(set(look_of)))
    return Trained(layers, names, look_of, nets, trees, centre, spread, share.astype(np.float32), *rest)


def _standards(features: Float) -> tuple[Float, Float]:
    """Mean and spread of each number over the rows that have it; 0 and 1 where no row does."""
    seen = np.isfinite(features)
    count = np.maximum(seen.sum(axis=0), 1)
    centre = np.where(seen, features, 0).sum(axis=0) / count
    square = (np.where(seen, features - centre, 0) ** 2).sum(axis=0) / count
    spread = np.where(seen.any(axis=0), np.maximum(np.sqrt(square), 1e-4), 1)
    return centre.astype(np.float32), spread.astype(np.float32)


def _calibrate(
    data: Labelled, names: tuple[str, ...], layers: tuple[str, ...], recipe: Recipe, seed: int
) -> tuple[float, float]:
    """Temperature and half_looks with the least log-loss on blocks left out, three folds."""
    blocks = np.unique(data.block)
    if blocks.size < 3:  # noqa: PLR2004 - folds
        return 1.5, 2.0
    fold = np.random.default_rng(seed).permutation(blocks.size) % 3
    of_row = fold[np.searchsorted(blocks, data.block)]
    small = replace(
        recipe, nets=min(recipe.nets, 2), steps=recipe.steps // 2, boosts=recipe.boosts // 3, step=recipe.step * 3
    )
    held: list[tuple[Float, NDArray[np.int64], NDArray[np.int64]]] = []
    for part in range(3):
        rest = data.pick(of_row != part)
        if np.unique(rest.looks).size < 2:  # noqa: PLR2004 - nothing to tell apart
            continue
        model = _train_plain(rest, names, layers, small, seed + part, (1.0, 0.0, ""))
        out = data.pick(of_row == part)
        taught = np.isin(out.looks, model.known)
        out = out.pick(taught)
        held.append((model.log_odds(out.features, out.clear), np.searchsorted(model.known, out.looks), out.clear))
    best, chosen = np.inf, (1.5, 2.0)
    for half in (0.0, 1.0, 2.0, 4.0):
        for temperature in (0.5, 0.6, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 2.7):
            loss = _log_loss(held, temperature, half)
            if loss < best:
                best, chosen = loss, (temperature, half)
    return chosen


def _log_loss(held: list[tuple[Float, NDArray[np.int64], NDArray[np.int64]]], temperature: float, half: float) -> float:
    """Mean log-loss of the looks as they come, with the share of each look put back as the prior."""
    total, count = 0.0, 0
    for scores, target, clear in held:
        voice = (clear + 1e-6) / (clear + half + 1e-6) / temperature
        share = (np.bincount(target, minlength=scores.shape[1]) + 1) / (target.size + scores.shape[1])
        logp = log_softmax(scores * voice[:, None].astype(np.float32) + np.log(share).astype(np.float32))
        total -= float(logp[np.arange(target.size), target].sum())
        count += target.size
    return total / max(count, 1)
