"""A folder of loose GeoTIFFs, one band a file, dated in their names -> the items that a catalogue would have listed.

What a name says is all there is: a date, a band or mask, perhaps a time, a processing baseline, a satellite.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pystac

from remote_sensing.cubes import LandError
from remote_sensing.sensors import ALIASES, MASKS

_LANDSAT: Mapping[str, Mapping[str, str]] = {
    "new": {"b2": "blue", "b3": "green", "b4": "red", "b5": "nir", "b6": "swir1", "b7": "swir2"},
    "old": {"b1": "blue", "b2": "green", "b3": "red", "b4": "nir", "b5": "swir1", "b7": "swir2"},
}
"""Numbers of Landsat's bands: 8 and 9 count otherwise than 4 to 7, and both otherwise than Sentinel-2."""
_SATELLITES = {"lc08": "new", "lc09": "new", "le07": "old", "lt05": "old", "lt04": "old"}
_BANDS = frozenset(alias for aliases in ALIASES.values() for alias in aliases) | frozenset(MASKS)
_DATE = re.compile(r"(?<!\d)((?:19|20)\d\d)-?([01]\d)-?([0-3]\d)(?:t?(\d\d)(\d\d)(\d\d))?(?!\d)")
_PIXEL = re.compile(r"\d+m")


def is_loose(path: Path) -> bool:
    """Whether a path is a folder with GeoTIFFs in it or below."""
    return path.is_dir() and any(True for _ in _files(path))


def loose_items(folder: Path) -> tuple[list[pystac.Item], tuple[str, ...]]:
    """Items of a folder, ascending by date, and one line for every file whose name does not say what it is.

    Files of one folder whose names differ in band and pixel size only are one scene. Of two files of one band
    the first by name counts (10 m before 20 m). Raises ``LandError("no_dates")`` when no name says enough.
    """
    items: dict[tuple[Path, str], pystac.Item] = {}
    notes = []
    for file in sorted(_files(folder)):
        try:
            named = _read_name(file)
        except LandError as why:
            notes.append(f"left out {file.name}: {why}")
            continue
        scene = (file.parent, named.scene)
        if scene not in items:
            items[scene] = pystac.Item(named.scene, None, None, named.when, dict(named.told))
        if named.band in items[scene].assets:
            notes.append(f"left out {file.name}: band {named.band} of that scene is there already")
        else:
            items[scene].add_asset(named.band, pystac.Asset(str(file), media_type=pystac.MediaType.COG))
    if not items:
        raise LandError("no_dates", f"{folder.name}: no scene can be used; {notes[0]}")
    return sorted(items.values(), key=lambda item: (str(item.datetime), item.id)), tuple(notes)


def _files(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.suffix.lower() in {".tif", ".tiff"} and file.is_file()]


@dataclass(frozen=True, slots=True)
class _Named:
    """What a file's name says: its scene, when it was seen (noon where no time is said), the band."""

    scene: str
    when: dt.datetime
    band: str
    told: Mapping[str, str] = field(default_factory=dict)


def _read_name(file: Path) -> _Named:
    """Raises ``LandError``: ``no_dates``, ``missing_band``."""
    stem = file.stem.lower()
    found = _DATE.search(stem)
    try:
        if found is None:
            raise ValueError  # noqa: TRY301 - a name without a date and one with a 31 February are one fault
        year, month, day, *clock = (int(part) if part else None for part in found.groups())
        hour, minute, second = (12, 0, 0) if clock[0] is None else clock
        when = dt.datetime(year or 0, month or 0, day or 0, hour or 0, minute or 0, second or 0, tzinfo=dt.UTC)
    except ValueError as why:
        raise LandError("no_dates", "its name holds no date (YYYYMMDD or YYYY-MM-DD)") from why
    words = re.split(r"[_. ]|-(?!\d\d)", stem.replace("qa_pixel", "qapixel").replace("cloud_mask", "cloudmask"))
    numbers = _LANDSAT.get(_SATELLITES.get(words[0], ""), {})
    named = [(place, _band(word, numbers)) for place, word in enumerate(words)]
    at, band = next(((place, band) for place, band in reversed(named) if band), (0, ""))
    if not band:
        raise LandError("missing_band", "its name holds no band that is known (red, B04, ndvi, scl ...)")
    rest = [word for place, word in enumerate(words) if place != at and word != "sr" and not _PIXEL.fullmatch(word)]
    baseline = re.search(r"(?<![a-z0-9])n(\d\d)(\d\d)(?!\d)", stem)
    told = {"s2:processing_baseline": f"{baseline[1]}.{baseline[2]}"} if baseline else {}
    return _Named("_".join(rest), when, band, told)


def _band(word: str, numbers: Mapping[str, str]) -> str:
    """The band a word of a name means, "" if none."""
    if word == "qapixel":
        return "qa_pixel"
    if numbers and (word == "qa" or re.fullmatch(r"b\w{1,2}", word)):
        return numbers.get(word, "")
    return word if word in _BANDS else ""
