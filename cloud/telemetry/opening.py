"""From a URL to a readings store."""

from pathlib import Path
from urllib.parse import urlsplit

from sqlalchemy import Engine

from cloud.problems import Invalid
from cloud.telemetry.duckdb_readings import DuckReadings
from cloud.telemetry.memory_readings import MemoryReadings
from cloud.telemetry.store import ReadingsStore

__all__ = ["open_readings"]


def open_readings(url: str, *, database: Engine | None = None) -> ReadingsStore:  # noqa: ARG001 - see below
    """The store that a URL names: `duckdb:///relative/path`, `duckdb:////absolute/path` or `memory://`.

    `database` holds the pack ledger of stores that have no transactions of their own. Raises `Invalid` for any other
    URL, `StoreUnavailable` where the store cannot be opened.
    """
    parts = urlsplit(url)
    if parts.scheme == "memory":
        return MemoryReadings()
    if parts.scheme == "duckdb" and len(parts.path) > 1 and not parts.netloc:
        return DuckReadings(Path(parts.path[1:]))
    raise Invalid(f"{url!r} names no readings store: use duckdb:///PATH or memory://", code="bad_readings_url")
