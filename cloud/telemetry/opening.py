"""From a URL to a readings store."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from sqlalchemy import Engine

from cloud.problems import Invalid
from cloud.telemetry.duckdb_readings import DuckReadings
from cloud.telemetry.influx_readings import InfluxReadings
from cloud.telemetry.memory_readings import MemoryReadings
from cloud.telemetry.store import ReadingsStore

__all__ = ["open_readings"]


def open_readings(url: str, *, database: Engine | None = None) -> ReadingsStore:
    """The store that a URL names.

    `duckdb:///relative/path`, `duckdb:////absolute/path`, `memory://`, or `influx+http://[ORG:TOKEN@]HOST:PORT/DATABASE`
    (also `influx+https`); the last keeps its pack ledger in `database`. Raises `Invalid` for any other URL,
    `StoreUnavailable` where the store cannot be opened.
    """
    parts = urlsplit(url)
    if parts.scheme == "memory":
        return MemoryReadings()
    if parts.scheme == "duckdb" and len(parts.path) > 1 and not parts.netloc:
        return DuckReadings(Path(parts.path[1:]))
    if parts.scheme in {"influx+http", "influx+https"} and len(parts.path) > 1 and parts.hostname:
        if database is None:
            raise Invalid("an InfluxDB store needs a relational database for its pack ledger", code="bad_readings_url")
        server = f"{parts.scheme.removeprefix('influx+')}://{parts.netloc.rpartition('@')[2]}"
        who = {"org": unquote(parts.username), "token": unquote(parts.password or "")} if parts.username else {}
        return InfluxReadings(server, parts.path[1:], database, **who)
    raise Invalid(
        f"{_masked(url)!r} names no readings store: use duckdb:///PATH, influx+http://HOST:PORT/DATABASE or memory://",
        code="bad_readings_url",
    )


def _masked(url: str) -> str:
    """The URL without what stands before an @: an error message is no place for a token."""
    return "…@" + url.rpartition("@")[2] if "@" in url else url
