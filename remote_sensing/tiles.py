"""A cube cut into bands of rows and judged one by one: here, or by workers that read their rows themselves.

Sending a county's scenes through a scheduler costs more than judging them. So the cube is laid down once, as plain
arrays where the workers can see them; what travels is a path and two row numbers, and what comes back is bytes a
pixel. Neither the cut nor who does the work changes the answer.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from remote_sensing import states as st
from remote_sensing.cubes import Calendar, Float, LandError, Stack
from remote_sensing.evidence import gather
from remote_sensing.kept import FinishedTiles
from remote_sensing.profiles import Profile

TILE_ROWS = 32
"""Rows handled at a time: working memory stays the same however tall the cube is."""
IN_FLIGHT = 8
"""Tiles with the workers at a time."""
_SHAPE = "shape.npy"
"""Rows and columns of a cube laid down; written last."""

Progress = Callable[[int, int], None]


class Workers(Protocol):
    """What is needed of ``dask.distributed.Client``."""

    def submit(self, function: Any, *parts: Any, **how: Any) -> Any:
        """Send one call; a future."""

    def gather(self, futures: list[Any]) -> list[Any]:
        """Their results."""

    def scatter(self, data: Any, **how: Any) -> Any:
        """Hand something to every worker once; a future of it."""

    def run(self, function: Any, *parts: Any) -> dict[str, Any]:
        """Call on every worker; answers by worker."""


@dataclass(frozen=True, slots=True)
class Task:
    """How tiles are judged. ``fused``: the log-likelihoods come back too, because parcels will be fused from them."""

    calendar: Calendar
    years: tuple[int, ...]
    emission: st.Emission
    chain: st.Chain
    profile: Profile
    fused: bool


@dataclass(frozen=True, slots=True)
class Tile:
    """One band of rows, judged: (Y, N) each, bytes are share x 250, 255 = undecided; ``loglik`` (Y, E, N or 0)."""

    loglik: Float
    looks: NDArray[np.int16]
    radar_looks: NDArray[np.int16]
    abandoned: NDArray[np.uint8]
    cultivated: NDArray[np.uint8]
    state: NDArray[np.uint8]


def judge(stack: Stack, task: Task) -> Tile:
    """Judge the pixels of a stack."""
    evidence = gather(stack, task.calendar, task.years, task.emission.layers)
    loglik = task.emission.loglik(evidence)
    decided = st.decided_years(evidence)
    found = st.infer(loglik, decided, task.years, task.chain)
    return Tile(
        loglik if task.fused else loglik[:, :, :0],
        evidence.looks,
        evidence.radar_looks,
        _as_bytes(found.abandoned(task.profile), decided),
        _as_bytes(found.states[:, st.CULTIVATED], decided),
        np.where(decided, found.path, 255).astype(np.uint8),
    )


def _as_bytes(share: Float, decided: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.where(decided, np.round(share * 250), 255).astype(np.uint8)


def lay_down(stack: Stack, folder: Path) -> None:
    """Write a stack as plain arrays, a file each, of which any rows can be read alone. Raises ``LandError``."""
    held: dict[str, NDArray[Any]] = {"days": stack.days, "radar_days": stack.radar_days, "clear": stack.clear}
    held |= {f"band_{name}": values for name, values in stack.bands.items()}
    held |= {f"radar_{name}": values for name, values in stack.radar.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, values in held.items():
            # neither cut nor packed: it lives for one run, and either would cost more than judging
            np.save(folder / f"{name}.npy", values, allow_pickle=False)
        np.save(folder / _SHAPE, np.array(stack.shape), allow_pickle=False)
    except OSError as why:
        raise LandError("no_place", f"{folder}: cannot be written ({why.strerror})") from why


def read_rows(folder: Path, first: int, last: int) -> Stack:
    """Rows ``first..last`` of a stack that was laid down. Raises ``LandError("no_file")``."""
    try:
        columns = int(np.load(folder / _SHAPE)[1])
        held = {path.stem: np.load(path, mmap_mode="r", allow_pickle=False) for path in folder.glob("*.npy")}
    except OSError as why:
        raise LandError("no_file", f"{folder}: not seen by this worker; put --out where all workers can") from why
    cut = slice(first * columns, last * columns)
    rows = {name: np.array(values[:, cut] if values.ndim > 1 else values) for name, values in held.items()}
    return Stack(
        days=rows["days"],
        bands={name[5:]: values for name, values in rows.items() if name.startswith("band_")},
        clear=rows["clear"],
        shape=(last - first, columns),
        radar_days=rows["radar_days"],
        radar={name[6:]: values for name, values in rows.items() if name.startswith("radar_") and values.ndim > 1},
    )


def judge_rows(folder: Path, first: int, last: int, task: Task) -> Tile:
    """Judge rows of a stack that was laid down; what a worker does."""
    return judge(read_rows(folder, first, last), task)


def _sees(folder: Path) -> bool:
    return (folder / _SHAPE).exists()


@dataclass(frozen=True, slots=True)
class Pace:
    """How the work is cut, who does it and what of it is done already; none of it changes the answer."""

    progress: Progress | None
    workers: Workers | None
    tile_rows: int
    finished: FinishedTiles | None
    scratch: Path | None

    def judged(self, stack: Stack, task: Task) -> Iterator[tuple[tuple[int, int], Tile]]:
        """Every (first, last row) with its tile, in order.

        With workers a few are in flight at a time, so that memory does not grow with the area.
        """
        rows = stack.shape[0]
        cuts = [(first, min(first + self.tile_rows, rows)) for first in range(0, rows, self.tile_rows)]
        with self._sender(stack, task) as send:
            waiting: deque[tuple[tuple[int, int], str, Any]] = deque()
            for cut in cuts:
                waiting.append((cut, *self._begun(stack.rows(*cut), cut, task, send)))
                if len(waiting) >= (IN_FLIGHT if send else 1):
                    yield self._ended(*waiting.popleft())
            while waiting:
                yield self._ended(*waiting.popleft())

    def _begun(self, tile: Stack, cut: tuple[int, int], task: Task, send: _Sender | None) -> tuple[str, Any]:
        """The name of a tile to be kept ("" if not, or if it is there already) and the tile or its future."""
        name = self.finished.name(tile, task) if self.finished else ""
        held = self.finished.get(name) if self.finished else None
        if held:
            return "", Tile(**held)
        return name, send(tile, cut) if send else judge(tile, task)

    def _ended(self, cut: tuple[int, int], name: str, tile: Any) -> tuple[tuple[int, int], Tile]:
        if self.workers is not None and not isinstance(tile, Tile):
            tile = self.workers.gather([tile])[0]
        if self.finished and name:
            self.finished.put(name, {part.name: getattr(tile, part.name) for part in fields(Tile)})
        return cut, tile

    @contextmanager
    def _sender(self, stack: Stack, task: Task) -> Iterator[_Sender | None]:
        """How a tile goes to the workers, None without any: by its place in the cube laid down, else by its arrays."""
        workers = self.workers
        if workers is None:
            yield None
            return
        known = workers.scatter(task, broadcast=True, hash=False)
        with _folder(self.scratch) as folder:
            lay_down(stack, folder)
            if all(workers.run(_sees, folder).values()):
                yield lambda _, cut: workers.submit(judge_rows, folder, *cut, known, pure=False)
            else:
                yield lambda tile, _: workers.submit(judge, tile, known, pure=False)


_Sender = Callable[[Stack, tuple[int, int]], Any]


@contextmanager
def _folder(scratch: Path | None) -> Iterator[Path]:
    """A folder for the cube of one run, gone afterwards."""
    try:
        if scratch is not None:
            scratch.mkdir(parents=True, exist_ok=True)
        held = Path(tempfile.mkdtemp(prefix="cube-", dir=scratch)).resolve()
    except OSError as why:
        raise LandError("no_place", f"{scratch}: cannot be written ({why.strerror})") from why
    try:
        yield held
    finally:
        shutil.rmtree(held, ignore_errors=True)
