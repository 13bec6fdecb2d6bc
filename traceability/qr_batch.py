"""Many symbols that differ only in their serial, thousands of times as fast as one by one.

With version, level, mode and mask fixed, every module of a QR symbol is an affine function over GF(2) of the
data bits, error correction and mask included. So a symbol is the XOR of one base picture and one picture for
each pair of characters of its serial. The pictures come from the `qrcode` library itself (one call for each
data bit), hence the result is bit for bit what the library would have made at that mask.

Characters go in pairs of 11 bits (alphanumeric mode) or one by one as 8 bits (byte mode). A last single character of
alphanumeric mode has 6 bits: getting that wrong once spoiled 96 of 100 codes, so a sample of every batch is
decoded again with another library before anything leaves (`SymbolBatch.check`).
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import qrcode
import zxingcpp
from numpy.typing import NDArray
from qrcode import util

from traceability.qr import LEVELS, QUIET, LabelError, Symbol

__all__ = ["SymbolBatch"]

_ALPHANUMERIC_MODE: Final = 2  # mode indicators of ISO/IEC 18004
_BYTE_MODE: Final = 4
_ALPHANUMERIC: Final = util.ALPHA_NUM.decode()
_BASE: Final = len(_ALPHANUMERIC)
_PAIR_BITS: Final = 11
_SINGLE_BITS: Final = 6
_BYTE_BITS: Final = 8
_SAMPLE: Final = 4
_WORD: Final = 8  # bytes


class SymbolBatch:
    """Symbols for ``prefix + serial``, all of one version, level and mask.

    ``length``: characters of every serial. ``sample``: serials of that length, used only to choose the mask with the
    lowest penalty (any mask decodes). Raises `LabelError` when the text fits no symbol.
    """

    def __init__(self, prefix: str, length: int, *, level: str = "M", sample: Sequence[str] = ()) -> None:
        if level not in LEVELS:
            raise LabelError(f"error correction level {level!r} is none of L, M, Q, H")
        if length < 1 or not prefix.isascii():
            raise LabelError("a batch needs an ASCII link and serials of at least one character")
        self.prefix, self.length, self.level = prefix, length, level
        self._pairs = all(c in _ALPHANUMERIC for c in prefix)
        zeros = "0" * length
        self.version = self._fit(prefix + zeros)
        self.size = 4 * self.version + 17
        self.row_bytes = -(-self.size // 8)
        self._width = -(-self.size * self.row_bytes // _WORD) * _WORD
        chosen = [each for each in sample if len(each) == length][:_SAMPLE] or [zeros]
        self.mask = min(range(8), key=lambda mask: sum(self._penalty(prefix + s, mask) for s in chosen))
        self._first = len(prefix) - len(prefix) % 2 if self._pairs else len(prefix)
        self._groups = self._tables()

    def bitmaps(self, serials: Sequence[str]) -> NDArray[np.uint8]:
        """Pictures ``(n, size, row_bytes)``: one bit a module, 1 is dark, leftmost in the highest bit.

        Raises `LabelError` for a serial of another length or with a character that the mode cannot hold.
        """
        count = len(serials)
        values = self._values(serials)
        out = np.empty((count, self._width // _WORD), np.uint64)
        out[:] = self._base
        for (table, _), value in zip(self._groups, values, strict=True):
            out ^= table[value]
        flat = out.view(np.uint8).reshape(count, self._width)
        return flat[:, : self.size * self.row_bytes].reshape(count, self.size, self.row_bytes)

    def symbol(self, serial: str) -> Symbol:
        """One of them as a `Symbol`."""
        modules = np.unpackbits(self.bitmaps([serial])[0], axis=1)[:, : self.size]
        return Symbol(self.version, tuple(row.tobytes() for row in modules))

    def check(self, serials: Sequence[str], bitmaps: NDArray[np.uint8]) -> None:
        """Decode a sample (first, last, some between) with another library; `LabelError` on any difference."""
        count = len(serials)
        for index in sorted({0, count - 1, count // 2, count // 3, count * 4 // 5}):
            wanted = self.prefix + serials[index]
            found = decode(bitmaps[index], self.size)
            if found != wanted:
                raise LabelError(f"self-check failed: label {index + 1} should read {wanted!r} and reads {found!r}")

    def _fit(self, text: str) -> int:
        code = qrcode.QRCode(error_correction=LEVELS[self.level])
        code.add_data(self._data(text.encode()))
        try:
            return int(code.best_fit())
        except ValueError as why:
            raise LabelError(f"{len(text)} characters do not fit into one QR symbol") from why

    def _data(self, text: bytes) -> util.QRData:
        if self._pairs:
            return util.QRData(text, mode=_ALPHANUMERIC_MODE, check_data=False)
        return util.QRData(text, mode=_BYTE_MODE, check_data=False)

    def _modules(self, text: bytes, mask: int) -> list[list[bool | None]]:
        code = qrcode.QRCode(self.version, LEVELS[self.level], border=0, mask_pattern=mask)
        code.add_data(self._data(text))
        code.make(fit=False)
        return [[bool(module) for module in row] for row in code.modules]

    def _penalty(self, text: str, mask: int) -> int:
        return int(util.lost_point(self._modules(text.encode(), mask)))

    def _picture(self, text: bytes) -> NDArray[np.uint64]:
        packed = np.packbits(np.array(self._modules(text, self.mask), np.bool_), axis=1).reshape(-1)
        return np.pad(packed, (0, self._width - packed.size)).view(np.uint64)

    def _tables(self) -> list[tuple[NDArray[np.uint64], int]]:
        """For each group of characters: a picture for every value, and how many characters it holds."""
        total = len(self.prefix) + self.length
        zero, step = (b"0", 2) if self._pairs else (b"\0", 1)
        blank = self.prefix.encode()[: self._first] + zero * (total - self._first)
        self._base = self._picture(blank)
        groups = []
        for start in range(self._first, total, step):
            width = min(step, total - start)
            bits = {1: _SINGLE_BITS if self._pairs else _BYTE_BITS, 2: _PAIR_BITS}[width]
            table = np.zeros((1 << bits, self._width // _WORD), np.uint64)
            for bit in range(bits):
                text = blank[:start] + self._spell(1 << bit, width) + blank[start + width :]
                # Doubling: the pictures of all values with this highest bit are those below it, with this bit's on.
                table[1 << bit : 2 << bit] = table[: 1 << bit] ^ (self._picture(text) ^ self._base)
            groups.append((table, width))
        return groups

    def _spell(self, value: int, width: int) -> bytes:
        if not self._pairs:
            return bytes([value])
        letters = divmod(value, _BASE) if width == 2 else (value,)  # noqa: PLR2004 - a pair
        return "".join(_ALPHANUMERIC[n] for n in letters).encode()

    def _values(self, serials: Sequence[str]) -> list[NDArray[np.intp]]:
        """For each group of characters the value of every serial, ``(groups)(n)``."""
        head = self.prefix[self._first :]
        try:
            joined = "".join(serials).encode("ascii")
        except UnicodeEncodeError as why:
            raise LabelError("a serial holds a character outside ASCII") from why
        if len(joined) != self.length * len(serials) or any(len(s) != self.length for s in serials):
            raise LabelError(f"every serial of this batch has {self.length} characters")
        letters = np.frombuffer(joined, np.uint8).reshape(len(serials), self.length)
        letters = np.hstack([np.tile(np.frombuffer(head.encode(), np.uint8), (len(serials), 1)), letters])
        if not self._pairs:
            return [letters[:, n].astype(np.intp) for n in range(letters.shape[1])]
        numbers = _NUMBERS[letters]
        if (numbers < 0).any():
            raise LabelError("a serial holds a character that the dense mode cannot (small letters, for one)")
        values, start = [], 0
        for _, width in self._groups:
            value = numbers[:, start]
            values.append(value * _BASE + numbers[:, start + 1] if width == 2 else value)  # noqa: PLR2004 - a pair
            start += width
        return values


_NUMBERS: Final = np.full(256, -1, np.intp)
_NUMBERS[np.frombuffer(util.ALPHA_NUM, np.uint8)] = np.arange(_BASE)


def decode(bitmap: NDArray[np.uint8], size: int) -> str | None:
    """What a reader sees in one picture of `SymbolBatch.bitmaps`, drawn with its quiet zone; ``None`` if nothing."""
    modules = np.unpackbits(bitmap, axis=1)[:, :size]
    picture = np.pad(np.where(modules, 0, 255).astype(np.uint8), QUIET, constant_values=255)
    found = zxingcpp.read_barcodes(np.ascontiguousarray(picture.repeat(4, 0).repeat(4, 1)))
    return found[0].text if found else None
