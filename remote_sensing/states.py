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
WORKED = np.array([CULTIVATED, SEASONAL, ORCHARD], np.int64)
"""States from which a run of idle years can begin."""

_SHOWS = np.array(
    # crop  idle  shrub orch  forest built water       a state's year looks like ...
    [
        [0.97, 0.01, 0.005, 0.005, 0.0, 0.005, 0.005],  # cultivated
        [0.85, 0.14, 0.0, 0.0, 0.0, 0.005, 0.005],  # seasonal_idle: one main season empty
        [0.02, 0.77, 0.16, 0.02, 0.02, 0.01, 0.0],  # fallow, one planned year
        [0.01, 0.60, 0.28, 0.05, 0.06, 0.0, 0.0],  # abandoned_young: grass
        [0.01, 0.12, 0.70, 0.06, 0.11, 0.0, 0.0],  # abandoned_old: shrub
        [0.01, 0.01, 0.0, 0.0, 0.0, 0.97, 0.01],  # built_up, greenhouse, solar
        [0.01, 0.02, 0.12, 0.85, 0.0, 0.0, 0.0],  # orchard
        [0.02, 0.90, 0.06, 0.01, 0.01, 0.0, 0.0],  # open_nature: grass that never was cropland
        [0.01, 0.06, 0.87, 0.02, 0.04, 0.0, 0.0],  # shrub_nature
        [0.0, 0.0, 0.02, 0.02, 0.86, 0.0, 0.10],  # forest_water
    ],
    np.float32,
)

_MOVES = np.array(
    # cult  seas  fall  young old   built orch  open  shrub forest     next year, from:
    [
        [0.865, 0.020, 0.040, 0.055, 0.0, 0.006, 0.011, 0.0, 0.0, 0.003],  # cultivated
        [0.700, 0.150, 0.020, 0.110, 0.0, 0.005, 0.010, 0.0, 0.0, 0.005],  # seasonal_idle
        [0.980, 0.020, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],  # fallow lasts one year, by plan
        [0.100, 0.010, 0.0, 0.590, 0.280, 0.005, 0.010, 0.0, 0.0, 0.005],  # abandoned_young
        [0.040, 0.0, 0.0, 0.0, 0.945, 0.003, 0.006, 0.0, 0.0, 0.006],  # abandoned_old
        [0.010, 0.0, 0.0, 0.0, 0.0, 0.990, 0.0, 0.0, 0.0, 0.0],  # built_up
        [0.020, 0.0, 0.0, 0.010, 0.0, 0.005, 0.965, 0.0, 0.0, 0.0],  # orchard
        [0.010, 0.0, 0.0, 0.0, 0.0, 0.005, 0.005, 0.965, 0.010, 0.005],  # open_nature
        [0.008, 0.0, 0.0, 0.0, 0.0, 0.002, 0.005, 0.005, 0.970, 0.010],  # shrub_nature
        [0.002, 0.0, 0.0, 0.0, 0.0, 0.003, 0.003, 0.0005, 0.0005, 0.991],  # forest_water
    ],
    np.float32,
)

_START_CROPLAND = np.array([0.70, 0.05, 0.04, 0.05, 0.08, 0.02, 0.04, 0.0, 0.0, 0.02], np.float32)
_START_ANYWHERE = np.array([0.42, 0.02, 0.01, 0.0, 0.0, 0.06, 0.06, 0.15, 0.10, 0.18], np.float32)


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
    """The hidden Markov chain: how a state shows itself, how it moves on in a year, how a series begins."""

    shows: Float = field(default_factory=_SHOWS.copy)
    moves: Float = field(default_factory=_MOVES.copy)
    start: Float = field(default_factory=_START_CROPLAND.copy)

    @staticmethod
    def for_land(*, known_cropland: bool) -> Chain:
        """The prior chain; without a cropland register nothing may begin as abandoned."""
        return Chain(start=(_START_CROPLAND if known_cropland else _START_ANYWHERE).copy())

    def learned(self, states: NDArray[np.int64], looks: NDArray[np.int64], weight: float = 5.0) -> Chain:
        """This chain, taught by labelled sequences: counts on top of the prior worth ``weight`` years a state.

        ``states``, ``looks`` int (S, Y): places in ``STATES`` and ``LOOKS``. States never seen among the labels
        keep their prior row but are entered only as often as the counts leave room for.
        """
        moves, shows = self.moves.astype(float) * weight, self.shows.astype(float) * weight
        start = self.start.astype(float) * weight
        np.add.at(moves, (states[:, :-1].ravel(), states[:, 1:].ravel()), 1)
        np.add.at(shows, (states.ravel(), looks.ravel()), 1)
        np.add.at(start, states[:, 0], 1)
        shows = np.maximum(shows / shows.sum(axis=1, keepdims=True), 1e-3)
        return Chain(
            (shows / shows.sum(axis=1, keepdims=True)).astype(np.float32),
            (moves / moves.sum(axis=1, keepdims=True)).astype(np.float32),
            (start / start.sum()).astype(np.float32),
        )

    def state_loglik(self, looks: Float) -> Float:
        """Look log-likelihoods (Y, 7, N) -> state log-likelihoods (Y, K, N)."""
        best = looks.max(axis=1, keepdims=True)
        mixed = np.einsum("ke,yen->ykn", self.shows, np.exp(looks - best), optimize=True)
        answer: Float = np.log(np.maximum(mixed, np.float32(1e-12))).astype(np.float32)
        return answer


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
    """Look log-likelihoods (Y, 7, N) -> posterior over states; undecided years say nothing at all."""
    silent = np.where(decided[:, None, :], looks, np.float32(0))
    loglik = np.ascontiguousarray(chain.state_loglik(silent))
    likely = np.exp(loglik - loglik.max(axis=1, keepdims=True))
    smoothed = smooth_states(likely, chain.moves, chain.start)
    runs = run_masses(likely, chain.moves, smoothed, IDLE, WORKED)
    return Posterior(years, smoothed[0], runs, decided, best_path(loglik, chain.moves, chain.start))


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
        weight = evidence.looks / (evidence.looks + np.float32(self.half_looks))
        tempered = np.maximum(out, out.max(axis=1, keepdims=True) - 12) * weight[:, None, :]
        return np.where(np.isfinite(tempered), tempered, 0).astype(np.float32)


def decided_years(evidence: Evidence) -> NDArray[np.bool_]:
    """Years (Y, N) with enough clear looks, optical and radar dates together."""
    enough: NDArray[np.bool_] = (evidence.looks + evidence.radar_looks) >= MIN_LOOKS
    return enough
