"""The same judgement, one scene at a time: a few dozen bytes a pixel, and never blind after an event.

Between scenes a pixel carries small integers (counts, a histogram, its cycle state) and its state posterior as
bytes. The open year's scenes lie in an archive: when a scene comes late or out of order, or the year closes, the
year is read again and judged by the very code that judges batches, so the end is the same whatever the order.
While the year is open, alerts compare a pixel with the active fields around it in the same week: a drought hits
both and cancels out. Levels follow from what is carried alone, so the order of scenes does not show in them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from remote_sensing import states as st
from remote_sensing.cubes import Calendar, Int16, LandError, Stack
from remote_sensing.evidence import HIGH, LOW, MIN_LOOKS, SOIL, Evidence, gather
from remote_sensing.indices import layers_of
from remote_sensing.kernels import COUNTERS, count_around, update_counters
from remote_sensing.profiles import CN_ADMIN, Profile

WATCH, SEASONAL_IDLE, ABANDONED = 1, 2, 3
LEVELS = ("none", "watch", "seasonal_idle", "abandoned")
SURE = 0.8
"""P(abandoned) from which the level is "abandoned"."""
ACTIVE = 0.6
"""P(cultivated) last year from which a pixel counts as an active neighbour."""
MANY = 0.6
"""Share of active neighbours seen at work this year from which a pixel never seen so stands out.

Bare or flooded by now: it is watched. A crop harvested by now: its season passed without it, it is seasonally idle.
"""
NEAR = 25
"""Neighbours are the pixels at most so many rows and columns away; fewer than ``FEWEST`` active ones say nothing."""
FEWEST = 10
_MARKS = np.array([LOW, HIGH, SOIL], np.float32)


@dataclass(frozen=True, slots=True)
class OneScene:
    """One date: ``day`` since 1970-01-01, ``bands`` name -> int16 (N,) x 1e-4, ``clear`` bool (N,)."""

    day: int
    bands: Mapping[str, Int16]
    clear: NDArray[np.bool_]

    @property
    def fingerprint(self) -> str:
        """Hash of all its values: a replay has the same, a different scene of the same day another."""
        digest = hashlib.sha256(np.ascontiguousarray(self.clear).data)
        for name in sorted(self.bands):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(self.bands[name]).data)
        return digest.hexdigest()


class SceneArchive(Protocol):
    """Where scenes stay. ``between`` returns them in order of day; both adapters keep these promises."""

    def put(self, scene: OneScene) -> None:
        """Keep a scene; an equal one again changes nothing."""

    def between(self, begin: int, end: int) -> list[OneScene]:
        """Scenes with begin <= day < end, ascending."""


@dataclass
class MemoryArchive:
    """Scenes in memory: for tests and small areas."""

    scenes: dict[int, OneScene] = field(default_factory=dict)

    def put(self, scene: OneScene) -> None:
        """See ``SceneArchive``."""
        self.scenes[scene.day] = scene

    def between(self, begin: int, end: int) -> list[OneScene]:
        """See ``SceneArchive``."""
        return [self.scenes[day] for day in sorted(self.scenes) if begin <= day < end]


@dataclass(frozen=True, slots=True)
class Updated:
    """What one scene did: ``applied`` (False: a replay), ``year`` it belongs to, ``reread_bytes`` from the archive."""

    applied: bool
    year: int
    reread_bytes: int


class Monitor:
    """Watches one tile of N pixels. Feed scenes in any order; ``posterior`` equals batch over the closed years.

    ``shape``: rows and columns, N = rows x columns, so that neighbours are known (else one row).
    """

    def __init__(
        self,
        pixels: int,
        first_year: int,
        *,
        model: st.Emission,
        chain: st.Chain | None = None,
        calendar: Calendar | None = None,
        archive: SceneArchive | None = None,
        shape: tuple[int, int] | None = None,
    ) -> None:
        self.shape = shape or (1, pixels)
        self.pixels, self.first_year, self.model = pixels, first_year, model
        self.chain = chain or st.Chain.for_land(known_cropland=True)
        self.calendar = calendar or Calendar()
        self.archive = archive or MemoryArchive()
        self.ledger: dict[int, str] = {}
        self.open_year = first_year
        self.counters = _fresh(pixels)
        self.last_day = -1
        self.forward = np.zeros((len(st.STATES), pixels), np.uint8)
        self.level = np.zeros(pixels, np.uint8)
        self.settled = np.zeros(pixels, np.uint8)
        self.farmland = np.ones(pixels, np.bool_)
        self.history: dict[int, tuple[NDArray[np.float16], NDArray[np.bool_]]] = {}

    @property
    def bytes_per_pixel(self) -> float:
        """Bytes carried between scenes, the archive of scenes and of closed years not counted."""
        carried = (self.counters, self.forward, self.level, self.settled, self.farmland)
        return sum(held.nbytes for held in carried) / self.pixels

    def restrict(self, farmland: NDArray[np.bool_]) -> None:
        """Watch these pixels (N,) only, and compare them with one another only, from now on; until then, all.

        What is carried of the others stays, so that land can be entered in the register later. Raises ``wrong_size``.
        """
        if farmland.shape != (self.pixels,):
            raise LandError("wrong_size", f"farmland of {farmland.size} pixels, not {self.pixels}")
        self.farmland = farmland.copy()
        self._watch()

    def update(self, scene: OneScene) -> Updated:
        """Take one scene in.

        A replay changes nothing. A late one re-reads its year. A scene of a later year closes the years before.
        Raises ``LandError``: ``wrong_size``; ``conflict`` (another scene of that day is known); ``too_early``.
        """
        if scene.clear.shape != (self.pixels,):
            raise LandError("wrong_size", f"scene of day {scene.day}: {scene.clear.size} pixels, not {self.pixels}")
        known = self.ledger.get(scene.day)
        year = self._year_of(scene.day)
        if known is not None:
            if known != scene.fingerprint:
                raise LandError("conflict", f"day {scene.day}: another scene of this day is already in")
            return Updated(applied=False, year=year, reread_bytes=0)
        self.archive.put(scene)
        self.ledger[scene.day] = scene.fingerprint
        reread = 0
        while self.open_year < year:
            reread += self._close(self.open_year)
            self._open(self.open_year + 1)
        if year < self.open_year:
            reread += self._close(year)
        elif scene.day < self.last_day:
            reread += self._recount()
        else:
            self._count(scene)
        self._watch()
        return Updated(applied=True, year=year, reread_bytes=reread)

    def close_open_year(self) -> int:
        """End the open year (its last day has passed): judge it; returns the bytes read again."""
        reread = self._close(self.open_year)
        self._open(self.open_year + 1)
        return reread

    def posterior(self) -> st.Posterior:
        """The smoothed posterior over all closed years: what batch says of the same scenes."""
        years = tuple(sorted(self.history))
        if not years:
            raise LandError("too_short", "no year is closed yet")
        looks = np.stack([self.history[year][0] for year in years]).astype(np.float32)
        decided = np.stack([self.history[year][1] for year in years])
        return st.infer(looks, decided, years, self.chain)

    def alerts(self) -> NDArray[np.uint8]:
        """Level per pixel (N,): place in ``LEVELS``; none where no farmland is watched."""
        return np.where(self.farmland, self.level, 0).astype(np.uint8)

    def evidence(self, year: int) -> Evidence | None:
        """Annual evidence of a year's scenes, read again from the archive; None when it holds none of that year."""
        scenes = self._year_scenes(year)
        return self._seen_in(scenes, year) if scenes else None

    def _year_of(self, day: int) -> int:
        year = self.first_year
        if day < self.calendar.start(year):
            raise LandError("too_early", f"scene of day {day} lies before crop year {year}")
        while self.calendar.start(year + 1) <= day:
            year += 1
        return year

    def _year_scenes(self, year: int) -> list[OneScene]:
        return self.archive.between(self.calendar.start(year), self.calendar.start(year + 1))

    def _seen_in(self, scenes: list[OneScene], year: int) -> Evidence:
        return gather(_stack(scenes), self.calendar, (year,), self.model.layers)

    def _open(self, year: int) -> None:
        self.open_year, self.counters, self.last_day = year, _fresh(self.pixels), -1

    def _count(self, scene: OneScene) -> None:
        update_counters(self.counters, layers_of(_stack([scene]), _count_layers(scene))[:, 0], _MARKS)
        self.last_day = scene.day

    def _recount(self) -> int:
        """Order matters for cycles, rise and fall: read the open year again."""
        scenes = self._year_scenes(self.open_year)
        self._open(self.open_year)
        for scene in scenes:
            self._count(scene)
        return sum(_size(scene) for scene in scenes)

    def _close(self, year: int) -> int:
        """Judge a whole year by the batch code and keep its look log-likelihoods; then the state moves on."""
        scenes = self._year_scenes(year)
        reread = sum(_size(scene) for scene in scenes)
        if scenes:
            evidence = self._seen_in(scenes, year)
            decided = st.decided_years(evidence)[0]
            self.history[year] = (self.model.loglik(evidence)[0].astype(np.float16), decided)
        else:
            nothing = np.zeros((len(st.LOOKS), self.pixels), np.float16)
            self.history[year] = (nothing, np.zeros(self.pixels, bool))
        self._settle(CN_ADMIN)
        return reread

    def _settle(self, profile: Profile) -> None:
        """Posterior of the newest closed year into bytes, and its alert level."""
        found = self.posterior()
        self.forward = np.round(found.states[-1] * 255).astype(np.uint8)
        gone = found.abandoned(profile)[-1]
        idle = found.states[-1, st.IDLE].sum(axis=0)
        level = np.where(idle >= 0.5, SEASONAL_IDLE, 0)  # noqa: PLR2004 - more likely than not
        level = np.where(gone >= SURE, ABANDONED, level)
        self.settled = np.where(found.decided[-1], level, 0).astype(np.uint8)
        self.level = self.settled.copy()

    def _watch(self) -> None:
        """Raise pixels never seen at work this year while most active neighbours were, by the same date."""
        crops = self.forward[st.CULTIVATED]
        seen = (self.counters[0] >= MIN_LOOKS) & self.farmland
        active = (crops >= np.uint8(ACTIVE * 255)) & seen
        if np.count_nonzero(active) < FEWEST:
            self.level = self.settled.copy()
            return
        worked, harvested = (self.counters[2] + self.counters[3]) > 0, self.counters[1] > 0
        flags = np.stack([active, active & worked, active & harvested]).view(np.uint8)
        voters, begun, done = count_around(flags.reshape(3, *self.shape), NEAR).reshape(3, -1)
        quiet = ~worked & ~harvested & seen & (crops >= 128) & (voters >= FEWEST)  # noqa: PLR2004 - half of 255
        most = np.float32(MANY) * voters
        raised = np.where(done >= most, SEASONAL_IDLE, np.where(begun >= most, WATCH, 0))
        self.level = np.maximum(self.settled, raised * quiet).astype(np.uint8)


def _fresh(pixels: int) -> NDArray[np.int16]:
    counters = np.zeros((COUNTERS, pixels), np.int16)
    counters[5] = -32768
    return counters


def _count_layers(scene: OneScene) -> tuple[str, ...]:
    return ("ndvi", "wetness") if "swir1" in scene.bands else ("ndvi",)


def _stack(scenes: list[OneScene]) -> Stack:
    """Scenes of one tile as a stack."""
    days = np.array([scene.day for scene in scenes], np.int32)
    if len(scenes) == 1:  # nothing is copied
        bands = {name: band[None] for name, band in scenes[0].bands.items()}
        clear = scenes[0].clear[None]
    else:
        bands = {name: np.stack([scene.bands[name] for scene in scenes]) for name in scenes[0].bands}
        clear = np.stack([scene.clear for scene in scenes])
    return Stack(days, bands, clear, (1, clear.shape[1]), np.zeros(0, np.int32), {})


def _size(scene: OneScene) -> int:
    return scene.clear.nbytes + sum(band.nbytes for band in scene.bands.values())
