"""Real processes for tests and benchmarks: started, watched, killed, and never left behind."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

_HARNESS_ONLY = {"PYTHONPATH", "PYTHONSAFEPATH"}  # set for bench and conform programs, not for the product


class ProcessError(Exception):
    """A process did not do what was waited for; the message carries the end of its log."""


class Child:
    """One program in its own session, writing to a log file; may be killed and started again.

    ``with Child([console("tianmai-edge"), "run", ...], log=folder / "edge.log") as edge:`` starts it and, whatever
    happens, kills it and its descendants at the end. ``user`` and ``group`` as in ``subprocess.Popen``.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log: Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        group: str | None = None,
    ) -> None:
        self.command = [str(part) for part in command]
        self.log = log
        self.kills = 0
        self._how = {"cwd": cwd, "user": user, "group": group, "extra_groups": [] if user else None}
        self._env = {key: value for key, value in os.environ.items() if key not in _HARNESS_ONLY} | dict(env or {})
        self._process: subprocess.Popen | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill(counted=False)

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start the program, anew if it ran before; the log is appended to."""
        if self.alive:
            raise ProcessError(f"{self.command[0]} is running already")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._env,
                start_new_session=True,
                **self._how,
            )
        return self

    def kill(self, *, counted: bool = True) -> None:
        """SIGKILL to the program and its descendants, as a crash would; ``kills`` counts those that met it alive."""
        if self._process is None:
            return
        self.kills += counted and self.alive
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self, signum: int = signal.SIGTERM, *, within_s: float = 15.0) -> int:
        """Ask it to end and wait; its exit code. Kills and raises if it does not."""
        process = self._running()
        process.send_signal(signum)
        return self.wait(within_s)

    def wait(self, within_s: float) -> int:
        """Wait for its own end; its exit code."""
        try:
            return self._running().wait(within_s)
        except subprocess.TimeoutExpired:
            self.kill(counted=False)
            raise self._complaint(f"did not end within {within_s:g} s") from None

    def wait_for_port(self, port: int, *, within_s: float = 30.0) -> Self:
        """Wait until somebody listens on 127.0.0.1:``port``."""
        return self.wait_until(lambda: is_listening(port), f"nothing listens on port {port}", within_s=within_s)

    def wait_until(self, condition: Callable[[], object], complaint: str, *, within_s: float = 30.0) -> Self:
        """Wait for ``condition``; raises at once if the program ends first."""
        deadline = time.monotonic() + within_s
        while not condition():
            if not self.alive:
                raise self._complaint(f"ended with {self._running().returncode}; {complaint}")
            if time.monotonic() > deadline:
                raise self._complaint(f"{complaint} after {within_s:g} s")
            time.sleep(0.05)
        return self

    def _running(self) -> subprocess.Popen:
        if self._process is None:
            raise ProcessError(f"{self.command[0]} was never started")
        return self._process

    def _complaint(self, what: str) -> ProcessError:
        tail = self.log.read_text(errors="replace")[-3000:]
        return ProcessError(f"{' '.join(self.command)}: {what}; the log ends:\n{tail}")


def console(name: str) -> str:
    """The product's own command ``name`` beside this Python."""
    return str(Path(sys.executable).with_name(name))


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_listening(port: int) -> bool:
    """Whether a connection to 127.0.0.1:``port`` is accepted."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(condition: Callable[[], object], complaint: str, *, within_s: float = 30.0) -> None:
    """Wait for ``condition``; raises ``ProcessError`` with the complaint if it does not come."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise ProcessError(f"{complaint} after {within_s:g} s")
        time.sleep(0.05)
