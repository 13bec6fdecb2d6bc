"""paho's client with its two costs per message taken out: a system call per few bytes, and one per acknowledgement.

paho reads a packet in three small `recv` calls after a `select`, and writes every acknowledgement by itself. Each call
gives the interpreter's lock away, and in a process that also decodes and judges, taking it back may last milliseconds.
Here a socket reads what is there at once and hands it out in pieces, all packets that have come are handled before
`select` is asked again, and acknowledgements leave together. Should a later paho rename the hook that makes the socket,
everything still works, only slower.
"""

import socket
import struct
from collections.abc import Iterable
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import MQTTErrorCode
from typing_extensions import override

__all__ = ["QuickClient"]

_READ_BYTES = 1 << 18
# Packets handled before paho looks at its own housekeeping (keep-alive, writing) again.
_AT_ONCE = 500
_PUBACK = 0x40


class _Buffered:
    """A socket that reads ahead; `pending` tells how much it holds, as an SSL socket does."""

    def __init__(self, inner: socket.socket) -> None:
        self._inner = inner
        self._held = b""
        self._at = 0

    def recv(self, size: int) -> bytes:
        at = self._at
        if at == len(self._held):
            self._held, at = self._inner.recv(_READ_BYTES), 0
        piece = self._held[at : at + size]
        self._at = at + len(piece)
        return piece

    def pending(self) -> int:
        return len(self._held) - self._at

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class QuickClient(mqtt.Client):
    """A paho client for a flood of small messages at QoS 1."""

    @override
    def _create_socket(self) -> Any:
        made = super()._create_socket()
        return _Buffered(made) if isinstance(made, socket.socket) else made

    @override
    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        """Handle what has come; at least one packet, and all that are already here."""
        done = super().loop_read(max_packets)
        for _ in range(_AT_ONCE):
            held = self.socket()
            if done != MQTTErrorCode.MQTT_ERR_SUCCESS or not isinstance(held, _Buffered) or not held.pending():
                break
            done = super().loop_read(max_packets)
        return done

    def reading(self) -> bool:
        """Whether paho's thread is alive: an exception in it ends it without a word to anybody."""
        thread = self._thread
        return thread is not None and thread.is_alive()

    def ack_all(self, mids: Iterable[int]) -> None:
        """Acknowledge messages of QoS 1, in one go and in this order."""
        packets = b"".join(struct.pack(">BBH", _PUBACK, 2, mid) for mid in mids)
        if packets:
            self._packet_queue(_PUBACK, packets, 0, 1)
