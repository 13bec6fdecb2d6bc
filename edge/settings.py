"""One TOML file -> frozen dataclasses: the only place that reads settings.

Every value is checked at the door with its name and unit; an unknown key is an error, since a misspelt
``cap_mb`` that is silently ignored fills a disk a year later. Paths that are not absolute are taken from the
directory of the file.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from edge import EdgeError
from edge.farms import Farm, FarmError, load_farm
from edge.quantities import QUANTITIES
from edge.spool import SpoolSettings
from edge.wire import Kind, Topic, WireError

_PORTS = {"mqtt": 1883, "mqtts": 8883}
_MIN_SECRET = 32
_FROM_AFAR = frozenset({"gateway", "page", "driver", "output"})
_GATEWAY_FROM_AFAR = frozenset({"farm", "timezone", "status_s", "begun"})


class SettingsError(EdgeError):
    """A settings file is missing or wrong; names file, section and key (code ``bad_settings``)."""

    def __init__(self, detail: str) -> None:
        super().__init__("bad_settings", detail)


class Table:
    """One TOML table whose values are taken one by one; what was not taken is unknown."""

    def __init__(self, where: str, values: Mapping[str, Any]) -> None:
        self.where = where
        self._left = dict(values)

    def text(self, key: str, default: str | None = None) -> str:
        """A non-empty text."""
        value = self._take(key, default)
        if not isinstance(value, str) or not value:
            raise SettingsError(f"{self.where}.{key}: must be a text, not {value!r}")
        return value

    def texts(self, key: str) -> list[str]:
        """A list of at least one text."""
        value = self._take(key, None)
        if not isinstance(value, list) or not value or not all(isinstance(one, str) for one in value):
            raise SettingsError(f"{self.where}.{key}: must be a list of texts, not {value!r}")
        return list(value)

    def number(self, key: str, default: float | None = None, *, low: float, high: float) -> float:
        """A number in ``low..high``."""
        value = self._take(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise SettingsError(f"{self.where}.{key}: must be a number in {low}..{high}, not {value!r}")
        return float(value)

    def whole(self, key: str, default: int | None = None, *, low: int, high: int) -> int:
        """An integer in ``low..high``."""
        value = self._take(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise SettingsError(f"{self.where}.{key}: must be a whole number in {low}..{high}, not {value!r}")
        return value

    def choice(self, key: str, choices: tuple[str, ...], default: str | None = None) -> str:
        """One of the words."""
        value = self._take(key, default)
        if value not in choices:
            raise SettingsError(f"{self.where}.{key}: must be one of {', '.join(choices)}, not {value!r}")
        return str(value)

    def flag(self, key: str, *, default: bool) -> bool:
        """True or false."""
        value = self._take(key, default)
        if not isinstance(value, bool):
            raise SettingsError(f"{self.where}.{key}: must be true or false, not {value!r}")
        return value

    def table(self, key: str) -> Table:
        """A table inside; empty where absent."""
        value = self._left.pop(key, {})
        if not isinstance(value, Mapping):
            raise SettingsError(f"{self.where}.{key}: must be a table")
        return Table(f"{self.where}.{key}" if self.where else key, value)

    def tables(self, key: str) -> list[Table]:
        """An array of tables; empty where absent."""
        value = self._left.pop(key, [])
        if not isinstance(value, list) or not all(isinstance(row, Mapping) for row in value):
            raise SettingsError(f"{self.where}.{key}: must be an array of tables [[{key}]]")
        return [Table(f"{key}[{at}]", row) for at, row in enumerate(value)]

    def rest(self) -> dict[str, Any]:
        """Everything not taken yet, taken now."""
        left, self._left = self._left, {}
        return left

    def __contains__(self, key: str) -> bool:
        return key in self._left

    def done(self) -> None:
        """Refuse what nobody asked for."""
        if self._left:
            raise SettingsError(f"{self.where or 'top level'}: unknown key {min(self._left)!r}")

    def _take(self, key: str, default: Any) -> Any:
        value = self._left.pop(key, default)
        if value is None:
            raise SettingsError(f"{self.where}.{key}: is missing")
        return value


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """Files for TLS; read again at every connect, so that a renewed certificate needs no restart."""

    ca: Path
    cert: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class UplinkSettings:
    """How the broker is reached and how much may be under way.

    Attributes:
        host: of the broker; ``port`` its TCP port.
        protocol: ``auto`` asks for MQTT 5 and is content with 3.1.1.
        keepalive_s: a dead line is noticed after about twice this.
        window: packs published and not yet taken by the broker.
        ahead: packs published and not yet confirmed by the cloud.
        stall_s: after this long without a new watermark, unconfirmed packs are sent again.
    """

    host: str
    port: int
    protocol: str = "auto"
    keepalive_s: int = 30
    window: int = 64
    ahead: int = 512
    stall_s: float = 10.0
    backoff_s: float = 60.0
    user: str | None = None
    password: str | None = None
    tls: TlsSettings | None = None


@dataclass(frozen=True, slots=True)
class DriverSettings:
    """One ``[[driver]]`` or ``[[output]]``: its kind, its name (for an output the actuator's) and its options."""

    kind: str
    name: str
    options: Mapping[str, Any]
    directory: Path


@dataclass(frozen=True, slots=True)
class PageSettings:
    """Where the page on the farm's own network listens, and the PIN (4 to 12 digits) that opens it."""

    host: str
    port: int
    pin: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ThinSettings:
    """When the spool is full, keep one reading in ``one_in`` of series that measure one of ``quantities``."""

    one_in: int
    quantities: frozenset[str]


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a gateway is told. ``secret`` is never printed."""

    gateway: str
    farm: Farm
    zone: ZoneInfo
    uplink: UplinkSettings
    spool_dir: Path
    spool: SpoolSettings
    drivers: tuple[DriverSettings, ...]
    outputs: tuple[DriverSettings, ...]
    secret: bytes = field(repr=False)
    page: PageSettings | None = None
    thin: ThinSettings | None = None
    pack_readings: int = 200
    pack_age_s: float = 5.0
    status_s: float = 30.0
    begun_ms: int | None = None
    probation_s: float = 600.0


def notify_address() -> str:
    """Where systemd listens for this process (``NOTIFY_SOCKET``); empty outside systemd."""
    return os.environ.get("NOTIFY_SOCKET", "")


def load_settings(path: Path, wanted: Mapping[str, Any] | None = None) -> Settings:
    """Read and check a settings file; raises ``SettingsError`` with one line.

    ``wanted`` is a configuration from afar: its tables take the place of the file's, but never identity, uplink or
    spool, and it may not name a program to run that the file does not name.
    """
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as why:
        raise SettingsError(f"{path}: cannot read: {why.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as why:
        raise SettingsError(f"{path}: not TOML: {why}") from None
    try:
        if wanted:
            document = _overlaid(document, wanted)
        return _settings(Table("", document), path.resolve().parent)
    except (SettingsError, FarmError) as why:
        raise SettingsError(f"{path}: {why}") from None


def _overlaid(document: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    gateway = wanted.get("gateway", {})
    strange = set(wanted) - _FROM_AFAR | (set(gateway) - _GATEWAY_FROM_AFAR if isinstance(gateway, Mapping) else set())
    if strange:
        raise SettingsError(f"wanted configuration: {min(strange)!r} cannot be set from afar")
    own = document.get("driver", []), document.get("output", [])
    for row in [*Table("", wanted).tables("driver"), *Table("", wanted).tables("output")]:
        values = row.rest()
        if values.get("kind") == "exec" and not any(values in rows for rows in own):
            raise SettingsError("wanted configuration: a program can only be named in the gateway's own file")
    if not isinstance(gateway, Mapping):
        raise SettingsError("wanted configuration: gateway must be a table")
    return {**document, **wanted, "gateway": {**document.get("gateway", {}), **gateway}}


def _settings(top: Table, base: Path) -> Settings:
    gateway, spool = top.table("gateway"), top.table("spool")
    farm, zone = load_farm(gateway.text("farm")), load_zone(gateway.text("timezone", "Asia/Shanghai"))
    begun_ms = _day(gateway.text("begun"), zone) if "begun" in gateway else None
    uplink = _uplink(top.table("uplink"), base)
    settings = Settings(
        gateway=_gateway_id(gateway.text("id")),
        farm=farm if begun_ms is None else farm.begun(begun_ms),
        zone=zone,
        begun_ms=begun_ms,
        secret=_secret(base / gateway.text("secret_file")),
        status_s=gateway.number("status_s", 30.0, low=0.2, high=3600),
        probation_s=gateway.number("probation_s", 600.0, low=1, high=86_400),
        uplink=uplink,
        page=_page(top.table("page")) if "page" in top else None,
        spool_dir=base / spool.text("dir"),
        spool=SpoolSettings(
            cap_bytes=round(spool.number("cap_mb", 512, low=0.25, high=1_000_000) * 1024 * 1024),
            cap_days=spool.number("cap_days", 30, low=0, high=3650),
            segment_bytes=spool.whole("segment_kb", 1024, low=16, high=65536) * 1024,
        ),
        thin=_thin(spool.table("thin")) if "thin" in spool else None,
        pack_readings=spool.whole("pack_readings", 200, low=1, high=2000),
        pack_age_s=spool.number("pack_age_s", 5.0, low=0.05, high=3600),
        drivers=tuple(_driver(row, base) for row in top.tables("driver")),
        outputs=tuple(_driver(row, base, "actuator") for row in top.tables("output")),
    )
    for table in (gateway, spool, top):
        table.done()
    return settings


def _gateway_id(text: str) -> str:
    try:
        return Topic(text, Kind.STATUS).gateway
    except WireError as why:
        raise SettingsError(f"gateway.id: {why}") from None


def _day(text: str, zone: ZoneInfo) -> int:
    """The beginning of a day, in ms UTC."""
    try:
        return int(datetime.fromisoformat(text).replace(tzinfo=zone).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise SettingsError(f"gateway.begun: {text!r} is not a day such as '2026-05-01'") from None


def load_zone(name: str) -> ZoneInfo:
    """The time zone of that IANA name; raises ``SettingsError``."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise SettingsError(f"no time zone {name!r} on this machine (package tzdata; e.g. Asia/Shanghai)") from None


def _secret(path: Path) -> bytes:
    try:
        secret = path.read_bytes().strip()
    except OSError as why:
        raise SettingsError(f"gateway.secret_file: {path}: {why.strerror}") from None
    if len(secret) < _MIN_SECRET:
        raise SettingsError(f"gateway.secret_file: {path}: a secret needs at least {_MIN_SECRET} characters")
    return secret


def _uplink(table: Table, base: Path) -> UplinkSettings:
    scheme, host, port = parse_broker(table.text("url"), f"{table.where}.url")
    tls = None
    if scheme == "mqtts":
        cert, key = (base / table.text(name) if name in table else None for name in ("cert", "key"))
        tls = TlsSettings(base / table.text("ca"), cert, key)
    settings = UplinkSettings(
        host=host,
        port=port,
        protocol=table.choice("protocol", ("auto", "5", "3.1.1"), "auto"),
        keepalive_s=table.whole("keepalive_s", 30, low=1, high=3600),
        window=table.whole("window", 64, low=1, high=64),
        ahead=table.whole("ahead", 512, low=1, high=10_000),
        stall_s=table.number("stall_s", 10.0, low=0.1, high=3600),
        backoff_s=table.number("backoff_s", 60.0, low=0.1, high=3600),
        user=table.text("user") if "user" in table else None,
        password=table.text("password") if "password" in table else None,
        tls=tls,
    )
    table.done()
    return settings


def parse_broker(url: str, where: str) -> tuple[str, str, int]:
    """``mqtt://HOST:PORT`` or ``HOST:PORT`` -> scheme, host, port; raises ``SettingsError``."""
    try:
        parts = urlsplit(url if "://" in url else f"mqtt://{url}")
        port = parts.port
    except ValueError:
        raise SettingsError(f"{where}: {url!r} is not mqtt://HOST:PORT") from None
    if parts.scheme not in _PORTS or not parts.hostname or parts.path not in {"", "/"}:
        raise SettingsError(f"{where}: {url!r} is not mqtt://HOST:PORT or mqtts://HOST:PORT")
    return parts.scheme, parts.hostname, port or _PORTS[parts.scheme]


def _page(table: Table) -> PageSettings:
    listen, pin = table.text("listen", "127.0.0.1:8088"), table.text("pin")
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:  # noqa: PLR2004 - the highest port there is
        raise SettingsError(f"page.listen: {listen!r} is not ADDRESS:PORT")
    if re.fullmatch(r"\d{4,12}", pin) is None:
        raise SettingsError("page.pin: must be 4 to 12 digits in quotes")
    table.done()
    return PageSettings(host, int(port), pin)


def _thin(table: Table) -> ThinSettings:
    one_in, named = table.whole("one_in", low=2, high=10_000), table.texts("quantities")
    for name in named:
        if name not in QUANTITIES:
            raise SettingsError(f"{table.where}.quantities: no quantity {name!r}")
    table.done()
    return ThinSettings(one_in, frozenset(named))


def _driver(table: Table, base: Path, key: str = "name") -> DriverSettings:
    kind = table.text("kind")
    name = table.text(key, kind)
    if re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,35}", name) is None:
        raise SettingsError(f"{table.where}.{key}: {name!r} is not a short lower-case word")
    return DriverSettings(kind, name, table.rest(), base)
