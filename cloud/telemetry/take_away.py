"""Exports as jobs: asked for, written in the background, fetched for a day, then gone.

The process that holds the readings writes them (an embedded store has one owner), a few at once but one piece at a
time: a long export takes turns with the short ones, and all of them together load the store like one. What a stop or a
crash cuts off is begun again.
Only who asked may fetch, and only while he may still see everything that is in it.
"""

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from cloud.jobs import Interrupted, Job, Jobs, work
from cloud.problems import CloudError, Conflict, NotFound, TooLarge, TooMany
from cloud.telemetry.exports import READINGS_AT_ONCE, write_readings
from cloud.telemetry.registry import Registry, Series
from cloud.telemetry.schemas import ExportView, ExportWish
from cloud.telemetry.service import Scope, Telemetry
from cloud.telemetry.store import ReadingsStore
from cloud.who import Audit

__all__ = ["TakeAway"]

KIND = "telemetry.export"
MAX_READINGS = 50_000_000
MAX_BYTES = 2 * 1024**3
MAX_WAITING = 3  # of one person
KEPT_MS = 24 * 3_600_000
_IDLE_S = 1.0
# One more than one person may have unfinished: nobody can keep everybody else waiting.
_AT_ONCE = MAX_WAITING + 1
_NOTE_S = 1.0
_POLITE_S = 0.001
_LEASE_MS = 60_000  # kept by a note every second; a piece takes a fraction of it


class TakeAway:
    """Exports of readings, from the wish to the file in `folder`."""

    def __init__(  # noqa: PLR0913 - what wiring passes, each with its own name
        self,
        telemetry: Telemetry,
        readings: ReadingsStore,
        registry: Registry,
        jobs: Jobs,
        folder: Path,
        *,
        clock: Callable[[], int],
        audit: Audit,
        max_readings: int = MAX_READINGS,
        at_once: int = READINGS_AT_ONCE,
    ) -> None:
        self._telemetry = telemetry
        self._readings = readings
        self._registry = registry
        self._jobs = jobs.leasing(_LEASE_MS)
        self._folder = folder
        self._clock = clock
        self._audit = audit
        self._max_readings = max_readings
        self._at_once = at_once
        self._stop = threading.Event()
        self._turn = threading.Lock()

    # --- people -------------------------------------------------------------------------------------

    def ask(self, wish: ExportWish, by: str, scope: Scope = None) -> ExportView:
        """Begin an export. Raises `NotFound` (a gateway out of scope), `Invalid`, `TooLarge`, `TooMany`."""
        gateways = self._telemetry.exportable(wish, scope)
        mine = [job for job in self._jobs.all(KIND) if job.body["by"] == by]
        if sum(job.state in {"waiting", "running"} for job in mine) >= MAX_WAITING:
            raise TooMany(f"{MAX_WAITING} exports of yours are not ready yet", code="too_many_exports")
        number = secrets.token_hex(12)
        body = {**wish.model_dump(exclude={"gateways"}), "gateways": gateways, "by": by, "asked_ms": self._clock()}
        with self._registry.engine.begin() as db:
            for region, held in self._by_region(wish, gateways).items():
                detail = wish.model_dump(exclude={"gateways"}) | {"count": len(held)}
                if wish.region is None:
                    detail["gateways"] = held
                self._audit(db, by, "readings.exported", number, detail, region)
        job = self._jobs.ask(KIND, f"{KIND}/{number}", {**body, "id": number})
        return _view(job)

    def _by_region(self, wish: ExportWish, gateways: list[str]) -> dict[str, list[str]]:
        """The gateways by the region whose auditors are to read that they were taken: the one asked for, or theirs."""
        if wish.region is not None:
            return {wish.region: gateways}
        found: dict[str, list[str]] = {}
        for gateway in gateways:
            found.setdefault(self._registry.gateway(gateway).region, []).append(gateway)
        return found

    def mine(self, by: str) -> list[ExportView]:
        """One's own exports, the latest first."""
        found = [_view(job) for job in self._jobs.all(KIND) if job.body["by"] == by]
        return sorted(found, key=lambda one: -one.asked_ms)

    def get(self, number: str, by: str) -> ExportView:
        """One of one's own exports. Raises `NotFound`."""
        return _view(self._job(number, by))

    def file(self, number: str, by: str, scope: Scope = None) -> Path:
        """The file. Raises `NotFound`, also where the asker may no longer see all of it; `Conflict` before it is done.

        The file stays for a day.
        """
        job = self._job(number, by)
        for gateway in job.body["gateways"]:
            self._telemetry.gateway_in_scope(gateway, scope)
        if _view(job).state != "done":
            raise Conflict(f"export {number} is not ready", code="not_ready")
        path = self._path(job.body)
        if not path.is_file():
            raise NotFound(f"there is no export {number}", pointer="/number")
        return path

    def remove(self, number: str, by: str) -> None:
        """Stop it, or remove its file. Raises `NotFound`."""
        job = self._job(number, by)
        self._jobs.forget(job.key)
        self._path(job.body).unlink(missing_ok=True)

    def _job(self, number: str, by: str) -> Job:
        job = self._jobs.find(f"{KIND}/{number}")
        if job is None or job.body["by"] != by:
            raise NotFound(f"there is no export {number[:40]}", pointer="/number")
        return job

    def _path(self, body: Mapping[str, Any]) -> Path:
        return self._folder / f"{body['id']}.{body['format']}"

    # --- the threads --------------------------------------------------------------------------------

    def work(self, stop: threading.Event) -> None:
        """Write what is asked for, and sweep what is old, until `stop`; what is half done then waits to begin again."""
        self._stop = stop
        if not self._readings.capabilities.many_processes:
            self._jobs.reclaim((KIND,))  # whoever held them was the owner of this store before us, and is dead
        owner = f"exports/{secrets.token_hex(4)}"

        def pause(nth: int) -> None:
            if nth == 0:
                self.sweep()
            stop.wait(_IDLE_S)

        def write(nth: int) -> None:
            hands = {KIND: self.write}
            work(self._jobs, hands, owner=f"{owner}/{nth}", stop=stop, pause=lambda: pause(nth))

        others = [
            threading.Thread(target=write, args=(nth,), name=f"exports-{nth}", daemon=True)
            for nth in range(1, _AT_ONCE)
        ]
        for other in others:
            other.start()
        write(0)
        for other in others:
            other.join()

    def write(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """One export; what became of it."""
        path, key = self._path(body), f"{KIND}/{body['id']}"
        draft = path.with_name(f"draft-{path.name}")
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)

        noted_s = float("-inf")

        def step(share: float, count: int) -> None:
            nonlocal noted_s
            if self._stop.is_set():
                raise Interrupted
            size = draft.stat().st_size
            if count > self._max_readings or size > MAX_BYTES:
                detail = (
                    f"an export holds {self._max_readings} readings and {MAX_BYTES} bytes at most: ask for less at once"
                )
                raise TooLarge(detail, code="export_too_large")
            if time.monotonic() - noted_s >= _NOTE_S:
                noted_s = time.monotonic()
                if not self._jobs.note(key, {"progress": share, "readings": count, "bytes": size}):
                    raise NotFound("the export was removed", code="removed")
            self._turn.release()
            try:
                time.sleep(_POLITE_S)  # or this thread would have the lock again before anybody wakes
            finally:
                self._turn.acquire()

        span = body["start_ms"], body["end_ms"]
        try:
            with self._turn:
                count = write_readings(self._readings, self._series(body), span, draft, step, at_once=self._at_once)
        except CloudError as why:
            draft.unlink(missing_ok=True)
            if self._stop.is_set():
                raise Interrupted from why  # the store is being closed
            return {"progress": 1.0, "readings": 0, "bytes": 0, "code": why.code, "detail": why.detail}
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        draft.replace(path)
        return {"progress": 1.0, "readings": count, "bytes": path.stat().st_size, "done_ms": self._clock()}

    def _series(self, body: Mapping[str, Any]) -> dict[int, Series]:
        found = self._registry.series(gateways=body["gateways"])
        wanted = body["quantity"]
        return {one.id: one for one in found if wanted is None or one.name.rpartition("/")[2] == wanted}

    def sweep(self) -> None:
        """Remove what is older than a day, and files whose job is gone."""
        # Files first: one that another thread begins after this line is not old.
        files = list(self._folder.glob("*.*")) if self._folder.is_dir() else []
        now, kept = self._clock(), set[str]()
        for job in self._jobs.all(KIND):
            if job.state in {"done", "failed"} and now > _expires(job):
                self._jobs.forget(job.key)
            else:
                kept |= {self._path(job.body).name, f"draft-{self._path(job.body).name}"}
        for path in files:
            if path.name not in kept:
                with suppress(OSError):
                    path.unlink()


def _expires(job: Job) -> int:
    done: int = (job.result or {}).get("done_ms", job.body["asked_ms"])
    return done + KEPT_MS


def _view(job: Job) -> ExportView:
    result: Mapping[str, Any] = job.result or {}
    failed = job.state == "failed" or "code" in result
    same = {key: job.body[key] for key in ("id", "format", "quantity", "start_ms", "end_ms", "asked_ms")}
    ready = job.state == "done" and not failed
    far = {key: result.get(key, 0) for key in ("progress", "readings", "bytes")}
    return ExportView.model_validate(
        {
            **same,
            **far,
            "state": "failed" if failed else job.state,
            "gateways": len(job.body["gateways"]),
            "expires_ms": _expires(job) if job.state in {"done", "failed"} else None,
            "code": result.get("code", "internal") if failed else None,
            "detail": result.get("detail", job.why) if failed else None,
            "file": f"/api/v1/exports/{job.body['id']}/file" if ready else None,
        }
    )
