"""ChirpStack v4: the eight kinds of event a LoRaWAN network server publishes, as JSON over MQTT.

``interpret`` is pure: one event becomes samples and notices. Which decoder a device gets is said by the settings
for its device profile; where nothing is said, or no decoder ships, the payload is kept raw in a notice and flagged. The
network server's own decoded ``object`` is used only where the settings map its fields to our quantities.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge import EdgeError
from edge.decoders import DecodeError, find_decoder
from edge.drivers import DriverHealth, Emit, Sample
from edge.quantities import quantity_of
from edge.settings import SettingsError, Table, parse_broker
from edge.wire import Quality

if TYPE_CHECKING:
    from threading import Event

    from edge.clock import Clock
    from edge.settings import DriverSettings, Settings

KINDS = frozenset({"up", "join", "ack", "txack", "status", "log", "location", "integration"})
_TOPIC = re.compile(r"application/([^/]+)/device/([0-9a-fA-F]{16})/event/([a-z]+)")
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)")


class ChirpStackError(EdgeError):
    """An event cannot be read (``bad_event``)."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What the settings say of one device profile.

    ``vendor`` and ``model`` choose a decoder that ships; or ``fields`` maps keys of the server's ``object`` to
    quantities, each with a factor into the quantity's unit.
    """

    vendor: str = ""
    model: str = ""
    fields: Mapping[str, tuple[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to report beside the samples; ``lora_unknown_model`` carries the payload raw (base64)."""

    kind: str
    time_ms: int | None
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Interpretation:
    """What one event says: whose it is, when, what was measured, what is to be reported."""

    kind: str
    dev_eui: str
    time_ms: int | None
    deduplication_id: str
    samples: tuple[Sample, ...] = ()
    notices: tuple[Notice, ...] = ()


def interpret(kind: str, event: Mapping[str, Any], profiles: Mapping[str, Profile]) -> Interpretation:
    """Read one event; ``profiles`` are by device profile id or name. Raises ``ChirpStackError``.

    Series are named ``<devEui>/<quantity>``. Times are those of the network server's gateway, UTC ms.
    """
    if kind not in KINDS:
        raise ChirpStackError("bad_event", f"no such kind of event: {kind[:40]!r}")
    info = event.get("deviceInfo")
    if not isinstance(info, Mapping) or re.fullmatch(r"[0-9a-fA-F]{16}", str(info.get("devEui"))) is None:
        raise ChirpStackError("bad_event", f"{kind}: deviceInfo.devEui is missing or not 16 hex digits")
    eui, time_ms = str(info["devEui"]).lower(), _time_ms(event.get("time"))
    common = (kind, eui, time_ms, str(event.get("deduplicationId", "")))
    if kind == "up":
        samples, notices = _uplink(event, info, eui, time_ms, profiles)
        return Interpretation(*common, samples, notices)
    body = {"dev_eui": eui, **{key: value for key, value in event.items() if key not in {"deviceInfo", "time"}}}
    return Interpretation(*common, _status(event, eui, time_ms), (Notice(f"lora_{kind}", time_ms, body),))


def read_message(topic: str, payload: bytes, profiles: Mapping[str, Profile]) -> Interpretation:
    """``interpret`` for a message as it comes from the broker; raises ``ChirpStackError`` and ``ValueError``."""
    found, event = _TOPIC.fullmatch(topic), json.loads(payload)
    if found is None or not isinstance(event, Mapping):
        raise ChirpStackError("bad_event", f"{topic[:80]}: not an event")
    return interpret(found.group(3), event, profiles)


def _time_ms(text: Any) -> int | None:
    """RFC 3339 with up to nine decimals -> UTC ms, rounded down; None where absent or not a time."""
    found = _TIME.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        return None
    whole, decimals, zone = found.groups()
    try:
        since = datetime.fromisoformat(whole + ("+00:00" if zone == "Z" else zone)) - datetime(1970, 1, 1, tzinfo=UTC)
    except ValueError:
        return None
    return (since.days * 86_400 + since.seconds) * 1000 + int((decimals or "0").ljust(3, "0")[:3])


def _sample(eui: str, series: str, value: float | None, time_ms: int | None, quality: Quality) -> Sample:
    known = quantity_of(series)
    return Sample(f"{eui}/{series}", value, known.unit if known else "", time_ms=time_ms, quality=quality)


def _status(event: Mapping[str, Any], eui: str, time_ms: int | None) -> tuple[Sample, ...]:
    level = event.get("batteryLevel")
    if isinstance(level, bool) or not isinstance(level, int | float) or event.get("batteryLevelUnavailable"):
        return ()
    return (_sample(eui, "battery_level", float(level), time_ms, Quality.GOOD),)


def _uplink(
    event: Mapping[str, Any],
    info: Mapping[str, Any],
    eui: str,
    time_ms: int | None,
    profiles: Mapping[str, Profile],
) -> tuple[tuple[Sample, ...], tuple[Notice, ...]]:
    payload = _payload(event)
    port = event.get("fPort", 0)
    raw = {
        "dev_eui": eui,
        "f_port": port,
        "data": event.get("data", ""),
        "profile": info.get("deviceProfileName") or info.get("deviceProfileId"),
    }
    profile = profiles.get(str(info.get("deviceProfileId"))) or profiles.get(str(info.get("deviceProfileName")))
    link = tuple(_link(event.get("rxInfo"), eui, time_ms))
    if profile is None:
        return link, (Notice("lora_unknown_model", time_ms, raw),)
    if profile.fields:
        return (*_from_object(event.get("object"), eui, time_ms, profile), *link), ()
    try:
        values = find_decoder(profile.vendor, profile.model).decode(int(port), payload)
    except (DecodeError, TypeError, ValueError) as why:
        code = why.code if isinstance(why, DecodeError) else "torn"
        kind = "lora_unknown_model" if code == "unknown_model" else "lora_undecoded"
        return link, (Notice(kind, time_ms, {**raw, "reason": code}),)
    found = [_sample(eui, one.series, one.reading, time_ms, one.quality) for one in values if one.series]
    return (*found, *link), ()


def _payload(event: Mapping[str, Any]) -> bytes:
    try:
        return base64.b64decode(event.get("data") or "", validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise ChirpStackError("bad_event", "up: data is not base64") from None


def _from_object(decoded: Any, eui: str, time_ms: int | None, profile: Profile) -> list[Sample]:
    """The server's own decoding; numbers may come as text, other things are not numbers."""
    found = []
    for key, (series, factor) in profile.fields.items():
        value = _number(decoded.get(key)) if isinstance(decoded, Mapping) else None
        quality = Quality.GOOD if value is not None else Quality.DEVICE_ERROR
        found.append(_sample(eui, series, None if value is None else value * factor, time_ms, quality))
    return found


def _number(value: Any) -> float | None:
    try:
        number = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _link(receptions: Any, eui: str, time_ms: int | None) -> list[Sample]:
    """The best reception: RSSI (dBm given, dBW kept, as SenML has it) and SNR."""
    heard = [one for one in receptions or () if isinstance(one, Mapping) and _number(one.get("rssi")) is not None]
    if not heard:
        return []
    best = max(heard, key=lambda one: (_number(one.get("snr")) or -99.0, _number(one["rssi"])))
    samples = [_sample(eui, "rssi", float(best["rssi"]) - 30.0, time_ms, Quality.GOOD)]
    if (snr := _number(best.get("snr"))) is not None:
        samples.append(_sample(eui, "snr", snr, time_ms, Quality.GOOD))
    return samples


class ChirpStackDriver:
    """Listens to a network server's broker, usually on the gateway itself; a dead broker is tried again for ever."""

    def __init__(self, name: str, host: str, port: int, profiles: Mapping[str, Profile], clock: Clock) -> None:
        self.name, self.health = name, DriverHealth()
        self._host, self._port, self._profiles, self._clock = host, port, profiles, clock
        self._seen: dict[str, None] = {}

    def run(self, emit: Emit, stop: Event) -> None:
        """Listen until told to stop."""
        client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv311, clean_session=True)
        client.on_connect = lambda c, *_: c.subscribe("application/+/device/+/event/+", 1)
        client.on_message = lambda _c, _u, message: self._take(message.topic, bytes(message.payload), emit)
        client.reconnect_delay_set(1, 60)
        client.connect_async(self._host, self._port)
        client.loop_start()
        stop.wait()
        client.disconnect()
        client.loop_stop()

    def _take(self, topic: str, payload: bytes, emit: Emit) -> None:
        try:
            said = read_message(topic, payload, self._profiles)
        except (ChirpStackError, ValueError, RecursionError) as why:
            self.health.failed += 1
            self.health.last_error = str(why)[:200]
            return
        if self._repeated(said):
            return
        self.health.ok += 1
        stamp = self._clock.stamp()
        samples = [s if s.time_ms is not None else _stamped(s, stamp) for s in said.samples]
        self.health.devices[said.dev_eui] = said.kind
        emit(samples, [(notice.kind, dict(notice.body), notice.time_ms) for notice in said.notices])

    def _repeated(self, said: Interpretation) -> bool:
        """Several gateways may hear one uplink; the server names it once."""
        key = f"{said.kind}:{said.deduplication_id}"
        if not said.deduplication_id:
            return False
        repeated = key in self._seen
        self._seen[key] = None
        while len(self._seen) > 500:  # noqa: PLR2004 - repeats come within seconds
            del self._seen[next(iter(self._seen))]
        return repeated


def _stamped(sample: Sample, stamp: int) -> Sample:
    return Sample(sample.name, sample.value, sample.unit, stamp=stamp, quality=sample.quality)


def make_chirpstack(row: DriverSettings, options: Table, settings: Settings, clock: Clock) -> ChirpStackDriver:
    """From ``[[driver]] kind = "chirpstack"``: url, and one ``[driver.profile.<id or name>]`` per device profile."""
    del settings
    _, host, port = parse_broker(options.text("url"), f"{options.where}.url")
    profiles = {}
    for name, table in options.table("profile").rest().items():
        if not isinstance(table, Mapping):
            raise SettingsError(f"{options.where}.profile.{name}: must be a table")
        profiles[name] = _profile(Table(f"{options.where}.profile.{name}", table))
    return ChirpStackDriver(row.name, host, port, profiles, clock)


def _profile(table: Table) -> Profile:
    if "vendor" in table:
        profile = Profile(table.text("vendor"), table.text("model"))
        try:
            find_decoder(profile.vendor, profile.model)
        except DecodeError as why:
            raise SettingsError(f"{table.where}: {why}") from None
    else:
        profile = Profile(fields=_fields(table))
    table.done()
    return profile


def _fields(table: Table) -> dict[str, tuple[str, float]]:
    fields: dict[str, tuple[str, float]] = {}
    for key, value in table.table("fields").rest().items():
        series, factor = value if isinstance(value, Sequence) and not isinstance(value, str) else (value, 1.0)
        if not isinstance(series, str) or quantity_of(series) is None or not isinstance(factor, int | float):
            raise SettingsError(f"{table.where}.fields.{key}: must be a quantity, or [quantity, factor]")
        fields[key] = (series, float(factor))
    if not fields:
        raise SettingsError(f"{table.where}: needs vendor and model, or fields")
    return fields
