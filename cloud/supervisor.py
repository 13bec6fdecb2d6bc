"""`tianmai-cloud run`: the whole of Tianmai on one machine, as one process tree.

    this process        API, pages, ingest, readings store, ledger
    ├── broker          mosquitto, else amqtt
    ├── witness         cosigns the log's heads with a key of its own
    ├── worker          satellite detection, so that the API stays quick
    └── four gateways   the real agent on a simulated farm

Everything a run writes lies under `var`; the second start continues from there. Leaving ends every child.
"""

import fcntl
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvicorn

from cloud import demonstration as demo
from cloud.app import create_app
from cloud.broker import broker_command
from cloud.database import database
from cloud.jobs import LAND_JOB
from cloud.problems import Unavailable
from cloud.processes import Family, free_port, settle, unsettle, wait_for_port
from cloud.provenance import log_policy, open_key
from cloud.settings import Settings
from cloud.wiring import Services, build, build_ingest, log_place, utc_now_ms
from traceability.keys import KeyKind

__all__ = ["Run", "run"]

_LOG = logging.getLogger(__name__)
Say = Callable[[str], None]
_PATIENCE_S = 2  # for answers under way when the service stops


class Server:
    """uvicorn in a thread of this process, so that Ctrl-C stays with the supervisor.

    Beside it who takes farm records, and who writes exports.
    """

    def __init__(self, services: Services) -> None:
        settings = services.settings
        config = uvicorn.Config(
            create_app(services),
            host=settings.http_host,
            port=settings.http_port,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=_PATIENCE_S,
        )
        self._server = uvicorn.Server(config)
        self._stop = threading.Event()
        self._end_streams = services.telemetry.end_streams
        watch = services.provenance.watch_records
        self._helpers = [
            threading.Thread(target=watch, args=(self._stop,), name="records", daemon=True),
            threading.Thread(target=services.exports.work, args=(self._stop,), name="exports", daemon=True),
        ]
        self._thread = threading.Thread(target=self._server.run, name="http", daemon=True)

    def __enter__(self) -> "Server":  # noqa: PYI034 - not meant to be subclassed
        settle()
        try:
            return self._begun()
        except BaseException:
            self._end()
            raise

    def _begun(self) -> "Server":
        self._thread.start()
        for _ in range(400):
            if self._server.started:
                for helper in self._helpers:
                    helper.start()
                return self
            if not self._thread.is_alive():
                break
            threading.Event().wait(0.025)
        raise Unavailable("the web server did not start; see the lines above")

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        """Everybody has left when this returns: what they stand on may be closed then."""
        self._stop.set()
        self._end_streams()
        self._server.should_exit = True
        self._thread.join(5.0)
        for helper in self._helpers:
            if helper.ident is not None:
                helper.join()
        unsettle()


class Run:
    """A running Tianmai: what a person needs to find it, and what the demonstration has reached."""

    def __init__(self, services: Services, sign_in: str, began: float) -> None:
        self.services = services
        self.site = services.settings.site
        self.sign_in = sign_in
        self.began = began  # time.monotonic() of the start
        self.chains: dict[str, Any] = {}
        self.case: str | None = None
        self.trouble: str | None = None

    def play(self, stop: threading.Event) -> None:
        """The demonstration in order: the four lots, then the case once the county is judged."""
        try:
            self.chains = demo.play_chains(self.services)
            self.services.jobs.ask(LAND_JOB, demo.LAND_KEY, demo.COUNTY)
            while not stop.wait(0.5):
                job = self.services.jobs.find(demo.LAND_KEY)
                if job is not None and job.state == "done":
                    self.case = demo.play_land_loop(self.services)
                    return
                if job is not None and job.state == "failed":
                    self.trouble = f"the land job failed: {job.why}"
                    return
        except Exception as why:  # noqa: BLE001 - farms and pages go on; the smoke run and the log tell what failed
            self.trouble = f"{type(why).__name__}: {why}"
            _LOG.exception("the demonstration stopped")


def run(
    settings: Settings, family: Family, *, broker: str, until: Callable[[Run, threading.Event], int], say: Say
) -> int:
    """Start everything, let `until` decide how long, end everything. Returns what `until` returns.

    `family` takes in the children that are started; who holds it can end them at any time.
    """
    began = time.monotonic()
    settings = _with_ports(settings, say)
    stop = threading.Event()
    logs = settings.var / "logs"
    with _only_run_of(settings.var), family, ExitStack() as stack:
        command = broker_command(settings.var / "broker", settings.mqtt_port, broker)
        child = family.start("broker", command, logs / "broker.log")
        wait_for_port(child, settings.mqtt_port, host=settings.mqtt_host)
        settings = _with_witness(family, settings, logs)
        services = stack.enter_context(closing(build(settings)))
        ingest = build_ingest(services.gathering)
        stack.callback(ingest.stop)
        person = demo.prepare_person(services)
        files = demo.prepare_gateways(services)
        ingest.start()
        stack.enter_context(Server(services))
        _start_children(family, settings, files, logs)
        token = services.accounts.issue_sign_in(person, hours=settings.sign_in_minutes / 60)
        sign_in = f"{settings.site}/sign-in/{token}"
        state = Run(services, sign_in, began)
        threads = [
            threading.Thread(target=state.play, args=(stop,), name="demonstration", daemon=True),
            threading.Thread(target=_watch, args=(family, stop), name="watch", daemon=True),
        ]
        for thread in threads:
            thread.start()
        try:
            return until(state, stop)
        finally:
            stop.set()
            for thread in threads:
                thread.join(10.0)


@contextmanager
def _only_run_of(var: Path) -> Iterator[None]:
    """Hold `var` for this run. Raises `Unavailable` before anything of it is touched, when another run has it."""
    var.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (var / "run.lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as why:
            raise Unavailable(f"another run uses {var}: stop it, or give this one a --var of its own") from why
        yield


def _with_ports(settings: Settings, say: Say) -> Settings:
    http = free_port(settings.http_port, settings.http_host)
    if http != settings.http_port != 0:
        say(f"端口 {settings.http_port} 已被占用,改用 {http}。 Port {settings.http_port} is taken; using {http}.")
    return replace(settings, http_port=http, mqtt_port=free_port(settings.mqtt_port))


def _with_witness(family: Family, settings: Settings, logs: Path) -> Settings:
    """Settings with a witness of this run, unless others are named: its own process, key and memory of heads.

    On the same machine it proves nothing to a stranger; it is there so that the whole protocol runs.
    """
    if settings.witnesses:
        return settings
    folder, port = settings.var / "witness", free_port()
    own = open_key(folder / "witness.key", "demo-witness", KeyKind.COSIGNATURE)
    policy = folder / "logs.toml"
    with database(settings.database) as engine:
        policy.write_text(log_policy(engine, replace(log_place(settings), quorum=0), utc_now_ms()), "utf-8")
    place = ["--key", str(folder / "witness.key"), "--policy", str(policy), "--state", str(folder / "heads")]
    command = [sys.executable, "-m", "traceability", "witness", *place, "--listen", f"127.0.0.1:{port}"]
    wait_for_port(family.start("witness", command, logs / "witness.log"), port)
    return replace(settings, witnesses=f"{own.verifier.vkey}=http://127.0.0.1:{port}", quorum=1)


def _start_children(family: Family, settings: Settings, files: list[Path], logs: Path) -> None:
    worker = [sys.executable, "-m", "cloud", "worker", "--var", str(settings.var)]
    family.start("worker", worker, logs / "worker.log")
    for file in files:
        command = [sys.executable, "-m", "edge", "run", "--config", str(file)]
        family.start(file.stem, command, logs / f"{file.stem}.log")


def _watch(family: Family, stop: threading.Event) -> None:
    while not stop.wait(1.0):
        family.mend()
