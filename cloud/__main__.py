"""`tianmai-cloud`: the service on the command line.

Each command parses, builds, and calls one thing. An expected error is one line and exit code 2; a bug keeps its trace.
"""

import argparse
import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from cloud.expected import expected
from cloud.people import arguments as people_arguments
from cloud.people import people
from cloud.problems import Invalid, NotFound
from cloud.settings import Settings, load

if TYPE_CHECKING:
    from cloud.supervisor import Run

__all__ = ["main"]

# Cases past 100, 120 or 200 % of their term are told once a day.
REMIND_JOB = "land.remind"
Job = Callable[[argparse.Namespace, Settings], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (0 good, 1 not reached, 2 an expected error)."""
    args = _parser().parse_args(argv)
    level = logging.DEBUG if args.verbose else logging.INFO
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    for noisy in ("httpx", "alembic", "matplotlib", "rasterio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    database = ""
    try:
        settings = load(args.settings, var=args.var, http_port=args.port, mqtt_port=args.mqtt_port)
        database = settings.database
        job: Job = args.job
        return job(args, settings)
    except KeyboardInterrupt:
        return 130
    except Exception as why:
        told = expected(why, database)
        if told is None:
            raise
        logging.getLogger(__name__).debug("where it came from", exc_info=True)
        print(f"error: {told}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--settings", type=Path, metavar="FILE", help="TOML file with settings (docs/operating.md)")
    shared.add_argument("--var", metavar="DIR", help="where all state lies (default: ./var)")
    shared.add_argument("--port", type=int, help="HTTP port (default: 8600)")
    shared.add_argument("--mqtt-port", type=int, help="port of the MQTT broker (default: 1883)")
    shared.add_argument("--verbose", action="store_true", help="say more in the log")
    parser = argparse.ArgumentParser(prog="tianmai-cloud", description="Tianmai 田脉: the service in the cloud")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, job: Job, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, parents=[shared], help=text, description=text)
        sub.set_defaults(job=job)
        return sub

    whole = command(
        "run", _run, "run the whole of Tianmai on this machine: broker, cloud, worker, four simulated farms"
    )
    whole.add_argument("--smoke", action="store_true", help="check that everything is visible over HTTP, then exit")
    whole.add_argument("--smoke-timeout", type=float, default=180.0, metavar="S", help="seconds to wait (default: 180)")
    whole.add_argument("--broker", choices=("auto", "mosquitto", "amqtt"), default="auto", help="which broker to start")
    command("serve", _serve, "API, pages and ingest in one process (the embedded readings store needs this)")
    command("api", _api, "API and pages without ingest")
    command("ingest", _ingest, "ingest from the MQTT broker without API")
    command("worker", _worker, "do long work from the job table, for example satellite detection")
    add = command("add-gateway", _add_gateway, "register a gateway and write its secret to a file")
    add.add_argument("gateway", help="its id: lower-case letters, digits, hyphens")
    add.add_argument("--farm", required=True, help="farm type, for example fish_pond")
    add.add_argument("--region", required=True, help="region code, for example 500108")
    add.add_argument("--secret-file", type=Path, required=True, metavar="FILE", help="where the secret is written")
    spool = command(
        "import", _import, "take in what `tianmai-edge spool export` wrote, as if the broker had brought it"
    )
    spool.add_argument("file", type=Path)
    regions = command("import-regions", _import_regions, "import a list of regions or of code changes (CSV)")
    regions.add_argument("file", type=Path)
    as_of = "the day from which the list holds (default: today)"
    regions.add_argument("--as-of", type=date.fromisoformat, metavar="YYYY-MM-DD", help=as_of)
    for end, word in (("since", "first"), ("until", "last")):
        about = (
            f"the {word} day for which list and changes together are declared complete (default: the day of the list)"
        )
        regions.add_argument(f"--complete-{end}", type=date.fromisoformat, metavar="YYYY-MM-DD", help=about)
    fsck = command("fsck", _fsck, "read the whole log again and name the first event that is not as it was signed")
    again = "first write public files again that are gone or differ, where the journal leads to the signed head"
    fsck.add_argument("--restore", action="store_true", help=f"{again}; the service must be stopped")
    roll = command("roll-key", _roll_key, "announce the key that signs the log's heads next, and from when")
    roll.add_argument(
        "--in-days", type=float, default=30.0, metavar="N", help="0: the old key was stolen (default: 30)"
    )
    command("migrate", _migrate, "bring the database to this program's revision (every start does this too)")
    _receivers_command(command("receivers", _receivers, "who is told about alarms: list, add, remove"), shared)
    people_arguments(command("people", _people, "who may do what: list, add, grant, revoke, disable, link"), [shared])
    command("sign-in", _sign_in, "print a one-time sign-in link for the administrator of the whole city")
    return parser


def _receivers_command(parser: argparse.ArgumentParser, shared: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", parents=[shared], help="one JSON line for each receiver")
    add = actions.add_parser(
        "add", parents=[shared], help="tell somebody from now on; the same address again changes it"
    )
    add.add_argument(
        "kind", choices=("webhook", "smtp", "log"), help="how: a chat robot's URL, a mail, this service's log"
    )
    add.add_argument("address", help="URL or mail address; for `log` any word")
    add.add_argument("--name", required=True, help="who that is")
    add.add_argument("--region", required=True, help="region code; alarms of it and all below it are told")
    add.add_argument("--severity", choices=("warning", "critical"), default="warning", help="the lowest that is told")
    level = "0 is told at once, 1 ten minutes later when nobody acknowledged, and so on to 4 (default: 0)"
    add.add_argument("--level", type=int, default=0, help=level)
    add.add_argument("--per-hour", type=int, default=20, help="messages an hour at most, 1..1000 (default: 20)")
    remove = actions.add_parser("remove", parents=[shared], help="tell somebody no more")
    remove.add_argument("id", type=int, help="its number in the list")


def _stop_on_signals(hurry: Callable[[], None] = lambda: None) -> threading.Event:
    """Set by the first Ctrl-C or SIGTERM. The second ends this process at once, after `hurry`.

    Nothing is lost by that: what was acknowledged is on disk, what was not comes again.
    """
    stop = threading.Event()

    def asked(number: int, _frame: object) -> None:
        if stop.is_set():
            hurry()
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, asked)
    return stop


def _run(args: argparse.Namespace, settings: Settings) -> int:
    from cloud import supervisor  # noqa: PLC0415 - the worker and the tools need none of this
    from cloud.processes import Family  # noqa: PLC0415
    from cloud.smoke import smoke  # noqa: PLC0415

    _log_to_file(settings.var / "logs" / "cloud.log")
    family = Family()
    asked = _stop_on_signals(family.kill)

    def until_asked(run: "Run", _stop: threading.Event) -> int:
        print(_welcome(run), flush=True)
        asked.wait()
        print("正在停止…… stopping", flush=True)
        return 0

    def until_seen(run: "Run", _stop: threading.Event) -> int:
        return smoke(run, asked, timeout_s=args.smoke_timeout)

    say = lambda line: print(line, file=sys.stderr, flush=True)  # noqa: E731 - one line, used once
    until = until_seen if args.smoke else until_asked
    return supervisor.run(settings, family, broker=args.broker, until=until, say=say)


def _welcome(run: "Run") -> str:
    return f"""
田脉 Tianmai 已启动 is running — 四个模拟农场，一个合成县域 (four simulated farms, one synthetic county)

  控制台 console   {run.sign_in}
                   一次性登录链接,用后失效 (works once; later: {run.site}/console)
  扫码页 scan      {run.site}/
  日志 logs        {run.services.settings.var / "logs"}

首次启动时，合成县域的遥感结果约一分钟后出现 (on a first start the synthetic county appears after about a minute)
按 Ctrl-C 停止 (press Ctrl-C to stop)
"""


def _log_to_file(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    root = logging.getLogger()
    handler = logging.FileHandler(file, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    for screen in root.handlers:
        screen.setLevel(logging.WARNING)
    root.addHandler(handler)


def _serve(_args: argparse.Namespace, settings: Settings) -> int:
    return _host(settings, api=True, ingest=True)


def _api(_args: argparse.Namespace, settings: Settings) -> int:
    return _host(settings, api=True, ingest=False)


def _ingest(_args: argparse.Namespace, settings: Settings) -> int:
    return _host(settings, api=False, ingest=True)


def _host(settings: Settings, *, api: bool, ingest: bool) -> int:
    from contextlib import ExitStack, closing  # noqa: PLC0415 - with the imports below: only the services load them

    from cloud.processes import free_port  # noqa: PLC0415
    from cloud.supervisor import Server  # noqa: PLC0415
    from cloud.wiring import build, build_gathering, build_ingest  # noqa: PLC0415

    stop = _stop_on_signals()
    if api and settings.http_port == 0:
        settings = replace(settings, http_port=free_port(host=settings.http_host))
    with ExitStack() as stack:
        services = stack.enter_context(closing(build(settings))) if api else None
        if ingest:
            gathering = services.gathering if services else stack.enter_context(closing(build_gathering(settings)))
            intake = build_ingest(gathering)
            intake.start()
            stack.callback(intake.stop)
        if services is not None:
            stack.enter_context(Server(services))
            print(f"listening on {settings.site}", flush=True)
        stop.wait()
    return 0


def _worker(_args: argparse.Namespace, settings: Settings) -> int:
    from cloud import demonstration as demo  # noqa: PLC0415
    from cloud.jobs import LAND_JOB, ask_daily, work  # noqa: PLC0415
    from cloud.wiring import build_office  # noqa: PLC0415

    office, stop = build_office(settings), _stop_on_signals()
    hands: dict[str, Callable[[Mapping[str, Any]], Any]] = {
        LAND_JOB: lambda body: demo.detect_county(office.land, body),
        REMIND_JOB: lambda _body: len(office.land.remind()),
    }
    daily = {"zone": ZoneInfo(settings.timezone), "stop": stop}
    threading.Thread(target=ask_daily, args=(office.jobs, (REMIND_JOB,)), kwargs=daily, daemon=True).start()
    work(office.jobs, hands, owner=f"{socket.gethostname()}/{os.getpid()}", stop=stop)
    return 0


def _add_gateway(args: argparse.Namespace, settings: Settings) -> int:
    import secrets  # noqa: PLC0415

    from cloud.database import database  # noqa: PLC0415
    from cloud.migrations import migrate  # noqa: PLC0415
    from cloud.regions import Regions  # noqa: PLC0415
    from cloud.telemetry import Registry  # noqa: PLC0415
    from cloud.wiring import utc_now_ms  # noqa: PLC0415
    from edge.farms import farm_names  # noqa: PLC0415

    if args.farm not in farm_names():
        raise Invalid(f"no farm type {args.farm!r}; there are: {', '.join(farm_names())}")
    with database(settings.database) as engine:
        migrate(engine)
        regions = Regions(engine, utc_now_ms)
        regions.prepare()
        regions.expect(args.region)
        registry = Registry(engine)
        secret = secrets.token_hex(32).encode()
        # The file first: a gateway whose secret nobody could keep must not be there. Its old content stays if this
        # fails.
        fresh = not args.secret_file.exists()
        with os.fdopen(os.open(args.secret_file, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
            try:
                gateway = registry.add_gateway(args.gateway, farm=args.farm, region=args.region, secret=secret)
            except BaseException:
                if fresh:
                    args.secret_file.unlink()
                raise
            file.truncate(0)
            file.write(gateway.secret + b"\n")
    print(json.dumps({"gateway": gateway.id, "farm": args.farm, "region": args.region}))
    return 0


def _import(args: argparse.Namespace, settings: Settings) -> int:
    from cloud.telemetry.imports import take_export  # noqa: PLC0415
    from cloud.wiring import build_gathering, build_pipeline  # noqa: PLC0415

    try:
        file = args.file.open("rb")
    except OSError as why:
        raise Invalid(f"{args.file} cannot be read: {why.strerror}") from why
    with file, closing(build_gathering(settings)) as gathering:
        try:
            count, acks = take_export(build_pipeline(gathering), file, gathering.office.clock)
        except Invalid as why:
            raise Invalid(f"{args.file}: {why.detail}", code=why.code) from why
    print(json.dumps({"messages": count, "watermarks": {name: asdict(ack) for name, ack in acks.items()}}))
    return 0


def _import_regions(args: argparse.Namespace, settings: Settings) -> int:
    from cloud.wiring import build_office  # noqa: PLC0415

    complete = (args.complete_since, args.complete_until)
    with closing(build_office(settings)) as office:
        print(office.regions.import_file(args.file, args.as_of, complete=complete))
    return 0


def _fsck(args: argparse.Namespace, settings: Settings) -> int:
    from cloud.database import database, database_file  # noqa: PLC0415
    from cloud.provenance import audit_log, restore_log  # noqa: PLC0415
    from cloud.wiring import log_place  # noqa: PLC0415

    place = log_place(settings)
    file = database_file(settings.database)
    if file is not None and not file.exists():
        if place.folder.exists():
            raise NotFound(f"the log in {place.folder} has lost its journal: restore {file}")
        raise NotFound(f"there is no log here: {file} does not exist; name its folder with --var")
    with database(settings.database) as engine:
        for name in restore_log(engine, place) if args.restore else ():
            print(f"restored: {name}")
        findings = audit_log(engine, place)
    for finding in findings:
        where = "" if finding.index is None else f"event {finding.index}: "
        print(f"{finding.code}: {where}{finding.message}")
    if not findings:
        print("journal, tiles, signed head and the rows of the events agree")
    return 1 if findings else 0


def _roll_key(args: argparse.Namespace, settings: Settings) -> int:
    from cloud.provenance import announce_next_key  # noqa: PLC0415
    from cloud.wiring import log_place, utc_now_ms  # noqa: PLC0415

    place = log_place(settings)
    if not 0 <= args.in_days <= 3_660:  # noqa: PLR2004 - ten years
        raise Invalid(f"--in-days is 0 to 3660, not {args.in_days}")
    if not place.key_file.exists():
        raise NotFound(f"there is no log here: {place.key_file} does not exist; name its folder with --var")
    from_ms = utc_now_ms() + round(args.in_days * 86_400_000)
    fresh = announce_next_key(place.key_file, place.origin, from_ms=from_ms)
    print(json.dumps({"vkey": fresh.key.vkey, "from_ms": from_ms, "list": str(place.key_list)}))
    return 0


def _migrate(_args: argparse.Namespace, settings: Settings) -> int:
    from cloud.database import database  # noqa: PLC0415
    from cloud.migrations import head, migrate  # noqa: PLC0415

    with database(settings.database) as engine:
        before = migrate(engine)
    print(f"{before or 'empty'} -> {head()}")
    return 0


def _receivers(args: argparse.Namespace, settings: Settings) -> int:
    from pydantic import ValidationError  # noqa: PLC0415 - with the imports below: only the services load them

    from cloud.alarms import Alarms, AlarmStore, Receiver  # noqa: PLC0415
    from cloud.wiring import build_office  # noqa: PLC0415

    office = build_office(settings)
    alarms = Alarms(
        AlarmStore(office.engine),
        clock=office.clock,
        watched=list,
        covers=lambda *_: True,
        inside=office.regions.codes_under,
        audit=office.accounts.audit,
    )
    by = "command line"  # who may run commands on this machine may do this
    if args.action == "add":
        try:
            names = ("kind", "address", "name", "region", "severity", "level", "per_hour")
            new = Receiver(**{name: getattr(args, name) for name in names})
        except ValidationError as why:
            first = why.errors()[0]
            raise Invalid(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from why
        office.regions.expect(new.region)
        print(alarms.add_receiver(new, by).model_dump_json())
    elif args.action == "remove":
        alarms.remove_receiver(args.id, by)
    else:
        for one in alarms.receivers():
            print(one.model_dump_json())
    office.engine.dispose()
    return 0


def _people(args: argparse.Namespace, settings: Settings) -> int:
    for line in people(args, settings):
        print(json.dumps(line, ensure_ascii=False))
    return 0


def _sign_in(_args: argparse.Namespace, settings: Settings) -> int:
    from cloud.demonstration import prepare_person  # noqa: PLC0415
    from cloud.wiring import build_office  # noqa: PLC0415

    with closing(build_office(settings)) as office:
        token = office.accounts.issue_sign_in(prepare_person(office), hours=settings.sign_in_minutes / 60)
    print(f"{settings.site}/sign-in/{token}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
