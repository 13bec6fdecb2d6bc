"""QR labels: from a link to something a printer prints and a phone reads.

`symbol` makes one QR symbol with the `qrcode` library; `svg` and `png` draw it with its quiet zone and a line
a person can read when the symbol is torn. Before anything is drawn for a printer, `check_printable` asks
whether its dots are fine enough: below three dots a module a thermal printer smears modules together, so that
size is refused, not warned about.

Source of the numbers: ISO/IEC 18004 (quiet zone of 4 modules); 3 dots a module at 203 dpi = 0.375 mm, the least that
printed and read well in our notes; real printers differ, so every batch is decoded again before it is handed out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO
from typing import Final

import qrcode
from PIL import Image, ImageDraw, ImageFont
from qrcode.constants import ERROR_CORRECT_H, ERROR_CORRECT_L, ERROR_CORRECT_M, ERROR_CORRECT_Q

from traceability import TraceError

__all__ = ["LabelError", "Symbol", "check_printable", "png", "svg", "symbol"]

QUIET: Final = 4  # modules
LEAST_DOTS: Final = 3  # printer dots a module
MM_PER_INCH: Final = 25.4
LEVELS: Final = {"L": ERROR_CORRECT_L, "M": ERROR_CORRECT_M, "Q": ERROR_CORRECT_Q, "H": ERROR_CORRECT_H}
CAPTION_SHARE: Final = 0.1  # height of a caption line, of the symbol's width


class LabelError(TraceError):
    """A label cannot be made as asked."""

    default_code = "bad_label"


@dataclass(frozen=True, slots=True)
class Symbol:
    """A QR symbol: ``rows`` of 0/1 modules, ``size`` a side, without quiet zone."""

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


def check_printable(this: Symbol, width_mm: float, dpi: int) -> int:
    """Whole printer dots a module gets when the symbol with its quiet zone is ``width_mm`` wide at ``dpi``.

    Raises `LabelError` below three, and says which width would do.
    """
    modules = this.size + 2 * QUIET
    dots = int(width_mm / MM_PER_INCH * dpi / modules + 1e-9)
    if dots < LEAST_DOTS:
        enough = LEAST_DOTS * modules * MM_PER_INCH / dpi
        raise LabelError(
            f"{width_mm} mm at {dpi} dpi gives {dots} dots a module; at least {LEAST_DOTS} are needed: "
            f"print it {enough:.1f} mm wide, use a finer printer or a shorter link"
        )
    return dots


def svg(this: Symbol, caption: Sequence[str] = (), width_mm: float = 25.0) -> str:
    """A scalable drawing, ``width_mm`` wide with its quiet zone, with lines of text below."""
    modules = this.size + 2 * QUIET
    line = modules * CAPTION_SHARE
    height = modules + line * len(caption)
    runs = "".join(_runs(row, QUIET, QUIET + y) for y, row in enumerate(this.rows))
    text = "".join(
        f'<text x="{modules / 2:g}" y="{modules + line * (n + 0.5):g}" font-size="{line * 0.8:.2f}" '
        f'text-anchor="middle" font-family="sans-serif">{escape(each)}</text>'
        for n, each in enumerate(caption)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width_mm:g}mm" height="{width_mm * height / modules:.3g}mm" '
        f'viewBox="0 0 {modules} {height:g}" shape-rendering="crispEdges">'
        f'<rect width="{modules}" height="{height:g}" fill="#fff"/><path d="{runs}" fill="#000"/>{text}</svg>'
    )


def _runs(row: bytes, left: int, top: int) -> str:
    """One row of modules as horizontal bars: far fewer path steps than one square a module."""
    drawn, x = "", 0
    while (x := row.find(1, x)) >= 0:
        end = row.find(0, x)
        end = len(row) if end < 0 else end
        drawn += f"M{left + x} {top}h{end - x}v1h-{end - x}z"
        x = end
    return drawn


def png(this: Symbol, caption: Sequence[str] = (), width_mm: float = 25.0, dpi: int = 300) -> bytes:
    """A black and white picture for a printer of ``dpi``, at most ``width_mm`` wide; Latin text only in the caption.

    Raises `LabelError` when the printer is too coarse.
    """
    dots = check_printable(this, width_mm, dpi)
    modules = this.size + 2 * QUIET
    side = modules * dots
    line = max(12, round(side * CAPTION_SHARE))
    page = Image.new("1", (side, side + line * len(caption)), 1)
    small = Image.frombytes("L", (this.size, this.size), b"".join(this.rows)).point([255, 0] + [0] * 254)
    page.paste(small.resize((this.size * dots,) * 2, Image.Resampling.NEAREST), (QUIET * dots,) * 2)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(line * 0.8)
    for n, each in enumerate(caption):
        draw.text((side / 2, side + line * n), each, fill=0, font=font, anchor="ma")
    out = BytesIO()
    page.save(out, "PNG", dpi=(dpi, dpi))
    return out.getvalue()
