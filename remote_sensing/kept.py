"""Arrays on disk, whole or not at all: what a watch carries between runs and what a killed run had finished."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from remote_sensing.cubes import LandError, Stack

Arrays = dict[str, NDArray[Any]]


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]], *, packed: bool = True) -> None:
    """Write named arrays as npz; the old file stays whole until the new one is. Nothing in it is pickled.

    ``packed`` false: larger and ten times as fast, for what lives for minutes.
    """
    save = np.savez_compressed if packed else np.savez
    draft = path.with_suffix(".part")
    with draft.open("wb") as file:
        save(file, **arrays)  # type: ignore[arg-type]
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def read_arrays(path: Path) -> Arrays:
    """Read what ``write_arrays`` wrote. Raises ``LandError("damaged_state")`` naming the file."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
            return {str(name): held[name] for name in held.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as why:
        raise LandError("damaged_state", f"{path}: cannot be read ({str(why)[:80]}); put back a copy") from why


@dataclass(frozen=True, slots=True)
class FinishedTiles:
    """The finished tiles of an unfinished run, in ``folder``, each named by all that its answer depends on.

    Another scene, mask, model, definition or version is another name: what is found under a name may be used as it
    is, and nothing has to be declared stale. A file that cannot be read is as good as none.
    """

    folder: Path

    def count(self) -> int:
        """Tiles that are there."""
        return len(list(self.folder.glob("*.npz")))

    def name(self, tile: Stack, settings: object) -> str:
        """The name of a tile: SHA-256 over its dates, bands and masks and over the settings."""
        # pickled to be hashed only: no file holds it and nobody reads it back
        digest = hashlib.sha256(pickle.dumps((settings, tile.shape, sorted(tile.bands), sorted(tile.radar))))
        arrays = [tile.days, tile.clear, tile.radar_days]
        arrays += [tile.bands[name] for name in sorted(tile.bands)]
        arrays += [tile.radar[name] for name in sorted(tile.radar)]
        for array in arrays:
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:40]

    def get(self, name: str) -> Arrays | None:
        """The arrays under a name; None if it was not finished."""
        path = self.folder / f"{name}.npz"
        if not path.exists():
            return None
        try:
            return read_arrays(path)
        except LandError:
            return None

    def put(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep a finished tile. Raises ``LandError("no_place")``."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_arrays(self.folder / f"{name}.npz", arrays, packed=False)
        except OSError as why:
            raise LandError("no_place", f"{self.folder}: cannot be written ({why.strerror})") from why

    def clear(self) -> None:
        """The run is finished: its tiles are of no more use."""
        shutil.rmtree(self.folder, ignore_errors=True)
