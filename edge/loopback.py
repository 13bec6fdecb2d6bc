"""The cloud's side of the protocol in memory: for tests and benchmarks of the gateway alone, and for vendors.

It keeps the promises of the real one — first value wins, packs absorbed by (epoch, number), gaps settled, the
watermark published only after the packs below it are kept — but its store is a dictionary.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge.wire import PREFIX, Ack, Event, Kind, Reading, Topic, WireError, decode_pack, parse_topic

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(slots=True)
class _Sequence:
    """What is known of one (gateway, epoch): the watermark and what lies above it."""

    watermark: int = 0
    above: set[int] = field(default_factory=set)

    def take(self, first: int, last: int) -> None:
        self.above.update(range(max(first, self.watermark + 1), last + 1))
        while self.watermark + 1 in self.above:
            self.watermark += 1
            self.above.discard(self.watermark)


class LoopbackCloud:
    """Subscribes, keeps readings and events, answers with watermarks; ``close`` ends it.

    Attributes:
        readings: first value of each (gateway, series name, ms).
        conflicts: readings whose place was taken by another value.
        events: in the order of arrival, each once, with its gateway.
        statuses: last status payload of each gateway.
        sensors: what each gateway says of each of its sensors.
        refused: topics and reasons of what was not understood.
    """

    def __init__(self, host: str, port: int) -> None:
        self.readings: dict[tuple[str, str, int], Reading] = {}
        self.conflicts: list[tuple[str, Reading]] = []
        self.events: list[tuple[str, Event]] = []
        self.records: list[tuple[str, bytes]] = []
        self.statuses: dict[str, bytes] = {}
        self.sensors: dict[tuple[str, str], bytes] = {}
        self.results: list[tuple[str, bytes]] = []
        self.refused: list[tuple[str, str]] = []
        self.pack_numbers: set[tuple[str, int]] = set()  # (epoch, number) of every pack kept
        self.repeated = 0
        self.mute = False  # keep everything, confirm nothing
        self._seen: dict[tuple[str, str], _Sequence] = {}
        self._news = threading.Condition()
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv311, clean_session=True
        )
        self._client.on_connect = self._subscribe
        self._client.on_message = self._on_message
        self._client.reconnect_delay_set(1, 2)
        self._client.connect(host, port)
        self._client.loop_start()

    def close(self) -> None:
        """Leave the broker."""
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, topic: Topic, payload: bytes, *, retain: bool = False) -> None:
        """Say something to a gateway, e.g. a command."""
        self._client.publish(topic.text, payload, qos=1, retain=retain)

    def wait(self, until: Callable[[LoopbackCloud], bool], timeout_s: float) -> bool:
        """Whether ``until(self)`` came true in time."""
        deadline = time.monotonic() + timeout_s
        with self._news:
            while not until(self):
                if not self._news.wait(max(0.0, deadline - time.monotonic())) and time.monotonic() >= deadline:
                    return until(self)
        return True

    def _subscribe(self, client: mqtt.Client, *_: Any) -> None:
        client.subscribe(
            [(f"{PREFIX}/+/{kind}", 1) for kind in ("data/#", "event/#", "record/#", "status", "result", "meta/#")]
        )
        for (gateway, epoch), sequence in self._seen.items():
            self._confirm(gateway, epoch, sequence)

    def _on_message(self, _client: mqtt.Client, _userdata: Any, message: mqtt.MQTTMessage) -> None:
        with self._news:
            try:
                self._take(parse_topic(message.topic), bytes(message.payload))
            except WireError as why:
                self.refused.append((message.topic, why.code))
            self._news.notify_all()

    def _take(self, topic: Topic, payload: bytes) -> None:
        if topic.kind is Kind.STATUS:
            self.statuses[topic.gateway] = payload
        elif topic.kind is Kind.RESULT:
            self.results.append((topic.gateway, payload))
        elif topic.kind is Kind.META:
            self.sensors[topic.gateway, str(topic.name)] = payload
        if topic.epoch is None or topic.seq is None:
            return
        sequence = self._seen.setdefault((topic.gateway, topic.epoch), _Sequence())
        if topic.seq <= sequence.watermark or topic.seq in sequence.above:
            self.repeated += 1
        else:
            self._keep(topic, payload, sequence)
        sequence.take(topic.seq, topic.seq)
        if not self.mute:
            self._confirm(topic.gateway, topic.epoch, sequence)

    def _keep(self, topic: Topic, payload: bytes, sequence: _Sequence) -> None:
        if topic.kind is Kind.DATA:
            self.pack_numbers.add((str(topic.epoch), int(topic.seq or 0)))
            for reading in decode_pack(payload).readings:
                kept = self.readings.setdefault((topic.gateway, reading.name, reading.time_ms), reading)
                if kept.value != reading.value:
                    self.conflicts.append((topic.gateway, reading))
        elif topic.kind is Kind.EVENT:
            event = Event.decode(payload)
            self.events.append((topic.gateway, event))
            if event.kind == "gap":
                sequence.take(int(event.body["first"]), int(event.body["last"]))
        else:
            self.records.append((topic.gateway, payload))

    def _confirm(self, gateway: str, epoch: str, sequence: _Sequence) -> None:
        ack = Ack(epoch, sequence.watermark, time.time_ns() // 1_000_000)
        self._client.publish(Topic(gateway, Kind.ACK).text, ack.encode(), qos=1, retain=True)
