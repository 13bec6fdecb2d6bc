"""Child processes of one machine: started together, watched, and ended together.

A child must not outlive its parent: each is told by the kernel when the parent dies (Linux), and each is asked to stop,
then made to. Output goes to one log file a child, so that the terminal stays the person's.
"""

import ctypes
import gc
import logging
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from cloud.problems import Unavailable

__all__ = ["Child", "Family", "free_port", "settle", "unsettle", "wait_for_port"]

_LOG = logging.getLogger(__name__)
_PR_SET_PDEATHSIG = 1
_SWITCH_S = 0.0005


def _die_with_parent() -> None:
    # Not asked but made to: a child that hangs would hold its spool or its port against the next start, and all of them
    # are built to lose nothing by it.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass
class Child:
    """One child process and how to start it again."""

    name: str
    command: Sequence[str]
    log: Path
    restarts: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start it in a session of its own, so that a Ctrl-C in the terminal reaches only the parent, who decides."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(  # noqa: S603 - the command is built by this package
                list(self.command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - one system call, before any thread of the child exists
            )

    @property
    def alive(self) -> bool:
        """Whether it runs now."""
        return self.process is not None and self.process.poll() is None

    def last_words(self, limit: int = 400) -> str:
        """The end of its log, for the sentence that says why it is gone."""
        try:
            return self.log.read_bytes()[-limit:].decode("utf-8", "replace").strip()
        except OSError:
            return ""

    def stop(self, patience_s: float) -> None:
        """Ask, wait, insist."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            _LOG.warning("%s did not stop within %.0f s and is killed", self.name, patience_s)
            self.process.kill()
            self.process.wait()


class Family:
    """All children of one run. Used as a context manager: leaving it ends every one, last started first."""

    def __init__(self) -> None:
        self.children: list[Child] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for child in reversed(self.children):
            child.stop(patience_s=5.0)

    def kill(self) -> None:
        """End every child now, without waiting for any."""
        for child in self.children:
            if child.process is not None:
                child.process.kill()

    def start(self, name: str, command: Sequence[str], log: Path) -> Child:
        """Start a child and keep watch over it."""
        child = Child(name, command, log)
        child.start()
        self.children.append(child)
        return child

    def mend(self) -> None:
        """Restart whatever has died, with a pause that grows; a line says so once each time."""
        for child in self.children:
            if child.alive:
                continue
            child.restarts += 1
            _LOG.warning("%s ended and is started again (%d): %s", child.name, child.restarts, child.last_words())
            time.sleep(min(0.2 * 2 ** min(child.restarts, 6), 10.0))
            child.start()


def settle() -> None:
    """To be called by a process that is built and will serve from now on."""
    # Whoever waits for the disk (the log's writer, above all) needs the interpreter back soon, not after 5 ms.
    sys.setswitchinterval(_SWITCH_S)
    # What exists now stays: without this every full collection walks over all of it while everybody waits.
    gc.collect()
    gc.freeze()


def unsettle() -> None:
    """The process ends. Frozen objects are never released: DuckDB would fill the terminal with what "leaked"."""
    gc.unfreeze()


def free_port(wanted: int = 0, host: str = "127.0.0.1") -> int:
    """`wanted` when nobody listens there, else a free port."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise Unavailable(f"no free port on {host}")


def wait_for_port(child: Child, port: int, *, host: str = "127.0.0.1", timeout_s: float = 20.0) -> None:
    """Wait until `child` listens. Raises `Unavailable` with its last words when it dies or takes too long."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if not child.alive:
            break
        with socket.socket() as probe:
            probe.settimeout(0.3)
            if probe.connect_ex((host, port)) == 0:
                return
        time.sleep(0.05)
    raise Unavailable(f"{child.name} does not listen on {host}:{port}: {child.last_words() or 'it said nothing'}")
