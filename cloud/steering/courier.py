"""The courier: carries what is wanted to the broker, brings back what gateways say.

A broker session of its own, in MQTT 3.1.1, which every broker speaks. Commands lie at no broker: a gateway that is away
would get them late. They are repeated while they are valid and nobody has answered; the gateway runs each id once.
Configurations do lie there (retained), and are told again at each connection, for a broker may have forgotten them.
What a gateway signs is checked here; what cannot be taken goes to `set_aside`.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Any, Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from sqlalchemy.exc import DBAPIError

from cloud.problems import CloudError, NotFound
from cloud.steering.service import Steering
from edge.wire import PREFIX, Applied, Command, Kind, Result, Topic, Wanted, WireError, parse_topic

__all__ = ["Courier", "Post"]

_LOG = logging.getLogger(__name__)
_ROUND_S: Final = 0.3
_REPEAT_MS: Final = 10_000
_TAKEN_S: Final = 5.0
_RECONNECT_S: Final = 1.0
_AT_ONCE: Final = 500

# (topic, payload, reason, sentence): keep what cannot be taken.
SetAside = Callable[[str, bytes, str, str], None]


@dataclass(frozen=True, slots=True)
class Post:
    """Where the broker is, and as whom to speak to it."""

    host: str
    port: int
    username: str | None = None
    password: str | None = None


class Courier:
    """Carries, from `start` to `stop`. An absent broker is waited for; several couriers on one broker do no harm."""

    def __init__(self, steering: Steering, post: Post, *, clock: Callable[[], int], set_aside: SetAside) -> None:
        self._steering = steering
        self._store = steering.store
        self._post = post
        self._clock = clock
        self._set_aside = set_aside
        self._inbox: SimpleQueue[tuple[str, bytes]] = SimpleQueue()
        self._stop = Event()
        self._greeted = Event()  # a new connection is up: the broker may have forgotten what was retained
        self._client: mqtt.Client | None = None
        self._thread = Thread(target=self._work, name="courier", daemon=True)

    def start(self) -> None:
        """Begin in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the present round and end."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def _work(self) -> None:
        failing = False
        while not self._stop.is_set():
            try:
                self._stay_connected()
                self._round()
                failing = False
            except (DBAPIError, CloudError, OSError, ValueError) as why:
                if not failing:
                    _LOG.warning("gateways cannot be told or heard now; trying again: %s", why)
                failing = True
                self._stop.wait(_RECONNECT_S)
            self._stop.wait(_ROUND_S)
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()

    def _stay_connected(self) -> None:
        if self._client is not None:
            return  # paho connects again by itself
        client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv311)
        if self._post.username is not None:
            client.username_pw_set(self._post.username, self._post.password)
        client.on_connect = self._on_connect
        client.on_message = lambda _c, _d, message: self._hear(message)
        client.reconnect_delay_set(1, 30)
        client.connect_async(self._post.host, self._post.port, keepalive=30)
        client.loop_start()
        self._client = client

    def _on_connect(self, client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if not reason.is_failure:
            client.subscribe([(f"{PREFIX}/+/{kind.value}", 1) for kind in (Kind.RESULT, Kind.CONFIG_APPLIED)])
            self._greeted.set()

    def _hear(self, message: mqtt.MQTTMessage) -> None:
        # An unreadable topic must not end paho's thread: `message.topic` would raise.
        topic = message._topic.decode("utf-8", "replace")  # noqa: SLF001 - as the ingest does
        self._inbox.put((topic, bytes(message.payload)))

    def _round(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                topic, payload = self._inbox.get_nowait()
            except Empty:
                break
            self.take(topic, payload)
        client = self._client
        if client is not None and client.is_connected():
            everything = self._greeted.is_set()
            self._greeted.clear()
            self._carry_configurations(client, everything=everything)
            self._carry_commands(client)
        self._store.expire(self._clock())

    def take(self, text: str, payload: bytes) -> None:
        """One message of a gateway; whatever is wrong with it, the next one can be taken."""
        if not payload:
            return  # somebody cleared a retained message
        try:
            topic = parse_topic(text)
            secret = self._steering.secret(topic.gateway)
            if topic.kind is Kind.RESULT:
                self._steering.take_result(topic.gateway, Result.verify(payload, secret))
            elif topic.kind is Kind.CONFIG_APPLIED:
                self._steering.take_applied(topic.gateway, Applied.verify(payload, secret))
        except WireError as why:
            self._set_aside(text, payload, why.code, str(why))
        except NotFound as why:
            self._set_aside(text, payload, "unknown_gateway", why.detail)

    def _carry_commands(self, client: mqtt.Client) -> None:
        now = self._clock()
        under_way: list[tuple[str, mqtt.MQTTMessageInfo]] = []
        for row in self._store.due(now, now - _REPEAT_MS):
            names = ("id", "gateway", "target", "operation", "value", "not_before_ms", "expires_ms", "by")
            command = Command(**{name: row[name] for name in names})
            signed = command.sign(self._steering.secret(command.gateway))
            topic = Topic(command.gateway, Kind.COMMAND, name=command.target)
            under_way.append((command.id, client.publish(topic.text, signed, qos=1)))
        deadline = time.monotonic() + _TAKEN_S
        taken = [number for number, info in under_way if _taken(info, deadline)]
        if taken:
            self._store.mark_carried(taken, now)

    def _carry_configurations(self, client: mqtt.Client, *, everything: bool) -> None:
        now = self._clock()
        under_way: list[tuple[str, int, mqtt.MQTTMessageInfo]] = []
        for row in self._store.newest(unsent=not everything):
            wanted = Wanted(row["gateway"], row["revision"], row["body"])
            signed = wanted.sign(self._steering.secret(wanted.gateway))
            info = client.publish(Topic(wanted.gateway, Kind.CONFIG_WANTED).text, signed, qos=1, retain=True)
            under_way.append((wanted.gateway, wanted.revision, info))
        deadline = time.monotonic() + _TAKEN_S
        for gateway, revision, info in under_way:
            if _taken(info, deadline):
                self._store.mark_wanted(gateway, revision, now)


def _taken(info: mqtt.MQTTMessageInfo, deadline: float) -> bool:
    """Whether the broker took it; if not, it is still due in the table, and goes out again."""
    try:
        info.wait_for_publish(max(0.001, deadline - time.monotonic()))
    except (RuntimeError, ValueError):
        return False
    return info.is_published()
