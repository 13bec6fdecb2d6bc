"""States of land, not breaks in a curve: what one year looks like, and how years follow each other.

Two things are kept apart. A *look* is what a single year can show (crop, idle, shrub, orchard, forest, built,
water): ``Emission`` objects turn evidence into its log-likelihood. A *state* is what the land is; abandoned
and natural grass look alike, only the path tells them apart: abandoned land was cultivated before. The hidden
Markov chain over years carries exactly that knowledge.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from remote_sensing.cubes import Float
from remote_sensing.evidence import MIN_LOOKS, Evidence
from remote_sensing.kernels import best_path, run_masses, smooth_states
from remote_sensing.profiles import Profile

LOOKS = ("crop", "idle", "shrub", "orchard", "forest", "built", "water")
"""What one year can look like."""

STATES = (
    "cultivated",
    "seasonal_idle",
    "fallow",
    "abandoned_young",
    "abandoned_old",
    "built_up",
    "orchard",
    "open_nature",
    "shrub_nature",
    "forest_water",
)
CULTIVATED, SEASONAL, FALLOW, YOUNG, OLD, BUILT, ORCHARD, NATURE, SHRUBS, FOREST = range(len(STATES))
IDLE = np.array([FALLOW, YOUNG, OLD], np.int64)
"""States that count as a whole year without cultivation on land that is cropland."""
FIRST = len(STATES)
"""The chain's own: the first year of an abandonment. To everybody else it is ``abandoned_young``.

A spell that ends after one year is a fallow; so the first abandoned year is never followed by crops. Without it the
chain counts a gap of one year twice, as a fallow and as an abandonment given up at once, and takes a spell of two or
three years between crops too readily for nothing: of those in series of held-out places it found 0.92 instead of 0.97.
"""
HIDDEN = len(STATES) + 1
"""States inside the chain."""
_RUN = np.array([*IDLE, FIRST], np.int64)
WORKED = np.array([CULTIVATED, SEASONAL, ORCHARD], np.int64)
"""States from which a run of idle years can begin."""

BLUR = 0.3
"""Odds that a year looks one step further along grass - shrub - forest or orchard than its state says, per step.

From the textbook's weeds (``phenology.WEED_BASE``) under ``_PROTOTYPES``: of the first two years after the last crop
a quarter lie nearer to shrub than to grass (odds 0.33), of the later ones a fifth still nearer to grass (0.27).
Succession has no borders in nature. Abandoned and natural land of the same cover blur alike, so that only the
path tells them apart, never a difference in sharpness.
"""
SLIP = 0.005
"""Share of years that look like anything else, all other looks together: edges, mixed pixels, masks that failed.

Not the classifier's errors: those are in its probabilities. Handed out once per other look instead, six times over,
it cost power wherever it was tried: of crops planted to end in two-year windows of MODIS, New England and Colorado
series 0.90, 0.40 and 0.21 were found instead of 0.92, 0.46 and 0.23 (false alarms 0.0007, 0, 0).
"""
_STEPS = {
    "idle": {"idle": 0, "shrub": 1, "forest": 2, "orchard": 2},
    "shrub": {"idle": 1, "shrub": 0, "forest": 1, "orchard": 1},
    "forest": {"idle": 2, "shrub": 1, "forest": 0, "orchard": 2},
    "orchard": {"idle": 2, "shrub": 1, "forest": 2, "orchard": 0},
}
"""Steps between looks that have no border in nature; all other looks are neighbours of none."""
_HOME = {
    "cultivated": "crop",
    "fallow": "idle",
    "abandoned_young": "idle",
    "abandoned_old": "shrub",
    "built_up": "built",
    "orchard": "orchard",
    "open_nature": "idle",
    "shrub_nature": "shrub",
    "forest_water": "forest",
}


@dataclass(frozen=True, slots=True)
class Rates:
    """How often land changes its state: shares a year, each with where it comes from.

    Song 2019 (Sustainability 11, 5951) followed a town near Chongqing for the six years 2012-2017; his shares are
    divided by six. ``abandoned``: 23.16 % spontaneous and 8.40 % induced. ``fallow``: 13.69 %. ``recultivated``: a
    spell lasts 3.45 years in the mean and 50.54 % end under the plough, 0.5054 / 3.45, soon if at all.
    ``overgrown``: grass turns to shrub about two years after the last crop. ``orchard``, ``built``, ``forest``,
    ``seasonal``: shares of eight years as in the design of the synthetic scenes. ``broken_up``: the rate at which
    land of any other kind is broken up for crops; no source, one in a hundred.
    """

    abandoned: float = 0.0526
    fallow: float = 0.0228
    recultivated: float = 0.1465
    overgrown: float = 0.5
    seasonal: float = 0.02
    orchard: float = 0.006
    built: float = 0.004
    forest: float = 0.005
    broken_up: float = 0.01


def _shows() -> Float:
    """P(look | state): its own look, blurred to those without a border, and a slip to anything else."""
    out = np.full((HIDDEN, len(LOOKS)), SLIP / (len(LOOKS) - 1))
    for name, home in _HOME.items():
        row = out[STATES.index(name)]
        row[LOOKS.index(home)] = 1
        for look, steps in _STEPS.get(home, {}).items():
            # a fallow is in its first year, when only one in twelve lies nearer to shrub
            row[LOOKS.index(look)] = BLUR ** (2 * steps if name == "fallow" else steps)
    out[FIRST] = out[YOUNG]
    # half a year's crops, half a year's weeds: mostly the crop is seen
    out[SEASONAL, [LOOKS.index("crop"), LOOKS.index("idle")]] = 1, BLUR / 2
    out[FOREST, LOOKS.index("water")] = BLUR
    answer: Float = (out / out.sum(axis=1, keepdims=True)).astype(np.float32)
    return answer


def _moves(rates: Rates) -> Float:
    """P(state next year | state), rows and columns in the order of ``STATES``, then ``FIRST``."""
    out = np.zeros((HIDDEN, HIDDEN))
    conversions = {ORCHARD: rates.orchard, BUILT: rates.built, FOREST: rates.forest}
    for begun in (CULTIVATED, SEASONAL):
        fates = {SEASONAL: rates.seasonal, FALLOW: rates.fallow, FIRST: rates.abandoned, **conversions}
        out[begun, list(fates)] = list(fates.values())
    out[FALLOW, CULTIVATED] = 1
    for idle, ends in ((FIRST, 0), (YOUNG, rates.recultivated), (OLD, rates.recultivated / 4)):
        out[idle, CULTIVATED] = ends
        out[idle, list(conversions)] = list(conversions.values())
        out[idle, OLD] = rates.overgrown * (1 - out[idle].sum()) if idle != OLD else 0
    for lasts in (BUILT, ORCHARD, NATURE, SHRUBS, FOREST):
        out[lasts, CULTIVATED] = rates.broken_up
        out[lasts, BUILT] = rates.built
    out[BUILT, BUILT] = 0
    out[NATURE, SHRUBS] = out[SHRUBS, FOREST] = rates.broken_up
    out[ORCHARD, FIRST] = rates.abandoned
    rest = 1 - out.sum(axis=1)
    # what was not given away stays what it is; one season left empty says nothing of the next year
    stays = {SEASONAL: CULTIVATED, FIRST: YOUNG}
    out[np.arange(HIDDEN), [stays.get(state, state) for state in range(HIDDEN)]] += rest
    return out.astype(np.float32)


_START_CROPLAND = np.array([0.70, 0.05, 0.04, 0.05, 0.08, 0.02, 0.04, 0.0, 0.0, 0.02, 0.0], np.float32)
"""A register's parcels when a series begins: 13 % abandoned already (Land 2021, 10, 1206), a few converted."""


def _start_anywhere() -> Float:
    """Land that no register knows: cropland or not is even, and so is what else it may be; none begins abandoned."""
    out = np.zeros(HIDDEN)
    worked = [CULTIVATED, SEASONAL, FALLOW]
    out[worked] = 0.5 * _START_CROPLAND[worked] / _START_CROPLAND[worked].sum()
    out[[BUILT, ORCHARD, NATURE, SHRUBS, FOREST]] = 0.1
    return out.astype(np.float32)


class Emission(Protocol):
    """What a year's evidence says about its look. Both adapters keep these promises."""

    @property
    def id(self) -> str:
        """Name and version, printed with every figure."""

    @property
    def calibration(self) -> str:
        """Id of the calibration, or ``"none"``."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers it needs, ``ndvi`` first."""

    def loglik(self, evidence: Evidence) -> Float:
        """Return log P(evidence | look) up to a constant per year and pixel: float32 (Y, len(LOOKS), N).

        Zero for every look where the year has nothing to say (too few looks); never NaN.
        """


@dataclass(frozen=True, slots=True)
class Chain:
    """The hidden Markov chain: how a state shows itself, how it moves on in a year, how a series begins.

    States in the order of ``STATES``, then ``FIRST``.
    """

    shows: Float = field(default_factory=_shows)
    moves: Float = field(default_factory=lambda: _moves(Rates()))
    start: Float = field(default_factory=_START_CROPLAND.copy)

    @staticmethod
    def for_land(*, known_cropland: bool) -> Chain:
        """The prior chain; without a cropland register nothing may begin as abandoned."""
        return Chain(start=_START_CROPLAND.copy() if known_cropland else _start_anywhere())

    def learned(self, states: NDArray[np.int64], looks: NDArray[np.int64], weight: float = 5.0) -> Chain:
        """This chain, taught by labelled sequences: counts on top of the prior worth ``weight`` years a state.

        ``states``, ``looks`` int (S, Y): places in ``STATES`` and ``LOOKS``. States never seen among the labels
        keep their prior row but are entered only as often as the counts leave room for.
        """
        moves, shows = self.moves.astype(float) * weight, self.shows.astype(float) * weight
        start = self.start.astype(float) * weight
        hidden = states.copy()
        hidden[:, 1:][np.isin(states[:, 1:], (YOUNG, OLD)) & np.isin(states[:, :-1], WORKED)] = FIRST
        np.add.at(moves, (hidden[:, :-1].ravel(), hidden[:, 1:].ravel()), 1)
        np.add.at(shows, (hidden.ravel(), looks.ravel()), 1)
        np.add.at(start, hidden[:, 0], 1)
        shows = np.maximum(shows / shows.sum(axis=1, keepdims=True), 1e-3)
        return Chain(
            (shows / shows.sum(axis=1, keepdims=True)).astype(np.float32),
            (moves / moves.sum(axis=1, keepdims=True)).astype(np.float32),
            (start / start.sum()).astype(np.float32),
        )

    def state_likely(self, looks: Float) -> Float:
        """Look log-likelihoods (Y, 7, N) -> state likelihoods (Y, HIDDEN, N), the largest of a year and pixel 1."""
        mixed: Float = self.shows @ np.exp(looks - looks.max(axis=1, keepdims=True))
        np.maximum(mixed, np.float32(1e-12), out=mixed)
        mixed /= mixed.max(axis=1, keepdims=True)
        return mixed


@dataclass(frozen=True, slots=True)
class Posterior:
    """What the chain believes after seeing all years.

    ``states`` float32 (Y, K, N); ``runs`` float32 (Y, Y, N): P(an idle run begins in year i and lasts in year
    j); ``decided`` bool (Y, N): the year had at least ``MIN_LOOKS`` looks; ``path`` uint8 (Y, N), Viterbi.
    """

    years: tuple[int, ...]
    states: Float
    runs: Float
    decided: NDArray[np.bool_]
    path: NDArray[np.uint8]

    def abandoned(self, profile: Profile) -> Float:
        """P(the year lies in a run of at least ``profile.min_years`` idle years): float32 (Y, N), 0..1."""
        years, least = len(self.years), profile.min_years
        out = np.zeros((years, self.runs.shape[2]), np.float32)
        for begin in range(years):
            if begin + least > years:
                break
            out[begin:] += self.runs[begin, np.maximum(np.arange(begin, years), begin + least - 1)]
        return np.clip(out, 0, 1)

    def onset(self, at: NDArray[np.int64]) -> Float:
        """P(the idle run that covers year index ``at`` (N,) began in year i): float32 (Y, N); rows sum to 1."""
        began = np.take_along_axis(self.runs, at[None, None, :], axis=1)[:, 0, :]
        total = began.sum(axis=0)
        answer: Float = began / np.maximum(total, np.float32(1e-9))
        return answer


def infer(looks: Float, decided: NDArray[np.bool_], years: tuple[int, ...], chain: Chain) -> Posterior:
    """Look log-likelihoods (Y, 7, N) -> posterior over states.

    Undecided years are heard as faintly as their likelihoods speak, for the sake of the years around them; what is
    said of themselves is for nobody to use: ``Posterior.decided`` says so.
    """
    likely = chain.state_likely(looks)
    smoothed = smooth_states(likely, chain.moves, chain.start)
    runs = run_masses(likely, chain.moves, smoothed, _RUN, WORKED)
    states, path = smoothed[0], best_path(np.log(likely), chain.moves, chain.start)
    states[:, YOUNG] += states[:, FIRST]
    path[path == FIRST] = YOUNG
    return Posterior(years, states[:, :FIRST], runs, decided, path)


_PROTOTYPES = {
    # look: NDVI (low, high, fall): centre and spread, from the phenology table of the synthetic scenes
    "crop": ((0.16, 0.76, 0.45), (0.11, 0.13, 0.18)),
    "idle": ((0.40, 0.74, 0.20), (0.10, 0.09, 0.10)),
    "shrub": ((0.54, 0.78, 0.14), (0.08, 0.07, 0.08)),
    "orchard": ((0.58, 0.73, 0.10), (0.07, 0.06, 0.06)),
    "forest": ((0.69, 0.84, 0.10), (0.07, 0.06, 0.07)),
    "built": ((0.11, 0.21, 0.07), (0.06, 0.08, 0.05)),
    "water": ((-0.10, 0.06, 0.08), (0.10, 0.10, 0.08)),
}


@dataclass(frozen=True, slots=True)
class WeakRules:
    """Rules without a single label: distance of low, high and largest fall of NDVI to textbook prototypes.

    Honest but crude; ``id`` says so. ``half_looks``: looks at which a year speaks with half its voice.
    """

    half_looks: float = 6.0
    id: str = "weak-rules-1"
    calibration: str = "none"
    layers: tuple[str, ...] = ("ndvi",)

    def loglik(self, evidence: Evidence) -> Float:
        """See ``Emission``; Gaussian distances, tempered by looks / (looks + half_looks)."""
        seen = np.stack([evidence.get(f"ndvi.{name}") for name in ("low", "high", "fall")])
        out = np.zeros((seen.shape[1], len(LOOKS), seen.shape[2]), np.float32)
        for place, look in enumerate(LOOKS):
            centre, spread = (np.array(part, np.float32)[:, None, None] for part in _PROTOTYPES[look])
            out[:, place] = (-0.5 * ((seen - centre) / spread) ** 2 - np.log(spread)).sum(axis=0)
        weight = np.where(evidence.heard, evidence.looks / (evidence.looks + np.float32(self.half_looks)), 0)
        tempered = np.maximum(out, out.max(axis=1, keepdims=True) - 12) * weight[:, None, :]
        return np.where(np.isfinite(tempered), tempered, 0).astype(np.float32)


def decided_years(evidence: Evidence) -> NDArray[np.bool_]:
    """Years (Y, N) with enough clear looks, optical and radar dates together."""
    enough: NDArray[np.bool_] = evidence.all_looks >= MIN_LOOKS
    return enough
