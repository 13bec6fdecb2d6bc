"""Commands from the cloud: signed, for us, not too early, not too late, not retained, never twice.

The id is made durable before anything is done, so a crash in between means "not done", never "done twice". What
was begun and not finished is reported as failed after the restart.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge.clock import ClockQuality
from edge.wire import Command, Result, WireError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_KEEP_MS = 48 * 3_600_000
_LONGEST_MS = 24 * 3_600_000
_COMPACT_AT = 2_000
_OPERATIONS = frozenset({"set", "release", "read"})


@dataclass(frozen=True, slots=True)
class _Seen:
    expires_ms: int
    done: bool


class Desk:
    """Judges commands and remembers their ids in an append-only file.

    ``act(command) -> reason`` carries out an accepted command; an empty reason means done.
    """

    def __init__(self, path: Path, gateway: str, secret: bytes) -> None:
        self._path, self._gateway, self._secret = path, gateway, secret
        self._seen: dict[str, _Seen] = {}
        self._load()

    def interrupted(self, now_ms: int) -> list[Result]:
        """Commands that were begun before the last end of the agent and never finished; each is told once."""
        open_ids = [name for name, seen in self._seen.items() if not seen.done]
        for name in open_ids:
            self._finish(name)
        return [Result(name, "failed", "interrupted", now_ms, {}) for name in open_ids]

    def receive(
        self,
        payload: bytes,
        target: str,
        *,
        retained: bool,
        now_ms: int | None,
        quality: ClockQuality,
        act: Callable[[Command], str],
    ) -> list[Result]:
        """What to answer; empty where nobody can be answered (unsigned: then no id is to be trusted)."""
        try:
            command = Command.verify(payload, self._secret)
        except WireError:
            return []
        refusal = self._refuse(command, target, retained=retained, now_ms=now_ms, quality=quality)
        at = now_ms or 0
        if refusal:
            outcome = "expired" if refusal == "expired" else "refused"
            return [Result(command.id, outcome, refusal, at, {"by": command.by})]
        try:
            self._note({"id": command.id, "expires": command.expires_ms})
        except OSError:
            return [Result(command.id, "failed", "cannot_persist", at, {"by": command.by})]
        self._seen[command.id] = _Seen(command.expires_ms, done=False)
        reason = act(command)
        self._finish(command.id)
        outcome = "refused" if reason else "done"
        body = {"by": command.by, "target": command.target}
        return [Result(command.id, "accepted", "", at, {}), Result(command.id, outcome, reason, at, body)]

    def _refuse(
        self, command: Command, target: str, *, retained: bool, now_ms: int | None, quality: ClockQuality
    ) -> str:
        """The first reason against it; empty where there is none."""
        value, operation = command.value, command.operation
        unsure = now_ms is None or quality is ClockQuality.NONE
        at = now_ms or 0
        reasons = {
            "retained": retained,
            "wrong_target": command.gateway != self._gateway or command.target != target,
            "replay": command.id in self._seen,
            "bad_operation": operation not in _OPERATIONS or (operation == "set" and value is None),
            "bad_value": value is not None and not 0.0 <= value <= 1.0,
            "clock_unsure": unsure,
            "too_long_valid": command.expires_ms - command.not_before_ms > _LONGEST_MS,
            "expired": at >= command.expires_ms,
            "too_early": at < command.not_before_ms,
        }
        return next((reason for reason, holds in reasons.items() if holds), "")

    def _finish(self, name: str) -> None:
        seen = self._seen[name]
        self._seen[name] = _Seen(seen.expires_ms, done=True)
        with contextlib.suppress(OSError):
            self._note({"id": name, "done": True})

    def _note(self, row: dict[str, Any]) -> None:
        with self._path.open("ab") as log:
            log.write(json.dumps(row).encode() + b"\n")
            log.flush()
            os.fdatasync(log.fileno())

    def forget(self, now_ms: int) -> None:
        """Drop ids that can no longer be valid; they would be refused as expired anyway."""
        if len(self._seen) < _COMPACT_AT:
            return
        kept = {name: seen for name, seen in self._seen.items() if seen.expires_ms > now_ms - _KEEP_MS}
        draft = self._path.with_suffix(".new")
        with contextlib.suppress(OSError):
            with draft.open("wb") as log:
                for name, seen in kept.items():
                    log.write(json.dumps({"id": name, "expires": seen.expires_ms, "done": seen.done}).encode() + b"\n")
                log.flush()
                os.fsync(log.fileno())
            draft.replace(self._path)
            self._seen = kept

    def _load(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            for line in self._path.read_bytes().splitlines():
                try:
                    row = json.loads(line)
                    name, before = str(row["id"]), self._seen.get(str(row["id"]))
                    expires = int(row.get("expires", before.expires_ms if before else 0))
                except (ValueError, KeyError, TypeError, AttributeError):
                    continue  # torn by a power cut before the command was acted on
                self._seen[name] = _Seen(expires, done=bool(row.get("done", False)))
