"""What the command line says of an error that is nobody's bug: one line, with the place and what to do.

The web has its own table (`cloud.problems`); here the same errors, and those of the libraries below us, reach a person
at a terminal. Whatever is not known here is a bug, and keeps its trace.
"""

import sqlite3
from typing import Final

import duckdb
from alembic.util.exc import CommandError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from cloud.problems import CloudError
from edge import EdgeError
from traceability import TraceError

__all__ = ["expected"]

# SQLite's and PostgreSQL's words for a table or a column that this program knows and the database does not.
_OTHER_REVISION: Final = ("no such table", "no such column", "does not exist", "already exists")
_RESTORE: Final = "see that it is there and may be written, or restore it from a backup"


def expected(why: BaseException, database: str = "") -> str | None:
    """One line for an expected error, None for a bug. `database` is the URL in use; its password is never shown."""
    if isinstance(why, CloudError):
        return _one_line(why.detail)
    if isinstance(why, EdgeError | TraceError):
        return _one_line(str(why))
    if isinstance(why, SQLAlchemyError | sqlite3.Error | CommandError):
        return _of_database(why, database)
    if isinstance(why, duckdb.Error):
        return f"the readings store cannot be used: {_one_line(str(why))}"
    if isinstance(why, OSError):
        told = why.strerror or _one_line(str(why)) or type(why).__name__
        return f"{why.filename}: {told}" if why.filename else told
    return None


def _of_database(why: Exception, database: str) -> str:
    try:
        shown = make_url(database).set(query={}).render_as_string(hide_password=True)
    except ArgumentError:
        return "setting database_url is no database URL: give sqlite:///PATH or postgresql+psycopg://USER@HOST/NAME"
    cause = why.orig if isinstance(why, DBAPIError) and why.orig is not None else why
    told = _one_line(str(cause))
    if any(words in told for words in _OTHER_REVISION):
        return f"the database {shown} is not as this program made it: {told}; run `tianmai-cloud migrate`"
    return f"the database {shown} cannot be used: {told}; {_RESTORE}"


def _one_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[0].strip()[:400]
