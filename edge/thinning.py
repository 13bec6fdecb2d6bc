"""What becomes of old packs when the spool is full: of slow series one reading in N is kept, of all others every one.

A week without network is better remembered coarsely than not at all. What is kept goes on under new numbers, so that
a number never has two contents; what is not kept is reported as lost by the spool.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from edge.quantities import quantity_of
from edge.wire import Pack, Quality, Reading, WireError, decode_pack, encode_pack

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

_PACK_READINGS = 200


class PackThinner:
    """Keeps one reading in ``one_in`` of the series that measure one of ``quantities``, the first one always.

    Readings of different quality are counted apart: that a probe began to fail stays visible.
    """

    def __init__(self, one_in: int, quantities: AbstractSet[str]) -> None:
        self._one_in, self._quantities = one_in, quantities
        self._gateway = ""
        self._seen: Counter[tuple[str, Quality]] = Counter()
        self._kept: list[Reading] = []

    def take(self, payload: bytes) -> tuple[list[tuple[bytes, int]], int] | None:
        """Packs (with their count of readings) that are full by now, and how many readings of this one were left out.

        None for what is no pack.
        """
        try:
            pack = decode_pack(payload)
        except WireError:
            return None
        self._gateway = pack.gateway
        before = len(self._kept)
        self._kept += filter(self._wanted, pack.readings)
        lost = before + len(pack.readings) - len(self._kept)
        full = []
        while len(self._kept) >= _PACK_READINGS:
            full.append(self._packed(_PACK_READINGS))
        return full, lost

    def rest(self) -> list[tuple[bytes, int]]:
        """What was kept and not given back yet; after it counting begins anew."""
        self._seen.clear()
        return [self._packed(len(self._kept))] if self._kept else []

    def _wanted(self, reading: Reading) -> bool:
        known = quantity_of(reading.name)
        if known is None or known.name not in self._quantities:
            return True
        key = (reading.name, reading.quality)
        self._seen[key] += 1
        return self._seen[key] % self._one_in == 1 or self._one_in == 1

    def _packed(self, count: int) -> tuple[bytes, int]:
        ready, self._kept = self._kept[:count], self._kept[count:]
        return encode_pack(Pack(self._gateway, tuple(ready))), count
