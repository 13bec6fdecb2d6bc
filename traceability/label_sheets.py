"""Label sheets and rolls as PDF: tens of thousands of labels a second, a few hundred bytes each.

A page is one compressed stream in which each symbol is a 1-bit stencil at module resolution and each label has
a few lines of text, so a printer draws modules with its own sharp edges and nothing is resampled. Symbols are
placed on the dots of the printer they are made for. Latin text uses Helvetica, Chinese text the standard CID
font STSong-Light; both are named, not embedded, as every office printer and reader has them or a substitute.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from traceability.qr import MM_PER_INCH, QUIET, LabelError, check_printable
from traceability.qr_batch import SymbolBatch

__all__ = ["TEMPLATES", "Template", "write_pdf"]

POINT_PER_MM: Final = 72 / MM_PER_INCH
CHUNK_PAGES: Final = 64
LEVEL: Final = 6  # of deflate


@dataclass(frozen=True, slots=True)
class Template:
    """A sheet or roll, mm. ``symbol`` is the side of the square kept for the symbol with its quiet zone."""

    name: str
    page_width: float
    page_height: float
    columns: int
    rows: int
    left: float
    top: float
    pitch_x: float
    pitch_y: float
    symbol: float
    text_size: float  # points

    @property
    def on_page(self) -> int:
        """Labels of one page."""
        return self.columns * self.rows


TEMPLATES: Final = {
    each.name: each
    for each in (
        Template("a4-65", 210, 297, 5, 13, 4.7, 10.7, 40.6, 21.2, 20.5, 5.5),
        Template("a4-24", 210, 297, 3, 8, 0.0, 0.5, 70.0, 37.0, 33.0, 8.0),
        Template("thermal-60x40", 60, 40, 1, 1, 1.0, 1.0, 60.0, 40.0, 30.0, 7.0),
        Template("meat-tag-90x60", 90, 60, 1, 1, 2.0, 2.0, 90.0, 60.0, 45.0, 10.0),
    )
}


def write_pdf(
    out: BinaryIO,
    batch: SymbolBatch,
    serials: Sequence[str],
    template: Template,
    *,
    lines: Sequence[str] = (),
    dpi: int = 300,
) -> int:
    """Write one label for each serial; returns the number of bytes.

    ``lines``: text that stands on every label above its serial (product, lot, "承诺达标合格证"). ``dpi``: of the
    printer; `LabelError` when its dots are too coarse for this size. A sample of the symbols is decoded before the
    first byte is written.
    """
    if not serials:
        raise LabelError("no serials, no labels")
    layout = _Layout(batch, template, lines, dpi)
    batch.check(serials, batch.bitmaps(serials))
    return _Pdf(out).write(layout, batch, serials)


class _Layout:
    """Where everything of a page stands, written once and used for every page."""

    def __init__(self, batch: SymbolBatch, template: Template, lines: Sequence[str], dpi: int) -> None:
        dots = check_printable(batch.size, template.symbol, dpi)
        self.template = template
        self._dot = 72 / dpi
        self._side = dots * batch.size * self._dot
        self._quiet = dots * QUIET
        head = f"cm BI/W {batch.size}/H {batch.size}/BPC 1/IM true/D[1 0]ID "
        self.slots = [self._slot(n, head, lines) for n in range(template.on_page)]

    def _slot(self, number: int, head: str, lines: Sequence[str]) -> tuple[bytes, bytes]:
        """What stands before the picture of one label, and between it and the serial."""
        this = self.template
        row, column = divmod(number, this.columns)
        left = round((this.left + column * this.pitch_x) * POINT_PER_MM / self._dot) + self._quiet
        top = round((this.top + row * this.pitch_y) * POINT_PER_MM / self._dot) + self._quiet
        x, y = left * self._dot, this.page_height * POINT_PER_MM - top * self._dot - self._side
        before = f"q {self._side:.3f} 0 0 {self._side:.3f} {x:.2f} {y:.2f} {head}".encode()
        size, leading = this.text_size, this.text_size * 1.25
        text_x, text_y = x + self._side + self._quiet * self._dot, y + self._side - size
        start = f"\nEI Q BT/L {size:g} Tf {leading:g} TL 1 0 0 1 {text_x:.2f} {text_y:.2f} Tm".encode()
        return before, start + b"".join(_line(each, size) for each in lines) + b"("


def _line(text: str, size: float) -> bytes:
    if text.isascii():
        escaped = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
        return f"({escaped})Tj T*".encode()
    return f"/C {size:g} Tf<{text.encode('utf-16-be').hex()}>Tj T*/L {size:g} Tf".encode()


class _Pdf:
    """A PDF file written front to back, so that its size does not matter."""

    _CATALOG, _PAGES, _LATIN, _CHINESE, _CID, _DESCRIPTOR = range(1, 7)

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._at = 0
        self._offsets = [0] * 7

    def write(self, layout: _Layout, batch: SymbolBatch, serials: Sequence[str]) -> int:
        self._put(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
        self._fonts()
        pages = [self._page(layout, content) for content in _contents(layout, batch, serials)]
        kids = b" ".join(b"%d 0 R" % page for page in pages)
        self._object(self._PAGES, b"<</Type/Pages/Count %d/Kids[%b]>>" % (len(pages), kids))
        self._object(self._CATALOG, b"<</Type/Catalog/Pages %d 0 R>>" % self._PAGES)
        table = self._at
        entries = b"".join(b"%010d 00000 n \n" % offset for offset in self._offsets[1:])
        self._put(b"xref\n0 %d\n0000000000 65535 f \n%b" % (len(self._offsets), entries))
        size = b"trailer\n<</Size %d/Root %d 0 R>>" % (len(self._offsets), self._CATALOG)
        self._put(size + b"\nstartxref\n%d\n%%%%EOF\n" % table)
        return self._at

    def _put(self, data: bytes) -> None:
        self._out.write(data)
        self._at += len(data)

    def _object(self, number: int, body: bytes) -> None:
        self._offsets[number] = self._at
        self._put(b"%d 0 obj\n%b\nendobj\n" % (number, body))

    def _fonts(self) -> None:
        # A font names its parts by number: Chinese text goes font -> character set -> measures.
        self._object(self._LATIN, b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>")
        self._object(
            self._CHINESE,
            b"<</Type/Font/Subtype/Type0/BaseFont/STSong-Light/Encoding/UniGB-UCS2-H"
            b"/DescendantFonts[%d 0 R]>>" % self._CID,
        )
        self._object(
            self._CID,
            b"<</Type/Font/Subtype/CIDFontType0/BaseFont/STSong-Light/DW 1000/FontDescriptor %d 0 R"
            b"/CIDSystemInfo<</Registry(Adobe)/Ordering(GB1)/Supplement 4>>>>" % self._DESCRIPTOR,
        )
        self._object(
            self._DESCRIPTOR,
            b"<</Type/FontDescriptor/FontName/STSong-Light/Flags 6/FontBBox[-25 -254 1000 880]/ItalicAngle 0"
            b"/Ascent 880/Descent -120/CapHeight 880/StemV 93>>",
        )

    def _page(self, layout: _Layout, content: bytes) -> int:
        packed = zlib.compress(content, LEVEL)
        number = len(self._offsets)
        self._offsets += [0, 0]
        stream = b"<</Length %d/Filter/FlateDecode>>stream\n%b\nendstream" % (len(packed), packed)
        self._object(number, stream)
        this = layout.template
        box = f"{this.page_width * POINT_PER_MM:.2f} {this.page_height * POINT_PER_MM:.2f}".encode()
        self._object(
            number + 1,
            b"<</Type/Page/Parent %d 0 R/MediaBox[0 0 %b]/Resources<</Font<</L %d 0 R/C %d 0 R>>>>/Contents %d 0 R>>"
            % (self._PAGES, box, self._LATIN, self._CHINESE, number),
        )
        return number + 1


def _contents(layout: _Layout, batch: SymbolBatch, serials: Sequence[str]) -> Iterator[bytes]:
    """The drawing of each page; pictures are made some pages at a time, so memory stays small."""
    on_page = layout.template.on_page
    step = on_page * max(1, CHUNK_PAGES // (1 + on_page // CHUNK_PAGES))
    for start in range(0, len(serials), step):
        some = serials[start : start + step]
        pictures = _cut(batch.bitmaps(some))
        for first in range(0, len(some), on_page):
            pieces: list[bytes] = []
            page = zip(layout.slots, pictures[first : first + on_page], some[first : first + on_page], strict=False)
            for (before, between), picture, serial in page:
                pieces += (before, picture, between, serial.encode(), b")Tj ET\n")
            yield b"".join(pieces)


def _cut(bitmaps: NDArray[np.uint8]) -> list[bytes]:
    count, size, row = bitmaps.shape
    data = np.ascontiguousarray(bitmaps).tobytes()
    return [data[n * size * row : (n + 1) * size * row] for n in range(count)]
