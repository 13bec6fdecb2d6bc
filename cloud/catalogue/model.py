"""The words of the catalogue."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

__all__ = ["Change", "DataLevel", "Dataset", "Kind", "Package", "Producer"]

Producer = Callable[[str], Iterable[Mapping[str, Any]]]
"""Rows about a region and all below it, each with a text `id`, in a fixed order. Passed by wiring."""


class Kind(StrEnum):
    """What an entry describes."""

    SENSOR = "sensor"
    DATASET = "dataset"
    CAPABILITY = "capability"
    APPLICATION = "application"


class DataLevel(StrEnum):
    """How closely data is held (domain reference 2.11)."""

    PUBLIC = "L1"  # sums over ten parcels and more, recalls, facts about lots
    INTERNAL = "L2"  # government use
    PERSONAL = "L3"  # households, telephones, loans
    RESTRICTED = "L4"  # survey parcels with holders


@dataclass(frozen=True, slots=True)
class Dataset:
    """One entry: what it is, who answers for it, where its truth lies, and how often it was asked for."""

    id: str
    kind: Kind
    title_zh: str
    title_en: str
    owner: str
    source: str
    standard: str
    rhythm: str
    level: DataLevel
    calls: int = 0
    last_used_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What differs from the package before, as numbers of rows."""

    added: int
    changed: int
    removed: int


@dataclass(frozen=True, slots=True)
class Package:
    """One package for one region. `sha256` is the file's; `files` gives rows and changes by file name."""

    id: str
    region: str
    made_ms: int
    made_by: str
    size_bytes: int
    sha256: str
    previous: str | None
    files: Mapping[str, Mapping[str, int]]
