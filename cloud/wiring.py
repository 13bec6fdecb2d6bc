"""The one place where everything is made and joined.

`build` makes what the serving process owns: the readings, the ledger, and all contexts. `build_office` makes only what
several processes may share through the relational store; the worker uses that. Where two contexts must meet, a small
callable is passed here, so that neither learns the other's name.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine
from typing_extensions import override

from cloud.accounts import Accounts
from cloud.alarms import Alarms, AlarmStore, Impostors, Teller, Watch, Watched, email, log, webhook
from cloud.catalogue import Catalogue
from cloud.database import open_database
from cloud.jobs import Jobs
from cloud.land import Land
from cloud.migrations import migrate
from cloud.problems import CloudError
from cloud.provenance import LogBook, LogPlace, Neighbours, Provenance, read_witnesses, record_keeper, serial_key
from cloud.regions import Regions
from cloud.settings import Settings
from cloud.steering import Courier, Post, Steering
from cloud.telemetry import (
    Arrival,
    Broker,
    Ingest,
    Pipeline,
    ReadingsStore,
    Registry,
    TakeAway,
    Telemetry,
    open_readings,
    parse_keep,
)
from edge.farms import FarmError, load_farm
from edge.rules import Sample
from traceability import TraceError

__all__ = [
    "Clock",
    "Gathering",
    "Office",
    "Services",
    "build",
    "build_ingest",
    "build_office",
    "build_pipeline",
    "log_place",
    "utc_now_ms",
]

Clock = Callable[[], int]
_BUSY_MESSAGES = 100
_REMEMBERED_S = 1.0
_MOST_REMEMBERED = 100_000


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

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()


@dataclass(frozen=True, slots=True)
class Gathering:
    """What taking readings in needs: a process that does only this owns no log and serves no page."""

    office: Office
    readings: ReadingsStore
    registry: Registry
    telemetry: Telemetry
    steering: Steering
    stage_record: Callable[[Any], None]

    def close(self) -> None:
        """Give the files back."""
        self.readings.close()
        self.office.close()


@dataclass(frozen=True, slots=True)
class Services(Office):
    """Everything the serving process owns: the office, and what only one process may hold."""

    readings: ReadingsStore
    registry: Registry
    telemetry: Telemetry
    exports: TakeAway
    steering: Steering
    alarms: Alarms
    provenance: Provenance
    gathering: Gathering

    @override
    def close(self) -> None:
        """Give the files back."""
        self.provenance.close()
        self.gathering.close()


def build_office(settings: Settings, clock: Clock = utc_now_ms) -> Office:
    """Open the relational store and the contexts that need nothing else."""
    engine = open_database(settings.database)
    try:
        return _office(settings, clock, engine)
    except BaseException:
        engine.dispose()
        raise


def _office(settings: Settings, clock: Clock, engine: Engine) -> Office:
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
    return LogPlace(settings.ledger_dir, key, settings.ledger_origin, witnesses, settings.quorum, settings.policy_file)


def build_gathering(settings: Settings, clock: Clock = utc_now_ms) -> Gathering:
    """The readings store and what stands around it. Raises `CloudError` where a store cannot be opened."""
    office = build_office(settings, clock)
    try:
        readings = open_readings(settings.readings, database=office.engine)
    except BaseException:
        office.close()
        raise
    registry = Registry(office.engine)
    telemetry = Telemetry(readings, registry, clock=clock, covers=_covers(office), audit=office.accounts.audit)
    steering = Steering(
        office.engine,
        clock=clock,
        gateway=registry.gateway,
        actuators=_actuators,
        covers=_covers(office),
        audit=office.accounts.audit,
    )
    return Gathering(office, readings, registry, telemetry, steering, record_keeper(office.engine))


def build(settings: Settings, clock: Clock = utc_now_ms) -> Services:
    """Everything, wired once. Raises `CloudError` where a store cannot be opened or another process owns the log."""
    gathering = build_gathering(settings, clock)
    office, telemetry, registry = gathering.office, gathering.telemetry, gathering.registry
    try:
        log = LogBook(office.engine, log_place(settings), clock)
    except BaseException:
        gathering.close()  # the readings' writer would keep the process alive
        raise

    def stand(gateway: str) -> tuple[str, str]:
        known = registry.gateway(gateway)
        return known.site, known.name

    def missing(gateway: str) -> list[tuple[str, int, int]]:
        ledger = gathering.readings.ledger(gateway)
        return [(epoch, first, last) for epoch, spans in ledger.items() for first, last in spans.gaps()]

    provenance = Provenance(
        office.engine,
        log,
        site=settings.site,
        clock=clock,
        neighbours=Neighbours(telemetry.daily_mean, stand, office.regions.county_known, missing),
        serial_key=serial_key(settings.keys_dir / "serials.key"),
    )
    return Services(
        settings,
        clock,
        office.engine,
        office.jobs,
        office.accounts,
        office.regions,
        office.land,
        office.catalogue,
        gathering.readings,
        registry,
        telemetry,
        TakeAway(
            telemetry,
            gathering.readings,
            registry,
            office.jobs,
            settings.var / "exports",
            clock=clock,
            audit=office.accounts.audit,
        ),
        gathering.steering,
        Alarms(
            AlarmStore(office.engine),
            clock=clock,
            watched=lambda: watched(telemetry),
            covers=_covers(office),
            inside=office.regions.codes_under,
            audit=office.accounts.audit,
        ),
        provenance,
        gathering,
    )


def _actuators(farm: str) -> frozenset[str] | None:
    """What a farm of this type can drive; None for a type that no file describes."""
    try:
        return frozenset(one.name for one in load_farm(farm).actuators)
    except FarmError:
        return None


def _covers(office: Office) -> Callable[[str, frozenset[str]], bool]:
    """Whether grants reach a region, remembered for a second: twenty screens ask the same of every gateway."""
    held: dict[tuple[str, frozenset[str]], tuple[float, bool]] = {}

    def covers(region: str, granted: frozenset[str]) -> bool:
        now = time.monotonic()
        then, known = held.get((region, granted), (-_REMEMBERED_S, False))
        if now - then >= _REMEMBERED_S:
            if len(held) >= _MOST_REMEMBERED:
                held.clear()
            known = any(office.regions.covers(grant, region) for grant in granted)
            held[region, granted] = (now, known)
        return known

    return covers


class Intake:
    """The side that faces gateways: what they send, the rules that judge it, and what is wanted of them."""

    def __init__(self, ingest: Ingest, watch: Watch, courier: Courier) -> None:
        self._ingest = ingest
        self._watch = watch
        self._courier = courier

    def start(self) -> None:
        """Begin; an absent broker is waited for."""
        self._watch.start()
        self._ingest.start()
        self._courier.start()

    def stop(self) -> None:
        """End; what was not acknowledged comes again."""
        self._courier.stop()
        self._ingest.stop()
        self._watch.stop()


def watched(telemetry: Telemetry) -> list[Watched]:
    """Every gateway with those default rules of its farm type whose series it has ever sent."""
    found: list[Watched] = []
    begun = telemetry.begun()
    for gateway, names in telemetry.heard():
        try:
            farm = load_farm(gateway.farm)
        except FarmError:
            continue  # a farm type of somebody's own, without rules here
        # Both sides must count the days of the batch from one day: the gateway's own, as it has signed for.
        if (begun_ms := begun.get(gateway.id)) is not None:
            farm = farm.begun(begun_ms)
        fit = tuple(rule for rule in farm.rules.values() if all(one.series in names for one in rule.inputs.values()))
        found.append(Watched(gateway.id, gateway.name, gateway.region, fit))
    return found


def build_watch(gathering: Gathering, busy: Callable[[], bool]) -> Watch:
    """The rules over everything that is stored; they see readings only through two small callables."""
    office, telemetry, settings = gathering.office, gathering.telemetry, gathering.office.settings
    store = AlarmStore(office.engine)
    ways = {"log": log, "webhook": webhook, "smtp": email(settings.smtp_host, settings.smtp_port, settings.smtp_sender)}

    def history(gateway: str, names: Sequence[str], start_ms: int, end_ms: int) -> list[Sample]:
        return [Sample(*row) for row in telemetry.samples(gateway, names, start_ms, end_ms)]

    return Watch(
        store,
        Teller(store, office.regions.covers, ways),
        clock=office.clock,
        watched=lambda: watched(telemetry),
        history=history,
        follow=gathering.readings,
        busy=busy,
    )


def build_impostors(gathering: Gathering) -> Impostors:
    """What ingest finds out about two who speak with one name, on its way to the board."""

    def stand(gateway: str) -> tuple[str, str]:
        known = gathering.registry.gateway(gateway)
        return known.name, known.region

    return Impostors(AlarmStore(gathering.office.engine), clock=gathering.office.clock, stand=stand)


def build_pipeline(gathering: Gathering) -> Pipeline:
    """Messages that do not come by the broker; rules judge them when ingest next starts."""
    return Pipeline(
        gathering.readings,
        gathering.registry,
        clock=gathering.office.clock,
        on_record=gathering.stage_record,
        on_events=build_impostors(gathering).take_events,
        refusals=(CloudError, TraceError),
    )


def build_ingest(gathering: Gathering) -> Intake:
    """The MQTT side: readings to their store and rules, farm records to where the chain finds them."""
    settings = gathering.office.settings
    broker = Broker(settings.mqtt_host, settings.mqtt_port)
    watch = build_watch(gathering, lambda: ingest.health()["waiting"] > _BUSY_MESSAGES)

    def on_stored(arrivals: Sequence[Arrival], position: int) -> None:
        def told() -> dict[str, list[Sample]]:
            fresh = gathering.telemetry.fresh(arrivals, watch.wanted)
            return {gateway: [Sample(*row) for row in rows] for gateway, rows in fresh.items()}

        watch.tell(told, sum(len(arrival.points) for arrival in arrivals), position)

    impostors = build_impostors(gathering)

    def on_events(events: Sequence[Mapping[str, Any]]) -> None:
        gathering.steering.take_events(events)
        impostors.take_events(events)

    gathering.telemetry.when_stored(on_stored)
    ingest = Ingest(
        gathering.readings,
        gathering.registry,
        broker,
        clock=gathering.office.clock,
        on_record=gathering.stage_record,
        on_stored=on_stored,
        on_events=on_events,
        refusals=(CloudError, TraceError),
        share=settings.mqtt_share or None,
        keep=parse_keep(settings.keep_days, settings.keep_mb),
    )
    courier = Courier(
        gathering.steering,
        Post(settings.mqtt_host, settings.mqtt_port),
        clock=gathering.office.clock,
        set_aside=gathering.telemetry.set_aside,
    )
    return Intake(ingest, watch, courier)
