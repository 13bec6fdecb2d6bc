"""The broker's side of ingest: receive, batch, hand over, acknowledge, tell the watermark.

Three threads. paho's own only fills a bounded queue; when that is full it blocks, the broker's window fills,
and in the end the gateways' disks do, which is where data is safe. The second takes what has come (2,000 messages, or
what arrived within 50 ms), gives it to the pipeline, and acknowledges to the broker only what is durable. While a store
is down it keeps its batch and tries again; nothing is dropped and nothing more is read. The third sums up hours.

The session is clean and everything is subscribed on each connect: what the broker forgets, the gateways send again.
They would find out by themselves, since the watermark has not moved, but ever more patiently; so whoever listens anew
says so, and they begin again at the watermark at once. MQTT 5 is offered first (its receive-maximum lets more than a
broker's default window be under way); a broker that only knows 3.1.1 is spoken to in 3.1.1.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from threading import Event, Thread
from typing import Any, Final, NamedTuple

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from sqlalchemy.exc import DBAPIError

from cloud.problems import CloudError
from cloud.telemetry.dead_letters import Message
from cloud.telemetry.inbox import Inbox
from cloud.telemetry.pipeline import OnEvents, OnRecord, OnStored, Pipeline
from cloud.telemetry.quick_client import Published, QuickClient
from cloud.telemetry.registry import Registry
from cloud.telemetry.retention import Keep, forget_old
from cloud.telemetry.store import ReadingsStore, StoreUnavailable
from edge.wire import PREFIX, Ack, Kind, Topic

__all__ = ["Broker", "Ingest"]

_LOG = logging.getLogger(__name__)
_NUMBERED: Final = ("data/#", "record/#", "event/#")
_RETAINED: Final = ("status", "meta/#")
_BATCH_MESSAGES = 2000
_BATCH_S = 0.05
# A window of the broker that is smaller than a batch empties the queue early; waiting on would only add delay.
_LULL_S = 0.01
_RECEIVE_MAXIMUM = 4000
_NO_EPOCH = "0" * 8  # for a gateway of which nothing is stored: no spool has it, and it is asked to begin all the same
_ACK_EVERY_S = 0.2
_RETRY_S = (0.2, 0.5, 1.0, 2.0, 5.0)
_RECONNECT_S = 0.5
_WELCOME_S = 3.0
_AWAY_S = 5.0
_LOOK_S = 5.0
# Often: a gateway that catches up makes old hours dirty, and every question about them reads their readings.
_ROLL_UP_S = 10.0
_FORGET_S = 12 * 3600.0


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the MQTT broker is, and as whom to speak to it."""

    host: str
    port: int
    username: str | None = None
    password: str | None = None


class _Pending(NamedTuple):
    message: Message
    mid: int
    qos: int
    client: QuickClient  # an acknowledgement is worth something only on the connection that brought the message


class Ingest:
    """Takes in what gateways send through one MQTT broker, from `start` to `stop`.

    `share` names a shared subscription (`$share/NAME/...`) for several ingest processes on one broker; it needs a
    readings store with `many_processes`. `refusals` are the exceptions by which `on_record` refuses for good. `keep`
    says how long and how much is kept; without it everything stays for ever.
    """

    def __init__(  # noqa: PLR0913 - what wiring passes, each with its own name
        self,
        readings: ReadingsStore,
        registry: Registry,
        broker: Broker,
        *,
        clock: Callable[[], int],
        on_record: OnRecord | None = None,
        on_stored: OnStored | None = None,
        on_events: OnEvents | None = None,
        refusals: tuple[type[Exception], ...] = (CloudError,),
        share: str | None = None,
        keep: Keep | None = None,
        away_s: float = _AWAY_S,
    ) -> None:
        self._pipeline = Pipeline(
            readings,
            registry,
            clock=clock,
            on_record=on_record,
            on_stored=on_stored,
            on_events=on_events,
            refusals=refusals,
        )
        self._readings = readings
        self._registry = registry
        self._broker = broker
        self._clock = clock
        self._share = share
        self._keep = keep
        self._patience_s = away_s
        self._inbox: Inbox[_Pending] = Inbox(2 * _RECEIVE_MAXIMUM, _BATCH_MESSAGES)
        self._stop = Event()
        self._gone = Event()  # the present connection has ended
        self._listening = Event()  # anew: tell every gateway its watermark, and that it should begin there
        self._client: QuickClient | None = None
        self._modern = True  # which MQTT version is offered
        self._welcome = False  # the present connection was accepted
        self._away_s: float | None = None  # since when no broker has let us in
        self._told_away = False
        self._acks: dict[str, Ack] = {}
        self._told_s = 0.0
        self._threads: list[Thread] = []
        self._taken = 0
        self._store_down = False

    # --- the life of it -----------------------------------------------------------------------------

    def start(self) -> None:
        """Begin. An absent broker is waited for, never an error."""
        for work in (self._stay_connected, self._work, self._keep_house):
            thread = Thread(target=work, name=f"ingest{work.__name__}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """End all threads; what was not acknowledged will come again."""
        self._stop.set()
        self._gone.set()
        for thread in self._threads:
            thread.join(timeout=10)

    def health(self) -> dict[str, Any]:
        """Figures for a health page: connected, MQTT version, messages taken and waiting, whether the store is down."""
        client = self._client
        return {
            "connected": client is not None and client.is_connected(),
            "mqtt": "5" if self._modern else "3.1.1",
            "taken": self._taken,
            "waiting": len(self._inbox),
            "store_down": self._store_down,
        }

    # --- the connection -----------------------------------------------------------------------------

    def _stay_connected(self) -> None:
        """One connection after the other; the protocol version changes whenever a broker turns us away."""
        while not self._stop.is_set():
            self._gone.clear()
            self._welcome = False
            client = self._new_client()
            try:
                client.connect(self._broker.host, self._broker.port, keepalive=30, **_greeting(modern=self._modern))
            except OSError as why:
                self._missed(str(why))
                self._stop.wait(_RECONNECT_S)
                continue
            self._client = client
            client.loop_start()
            # amqtt does not refuse MQTT 5 with properties, it says nothing at all.
            if not self._gone.wait(_WELCOME_S) and self._welcome:
                self._listen(client)
            if not self._welcome and not self._stop.is_set():
                self._modern = not self._modern
                self._missed("it does not let us in")
            client.disconnect()
            client.loop_stop()
            self._stop.wait(_RECONNECT_S)

    def _missed(self, why: str) -> None:
        """Say once that the broker cannot be reached, after some seconds in which it might have been starting."""
        now = time.monotonic()
        self._away_s = self._away_s or now
        if not self._told_away and now - self._away_s >= self._patience_s:
            self._told_away = True
            _LOG.warning("no broker at %s:%d (%s); trying again", self._broker.host, self._broker.port, why)

    def _listen(self, client: QuickClient) -> None:
        """Until the connection ends, or the thread that reads it has died over something no broker should send."""
        while not self._gone.wait(_LOOK_S) and client.reading():
            pass

    def _new_client(self) -> QuickClient:
        client = QuickClient(
            CallbackAPIVersion.VERSION2,
            protocol=mqtt.MQTTv5 if self._modern else mqtt.MQTTv311,
            manual_ack=True,
            reconnect_on_failure=False,
        )
        if self._broker.username is not None:
            client.username_pw_set(self._broker.username, self._broker.password)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_published = self._on_published
        return client

    def _on_connect(self, client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            return
        self._welcome = True
        prefix = f"$share/{self._share}/" if self._share else ""
        # What is retained (status, meta) belongs to everybody: a shared subscription would not deliver it.
        numbered = [(f"{prefix}{PREFIX}/+/{tail}", 1) for tail in _NUMBERED]
        client.subscribe(numbered + [(f"{PREFIX}/+/{tail}", 1) for tail in _RETAINED])
        level = logging.WARNING if self._told_away else logging.INFO
        self._away_s, self._told_away = None, False
        version = "5" if self._modern else "3.1.1"
        _LOG.log(level, "connected to the broker at %s:%d, MQTT %s", self._broker.host, self._broker.port, version)

    def _on_subscribe(self, _client: mqtt.Client, _data: Any, _mid: int, reasons: Any, _properties: Any) -> None:
        if refused := [str(reason) for reason in reasons if reason.is_failure]:
            _LOG.error("the broker lets us not listen to everything: %s; look at its access rules", ", ".join(refused))
        self._listening.set()

    def _on_disconnect(self, _client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if self._welcome and not self._stop.is_set():
            _LOG.warning("the broker connection ended (%s); connecting again", reason)
        self._gone.set()

    def _on_message(self, client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        assert isinstance(client, QuickClient)  # noqa: S101 - the only kind that is made here
        topic = message._topic  # noqa: SLF001 - `topic` would raise in paho's thread where it is not UTF-8
        whole = Published(topic, bytes(message.payload), message.mid, message.qos, message.retain)
        self._on_published(client, [whole])

    def _on_published(self, client: QuickClient, messages: Sequence[Published]) -> None:
        now = self._clock()
        # An unreadable topic goes on as it is: the pipeline checks every topic anyway, and brokers may hand out strays.
        some = [
            _Pending(Message(topic.decode("utf-8", "replace"), payload, now, retain), mid, qos, client)
            for topic, payload, mid, qos, retain in messages
        ]
        while not self._stop.is_set() and not self._inbox.put(some, 0.5):
            pass

    # --- the work -----------------------------------------------------------------------------------

    def _work(self) -> None:
        while not self._stop.is_set():
            batch = self._inbox.take(_ACK_EVERY_S, _BATCH_S, _LULL_S)
            if batch:
                self._take(batch)
            if self._listening.is_set():
                self._greet()
            self._tell()

    def _greet(self) -> None:
        """Ask every gateway to begin anew at its watermark; tried again with the next batch where a store is away."""
        client = self._client
        self._listening.clear()
        try:
            names = [gateway.id for gateway in self._registry.gateways()]
            acks = self._pipeline.acks(names)
        except (CloudError, DBAPIError) as why:
            _LOG.warning("watermarks cannot be told now: %s", why)
            self._stop.wait(_RETRY_S[0])
            self._listening.set()
            return
        self._acks |= acks
        if client is None:
            return
        for name in names:
            said = acks.get(name, Ack(_NO_EPOCH, 0, self._clock()))
            client.publish(Topic(name, Kind.ACK).text, replace(said, again=True).encode(), qos=1)

    def _take(self, batch: list[_Pending]) -> None:
        acks = self._durably([pending.message for pending in batch])
        if acks is None:
            return
        self._acks |= acks
        self._taken += len(batch)
        client = self._client
        if client is not None:
            client.ack_all(pending.mid for pending in batch if pending.qos and pending.client is client)

    def _durably(self, messages: list[Message]) -> dict[str, Ack] | None:
        """The pipeline's answer, however long the store is away; None when stopped meanwhile."""
        delays = iter(_RETRY_S)
        while not self._stop.is_set():
            try:
                acks = self._pipeline.take(messages)
            except StoreUnavailable as why:
                self._wait_for_store(str(why), len(messages), next(delays, _RETRY_S[-1]))
            except Exception as why:  # noqa: BLE001 - a bug of ours must not hold up a county: set aside, logged
                if len(messages) > 1:
                    return self._one_by_one(messages)
                _LOG.exception("a message at %s could not be handled", messages[0].topic)
                try:
                    return self._pipeline.bury(messages[0], why)
                except (CloudError, DBAPIError) as away:
                    self._wait_for_store(str(away), 1, next(delays, _RETRY_S[-1]))
            else:
                if self._store_down:
                    _LOG.warning("the store is back")
                self._store_down = False
                return acks
        return None

    def _wait_for_store(self, why: str, messages: int, seconds: float) -> None:
        if not self._store_down:
            _LOG.warning("%s; keeping %d messages and trying again", why, messages)
        self._store_down = True
        self._stop.wait(seconds)

    def _one_by_one(self, messages: list[Message]) -> dict[str, Ack] | None:
        found: dict[str, Ack] = {}
        for message in messages:
            acks = self._durably([message])
            if acks is None:
                return None
            found |= acks
        return found

    def _keep_house(self) -> None:
        """Sum up the hours that ended, so that long questions stay quick; twice a day forget what is too old."""
        forgotten_s = float("-inf")
        while not self._stop.wait(_ROLL_UP_S):
            try:
                self._readings.roll_up(self._clock())
                if self._keep is not None and time.monotonic() - forgotten_s > _FORGET_S:
                    forgotten_s = time.monotonic()
                    gone = forget_old(self._readings, self._registry, self._keep, self._clock())
                    _LOG.info("%d readings were forgotten, as the settings ask", gone)
            except Exception as why:  # noqa: BLE001 - whatever it was, the next round tries again; it is logged
                _LOG.warning("hours could not be summed up now: %s", why)

    def _tell(self) -> None:
        """Publish the watermarks that moved, a few times a second: gateways need them to trim, not to breathe."""
        client = self._client
        now = time.monotonic()
        if not self._acks or client is None or not client.is_connected() or now - self._told_s < _ACK_EVERY_S:
            return
        self._told_s = now
        acks, self._acks = self._acks, {}
        for gateway, ack in acks.items():
            client.publish(Topic(gateway, Kind.ACK).text, ack.encode(), qos=1, retain=True)


def _greeting(*, modern: bool) -> dict[str, Any]:
    """What only one of the two protocol versions can say when connecting."""
    if not modern:
        return {}
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho leaves it untyped
    properties.ReceiveMaximum = _RECEIVE_MAXIMUM
    return {"clean_start": True, "properties": properties}
