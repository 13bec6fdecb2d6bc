"""Reads our label sheets back: a page of a PDF as pixels, and what a scanner sees in them.

The reader knows only the few operators a label sheet uses. It samples each pixel at its centre, as a printer without
any smoothing does, which is the hard case: modules and dots need not line up.
"""

import re
import zlib

import numpy as np
import zxingcpp


def decoded(pdf, page, dpi):
    """The set of texts that a scanner reads on one page (0 first) printed at ``dpi``."""
    return {result.text for result in zxingcpp.read_barcodes(rasterise(pdf, page, dpi))}


def rasterise(data, page, dpi):
    """One page as grey pixels."""
    streams = re.findall(rb"/Length (\d+)/Filter/FlateDecode>>stream\n", data)
    starts = [m.end() for m in re.finditer(rb"/Filter/FlateDecode>>stream\n", data)]
    boxes = re.findall(rb"MediaBox\[0 0 ([\d.]+) ([\d.]+)\]", data)
    content = zlib.decompress(data[starts[page] : starts[page] + int(streams[page])])
    width, height = (float(n) for n in boxes[page])
    scale = dpi / 72
    pixels = np.full((round(height * scale), round(width * scale)), 255, np.uint8)
    head = re.compile(rb"q ([\d.]+) 0 0 ([\d.]+) ([\d.]+) ([\d.]+) cm BI/W (\d+)/H (\d+)/BPC 1/IM true/D\[1 0\]ID ")
    at = 0
    while match := head.search(content, at):
        side, _, x, y = (float(n) for n in match.groups()[:4])
        size = int(match[5])
        row = -(-size // 8)
        at = match.end() + size * row
        assert content[at : at + 4] == b"\nEI "
        bits = np.frombuffer(content[match.end() : at], np.uint8).reshape(size, row)
        modules = np.unpackbits(bits, axis=1)[:, :size]
        rows, columns = np.indices(pixels.shape)
        u = ((columns[0] + 0.5) / scale - x) / side * size
        v = ((pixels.shape[0] - rows[:, 0] - 0.5) / scale - y) / side * size
        inside_x, inside_y = np.flatnonzero((u >= 0) & (u < size)), np.flatnonzero((v >= 0) & (v < size))
        picked = modules[(size - 1 - v[inside_y].astype(int))[:, None], u[inside_x].astype(int)[None, :]]
        pixels[np.ix_(inside_y, inside_x)] = np.where(picked, 0, 255)
    return pixels
