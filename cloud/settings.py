"""Settings of the service: one frozen value, read once, from one TOML file and the environment.

This is the only module of the cloud that reads either. Every field says what it is and what a wrong value does;
`docs/operating.md` lists them all, and a test keeps the two together.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path

from cloud.problems import Invalid

__all__ = ["Settings", "load"]

_PREFIX = "TIANMAI_"
_NO_SHARE = re.compile(r"[/+#\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Settings:
    """Where things are and whom to talk to. Paths are resolved against the working directory."""

    var: Path = Path("var")
    """All state on disk lies below this directory; nothing outside it is written."""

    http_host: str = "127.0.0.1"
    """Address the API and the pages listen on. Anything but loopback needs a TLS proxy in front."""

    http_port: int = 8600
    """Port of the API and the pages, 1..65535; 0 takes a free one, which a printed code cannot point to."""

    public_url: str = ""
    """What printed codes point to, without a trailing slash. Never change it once labels are printed.
    Empty: `http://{http_host}:{http_port}`."""

    mqtt_host: str = "127.0.0.1"
    """The MQTT broker's host."""

    mqtt_port: int = 1883
    """The MQTT broker's port, 1..65535."""

    mqtt_share: str = ""
    """Name of a shared subscription for several ingest processes on one broker, which needs InfluxDB. Two processes
    without it take every message twice, which costs time and changes nothing. Empty: this process takes all."""

    smtp_host: str = "127.0.0.1"
    """The mail server that alarm messages to receivers of kind `smtp` are handed to."""

    smtp_port: int = 25
    """The mail server's port, 1..65535."""

    smtp_sender: str = "tianmai@localhost"
    """The address alarm mails come from; a server that does not know it may refuse them."""

    database_url: str = ""
    """Relational store: `sqlite:///PATH` or `postgresql+psycopg://...`. Empty: `tianmai.db` below `var`."""

    readings_url: str = ""
    """Readings store: `duckdb:///PATH`, `influx+http://HOST:PORT/DATABASE` or `memory://`. Empty: `readings.duckdb`
    below `var`, which one process must own: API and ingest apart need InfluxDB."""

    keep_days: str = ""
    """For how many days single readings are kept, by quantity, `*` for all others: `"*=400 rssi=30"`. What is older is
    forgotten for good; only the sums of its hours stay. Empty: everything is kept."""

    keep_mb: str = ""
    """How many megabytes of the embedded readings store each quantity may take, `*` for all others together:
    `"*=20000 rssi=500"`. Past it the oldest tenth is forgotten, like what is too old. Empty: no limit."""

    ledger_origin: str = "trace.tianmai.example/log1"
    """The log's name in every checkpoint. A schema-less URL under a domain of yours; it can never be changed."""

    witnesses: str = ""
    """Who cosigns the log's heads: `VKEY=URL` of each witness, separated by spaces. Without one, only the operator's
    word stands against a rewritten log."""

    quorum: int = 0
    """How many of the witnesses a verification policy asks for. Above the number that answer, no code verifies."""

    timezone: str = "Asia/Shanghai"
    """Zone in which times are shown. Stored times are always UTC."""

    sign_in_minutes: int = 60
    """How long a one-time sign-in link works, 1..1440 minutes."""

    @property
    def site(self) -> str:
        """Base of all public addresses, without a trailing slash."""
        return self.public_url.rstrip("/") or f"http://{self.http_host}:{self.http_port}"

    @property
    def database(self) -> str:
        """The relational store's URL, default filled in."""
        return self.database_url or f"sqlite:///{self.var / 'tianmai.db'}"

    @property
    def readings(self) -> str:
        """The readings store's URL, default filled in."""
        return self.readings_url or f"duckdb:///{self.var / 'readings.duckdb'}"

    @property
    def photos_dir(self) -> Path:
        """Field photos, named by their own SHA-256."""
        return self.var / "photos"

    @property
    def ledger_dir(self) -> Path:
        """The log's tiles and checkpoints: static files, safe to publish."""
        return self.var / "ledger"

    @property
    def policy_file(self) -> Path:
        """The verification policy with this log's key, for `tianmai-trace verify --policy`."""
        return self.var / "policy.toml"

    @property
    def keys_dir(self) -> Path:
        """Private keys, readable by the service alone."""
        return self.var / "keys"


def load(file: Path | None = None, environment: Mapping[str, str] | None = None, **given: object) -> Settings:
    """Settings from defaults, then `file`, then `TIANMAI_*` variables, then the caller's own values (None = not given).

    Raises `Invalid` naming the setting, the value and the place it came from.
    """
    values: dict[str, object] = {}
    if file is not None:
        values |= _from_file(file)
    for name, text in (os.environ if environment is None else environment).items():
        key = name.removeprefix(_PREFIX).lower()
        if name.startswith(_PREFIX) and key in _TYPES:
            values[key] = text
    values |= {key: value for key, value in given.items() if value is not None}
    settings = Settings(**{key: _typed(key, value) for key, value in values.items()})  # type: ignore[arg-type]
    _check_share(settings)
    return settings


def _check_share(settings: Settings) -> None:
    """A bad name would end the broker connection again and again; DuckDB has room for one ingest only."""
    share = settings.mqtt_share
    if not share:
        return
    if _NO_SHARE.search(share):
        raise Invalid(f"setting mqtt_share must be a name without /, +, # and control characters, not {share!r}")
    if not settings.readings.startswith("influx+"):
        raise Invalid("setting mqtt_share needs readings in InfluxDB (readings_url): one process owns a DuckDB file")


_TYPES = {field.name: type(field.default) for field in fields(Settings) if field.default is not MISSING}
_RANGES = {
    "http_port": (0, 65535),
    "mqtt_port": (1, 65535),
    "smtp_port": (1, 65535),
    "sign_in_minutes": (1, 1440),
    "quorum": (0, 16),
}


def _from_file(file: Path) -> dict[str, object]:
    try:
        table = tomllib.loads(file.read_text("utf-8"))
    except OSError as why:
        raise Invalid(f"settings file {file} cannot be read: {why.strerror}") from why
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as why:
        raise Invalid(f"settings file {file} is not TOML: {why}") from why
    unknown = sorted(set(table) - set(_TYPES))
    if unknown:
        raise Invalid(f"settings file {file} has unknown settings: {', '.join(unknown)}")
    return table


def _typed(key: str, value: object) -> object:
    kind = _TYPES.get(key)
    if kind is None:
        raise Invalid(f"there is no setting named {key}")
    if issubclass(kind, Path):
        if not str(value).strip():
            raise Invalid(f"setting {key} must name a folder, it is empty")
        return Path(str(value))
    if kind is not int:
        return str(value)
    try:
        number = int(str(value))
    except ValueError as why:
        raise Invalid(f"setting {key} must be a whole number, not {value!r}") from why
    low, high = _RANGES.get(key, (0, 2**31))
    if not low <= number <= high:
        raise Invalid(f"setting {key} must lie in {low}..{high}, not {number}")
    return number
