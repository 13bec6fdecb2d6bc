"""Opening the relational store: SQLite by default, PostgreSQL for real.

Contexts own their tables and receive the engine; this module owns only how a connection behaves.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import make_url

__all__ = ["database", "database_file", "open_database"]

# As many connections as the web server has threads, kept: a new one costs a handshake, or a file open and the pragmas.
# The one used last is taken first, so that a lone writer finds the pages it has just written in its own cache.
_POOL: Final[dict[str, Any]] = {"pool_size": 40, "max_overflow": 24, "pool_use_lifo": True}
_PRAGMAS: Final = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "busy_timeout=30000",
    "cache_size=-8000",  # kB a connection
    "wal_autocheckpoint=4000",  # pages, 16 MB: each checkpoint is two more syncs that a writer waits for
)


def open_database(url: str) -> Engine:
    """An engine for `sqlite:///PATH` or `postgresql+psycopg://...`.

    SQLite is opened in WAL mode with synchronous=FULL (a commit survives power loss, not only a crash), foreign keys
    on, and every write transaction takes its lock at once: the ledger's and the cases' read-decide-write must not find
    out at commit that somebody else was faster.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        # The server shares its connections (100 by default) among all our processes.
        return create_engine(parsed, pool_pre_ping=True, **_POOL | {"pool_size": 20, "max_overflow": 4})
    kept: dict[str, Any] = {}
    if parsed.database and parsed.database != ":memory:":
        file = Path(parsed.database)
        file.parent.mkdir(parents=True, exist_ok=True)
        # It holds what gateways sign with: nobody else's eyes.
        file.touch(mode=0o600)
        kept = _POOL
    engine = create_engine(parsed, connect_args={"timeout": 30, "check_same_thread": False}, **kept)
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    return engine


@contextmanager
def database(url: str) -> Iterator[Engine]:
    """`open_database` for one piece of work: its connections are closed afterwards, whatever happens."""
    engine = open_database(url)
    try:
        yield engine
    finally:
        engine.dispose()


def database_file(url: str) -> Path | None:
    """The file that holds the database, None where a server does or memory."""
    parsed = make_url(url)
    kept = parsed.get_backend_name() == "sqlite" and parsed.database not in {None, "", ":memory:"}
    return Path(parsed.database or "") if kept else None


def _configure(connection: Any, _record: Any) -> None:
    # The driver's own implicit BEGIN is deferred; ours (below) decides instead.
    connection.isolation_level = None
    cursor: sqlite3.Cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Any) -> None:
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
