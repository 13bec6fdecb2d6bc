"""A classifier from textbook curves alone: for the day when nobody has a label.

Plots of every cover are drawn with the synthetic phenology, seen on random dates under random clouds with
noise, residual haze, mixed neighbours and, in cold places, snow; a network learns to tell them apart. It has
seen no real pixel, and its id says so ("nets-textbook-...").
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from remote_sensing import states as st
from remote_sensing.classifier import Labelled, Recipe, Trained, labelled, train
from remote_sensing.cubes import Calendar, Float, Stack, pack_values
from remote_sensing.evidence import feature_names, gather
from remote_sensing.neighbours import beside_neighbours
from remote_sensing.synthetic import phenology as ph
from remote_sensing.synthetic.spectra import HAZE, SNOW, spectra

_HOME = Path(__file__).parent
_PLOTS, _YEARS, _DRAWS = 420, 3, 6
_BANDS = ("blue", "green", "red", "nir", "swir1", "swir2")
_SHARES = {
    # (kind, state): how often it is drawn
    (ph.RICE, st.CULTIVATED): 5,
    (ph.RAPE_RICE, st.CULTIVATED): 5,
    (ph.RAPE_RICE, st.SEASONAL): 2,
    (ph.MAIZE_POTATO, st.CULTIVATED): 5,
    (ph.VEGETABLES, st.CULTIVATED): 4,
    (ph.MAIZE_POTATO, st.YOUNG): 8,
    (ph.MAIZE_POTATO, st.OLD): 6,
    (ph.GRASS, st.NATURE): 3,
    (ph.MEADOW, st.NATURE): 3,
    (ph.CITRUS, st.ORCHARD): 3,
    (ph.RICE, st.ORCHARD): 3,
    (ph.FOREST, st.FOREST): 4,
    (ph.DECIDUOUS, st.FOREST): 6,
    (ph.BUILT, st.BUILT): 3,
    (ph.GREENHOUSE, st.BUILT): 1,
    (ph.SOLAR, st.BUILT): 1,
    (ph.WATER, st.FOREST): 2,
}


@lru_cache(maxsize=4)
def textbook_model(layers: tuple[str, ...] = ("ndvi",), seed: int = 0) -> Trained:
    """The textbook classifier for these layers: weights shipped beside this file, else a few seconds of training."""
    shipped = _HOME / f"textbook_{'_'.join(layers)}.npz"
    if seed == 0 and shipped.exists():
        held = Trained.load(shipped)
        if held.names == feature_names(layers):
            return held
    return retrain(layers, seed)


def retrain(layers: tuple[str, ...], seed: int = 0) -> Trained:
    """Train it afresh; ``python -m remote_sensing.synthetic.textbook`` writes the shipped weights this way."""
    names = feature_names(layers)
    recipe = Recipe(nets=4, steps=1400, decay=2e-2)  # curves without label errors bear more trust than labels do
    return train(textbook_rows(layers, _DRAWS, seed), names, layers, recipe=recipe, seed=seed, origin="textbook")


def textbook_rows(layers: tuple[str, ...], draws: int = 1, seed: int = 0) -> Labelled:
    """Labelled plot-years from the textbook, to stand beside the few real labels of a place.

    Radar layers are missing in them: what radar says is learnt from real labels only.
    """
    return Labelled.join([_drawn(layers, seed * 1000 + draw) for draw in range(draws)])


def _drawn(layers: tuple[str, ...], seed: int) -> Labelled:
    """One draw of plots: evidence and looks."""
    rng = np.random.default_rng(seed)
    keys = list(_SHARES)
    odds = np.array([_SHARES[key] for key in keys], float)
    chosen = rng.choice(len(keys), (_YEARS, _PLOTS), p=odds / odds.sum())
    kinds = np.array([key[0] for key in keys])[chosen]
    states = np.array([key[1] for key in keys])[chosen]
    ages = np.where(states == st.YOUNG, rng.integers(0, 2, chosen.shape), rng.integers(2, 7, chosen.shape))
    ages = np.where(states == st.ORCHARD, rng.integers(0, 6, chosen.shape), ages)
    plan = ph.Plan(kinds, states, ages, drought=(1,) if rng.random() < 0.3 else ())  # noqa: PLR2004 - one draw in three is dry
    start = Calendar().start(2001)
    days = np.arange(int(rng.integers(0, 6)), int(_YEARS * ph.YEAR_DAYS), int(rng.choice([5, 8, 12])))
    values = _noisy(days, spectra(days, plan, rng), rng)
    clear = _glimpses(values.shape[:2], rng)
    bands = {name: pack_values(values[:, :, place]) for place, name in enumerate(_BANDS)}
    stack = Stack((days + start).astype(np.int32), bands, clear, (1, _PLOTS), np.zeros(0, np.int32), {})
    evidence = gather(beside_neighbours(stack, layers), Calendar(), (2001, 2002, 2003), layers)
    looks = _looks(kinds, states)
    looks[evidence.looks < 3] = -1  # noqa: PLR2004 - nothing can be learnt from one or two looks
    return labelled(evidence, looks, np.arange(_PLOTS) % 9 + 100 * seed)


def _looks(kinds: NDArray[np.int64], states: NDArray[np.int64]) -> NDArray[np.int64]:
    names = {
        st.CULTIVATED: "crop",
        st.SEASONAL: "crop",
        st.YOUNG: "idle",
        st.OLD: "shrub",
        st.NATURE: "idle",
        st.ORCHARD: "orchard",
        st.FOREST: "forest",
        st.BUILT: "built",
    }
    table = np.array([st.LOOKS.index(names.get(code, "idle")) for code in range(len(st.STATES))])
    looks: NDArray[np.int64] = table[states]
    looks[kinds == ph.WATER] = st.LOOKS.index("water")
    return looks


def _noisy(days: NDArray[np.int64], values: Float, rng: np.random.Generator) -> Float:
    """Neighbours mixed in, snow on some plots, haze and view common to a date, noise, missed clouds."""
    dates, plots, _ = values.shape
    mixed = rng.permutation(plots)
    share = np.where(rng.random(plots) < 0.5, rng.uniform(0, 0.3, plots), 0)[None, :, None]  # noqa: PLR2004 - half are edges
    out = (1 - share) * values + share * values[:, mixed]
    season = days % ph.YEAR_DAYS
    winter = (season > 55) & (season < 175)  # noqa: PLR2004 - December to March
    cold = (rng.random((1, plots)) < 0.4) & winter.reshape(-1, 1)  # noqa: PLR2004 - two plots in five
    snow = np.where(cold & (rng.random((dates, plots)) < 0.5), rng.uniform(0.3, 1, (dates, plots)), 0)  # noqa: PLR2004
    out = (1 - snow[..., None]) * out + snow[..., None] * SNOW
    missed = (rng.random((dates, plots)) < 0.04) * rng.uniform(0.1, 0.8, (dates, plots))  # noqa: PLR2004 - mask errors
    out = (1 - missed[..., None]) * out + missed[..., None] * 0.5
    out *= rng.normal(1, 0.04, (dates, 1, 6))
    out += rng.uniform(0, 0.15, (dates, 1, 1)) * HAZE
    out += rng.standard_normal(out.shape) * (0.003 + 0.03 * out)
    noisy: Float = np.clip(out, 0.001, 1.2).astype(np.float32)
    return noisy


def _glimpses(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Random clear looks: each plot its own share of 5..100 %, and every date its own sky."""
    share = rng.uniform(0.05, 1, (1, shape[1]))
    sky = rng.beta(0.8, 0.8, (shape[0], 1))
    return np.asarray(rng.random(shape) < np.clip(share * 2 * sky, 0, 1))


if __name__ == "__main__":
    for chosen in (("ndvi",), ("ndvi", "wetness")):
        retrain(chosen).save(_HOME / f"textbook_{'_'.join(chosen)}.npz")
