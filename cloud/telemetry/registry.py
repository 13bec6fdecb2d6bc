"""Who may send, and under which number a series is stored.

A gateway is registered before it is heard; its series register themselves at their first reading, up to the gateway's
quota, and keep the unit they came with: a sensor that changes its unit without changing its name is a broken promise,
not a new series. The registry answers from memory on the hot path; what it has not seen it asks the database.
"""

import logging
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

from sqlalchemy import Connection, Engine, Row, func, select, tuple_, update
from sqlalchemy.exc import OperationalError

from cloud.problems import Conflict, Invalid, NotFound
from cloud.telemetry.tables import event, gateway, insert_or, metadata, sensor_meta, series, status

__all__ = ["REMEMBERED_S", "Gateway", "Registry", "Series", "metadata"]

_LOG = logging.getLogger(__name__)

_GATEWAY_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,35}\Z")
DEFAULT_MAX_SERIES = 2000
# So long one process goes on with a gateway that another has changed.
REMEMBERED_S = 10.0
# Gateways named in one query.
_AT_ONCE = 500


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Gateway:
    """A registered gateway.

    `site` is where it stands as chain events name the place (a GLN as URI), empty where no chain passes. `secret` is
    what it signs with; it leaves this process only at registration.
    """

    id: str
    name: str
    farm: str
    region: str
    site: str
    secret: bytes
    max_series: int
    added_ms: int
    disabled_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """What one sensor says about one quantity: `name` is sensor/quantity, `unit` a SenML name or UCUM code."""

    id: int
    gateway: str
    name: str
    unit: str
    calibration: str | None
    first_ms: int


class Registry:
    """Gateways, series, and what gateways say about themselves."""

    def __init__(
        self, engine: Engine, *, clock: Callable[[], int] = _now_ms, remembered_s: float = REMEMBERED_S
    ) -> None:
        self.engine = engine
        self._remembered_s = remembered_s
        self._clock = clock
        self._lock = Lock()
        self._gateways: dict[str, Gateway] = {}
        self._read_s = time.monotonic()
        self._listed_gateways: tuple[list[tuple[Any, ...]], list[Gateway]] = ([], [])  # rows as read, what they are
        self._series: dict[tuple[str, str], Series] = {}
        self._by_id: dict[int, Series] = {}
        self._of_gateway: dict[str, list[Series]] = {}
        self._newest_id = -1
        self._listed = 0
        self._listing = Lock()  # twenty who ask at once need one list, not twenty
        self._counts: dict[str, int] = {}

    def create(self) -> None:
        """Create the tables that are missing."""
        metadata.create_all(self.engine)

    # --- gateways -----------------------------------------------------------------------------------

    def add_gateway(
        self,
        id: str,  # noqa: A002 - the word of the domain
        *,
        farm: str,
        region: str,
        name: str = "",
        site: str = "",
        secret: bytes | None = None,
    ) -> Gateway:
        """Register a gateway, or return it where it stands with the same farm type and region, its secret unchanged.

        Raises `Invalid` for an id that no topic could carry, `Conflict` where the id belongs to another farm.
        """
        if not _GATEWAY_ID.match(id):
            raise Invalid(f"a gateway id is 1..36 of a-z, 0-9 and -, not {id[:50]!r}", pointer="/id")
        fresh = {
            "id": id,
            "name": name or id,
            "farm": farm,
            "region": region,
            "site": site,
            "secret": secret or secrets.token_bytes(32),
            "max_series": DEFAULT_MAX_SERIES,
            "added_ms": self._clock(),
        }
        with self.engine.begin() as connection:
            connection.execute(insert_or(connection, gateway).values(fresh).on_conflict_do_nothing())
            found = _gateway(connection.execute(select(gateway).where(gateway.c.id == id)).one())
        if (found.farm, found.region) != (farm, region):
            raise Conflict(f"gateway {id} is already registered, as {found.farm} in {found.region}")
        with self._lock:
            self._gateways[id] = found
        return found

    def gateways(self) -> list[Gateway]:
        """All gateways by id."""
        with self.engine.connect().execution_options(reading=True) as connection:
            rows = [tuple(row) for row in connection.execute(select(gateway).order_by(gateway.c.id))]
        held, found = self._listed_gateways
        if rows != held:  # making a thousand objects costs more than reading their rows
            found = [Gateway(*row) for row in rows]
            self._listed_gateways = rows, found
        return list(found)

    def gateway(self, id: str) -> Gateway:  # noqa: A002 - as above
        """One gateway; raises `NotFound`."""
        found = self.known(id)
        if found is None:
            raise NotFound(f"there is no gateway {id[:36]}", pointer="/gateway")
        return found

    def known(self, id: str) -> Gateway | None:  # noqa: A002 - as above
        """One gateway or None; from memory for `remembered_s` once it was seen."""
        if time.monotonic() - self._read_s > self._remembered_s:
            self._read_anew()
        found = self._gateways.get(id)
        if found is None:
            with self.engine.connect().execution_options(reading=True) as connection:
                row = connection.execute(select(gateway).where(gateway.c.id == id)).one_or_none()
            if row is None:
                return None
            found = self._gateways[id] = _gateway(row)
        return found

    def _read_anew(self) -> None:
        """Take over what another process changed; while the database does not answer, what is known goes on."""
        self._read_s = time.monotonic()
        try:
            found = {one.id: one for one in self.gateways()}
        except OperationalError as why:
            _LOG.warning("gateways are as they were before: %s", why.orig)
            return
        with self._lock:
            self._gateways = found

    def change_gateway(
        self,
        id: str,  # noqa: A002 - as above
        *,
        also: Callable[[Connection], None] | None = None,
        **values: Any,
    ) -> Gateway:
        """Set `name`, `site`, `max_series` or `disabled_ms`, and do `also` in the same transaction.

        Raises `NotFound`.
        """
        with self.engine.begin() as connection:
            connection.execute(update(gateway).where(gateway.c.id == id).values(**values))
            if also is not None:
                also(connection)
        self._gateways.pop(id, None)
        return self.gateway(id)

    # --- series -------------------------------------------------------------------------------------

    def series_of(self, gateway_id: str, name: str) -> Series | None:
        """A series that has been seen, or None."""
        return self._series.get((gateway_id, name)) or self._load(gateway_id).get((gateway_id, name))

    def ensure_series(self, owner: Gateway, units: Mapping[str, str]) -> dict[str, Series]:
        """The series of these names, registering new ones with their unit while the quota lasts.

        A name that would go over `owner.max_series` is left out.
        """
        self.ensure_all([(owner, units)])
        return {name: one for name in units if (one := self._series.get((owner.id, name))) is not None}

    def ensure_all(self, wanted: Iterable[tuple[Gateway, Mapping[str, str]]]) -> None:
        """`ensure_series` for many gateways in one transaction: when a county begins, every series is new."""
        asked = list(wanted)
        self._load_all([owner.id for owner, _ in asked if owner.id not in self._counts])
        rows: list[dict[str, Any]] = []
        now = self._clock()
        for owner, units in asked:
            room = max(0, owner.max_series - self._counts.get(owner.id, 0))
            new = [name for name in units if (owner.id, name) not in self._series][:room]
            rows += [{"gateway": owner.id, "name": name, "unit": units[name], "first_ms": now} for name in new]
        if not rows:
            return
        with self.engine.begin() as connection:
            connection.execute(insert_or(connection, series).on_conflict_do_nothing(), rows)
        self._load_all(sorted({str(row["gateway"]) for row in rows}))

    def note_calibration(self, one: Series, calibration: str) -> None:
        """Remember the calibration that a series' readings name."""
        with self.engine.begin() as connection:
            connection.execute(update(series).where(series.c.id == one.id).values(calibration=calibration))
        self._load(one.gateway)

    def _load(self, gateway_id: str) -> Mapping[tuple[str, str], Series]:
        self._load_all([gateway_id])
        return self._series

    def _load_all(self, gateway_ids: Sequence[str]) -> None:
        """Take over the series of these gateways from the table, whichever process made them."""
        for at in range(0, len(gateway_ids), _AT_ONCE):
            some = gateway_ids[at : at + _AT_ONCE]
            with self.engine.connect().execution_options(reading=True) as connection:
                rows = connection.execute(select(series).where(series.c.gateway.in_(some))).all()
            counts = dict.fromkeys(some, 0)
            with self._lock:
                for row in rows:
                    self._series[row.gateway, row.name] = self._by_id[row.id] = _series(row)
                    counts[row.gateway] += 1
                self._counts |= counts

    def series(self, *, gateways: Sequence[str] | None = None) -> list[Series]:
        """All series, or those of these gateways, by gateway and name.

        From memory as long as no series was added, in whichever process; a `calibration` may be older than the table's.
        """
        with self._listing, self.engine.connect().execution_options(reading=True) as connection:
            newest, count = connection.execute(select(func.coalesce(func.max(series.c.id), 0), func.count())).one()
            if newest != self._newest_id or count != self._listed:
                self._list(connection, newest, count)
        held = self._of_gateway
        return [one for name in (sorted(held) if gateways is None else sorted(gateways)) for one in held.get(name, ())]

    def _list(self, connection: Connection, newest: int, count: int) -> None:
        """Add what is new to the list; all of it anew where numbers were given out of order."""
        query = select(series).order_by(series.c.gateway, series.c.name)
        rows = connection.execute(query.where(series.c.id > self._newest_id)).all()
        found = dict(self._of_gateway)
        if self._listed + len(rows) != count:
            rows, found = connection.execute(query).all(), {}
        fresh: dict[str, list[Series]] = {}
        for row in rows:
            fresh.setdefault(row.gateway, []).append(_series(row))
        for name, some in fresh.items():
            found[name] = sorted([*found.get(name, ()), *some], key=lambda one: one.name)
        self._of_gateway, self._newest_id, self._listed = found, newest, count

    def by_id(self, id: int) -> Series | None:  # noqa: A002 - as above
        """A series by its number, from memory once it was seen; None where it is unknown."""
        found = self._by_id.get(id)
        if found is None:
            for one in self.series():
                self._by_id.setdefault(one.id, one)
            found = self._by_id.get(id)
        return found

    # --- what gateways say about themselves ---------------------------------------------------------

    def note_status(self, gateway_id: str, said: Mapping[str, Any]) -> None:
        """Keep the latest status; `said` has the columns of the status table."""
        with self.engine.begin() as connection:
            insert = insert_or(connection, status).values(gateway=gateway_id, **said)
            connection.execute(insert.on_conflict_do_update(index_elements=["gateway"], set_=dict(said)))

    def status(self, gateway_id: str) -> dict[str, Any] | None:
        """The latest status of a gateway, or None where it never sent one."""
        with self.engine.connect().execution_options(reading=True) as connection:
            row = connection.execute(select(status).where(status.c.gateway == gateway_id)).mappings().one_or_none()
        return None if row is None else dict(row)

    def statuses(self) -> dict[str, dict[str, Any]]:
        """The latest status of every gateway that sent one."""
        with self.engine.connect().execution_options(reading=True) as connection:
            return {row["gateway"]: dict(row) for row in connection.execute(select(status)).mappings()}

    def note_meta(self, gateway_id: str, sensor: str, body: Mapping[str, Any], received_ms: int) -> None:
        """Keep what a gateway says about one of its sensors."""
        said = {"body": dict(body), "received_ms": received_ms}
        with self.engine.begin() as connection:
            insert = insert_or(connection, sensor_meta).values(gateway=gateway_id, sensor=sensor, **said)
            connection.execute(insert.on_conflict_do_update(index_elements=["gateway", "sensor"], set_=said))

    def meta(self, gateway_id: str) -> dict[str, dict[str, Any]]:
        """What a gateway says about its sensors, by sensor."""
        query = select(sensor_meta).where(sensor_meta.c.gateway == gateway_id).order_by(sensor_meta.c.sensor)
        with self.engine.connect().execution_options(reading=True) as connection:
            return {row.sensor: dict(row.body) for row in connection.execute(query)}

    def keep_events(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Store events; one that is there already (same gateway, epoch, seq) is left as it is."""
        if rows:
            with self.engine.begin() as connection:
                connection.execute(insert_or(connection, event).on_conflict_do_nothing(), [dict(row) for row in rows])

    def events(
        self,
        *,
        gateways: Sequence[str] | None = None,
        kind: str | None = None,
        before: tuple[int, int, str, str] | None = None,
        limit: int = 100,
    ) -> list[dict[str, Any]]:
        """Events, newest first; those behind `before` (time, number, epoch, gateway) only."""
        order = (event.c.time_ms, event.c.seq, event.c.epoch, event.c.gateway)
        query = select(event).order_by(*(column.desc() for column in order)).limit(limit)
        if before is not None:
            query = query.where(tuple_(*order) < before)
        if gateways is not None:
            query = query.where(event.c.gateway.in_(gateways))
        if kind is not None:
            query = query.where(event.c.kind == kind)
        with self.engine.connect().execution_options(reading=True) as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def count_series(self) -> dict[str, int]:
        """Number of series of each gateway that has any."""
        query = select(series.c.gateway, func.count()).group_by(series.c.gateway)
        with self.engine.connect().execution_options(reading=True) as connection:
            return {name: int(count) for name, count in connection.execute(query)}


def _gateway(row: Row[Any]) -> Gateway:
    return Gateway(**row._asdict())


def _series(row: Row[Any]) -> Series:
    return Series(**row._asdict())
