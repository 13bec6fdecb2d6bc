"""Whether what the service stands on answers now: database, readings store, broker, room on the disk.

`/healthz` says that the process lives; a supervisor that restarts on it must not do so because a broker is away. This
is for people who look, and for whoever decides where to send requests.
"""

import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Final

from pydantic import BaseModel
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from cloud.telemetry import ReadingsStore

__all__ = ["Part", "Readiness", "Ready"]

# So long an answer holds: who asks without end must not become a load himself.
_HOLD_MS: Final = 2_000
_REACH_S: Final = 1.0
_ROOM_MB: Final = 200


class Part(BaseModel):
    """One thing the service stands on; `detail` says in words what is wrong."""

    ok: bool
    detail: str = ""


class Ready(BaseModel):
    """All parts; `ok` when every one is."""

    ok: bool
    database: Part
    readings: Part
    broker: Part
    disk: Part


class Readiness:
    """Looks at the parts, at most once in two seconds. Safe to use from any thread."""

    def __init__(
        self, engine: Engine, readings: ReadingsStore, broker: tuple[str, int], folder: Path, clock: Callable[[], int]
    ) -> None:
        self._engine = engine
        self._readings = readings
        self._broker = broker
        self._folder = folder
        self._clock = clock
        self._turn = Lock()
        self._seen: tuple[int, Ready] | None = None

    def look(self) -> Ready:
        """How the parts are now. Never raises."""
        with self._turn:
            now = self._clock()
            if self._seen is None or not 0 <= now - self._seen[0] < _HOLD_MS:
                self._seen = now, self._looked()
            return self._seen[1]

    def _looked(self) -> Ready:
        health = self._readings.health()
        parts = {
            "database": self._database(),
            "readings": Part(ok=health.ok, detail=health.detail),
            "broker": self._reached(),
            "disk": self._room(),
        }
        return Ready(ok=all(part.ok for part in parts.values()), **parts)

    def _database(self) -> Part:
        try:
            with self._engine.connect().execution_options(reading=True) as db:
                db.execute(text("SELECT 1"))
        except SQLAlchemyError as why:
            return Part(ok=False, detail=f"the database does not answer: {type(why).__name__}")
        return Part(ok=True)

    def _reached(self) -> Part:
        host, port = self._broker
        try:
            socket.create_connection((host, port), timeout=_REACH_S).close()
        except OSError as why:
            return Part(ok=False, detail=f"no MQTT broker at {host}:{port}: {why.strerror or why}")
        return Part(ok=True)

    def _room(self) -> Part:
        try:
            free = shutil.disk_usage(self._folder).free // 1_000_000
        except OSError as why:
            return Part(ok=False, detail=f"the folder of all state cannot be read: {why.strerror}")
        return Part(ok=free >= _ROOM_MB, detail="" if free >= _ROOM_MB else f"only {free} MB are left for all state")
