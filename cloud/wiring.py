"""The one place where everything is made and joined.

`build` makes what the serving process owns: the readings, the ledger, and all contexts. `build_office` makes only what
several processes may share through the relational store; the worker uses that. Where two contexts must meet, a small
callable is passed here, so that neither learns the other's name.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine

from cloud.accounts import Accounts
from cloud.alarms import Alarms, AlarmStore, Teller, Watch, Watched, email, log, webhook
from cloud.catalogue import Catalogue
from cloud.database import open_database
from cloud.jobs import Jobs
from cloud.land import Land
from cloud.migrations import migrate
from cloud.problems import CloudError
from cloud.provenance import LogBook, LogPlace, Provenance, read_witnesses
from cloud.regions import Regions
from cloud.settings import Settings
from cloud.telemetry import Arrival, Broker, Ingest, ReadingsStore, Registry, Telemetry, open_readings
from edge.farms import FarmError, load_farm
from edge.rules import Sample
from traceability import TraceError

__all__ = ["Clock", "Office", "Services", "build", "build_ingest", "build_office", "log_place", "utc_now_ms"]

Clock = Callable[[], int]
_BUSY_MESSAGES = 100


def utc_now_ms() -> int:
    """The clock of every service: integer milliseconds UTC."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Office:
    """What rests on the relational store alone; safe to build in several processes."""

    settings: Settings
    clock: Clock
    engine: Engine
    jobs: Jobs
    accounts: Accounts
    regions: Regions
    land: Land
    catalogue: Catalogue


@dataclass(frozen=True, slots=True)
class Services:
    """Everything the serving process owns."""

    settings: Settings
    clock: Clock
    engine: Engine
    jobs: Jobs
    accounts: Accounts
    regions: Regions
    land: Land
    catalogue: Catalogue
    readings: ReadingsStore
    registry: Registry
    telemetry: Telemetry
    alarms: Alarms
    provenance: Provenance

    def close(self) -> None:
        """Give the files back."""
        self.provenance.close()
        self.readings.close()
        self.engine.dispose()


def build_office(settings: Settings, clock: Clock = utc_now_ms) -> Office:
    """Open the relational store and the contexts that need nothing else."""
    engine = open_database(settings.database)
    migrate(engine)
    regions = Regions(engine, clock)
    accounts = Accounts(engine, clock, inside=regions.codes_under)
    land = Land(engine, settings.photos_dir, clock, accounts.audit, inside=regions.codes_under)
    producers = {"parcels": land.parcel_rows, "cases": land.case_rows}
    returns = settings.var / "returns"
    catalogue = Catalogue(engine, returns, clock, accounts.audit, inside=regions.codes_under, producers=producers)
    for context in (regions, accounts, land, catalogue):
        context.prepare()
    return Office(settings, clock, engine, Jobs(engine, clock), accounts, regions, land, catalogue)


def log_place(settings: Settings) -> LogPlace:
    """Where the log lives and who cosigns it. Raises `Invalid` for a witness that is none."""
    key = settings.keys_dir / "log.key"
    witnesses = read_witnesses(settings.witnesses)
    return LogPlace(settings.ledger_dir, key, settings.ledger_origin, witnesses, settings.quorum)


def build(settings: Settings, clock: Clock = utc_now_ms) -> Services:
    """Everything, wired once. Raises `CloudError` where a store cannot be opened."""
    office = build_office(settings, clock)
    readings = open_readings(settings.readings, database=office.engine)
    registry = Registry(office.engine)

    def covers(region: str, granted: frozenset[str]) -> bool:
        return any(office.regions.covers(grant, region) for grant in granted)

    telemetry = Telemetry(readings, registry, clock=clock, covers=covers)
    log = LogBook(office.engine, log_place(settings), clock)
    settings.policy_file.write_text(log.policy_text, "utf-8")
    provenance = Provenance(office.engine, log, site=settings.site, clock=clock, daily_mean=telemetry.daily_mean)
    return Services(
        settings,
        clock,
        office.engine,
        office.jobs,
        office.accounts,
        office.regions,
        office.land,
        office.catalogue,
        readings,
        registry,
        telemetry,
        Alarms(AlarmStore(office.engine), clock=clock, watched=lambda: watched(telemetry), covers=covers),
        provenance,
    )


class Intake:
    """The taking side of the serving process: what gateways send, and the rules that judge it."""

    def __init__(self, ingest: Ingest, watch: Watch) -> None:
        self._ingest = ingest
        self._watch = watch

    def start(self) -> None:
        """Begin; an absent broker is waited for."""
        self._watch.start()
        self._ingest.start()

    def stop(self) -> None:
        """End; what was not acknowledged comes again."""
        self._ingest.stop()
        self._watch.stop()


def watched(telemetry: Telemetry) -> list[Watched]:
    """Every gateway with those default rules of its farm type whose series it has ever sent."""
    found: list[Watched] = []
    for gateway, names in telemetry.heard():
        try:
            rules = load_farm(gateway.farm).rules.values()
        except FarmError:
            continue  # a farm type of somebody's own, without rules here
        fit = tuple(rule for rule in rules if all(one.series in names for one in rule.inputs.values()))
        found.append(Watched(gateway.id, gateway.name, gateway.region, fit))
    return found


def build_watch(services: Services, busy: Callable[[], bool]) -> Watch:
    """The rules over everything that is stored; they see readings only through two small callables."""
    store, telemetry = AlarmStore(services.engine), services.telemetry
    ways = {"log": log, "webhook": webhook, "smtp": email("127.0.0.1", 25, "tianmai@localhost")}

    def history(gateway: str, names: Sequence[str], start_ms: int, end_ms: int) -> list[Sample]:
        return [Sample(*row) for row in telemetry.samples(gateway, names, start_ms, end_ms)]

    return Watch(
        store,
        Teller(store, services.regions.covers, ways),
        clock=services.clock,
        watched=lambda: watched(telemetry),
        history=history,
        busy=busy,
    )


def build_ingest(services: Services) -> Intake:
    """The MQTT side of the same process: readings to their store and rules, farm records to the chain."""
    settings = services.settings
    broker = Broker(settings.mqtt_host, settings.mqtt_port)
    watch = build_watch(services, lambda: ingest.health()["waiting"] > _BUSY_MESSAGES)

    def on_stored(arrivals: Sequence[Arrival]) -> None:
        def told() -> dict[str, list[Sample]]:
            fresh = services.telemetry.fresh(arrivals, watch.wanted)
            return {gateway: [Sample(*row) for row in rows] for gateway, rows in fresh.items()}

        watch.tell(told, sum(len(arrival.points) for arrival in arrivals))

    ingest = Ingest(
        services.readings,
        services.registry,
        broker,
        clock=services.clock,
        on_record=services.provenance.stage_record,
        on_stored=on_stored,
        refusals=(CloudError, TraceError),
    )
    return Intake(ingest, watch)
