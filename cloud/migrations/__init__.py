"""The relational schema of all contexts, and how a database is brought to it.

Each context owns its tables; the order in which they came to be is one line of revisions, so it is kept here. A
revision once released is never edited. `migrate` is what every service calls at its start: it costs one query when
there is nothing to do, and of several processes that start together one migrates while the others wait.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Connection, Engine, MetaData, inspect, text

from cloud import jobs
from cloud.accounts import metadata as accounts
from cloud.alarms.tables import metadata as alarms
from cloud.catalogue import metadata as catalogue
from cloud.land import metadata as land
from cloud.problems import Conflict
from cloud.provenance.store import metadata as provenance
from cloud.regions import metadata as regions
from cloud.steering import metadata as steering
from cloud.telemetry.tables import metadata as telemetry

__all__ = ["METADATA", "differences", "head", "migrate", "revise"]

METADATA: Final[tuple[MetaData, ...]] = (
    jobs.metadata,
    regions,
    accounts,
    telemetry,
    steering,
    alarms,
    land,
    provenance,
    catalogue,
)
"""Every table of the cloud, by context."""

_FOLDER: Final = Path(__file__).parent
_LOCK: Final = 7_620_418_351  # any number; PostgreSQL's advisory lock of whoever migrates


def head() -> str:
    """The newest revision that this program knows."""
    newest = ScriptDirectory.from_config(_config()).get_current_head()
    return newest or ""


def migrate(engine: Engine) -> str | None:
    """Bring a database to the newest revision; what it was before (None: empty). One transaction, all or nothing.

    Raises `Conflict` for a database that is newer than this program, or that has our tables but no revision.
    """
    with engine.begin() as db:
        _wait_for_others(db)
        before = MigrationContext.configure(db).get_current_revision()
        if before == head():
            return before
        _refuse_strange(db, before)
        command.upgrade(_config(db), "head")
    return before


def differences(engine: Engine) -> list[Any]:
    """What the database lacks or has too much, against the tables of the contexts; empty when they agree."""
    with engine.connect() as db:
        context = MigrationContext.configure(db, opts={"compare_type": True, "include_object": _ours})
        found: list[Any] = compare_metadata(context, _merged(METADATA))
    return found


def revise(engine: Engine, message: str) -> None:
    """Write the next revision, for developers: what is missing in an empty database brought to the present head."""
    migrate(engine)
    with engine.begin() as db:
        script = command.revision(_config(db), message, autogenerate=True, rev_id=f"{_count() + 1:04d}")
    if isinstance(script, Script):
        path = Path(script.path)
        lines = path.read_text("utf-8").splitlines(keepends=True)
        path.write_text("".join(line for line in lines if not line.strip().startswith("# ###")), "utf-8")


def _config(db: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    config.attributes["connection"] = db
    config.attributes["metadata"] = _merged(METADATA)
    config.attributes["include_object"] = _ours
    return config


def _merged(parts: Iterable[MetaData]) -> MetaData:
    """One metadata: the contexts' tables refer to each other by no foreign key, so copying them is enough."""
    whole = MetaData()
    for part in parts:
        for table in part.sorted_tables:
            table.to_metadata(whole)
    return whole


def _ours(_object: Any, name: str | None, kind: str, _reflected: bool, _other: Any) -> bool:  # noqa: FBT001 - Alembic's
    return not (kind == "table" and name == "alembic_version")


def _wait_for_others(db: Connection) -> None:
    # SQLite's BEGIN IMMEDIATE has done the same already.
    if db.dialect.name == "postgresql":
        db.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})


def _refuse_strange(db: Connection, before: str | None) -> None:
    if before is None:
        ours = {table for part in METADATA for table in part.tables}
        there = sorted(ours & set(inspect(db).get_table_names()))
        if there:
            raise Conflict(
                f"the database has a table {there[0]} but no revision: it was not made by a released version. "
                "Point `database_url` at an empty database"
            )
        return
    if before not in {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}:
        raise Conflict(
            f"the database is at revision {before}, which is newer than this program knows: update the program"
        )


def _count() -> int:
    return sum(1 for _ in ScriptDirectory.from_config(_config()).walk_revisions())
