"""paho's client with its costs per message taken out: system calls for a few bytes each, and an object at every step.

paho reads a packet in three small `recv` calls after a `select`, takes it apart field by field, and writes every
acknowledgement by itself: with a process's other threads wanting the interpreter too, a third of a millisecond. Here a
socket reads what is there at once, whole PUBLISH packets in it are cut out by a short loop and handed over together,
and acknowledgements leave together. Everything else (handshakes, keepalive, what is torn over two reads) is left to
paho. Should a later paho rename the hook that makes the socket, everything still works, only slower.
"""

import socket
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import paho.mqtt.client as mqtt
from paho.mqtt.enums import MQTTErrorCode
from typing_extensions import override

__all__ = ["Published", "QuickClient", "cut_published"]

_READ_BYTES = 1 << 18
_PUBLISH, _PUBACK = 0x30, 0x40
_QOS_1, _QOS_2 = 0x02, 0x04
# Packets of other kinds handled before paho looks at its own housekeeping (keep-alive, writing) again.
_AT_ONCE = 200
_MORE = 0x80  # bit of a length that goes on in the next byte


class Published(NamedTuple):
    """One message of the broker."""

    topic: bytes
    payload: bytes
    mid: int  # 0 at QoS 0
    qos: int
    retain: bool


def cut_published(held: bytes, at: int, *, properties: bool) -> tuple[list[Published], int]:
    """The whole PUBLISH packets of QoS 0 and 1 that `held` has from `at` on, and where the first other thing begins.

    `properties` says that packets have some, as in MQTT 5; they are passed over. Source: MQTT 5.0 and 3.1.1, 3.3.
    """
    found: list[Published] = []
    end = len(held)
    while at + 2 <= end:
        head = held[at]
        body, length = _length(held, at + 1, end)
        beyond = body + length
        if head & 0xF0 != _PUBLISH or head & _QOS_2 or not body or beyond > end:
            break
        qos = (head & _QOS_1) >> 1
        size = held[body] << 8 | held[body + 1] if length > 1 else 0
        name, after = body + 2, body + 2 + size
        start = after + 2 * qos
        if not size or start + properties > beyond:
            break
        if properties:
            if held[start] & _MORE:
                break
            start += 1 + held[start]
            if start > beyond:
                break
        mid = held[after] << 8 | held[after + 1] if qos else 0
        found.append(Published(held[name:after], held[start:beyond], mid, qos, bool(head & 1)))
        at = beyond
    return found, at


def _length(held: bytes, at: int, end: int) -> tuple[int, int]:
    """Where the body begins and how long it is; (0, 0) where its length is not whole."""
    length = 0
    for n in range(4):
        if at + n >= end:
            break
        byte = held[at + n]
        length |= (byte & 0x7F) << 7 * n
        if not byte & _MORE:
            return at + n + 1, length
    return 0, 0


class _Buffered:
    """A socket that reads ahead; `pending` tells how much it holds, as an SSL socket does."""

    def __init__(self, inner: socket.socket) -> None:
        self._inner = inner
        self._held = b""
        self._at = 0

    def recv(self, size: int) -> bytes:
        if self._at == len(self._held):
            self._fill()
        piece = self._held[self._at : self._at + size]
        self._at += len(piece)
        return piece

    def _fill(self) -> None:
        self._held, self._at = self._inner.recv(_READ_BYTES), 0

    def published(self, *, properties: bool) -> list[Published]:
        """Whole messages at the head of what is here or comes without waiting."""
        if self._at == len(self._held):
            try:
                self._fill()
            except OSError:
                return []  # paho will meet the same, and knows what to do
        found, self._at = cut_published(self._held, self._at, properties=properties)
        return found

    def pending(self) -> int:
        return len(self._held) - self._at

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class QuickClient(mqtt.Client):
    """A paho client for a flood of small messages; `on_published` is called with all that have come, on its thread."""

    on_published: Callable[["QuickClient", Sequence[Published]], None]

    @override
    def _create_socket(self) -> Any:
        made = super()._create_socket()
        return _Buffered(made) if isinstance(made, socket.socket) else made

    @override
    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        """Handle what has come."""
        held = self.socket()
        return self._read(held) if isinstance(held, _Buffered) else super().loop_read(max_packets)

    def _read(self, held: _Buffered) -> MQTTErrorCode:
        done = MQTTErrorCode.MQTT_ERR_SUCCESS
        for _ in range(_AT_ONCE):
            # A packet that paho has begun must be ended by paho.
            if self._in_packet["command"] == 0:
                self._hand_over(held.published(properties=self._protocol == mqtt.MQTTv5))
            done = self._packet_read()
            if done != MQTTErrorCode.MQTT_ERR_SUCCESS or self.socket() is not held or not held.pending():
                break
        if done in {MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_AGAIN}:
            return MQTTErrorCode.MQTT_ERR_SUCCESS
        return self._loop_rc_handle(done)

    def _hand_over(self, messages: Sequence[Published]) -> None:
        if messages:
            with self._msgtime_mutex:
                self._last_bytes_received = time.monotonic()
            self.on_published(self, messages)

    def reading(self) -> bool:
        """Whether paho's thread is alive: an exception in it ends it without a word to anybody."""
        thread = self._thread
        return thread is not None and thread.is_alive()

    def ack_all(self, mids: Iterable[int]) -> None:
        """Acknowledge messages of QoS 1, in one go and in this order."""
        packets = b"".join([struct.pack(">BBH", _PUBACK, 2, mid) for mid in mids])
        if packets:
            self._packet_queue(_PUBACK, packets, 0, 1)
