"""Long work, kept in a table: whoever leases a job does it, and a dead worker's lease runs out.

No queue server is needed: one row per job, claimed under the database's own lock. A job is known by its key, so asking
twice for the same work makes one job; its function must itself be safe to run again, since a worker may die after the
work and before the note of it.
"""

import logging
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.engine import RowMapping

__all__ = ["LAND_JOB", "Interrupted", "Job", "Jobs", "ask_daily", "metadata", "work"]

_LOG = logging.getLogger(__name__)
LEASE_MS = 10 * 60 * 1000
ATTEMPTS = 3
LAND_JOB = "land.detect"  # kind of the satellite detection: started, worked at and shown by three parties


class Interrupted(Exception):
    """Raised by a job's function that was told to stop: the job waits again, as if nobody had begun it."""


metadata = MetaData()
_JOB = Table(
    "job",
    metadata,
    Column("key", String(200), primary_key=True),
    Column("kind", String(60), nullable=False),
    Column("body", JSON, nullable=False),
    Column("state", String(10), nullable=False, index=True),  # waiting | running | done | failed
    Column("owner", String(80)),
    Column("lease_until_ms", BigInteger, nullable=False, default=0),
    Column("attempts", Integer, nullable=False, default=0),
    Column("result", JSON),
    Column("why", Text),
    Column("asked_ms", BigInteger, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Job:
    """One piece of long work and how far it is."""

    key: str
    kind: str
    body: Mapping[str, Any]
    state: str
    attempts: int
    result: Any
    why: str | None


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class Jobs:
    """The job table. `clock` gives integer milliseconds UTC; a lease lasts `lease_ms` unless a note keeps it."""

    def __init__(self, engine: Engine, clock: Callable[[], int] = _now_ms, *, lease_ms: int = LEASE_MS) -> None:
        self._engine = engine
        self._clock = clock
        self._lease_ms = lease_ms

    def leasing(self, lease_ms: int) -> "Jobs":
        """The same table for work that notes how far it is so often that a shorter lease will do."""
        return Jobs(self._engine, self._clock, lease_ms=lease_ms)

    def ask(self, kind: str, key: str, body: Mapping[str, Any] | None = None) -> Job:
        """Make sure the job exists; the first asker's body stands."""
        with self._engine.begin() as db:
            row = db.execute(select(_JOB).where(_JOB.c.key == key)).mappings().first()
            if row is None:
                values = {"key": key, "kind": kind, "body": dict(body or {}), "state": "waiting"}
                db.execute(insert(_JOB).values(**values, asked_ms=self._clock(), attempts=0, lease_until_ms=0))
                row = db.execute(select(_JOB).where(_JOB.c.key == key)).mappings().one()
        return _job(row)

    def find(self, key: str) -> Job | None:
        """The job of that key, or None."""
        with self._engine.connect().execution_options(reading=True) as db:
            row = db.execute(select(_JOB).where(_JOB.c.key == key)).mappings().first()
        return None if row is None else _job(row)

    def all(self, kind: str) -> list[Job]:
        """Every job of a kind, the oldest first."""
        query = select(_JOB).where(_JOB.c.kind == kind).order_by(_JOB.c.asked_ms)
        with self._engine.connect().execution_options(reading=True) as db:
            return [_job(row) for row in db.execute(query).mappings()]

    def note(self, key: str, result: Any) -> bool:
        """Say how far a running job is, which also keeps its lease; False where somebody has forgotten it."""
        held = update(_JOB).where(_JOB.c.key == key, _JOB.c.state == "running")
        with self._engine.begin() as db:
            return db.execute(held.values(result=result, lease_until_ms=self._clock() + self._lease_ms)).rowcount > 0

    def forget(self, key: str) -> None:
        """Remove a job; whoever works at it finds out by its next `note`."""
        with self._engine.begin() as db:
            db.execute(delete(_JOB).where(_JOB.c.key == key))

    def lease(self, owner: str, kinds: tuple[str, ...]) -> Job | None:
        """Claim the oldest job of `kinds` that waits or whose worker has gone silent; None where there is none."""
        now = self._clock()
        silent = (_JOB.c.state == "running") & (_JOB.c.lease_until_ms < now)
        with self._engine.begin() as db:
            wanted = select(_JOB).where(_JOB.c.kind.in_(kinds), (_JOB.c.state == "waiting") | silent)
            row = (
                db.execute(wanted.order_by(_JOB.c.asked_ms).limit(1).with_for_update(skip_locked=True))
                .mappings()
                .first()
            )
            if row is None:
                return None
            claim = update(_JOB).where(_JOB.c.key == row["key"])
            if row["attempts"] >= ATTEMPTS:
                db.execute(claim.values(state="failed", why=f"given up after {ATTEMPTS} attempts whose worker died"))
                return None
            lease = {"state": "running", "owner": owner, "lease_until_ms": now + self._lease_ms}
            db.execute(claim.values(**lease, attempts=row["attempts"] + 1))
        return _job({**dict(row), "state": "running", "attempts": row["attempts"] + 1})

    def give_back(self, job: Job) -> None:
        """Let it wait again; that it was interrupted does not count as an attempt."""
        held = update(_JOB).where(_JOB.c.key == job.key, _JOB.c.state == "running")
        with self._engine.begin() as db:
            db.execute(held.values(state="waiting", owner=None, lease_until_ms=0, attempts=_JOB.c.attempts - 1))

    def reclaim(self, kinds: tuple[str, ...]) -> None:
        """End the leases of `kinds` now. For who knows that nobody works at any: the only worker, as it starts."""
        held = update(_JOB).where(_JOB.c.kind.in_(kinds), _JOB.c.state == "running")
        with self._engine.begin() as db:
            db.execute(held.values(lease_until_ms=0))

    def done(self, job: Job, result: Any) -> None:
        """Note the result."""
        self._close(job, {"state": "done", "result": result, "why": None})

    def failed(self, job: Job, why: str) -> None:
        """Note why it cannot be done."""
        self._close(job, {"state": "failed", "why": why})

    def _close(self, job: Job, values: Mapping[str, Any]) -> None:
        with self._engine.begin() as db:
            db.execute(update(_JOB).where(_JOB.c.key == job.key).values(**values))


def _job(row: Mapping[str, Any] | RowMapping) -> Job:
    values: Mapping[str, Any] = dict(row)
    return Job(**{name: values[name] for name in Job.__dataclass_fields__})


def ask_daily(jobs: Jobs, kinds: tuple[str, ...], *, zone: tzinfo, stop: threading.Event) -> None:
    """Ask for one job of each kind on every calendar day of `zone`, until `stop`; several askers make one job."""
    while True:
        today = datetime.now(zone).date().isoformat()
        for kind in kinds:
            jobs.ask(kind, f"{kind}/{today}")
        if stop.wait(600):
            return


def work(
    jobs: Jobs,
    hands: Mapping[str, Callable[[Mapping[str, Any]], Any]],
    *,
    owner: str,
    stop: threading.Event,
    pause: Callable[[], object] | None = None,
) -> None:
    """Do jobs until `stop`: one at a time, each by the function registered for its kind; `pause` waits for the next.

    An exception marks the job failed with its last line and is logged whole; the worker goes on with the next. A job
    that is `Interrupted`, or fails after `stop` (what it stands on is being taken away), waits to be begun again.
    """
    while not stop.is_set():
        job = jobs.lease(owner, tuple(hands))
        if job is None:
            (pause or (lambda: stop.wait(0.5)))()
            continue
        _LOG.info("job %s starts", job.key)
        try:
            result = hands[job.kind](job.body)
        except Interrupted:
            jobs.give_back(job)
            _LOG.info("job %s was interrupted and waits again", job.key)
        except Exception as why:  # noqa: BLE001 - a job may fail in any way, and the next must still run
            if stop.is_set():
                jobs.give_back(job)
                _LOG.info("job %s was interrupted (%s) and waits again", job.key, why)
                continue
            _LOG.exception("job %s failed", job.key)
            jobs.failed(job, traceback.format_exception_only(why)[-1].strip())
        else:
            jobs.done(job, result)
            _LOG.info("job %s is done", job.key)
