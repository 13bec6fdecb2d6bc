"""The watermark on disk: two slots written in turn, so that a torn write costs one update, never the mark.

No rename and no new block per ack. A lost update only makes the gateway send again what the cloud absorbs.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge.spool.disk import Disk

_SLOT = struct.Struct("<8s16sQQ")
_CRC = struct.Struct("<I")
_MAGIC = b"TMMARKS1"
_SLOT_BYTES = 64
_NAME = "watermark"


class Marks:
    """Reads and writes the watermark of one epoch."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._turn = 0
        self.epoch, self.watermark = "", 0
        if _NAME not in disk.names():
            disk.create(_NAME, 2 * _SLOT_BYTES)
            return
        data = disk.read(_NAME)
        slots = [_decode(data[at : at + _SLOT_BYTES]) for at in (0, _SLOT_BYTES)]
        best = max((slot for slot in slots if slot is not None), default=None)
        if best is not None:
            self._turn, self.epoch, self.watermark = best

    def save(self, epoch: str, watermark: int) -> None:
        """Durable when this returns."""
        self._turn += 1
        body = _SLOT.pack(_MAGIC, epoch.encode(), self._turn, watermark)
        slot = (body + _CRC.pack(zlib.crc32(body))).ljust(_SLOT_BYTES, b"\0")
        self._disk.write(_NAME, self._turn % 2 * _SLOT_BYTES, slot)
        self._disk.sync(_NAME)
        self.epoch, self.watermark = epoch, watermark


def _decode(slot: bytes) -> tuple[int, str, int] | None:
    if len(slot) < _SLOT.size + _CRC.size:
        return None
    magic, epoch, turn, watermark = _SLOT.unpack_from(slot)
    (crc,) = _CRC.unpack_from(slot, _SLOT.size)
    if magic != _MAGIC or crc != zlib.crc32(slot[: _SLOT.size]):
        return None
    return turn, epoch.rstrip(b"\0").decode("ascii", "replace"), watermark
