"""The one place where everything is made and joined.

`build` makes what the serving process owns: the readings, the ledger, and all contexts. `build_office` makes only what
several processes may share through the relational store; the worker uses that. Where two contexts must meet, a small
callable is passed here, so that neither learns the other's name.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Engine

from cloud import jobs as job_table
from cloud.accounts import Accounts
from cloud.database import open_database
from cloud.jobs import Jobs
from cloud.land import Land
from cloud.problems import CloudError
from cloud.provenance import LogBook, Provenance
from cloud.provenance.store import metadata as provenance_tables
from cloud.regions import Regions
from cloud.settings import Settings
from cloud.telemetry import Broker, Ingest, ReadingsStore, Registry, Telemetry, open_readings
from traceability import TraceError

__all__ = ["Clock", "Office", "Services", "build", "build_ingest", "build_office", "utc_now_ms"]

Clock = Callable[[], int]


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
    readings: ReadingsStore
    registry: Registry
    telemetry: Telemetry
    provenance: Provenance

    def close(self) -> None:
        """Give the files back."""
        self.provenance.close()
        self.readings.close()
        self.engine.dispose()


def build_office(settings: Settings, clock: Clock = utc_now_ms) -> Office:
    """Open the relational store and the contexts that need nothing else."""
    engine = open_database(settings.database)
    job_table.metadata.create_all(engine)
    regions = Regions(engine, clock)
    accounts = Accounts(engine, clock, inside=regions.codes_under)
    provenance_tables.create_all(engine)
    land = Land(engine, settings.photos_dir, clock, accounts.audit, inside=regions.codes_under)
    for context in (regions, accounts, land):
        context.prepare()
    return Office(settings, clock, engine, Jobs(engine, clock), accounts, regions, land)


def build(settings: Settings, clock: Clock = utc_now_ms) -> Services:
    """Everything, wired once. Raises `CloudError` where a store cannot be opened."""
    office = build_office(settings, clock)
    readings = open_readings(settings.readings, database=office.engine)
    registry = Registry(office.engine)
    registry.create()

    def covers(region: str, granted: frozenset[str]) -> bool:
        return any(office.regions.covers(grant, region) for grant in granted)

    telemetry = Telemetry(readings, registry, clock=clock, covers=covers)
    log = LogBook(office.engine, settings.ledger_dir, settings.keys_dir / "log.key", settings.ledger_origin, clock)
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
        readings,
        registry,
        telemetry,
        provenance,
    )


def build_ingest(services: Services) -> Ingest:
    """The MQTT side of the same process: readings to their store, farm records to the chain."""
    settings = services.settings
    broker = Broker(settings.mqtt_host, settings.mqtt_port)
    return Ingest(
        services.readings,
        services.registry,
        broker,
        clock=services.clock,
        on_record=services.provenance.stage_record,
        refusals=(CloudError, TraceError),
    )
