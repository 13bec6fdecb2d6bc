"""From labelled series to a trained emission: the door for everybody who brings labels.

A label says what a place looked like in one year. The same year is learnt many times under different skies,
so that a gap is something the model has seen; places are kept together when it is calibrated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from remote_sensing.classifier import Labelled, Recipe, Trained, labelled, train
from remote_sensing.cubes import Bool, Calendar, LandError, Stack, searched_days, stack_of
from remote_sensing.evidence import feature_names, gather
from remote_sensing.neighbours import beside_neighbours

THINNEST = 0.4
"""Least share of its looks that a series keeps under an invented sky."""
LEAST_KIND = 8
"""A kind with fewer labelled pixel-years is not learnt apart from the rest of its look."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """A cube (time, y, x) and what is known of its N = y * x pixels, row-major.

    ``looks`` int (N,) or (Y, N): place in ``states.LOOKS`` per pixel, or per pixel and whole crop year, -1 where
    nothing is known. ``block`` int (N,): number of the place a pixel lies in; calibration never parts a block.
    ``kinds`` words (N,) or (Y, N): finer names inside a look ("soy", "cotton"), or none.
    """

    cube: xr.Dataset
    looks: NDArray[np.int64]
    block: NDArray[np.int64]
    kinds: NDArray[np.str_] | None = None


@dataclass(frozen=True, slots=True)
class Skies:
    """How a labelled year is hidden: ``draws`` times, the first time not at all.

    ``masks`` bool (M, T): real masks of a year to draw from, T dates of a year, the series must be one or more
    such years; none: every pixel keeps an evenly drawn share of ``THINNEST``..1 of its looks.
    """

    draws: int = 16
    masks: Bool = field(default_factory=lambda: np.zeros((0, 0), np.bool_))

    def keep(self, shape: tuple[int, int], rng: np.random.Generator) -> Bool:
        """What one draw leaves of looks (T, N). Raises ``LandError("bad_mask")``."""
        dates, pixels = shape
        if not len(self.masks):
            return np.asarray(rng.random(shape) < rng.uniform(THINNEST, 1, (1, pixels)))
        if dates % self.masks.shape[1]:
            raise LandError("bad_mask", f"masks of {self.masks.shape[1]} dates do not fit a series of {dates}")
        years = dates // self.masks.shape[1]
        drawn = self.masks[rng.integers(0, len(self.masks), (pixels, years))]
        return np.ascontiguousarray(drawn.reshape(pixels, dates).T)


def teach(
    lessons: Sequence[Lesson],
    layers: tuple[str, ...],
    *,
    calendar: Calendar | None = None,
    skies: Skies | None = None,
    recipe: Recipe | None = None,
    beside: Sequence[Labelled] = (),
    seed: int = 0,
) -> Trained:
    """Train and calibrate an emission on lessons, each a scene of its own (its pixels are neighbours).

    ``layers`` as in ``evidence.gather``; ``beside``: further rows of the same layers, for example
    ``synthetic.textbook.textbook_rows``. Raises ``LandError`` as ``detect`` and ``classifier.train`` do, and
    ``bad_label`` for labels that do not fit the cube.
    """
    rows = rows_of(lessons, layers, calendar=calendar, skies=skies, seed=seed)
    return train(Labelled.join([rows, *beside]), feature_names(layers), layers, recipe=recipe, seed=seed)


def rows_of(
    lessons: Sequence[Lesson],
    layers: tuple[str, ...],
    *,
    calendar: Calendar | None = None,
    skies: Skies | None = None,
    seed: int = 0,
) -> Labelled:
    """Labelled pixel-years of lessons under all their skies, evidence as ``feature_names(layers)``.

    Raises as ``teach``.
    """
    rng = np.random.default_rng(seed)
    season, veil = calendar or Calendar(), skies or Skies()
    apart = _learnt_apart(lessons)
    parts = [part for one in lessons for part in _drawn(one, layers, season, veil, apart, rng)]
    if not parts:
        raise LandError("too_few_labels", "no lesson holds a label")
    return Labelled.join(parts)


def _drawn(
    lesson: Lesson,
    layers: tuple[str, ...],
    season: Calendar,
    veil: Skies,
    apart: Mapping[str, int],
    rng: np.random.Generator,
) -> Iterator[Labelled]:
    """One lesson under each of its skies."""
    whole = beside_neighbours(stack_of(lesson.cube), layers)
    years = season.whole_years(searched_days(lesson.cube, whole.days))
    looks = _fitting(lesson.looks, (len(years), whole.clear.shape[1]))
    used = np.flatnonzero((looks >= 0).any(axis=0))
    if not used.size:
        return
    part = _pixels(whole, used)
    kinds = None if lesson.kinds is None else _numbered(lesson.kinds, looks, apart)[:, used]
    for draw in range(veil.draws):
        kept = part.clear if draw == 0 else part.clear & veil.keep(part.clear.shape, rng)
        evidence = gather(_under(part, kept), season, years, layers)
        seen = np.where(evidence.heard, looks[:, used], -1)
        yield labelled(evidence, seen, lesson.block[used], kinds)


def _fitting(looks: NDArray[np.int64], shape: tuple[int, int]) -> NDArray[np.int64]:
    if not shape[0] or looks.shape not in {shape, shape[1:]}:
        raise LandError(
            "bad_label", f"labels {looks.shape} do not fit {shape[0]} whole crop years of {shape[1]} pixels"
        )
    return np.broadcast_to(looks, shape)


def _learnt_apart(lessons: Sequence[Lesson]) -> dict[str, int]:
    """Words that name enough labelled pixel-years over all lessons, numbered."""
    words = [
        np.broadcast_to(one.kinds, np.broadcast_shapes(one.kinds.shape, one.looks.shape))[
            np.broadcast_to(one.looks, np.broadcast_shapes(one.kinds.shape, one.looks.shape)) >= 0
        ]
        for one in lessons
        if one.kinds is not None
    ]
    if not words:
        return {}
    found, count = np.unique(np.concatenate(words), return_counts=True)
    return {str(word): place for place, word in enumerate(found[count >= LEAST_KIND], start=1)}


def _numbered(words: NDArray[np.str_], looks: NDArray[np.int64], apart: Mapping[str, int]) -> NDArray[np.int64]:
    """Numbers (Y, N) of look and word together; rare words become the look's own rest."""
    number = np.vectorize(lambda word: apart.get(str(word), 0), otypes=[np.int64])(words)
    answer: NDArray[np.int64] = np.broadcast_to(number, looks.shape) * 100 + looks
    return answer


def _pixels(stack: Stack, chosen: NDArray[np.int64]) -> Stack:
    """The same stack for some pixels, in one row."""
    return Stack(
        stack.days,
        {name: np.ascontiguousarray(band[:, chosen]) for name, band in stack.bands.items()},
        np.ascontiguousarray(stack.clear[:, chosen]),
        (1, chosen.size),
        stack.radar_days,
        {name: np.ascontiguousarray(band[:, chosen]) for name, band in stack.radar.items()},
    )


def _under(stack: Stack, clear: Bool) -> Stack:
    return Stack(stack.days, stack.bands, clear, stack.shape, stack.radar_days, stack.radar)
