"""QGIS styles beside the products: the map and the parcels open in the colours of the quick-look."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

from remote_sensing.states import STATES

CLASS_COLOURS = {
    "cultivated": "#54943f",
    "idle_season": "#e7d578",
    "abandoned": "#c43e28",
    "converted": "#828287",
    "natural": "#285a46",
    "undecided": "#d8d8d8",
}
"""Colour of each parcel class."""

Colour = tuple[int, int, int, int]


def write_styles(out: Path, colours: Mapping[int, Colour]) -> list[Path]:
    """Write state.qml (a palette; show the band of the crop year wanted) and parcels.qml (categories) into ``out``."""
    raster, parcels = out / "state.qml", out / "parcels.qml"
    raster.write_bytes(_document(_palette(colours)))
    parcels.write_bytes(_document(_categories()))
    return [raster, parcels]


def _document(inner: ET.Element) -> bytes:
    root = ET.Element("qgis", version="3.34")
    root.append(inner)
    text: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return text


def _palette(colours: Mapping[int, Colour]) -> ET.Element:
    pipe = ET.Element("pipe")
    renderer = ET.SubElement(pipe, "rasterrenderer", type="paletted", band="1", opacity="1")
    entries = ET.SubElement(renderer, "colorPalette")
    for code, (red, green, blue, alpha) in colours.items():
        label = STATES[code] if code < len(STATES) else "undecided"
        shade = f"#{red:02x}{green:02x}{blue:02x}"
        ET.SubElement(entries, "paletteEntry", value=str(code), color=shade, alpha=str(alpha), label=label)
    return pipe


def _categories() -> ET.Element:
    renderer = ET.Element("renderer-v2", type="categorizedSymbol", attr="class_name")
    entries, symbols = ET.SubElement(renderer, "categories"), ET.SubElement(renderer, "symbols")
    for place, (name, colour) in enumerate(CLASS_COLOURS.items()):
        ET.SubElement(entries, "category", value=name, label=name, symbol=str(place), render="true")
        symbol = ET.SubElement(symbols, "symbol", type="fill", name=str(place), alpha="0.8")
        layer = ET.SubElement(symbol, "layer", {"class": "SimpleFill", "enabled": "1"})
        options = ET.SubElement(layer, "Option", type="Map")
        rgba = ",".join(str(int(colour[n : n + 2], 16)) for n in (1, 3, 5)) + ",255"
        ET.SubElement(options, "Option", name="color", type="QString", value=rgba)
        ET.SubElement(options, "Option", name="style", type="QString", value="solid")
    return renderer
