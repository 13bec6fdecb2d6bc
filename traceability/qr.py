"""One QR symbol, and whether a printer can print it.

`symbol` makes one with the `qrcode` library. Before anything is drawn for a printer, `check_printable` asks
whether its dots are fine enough: below three dots a module a thermal printer smears modules together, so that
is refused, not warned about.

Source of the numbers: ISO/IEC 18004 (quiet zone of 4 modules); 3 dots a module at 203 dpi = 0.375 mm.
"""

from dataclasses import dataclass
from typing import Final

import qrcode
from qrcode.constants import ERROR_CORRECT_H, ERROR_CORRECT_L, ERROR_CORRECT_M, ERROR_CORRECT_Q

from traceability import TraceError

__all__ = ["LEVELS", "QUIET", "LabelError", "Symbol", "check_printable", "symbol"]

QUIET: Final = 4  # modules
LEAST_DOTS: Final = 3  # printer dots a module
MM_PER_INCH: Final = 25.4
WIDEST_MM: Final = 300  # the longer side of an office sheet; a picture of it still fits into memory
FINEST_DPI: Final = 2_400
LEVELS: Final = {"L": ERROR_CORRECT_L, "M": ERROR_CORRECT_M, "Q": ERROR_CORRECT_Q, "H": ERROR_CORRECT_H}


class LabelError(TraceError):
    """A label cannot be made as asked."""

    default_code = "bad_label"


@dataclass(frozen=True, slots=True)
class Symbol:
    """A QR symbol: ``rows`` of 0/1 modules, without quiet zone."""

    version: int
    rows: tuple[bytes, ...]

    @property
    def size(self) -> int:
        """Modules a side."""
        return len(self.rows)


def symbol(link: str, level: str = "M") -> Symbol:
    """The smallest symbol for ``link`` at an error correction level (L, M, Q, H). Raises `LabelError`."""
    if level not in LEVELS:
        raise LabelError(f"error correction level {level!r} is none of L, M, Q, H")
    code = qrcode.QRCode(error_correction=LEVELS[level], border=0)
    code.add_data(link)
    try:
        code.make(fit=True)
    except ValueError as why:
        raise LabelError(f"{len(link)} characters do not fit into one QR symbol") from why
    return Symbol(code.version, tuple(bytes(map(bool, row)) for row in code.modules))


def check_printable(size: int, width_mm: float, dpi: int) -> int:
    """Whole printer dots a module gets when a symbol of ``size`` modules and its quiet zone are ``width_mm`` wide.

    Raises `LabelError` below three, and says which width would do; and for a width or a printer that there is not.
    """
    if not (0 < width_mm <= WIDEST_MM and 0 < dpi <= FINEST_DPI):  # not-a-number lies in no range
        raise LabelError(
            f"{width_mm:g} mm at {dpi} dpi: a symbol is more than 0 and at most {WIDEST_MM} mm wide, "
            f"a printer has at most {FINEST_DPI} dots per inch"
        )
    modules = size + 2 * QUIET
    dots = int(width_mm / MM_PER_INCH * dpi / modules + 1e-9)
    if dots < LEAST_DOTS:
        enough = LEAST_DOTS * modules * MM_PER_INCH / dpi
        raise LabelError(
            f"{width_mm:g} mm at {dpi} dpi gives {dots} dots a module; at least {LEAST_DOTS} are needed: "
            f"print it {enough:.1f} mm wide, use a finer printer or a shorter link"
        )
    return dots
