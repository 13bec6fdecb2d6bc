"""Settings from afar in two slots: what has proved itself, and what is on trial.

A wanted configuration is signed, must check, and then runs on probation. It is kept only if no driver does worse than
before and the cloud's watermark has moved; otherwise, or if the agent ends out of order under it, the one that had
proved itself comes back. That a trial has begun is written down before it runs, so that one which kills the agent is
gone at the next start. Identity, uplink and spool are the farm's own file's: whatever is wrong, the gateway can be
reached and has lost nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edge import EdgeError
from edge.drivers import DriverHealth
from edge.keepsake import load, save
from edge.wire import Applied, Wanted, WireError

_WORSE = 0.1  # a driver's share of successes may fall by this much; devices do fail now and then
_NEW_DRIVER = 0.5  # what a driver without a past must reach


@dataclass(slots=True)
class _Trial:
    """What is on probation, and what it is measured by."""

    revision: int
    body: dict[str, Any]
    shares: dict[str, float]  # success of each driver before
    watermark: int
    running: bool = False


@dataclass(slots=True)
class _Kept:
    """All that must survive, as one document."""

    highest: int = 0
    revision: int = 0
    body: dict[str, Any] = field(default_factory=dict)
    trial: _Trial | None = None
    outcome: str = ""  # of revision ``highest``
    reason: str = ""
    told: bool = True


class Slots:
    """The two slots of one gateway, in the file ``path``.

    ``check(body)`` raises ``EdgeError`` for settings that cannot work. ``probation_ms`` counts on a clock that never
    jumps. Where a method returns True the agent must end in order and start again, with ``body``.
    """

    def __init__(
        self,
        path: Path,
        gateway: str,
        secret: bytes,
        *,
        check: Callable[[Mapping[str, Any]], object],
        probation_ms: int = 600_000,
    ) -> None:
        self._path, self._gateway, self._secret = path, gateway, secret
        self._check, self._probation_ms = check, probation_ms
        self._kept = _read(path)
        self._began: int | None = None

    @property
    def body(self) -> Mapping[str, Any]:
        """What is laid over the farm's own file; empty where that stands alone."""
        return self._kept.trial.body if self._kept.trial else self._kept.body

    @property
    def revision(self) -> int:
        """Of the configuration in effect; 0 is the farm's own file."""
        return self._kept.trial.revision if self._kept.trial else self._kept.revision

    def begin(self) -> None:
        """At each start, before anything is built: a trial that ended out of order is over, another one begins."""
        trial = self._kept.trial
        if trial is None:
            return
        if trial.running:
            self._roll_back("the agent ended out of order under it")
            return
        trial.running = True
        try:
            self._save()
        except OSError as why:
            self._roll_back(f"its start cannot be written down: {why.strerror}")

    def failed(self, reason: str) -> bool:
        """The settings with ``body`` could not be built: back to those before; False where there are none."""
        if self._kept.trial is None and not self._kept.body:
            return False
        if self._kept.trial is None:
            self._kept.body, self._kept.revision = {}, 0
        self._roll_back(reason)
        return True

    def receive(self, payload: bytes, drivers: Mapping[str, DriverHealth], watermark: int) -> bool:
        """Judge what the cloud wants; True where it is to be tried now."""
        try:
            wanted = Wanted.verify(payload, self._secret)
        except WireError:
            return False  # nobody to answer
        kept = self._kept
        if wanted.gateway != self._gateway or wanted.revision <= kept.highest:
            return False  # not ours, or retained and known, or replayed
        before = kept.trial
        kept.highest, kept.told = wanted.revision, False
        try:
            self._check(wanted.body)
            shares = before.shares if before else {name: _share(one) for name, one in drivers.items()}
            kept.trial = _Trial(wanted.revision, dict(wanted.body), shares, watermark)
            kept.outcome, kept.reason = "trial", ""
            self._save()
        except (EdgeError, OSError) as why:
            kept.trial, kept.outcome, kept.reason = before, "refused", str(why)
            self._save_if_possible()
            return False
        return True

    def judge(self, stamp: int, drivers: Mapping[str, DriverHealth], watermark: int) -> bool:
        """About once a second; ``stamp`` in ms. True where the trial has failed and is rolled back."""
        trial = self._kept.trial
        if trial is None or not trial.running:
            return False
        if self._began is None:
            self._began = stamp
        if stamp - self._began < self._probation_ms:
            return False
        worse = [name for name, one in drivers.items() if _is_worse(one, trial.shares.get(name))]
        if worse or watermark <= trial.watermark:
            self._roll_back(f"driver {worse[0]!r} does worse than before" if worse else "the watermark stood still")
            return True
        self._kept.revision, self._kept.body, self._kept.trial = trial.revision, trial.body, None
        self._kept.outcome, self._kept.reason, self._kept.told = "kept", "", False
        self._save_if_possible()
        return False

    def left(self) -> None:
        """The agent ends in order: the trial, if any, goes on at the next start, its time counted anew."""
        if self._kept.trial is not None:
            self._kept.trial.running = False
            self._save_if_possible()

    def applied(self, now_ms: int) -> Applied | None:
        """What became of the newest wanted configuration; None where none ever came."""
        kept = self._kept
        return Applied(kept.highest, kept.outcome, kept.reason, self.revision, now_ms) if kept.outcome else None

    @property
    def untold(self) -> bool:
        """Whether the last outcome has not become an event yet."""
        return not self._kept.told

    def told(self) -> None:
        """The event is durable."""
        self._kept.told = True
        self._save_if_possible()

    def _roll_back(self, reason: str) -> None:
        self._kept.trial = None
        self._kept.outcome, self._kept.reason, self._kept.told = "rolled_back", reason, False
        self._save_if_possible()

    def _save(self) -> None:
        save(self._path, asdict(self._kept))

    def _save_if_possible(self) -> None:
        """Where the disk refuses, the next start sees the older state: a trial that then counts as failed."""
        try:
            self._save()
        except OSError:
            return


def _read(path: Path) -> _Kept:
    """A damaged file is as good as none: the farm's own settings stand."""
    document = load(path)
    try:
        kept = _Kept(**document)
        kept.trial = _Trial(**document["trial"]) if document["trial"] else None
    except (TypeError, KeyError):
        return _Kept()
    return kept


def _share(health: DriverHealth) -> float:
    """Share of successes; a driver that had nothing to do did nothing wrong."""
    tried = health.ok + health.failed
    return health.ok / tried if tried else 1.0


def _is_worse(health: DriverHealth, before: float | None) -> bool:
    return _share(health) < (_NEW_DRIVER if before is None else before - _WORSE)
