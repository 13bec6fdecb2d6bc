"""Talks to systemd without a library: ready, stopping, and alive — the last only where there was real progress."""

from __future__ import annotations

import contextlib
import socket


class Watchdog:
    """Feeds systemd's watchdog; does nothing where there is none (``address`` empty).

    ``progress`` is called by whoever got something done; ``feed`` about once a second. The watchdog is fed only if
    everyone expected has made progress within ``patience_s``, or said that it is resting on purpose.
    """

    def __init__(self, address: str, *, patience_s: float = 45.0) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._patience_s = patience_s
        self._last: dict[str, float] = {}

    def ready(self) -> None:
        """The agent works."""
        self._say("READY=1")

    def stopping(self) -> None:
        """The agent leaves on purpose."""
        self._say("STOPPING=1")

    def progress(self, who: str, now: float) -> None:
        """``who`` got something done, or rests on purpose; ``now`` in seconds on a steady clock."""
        self._last[who] = now

    def late(self, now: float) -> list[str]:
        """Who has not made progress for too long."""
        return sorted(who for who, at in self._last.items() if now - at > self._patience_s)

    def feed(self, now: float) -> bool:
        """Tell systemd that all is alive; False where somebody is late and it was not told."""
        if self.late(now):
            return False
        self._say("WATCHDOG=1")
        return True

    def _say(self, text: str) -> None:
        if not self._address:
            return
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line,
        ):
            line.connect(self._address)
            line.send(text.encode())
