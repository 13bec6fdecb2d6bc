"""Samples taken while nobody knows the time: on disk until somebody does, and stamped in retrospect.

Their stamps count from the machine's boot, so they can be dated as long as it is the same boot, by any later start of
the agent. The offset to wall time is written down before the first of them is spooled: after a crash in the middle they
get the very same times again, and the cloud absorbs what it has.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING

from edge.drivers import Sample
from edge.keepsake import load, save
from edge.wire import Quality

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BUFFER = 200  # samples that wait in memory for one sync
_MOST_BYTES = 32 * 1024 * 1024


class Held:
    """A file of undated samples. ``boot`` names the machine's boot; stamps of another one mean nothing.

    Attributes:
        count: samples held.
        lost: samples that were given up, and not yet told: of another boot, beyond 32 MiB, or refused by the disk.
    """

    def __init__(self, path: Path, boot: str) -> None:
        self._path, self._offset_path, self._boot = path, path.with_suffix(".offset"), boot
        self._buffer: list[bytes] = []
        self._since = 0.0
        self.count = self.lost = 0
        for sample in self._read():
            if sample is None:
                self.lost += 1
            else:
                self.count += 1

    def add(self, sample: Sample, now: float) -> None:
        """Take a sample; it is durable after ``flush``. ``now`` in seconds."""
        if not self._buffer:
            self._since = now
        row = [sample.name, sample.value, sample.unit, sample.stamp, int(sample.quality), sample.calibration]
        self._buffer.append(json.dumps([self._boot, *row]).encode() + b"\n")
        self.count += 1
        if len(self._buffer) >= _BUFFER:
            self.flush()

    def flush_if_old(self, now: float, age_s: float) -> None:
        """Write what has waited for ``age_s`` seconds."""
        if self._buffer and now - self._since >= age_s:
            self.flush()

    def flush(self) -> None:
        """Make durable what was added; what the disk refuses is given up and counted."""
        lines, self._buffer = self._buffer, []
        if not lines:
            return
        try:
            with self._path.open("ab") as out:
                if out.tell() > _MOST_BYTES:
                    raise OSError("full")  # noqa: TRY301 - one way out for all refusals
                out.write(b"".join(lines))
                out.flush()
                os.fdatasync(out.fileno())
        except OSError:
            self.count -= len(lines)
            self.lost += len(lines)

    def dated(self, offset_ms: int) -> Iterator[Sample]:
        """All of them with wall time, stamp + ``offset_ms``, oldest first; ``forget`` once they are durable elsewhere.

        Where an earlier call was cut off, its offset is used again. Raises ``OSError`` where it cannot be kept.
        """
        self.flush()
        begun = load(self._offset_path)
        if isinstance(begun, int):
            offset_ms = begun
        else:
            save(self._offset_path, offset_ms)
        for one in self._read():
            if one is not None and one.stamp is not None:
                at = one.stamp + offset_ms
                yield Sample(one.name, one.value, one.unit, None, at, one.quality, one.calibration)

    def forget(self) -> None:
        """They are durable elsewhere, with their times."""
        self.count = 0
        for path in (self._path, self._offset_path):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def _read(self) -> Iterator[Sample | None]:
        """Samples of the file; None for one of another boot. A torn line was never called durable."""
        with contextlib.suppress(FileNotFoundError), self._path.open("rb") as lines:
            for line in lines:
                try:
                    boot, name, value, unit, stamp, quality, calibration = json.loads(line)
                    sample = Sample(name, value, unit, int(stamp), None, Quality(quality), calibration)
                except (ValueError, TypeError):
                    continue
                yield sample if boot == self._boot else None
