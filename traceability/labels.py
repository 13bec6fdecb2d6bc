"""Labels: from a link to something a printer prints and a phone reads.

`svg` and `png` draw one symbol with its quiet zone and a line a person can read when the symbol is torn; for a batch,
`traceability.label_sheets.write_pdf` makes sheets and rolls. `add_arguments` and `run` are `tianmai-trace
labels`: serials issued under a batch key (or read from a file), drawn, a sample decoded again, and listed
beside the labels.
"""

import argparse
import sys
from collections.abc import Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from traceability.digital_link import build_link
from traceability.label_sheets import TEMPLATES, write_pdf
from traceability.qr import LEVELS, QUIET, LabelError, Symbol, check_printable, symbol
from traceability.qr_batch import SymbolBatch
from traceability.serials import issue

__all__ = ["LabelError", "Symbol", "add_arguments", "check_printable", "png", "run", "svg", "symbol"]

CAPTION_SHARE: Final = 0.1  # height of a caption line, of the symbol's width


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
    dots = check_printable(this.size, width_mm, dpi)
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `tianmai-trace labels`."""
    parser.add_argument("out", type=Path, help="PDF file, or folder for single drawings; must not exist yet")
    parser.add_argument("--gtin", required=True, help="14-digit trade item number")
    parser.add_argument("--lot", required=True, help="batch, as in the link")
    parser.add_argument("--domain", default="https://id.gs1.org", help="address of the resolver (default: %(default)s)")
    parser.add_argument("--count", type=int, default=0, metavar="N", help="issue N new serials under --key")
    parser.add_argument("--key", type=Path, metavar="FILE", help="batch key: a file of at least 16 secret bytes")
    parser.add_argument("--serials", type=Path, metavar="FILE", help="print these serials, one a line, instead")
    parser.add_argument("--format", choices=("pdf", "svg", "png"), default="pdf", help="default: %(default)s")
    parser.add_argument(
        "--template", choices=sorted(TEMPLATES), default="a4-65", help="of a PDF (default: %(default)s)"
    )
    parser.add_argument("--level", choices=sorted(LEVELS), default="M", help="error correction (default: %(default)s)")
    parser.add_argument("--dpi", type=int, default=203, help="dots per inch of the printer (default: %(default)s)")
    parser.add_argument(
        "--width", type=float, default=25.0, metavar="MM", help="of a single drawing (default: %(default)s)"
    )
    parser.add_argument(
        "--line", action="append", default=[], metavar="TEXT", help="printed on every label; repeatable"
    )


def run(args: argparse.Namespace) -> int:
    """Make the labels; 0 when they are written. Raises `TraceError` for whatever cannot be done as asked."""
    listing = args.out.with_name(args.out.name + ".serials.txt")
    for path in (args.out, listing):
        if path.exists():
            raise LabelError(f"{path} exists already; labels never overwrite")
    serials = _serials(args)
    upper = args.format == "pdf"
    stem = build_link([("01", args.gtin), ("10", args.lot)], domain=args.domain, upper=upper)
    prefix = f"{stem}/21/"
    batch = SymbolBatch(prefix, len(serials[0]), level=args.level, sample=serials)
    try:
        if args.format == "pdf":
            _write_sheet(args, batch, serials)
        else:
            _write_drawings(args, batch, serials)
        listing.write_text("".join(f"{serial}\n" for serial in serials), encoding="ascii")
    except OSError as why:
        raise LabelError(f"{why.filename}: {why.strerror}") from why
    sys.stdout.write(f"{len(serials)} labels in {args.out}, serials in {listing}; a sample was decoded and agrees\n")
    return 0


def _serials(args: argparse.Namespace) -> tuple[str, ...]:
    if (args.serials is None) == (args.count == 0):
        raise LabelError("say either --count N with --key FILE, or --serials FILE")
    try:
        if args.serials is None:
            if args.key is None:
                raise LabelError("new serials need --key FILE")
            return issue(args.key.read_bytes(), f"{args.gtin}/{args.lot}", args.count)
        serials = tuple(args.serials.read_text(encoding="ascii").split())
    except OSError as why:
        raise LabelError(f"{why.filename}: {why.strerror}") from why
    except UnicodeDecodeError as why:
        raise LabelError(f"{args.serials}: serials are plain ASCII") from why
    if not serials:
        raise LabelError(f"{args.serials}: no serials in it")
    if len(set(serials)) != len(serials):
        raise LabelError(f"{args.serials}: a serial stands twice")
    build_link([("01", args.gtin), ("10", args.lot), ("21", serials[0])])
    return serials


def _write_sheet(args: argparse.Namespace, batch: SymbolBatch, serials: Sequence[str]) -> None:
    template = TEMPLATES[args.template]
    check_printable(batch.size, template.symbol, args.dpi)
    with args.out.open("xb") as out:
        write_pdf(out, batch, serials, template, lines=[*args.line, args.lot], dpi=args.dpi)


def _write_drawings(args: argparse.Namespace, batch: SymbolBatch, serials: Sequence[str]) -> None:
    check_printable(batch.size, args.width, args.dpi)
    batch.check(serials, batch.bitmaps(serials))
    args.out.mkdir(parents=True)
    for serial in serials:
        caption, path = [*args.line, f"{args.lot} {serial}"], args.out / f"{serial}.{args.format}"
        if args.format == "svg":
            path.write_text(svg(batch.symbol(serial), caption, args.width), encoding="utf-8")
        else:
            path.write_bytes(png(batch.symbol(serial), caption, args.width, args.dpi))
