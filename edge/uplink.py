"""The broker session: what is spooled is sent, oldest first, and sent again until the cloud confirms it.

A PUBACK only frees a place in the window. The watermark decides: it alone lets the spool forget, and when it
stands still, everything above it goes out again (the store absorbs what it already has).

Each connection gets a fresh paho client with a clean session, so that nothing ever waits in paho's own queue;
topics are subscribed on every connect and checked on every message, since a small broker may deliver strays.
paho calls back on its own thread while holding its locks: the callbacks here only put a note into the inbox.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge.spool import Kind as SpoolKind
from edge.wire import Kind, Topic, WireError, parse_topic

if TYPE_CHECKING:
    from edge.settings import UplinkSettings
    from edge.spool import Item, Spool

_SPOOLED = {SpoolKind.DATA: Kind.DATA, SpoolKind.RECORD: Kind.RECORD, SpoolKind.EVENT: Kind.EVENT}
_STABLE_S = 10.0
_TAKEN_OVER = 0x8E
_WILL_DELAY_S = 60
_MAX_STALL_S = 300.0
_SHORT_LIVES = 4
_SLOW_S = 30.0  # two agents of one id take turns no faster than this
_HELLO_S = 1.0
_ANSWER_S = 3.0  # amqtt never answers an MQTT 5 client: then ask again in 3.1.1, each time more patiently


@dataclass(frozen=True, slots=True)
class Connected:
    """A session stands; ``protocol`` is 5 or 4 (3.1.1)."""

    generation: int
    protocol: int


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The session is gone or could not be had; ``duplicate`` where another client uses our id."""

    generation: int
    reason: str
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """Something the cloud said to this gateway."""

    topic: Topic
    payload: bytes
    retained: bool


@dataclass(frozen=True, slots=True)
class Taken:
    """The broker took the message ``mid``."""

    generation: int
    mid: int


Notice = Connected | Disconnected | Message | Taken


class Uplink:
    """A thread that keeps a session, and ``pump`` that feeds it from the spool.

    ``inbox`` is called on the network thread with a :data:`Notice` and must not block; its receiver gives each
    notice back to ``hear`` on the agent's thread. Everything else is called on the agent's thread.
    """

    def __init__(
        self, gateway: str, settings: UplinkSettings, inbox: Callable[[Notice], None], *, will: bytes | None = None
    ) -> None:
        self._gateway, self._settings, self._inbox, self._will = gateway, settings, inbox, will
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="uplink", daemon=True)
        self._client: mqtt.Client | None = None
        self._generation = 0
        self._protocols = {"auto": [5, 4], "5": [5], "3.1.1": [4]}[settings.protocol]
        self._answer_s = _ANSWER_S
        self.connected = False
        self._under_way: set[int] = set()
        self._sent = {True: 0, False: 0}  # highest number sent, by "is it the event lane"
        self._since, self._patience = 0.0, settings.stall_s
        self._hold_until = 0.0
        self.resent = 0

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self._thread.start()

    def close(self, goodbye: bytes | None = None) -> None:
        """Leave in order (with a last retained status, if given) and end the thread."""
        if goodbye is not None and self.connected and self._client is not None:
            info = self._client.publish(Topic(self._gateway, Kind.STATUS).text, goodbye, qos=1, retain=True)
            if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS:
                info.wait_for_publish(1.0)
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5.0)

    # -- the agent's thread ----------------------------------------------------------------------------

    def hear(self, notice: Notice, *, now: float) -> None:
        """Take note of what happened on the network; ``now`` is in seconds on any steady clock."""
        if isinstance(notice, Taken):
            if notice.generation == self._generation:
                self._under_way.discard(notice.mid)
        elif isinstance(notice, Connected):
            self.connected = notice.generation == self._generation
            self._under_way.clear()
            self._sent = {True: 0, False: 0}
            # The retained watermark comes within the first round trip: wait for it rather than send twice.
            self._since, self._hold_until = now, now + _HELLO_S
        elif isinstance(notice, Disconnected) and notice.generation == self._generation:
            self.connected = False

    def confirmed(self, *, moved: bool, now: float, again: bool = False) -> None:
        """The cloud said a watermark: send on, be patient again if it moved, and begin anew if it asks for that."""
        self._hold_until = 0.0
        if again:
            self._sent = {True: 0, False: 0}
        if moved or again:
            self._since, self._patience = now, self._settings.stall_s

    def pump(self, spool: Spool, *, now: float) -> int:
        """Publish as much as the window allows; returns how many messages went out."""
        if not self.connected or now < self._hold_until:
            return 0
        mark = spool.watermark
        high = max(self._sent.values())
        if high > mark and now - self._since > self._patience:
            # Nobody confirmed for a while: what we sent may be gone. Ask again, ever more rarely.
            self._sent = {True: 0, False: 0}
            self._since, self._patience = now, min(_MAX_STALL_S, 2 * self._patience)
        elif high <= mark:
            self._since = now
        return self._send_lane(spool, events=True) + self._send_lane(spool, events=False)

    def _send_lane(self, spool: Spool, *, events: bool) -> int:
        done = 0
        while (room := self._room(spool, events=events)) > 0:
            items = spool.read(max(self._sent[events], spool.watermark), events=events, limit=room)
            for item in items:
                if not self._publish(spool.epoch, item):
                    return done
                self._sent[events] = item.seq
                done += 1
            if len(items) < room:
                break
        return done

    def _room(self, spool: Spool, *, events: bool) -> int:
        window = self._settings.window - len(self._under_way)
        if events:  # they overtake, so their numbers say nothing about how much is under way
            return window
        return min(window, self._settings.ahead - max(0, self._sent[False] - spool.watermark))

    def _publish(self, epoch: str, item: Item) -> bool:
        return self.send(Topic(self._gateway, _SPOOLED[item.kind], epoch, item.seq), item.payload)

    def send(self, topic: Topic, payload: bytes, *, retain: bool = False) -> bool:
        """Publish now or not at all; False without a session."""
        client = self._client
        if not self.connected or client is None:
            return False
        info = client.publish(topic.text, payload, qos=1, retain=retain)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            return False  # paho has queued it all the same; that client is thrown away with its queue
        self._under_way.add(info.mid)
        return True

    @property
    def busy(self) -> bool:
        """Whether messages wait for the broker's receipt."""
        return bool(self._under_way)

    # -- the network thread ----------------------------------------------------------------------------

    def _keep(self) -> None:
        delay, quick_ends = 0.5, 0
        while not self._stop.is_set():
            session = _Session(self._generation + 1, self._protocols[0])
            self._connect_once(session)
            if session.refused and len(self._protocols) > 1:
                self._protocols.append(self._protocols.pop(0))  # MQTT 5 refused: the other one next
            quick_ends = 0 if session.lasted_s > _STABLE_S or not session.accepted else quick_ends + 1
            # Two agents with one id throw each other out for ever. MQTT 5 says so; else short lives in a row do.
            duplicate = session.taken_over or quick_ends >= _SHORT_LIVES
            self._inbox(Disconnected(session.generation, session.reason, duplicate))
            if (session.accepted and not duplicate) or (session.refused and len(self._protocols) > 1):
                delay = 0.5
            longest = max(_SLOW_S, self._settings.backoff_s) if duplicate else self._settings.backoff_s
            self._stop.wait(random.uniform(0.5, 1.0) * (longest if duplicate else min(delay, longest)))  # noqa: S311
            delay = min(2 * delay, longest)

    def _connect_once(self, session: _Session) -> None:
        try:
            client = self._make_client(session)
            self._generation, self._client = session.generation, client
            client.connect(self._settings.host, self._settings.port, self._settings.keepalive_s, **_clean(session))
        except (OSError, ValueError) as why:
            session.reason = str(why) or type(why).__name__
            return
        # paho's own thread, since otherwise ``publish`` would write to the socket from ours at the same time.
        client.loop_start()
        deadline = time.monotonic() + self._answer_s
        while not session.ended.wait(0.1):
            if self._stop.is_set() or (not session.accepted and time.monotonic() > deadline):
                break
        session.refused = not session.accepted
        self._answer_s = _ANSWER_S if session.accepted else min(2 * self._answer_s, 60.0)
        _hang_up(client, session)

    def _make_client(self, session: _Session) -> mqtt.Client:
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._gateway,
            protocol=MQTTProtocolVersion(session.protocol),
            reconnect_on_failure=False,
            clean_session=True if session.protocol == 4 else None,  # noqa: PLR2004 - 4 is MQTT 3.1.1
        )
        client.max_inflight_messages_set(self._settings.window + 16)
        client.max_queued_messages_set(self._settings.window + 16)
        if self._settings.user is not None:
            client.username_pw_set(self._settings.user, self._settings.password)
        if (tls := self._settings.tls) is not None:
            cert, key = (None if path is None else str(path) for path in (tls.cert, tls.key))
            client.tls_set(str(tls.ca), cert, key)
        if self._will is not None:
            client.will_set(Topic(self._gateway, Kind.STATUS).text, self._will, 1, retain=True, **_late(session))
        client.on_connect = self._on_connect(session)
        client.on_disconnect = _on_disconnect(session)
        client.on_message = self._on_message
        client.on_publish = lambda _c, _u, mid, *_: self._inbox(Taken(session.generation, mid))
        return client

    def _on_connect(self, session: _Session) -> Callable[..., None]:
        wanted = [(f"{Topic(self._gateway, kind).text}", 1) for kind in (Kind.ACK, Kind.CONFIG_WANTED)]
        wanted.append((f"{Topic(self._gateway, Kind.COMMAND, name='x').text[:-1]}+", 1))

        def on_connect(client: mqtt.Client, _userdata: Any, _flags: Any, reason: Any, _properties: Any = None) -> None:
            if reason.is_failure:
                session.reason = f"broker refuses: {reason}"
                client.disconnect()
                return
            session.begin()
            client.subscribe(wanted)
            self._inbox(Connected(session.generation, session.protocol))

        return on_connect

    def _on_message(self, _client: mqtt.Client, _userdata: Any, message: mqtt.MQTTMessage) -> None:
        try:
            topic = parse_topic(message.topic)
        except WireError:
            return
        if topic.gateway == self._gateway and topic.kind in {Kind.ACK, Kind.COMMAND, Kind.CONFIG_WANTED}:
            self._inbox(Message(topic, bytes(message.payload), bool(message.retain)))


class _Session:
    """What is learnt during one connection; lives on the network thread."""

    def __init__(self, generation: int, protocol: int) -> None:
        self.generation, self.protocol = generation, protocol
        self.accepted = self.refused = self.taken_over = False
        self.reason = "connection lost"
        self.ended = threading.Event()
        self._began = 0.0
        self.lasted_s = 0.0

    def begin(self) -> None:
        self.accepted, self._began = True, _steady()

    def end(self, reason: Any) -> None:
        self.lasted_s = _steady() - self._began if self.accepted else 0.0
        if getattr(reason, "value", None) == _TAKEN_OVER:
            self.taken_over = True
        if self.accepted:
            self.reason = f"connection lost: {reason}"
        self.ended.set()


def _hang_up(client: mqtt.Client, session: _Session) -> None:
    """End paho's thread: politely, and where the line is dead, by closing the socket under it."""
    client.disconnect()
    session.ended.wait(0.5)
    line = client.socket()
    if isinstance(line, socket.socket):  # ssl.SSLSocket is one, too
        with contextlib.suppress(OSError):
            line.shutdown(socket.SHUT_RDWR)
    client.loop_stop()


def _on_disconnect(session: _Session) -> Callable[..., None]:
    def on_disconnect(_client: Any, _userdata: Any, _flags: Any, reason: Any, _properties: Any = None) -> None:
        session.end(reason)

    return on_disconnect


def _clean(session: _Session) -> dict[str, Any]:
    return {"clean_start": True} if session.protocol == 5 else {}  # noqa: PLR2004 - MQTT 5


def _late(session: _Session) -> dict[str, Any]:
    if session.protocol != 5:  # noqa: PLR2004 - MQTT 5
        return {}
    properties = Properties(PacketTypes.WILLMESSAGE)  # type: ignore[no-untyped-call]
    properties.WillDelayInterval = _WILL_DELAY_S
    return {"properties": properties}


def _steady() -> float:
    return time.monotonic()
