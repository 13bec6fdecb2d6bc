"""The command line of the gateway: parse, call one service, print.

Expected errors are one line on stderr and exit status 2; bugs keep their traceback.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edge import EdgeError
from edge.agent import Agent
from edge.clock import Clock, SystemTime
from edge.drivers.registry import make_driver
from edge.drivers.simulator import SimulatorDriver
from edge.farms import load_farm
from edge.outputs import MemoryOutput, make_output
from edge.pond_log import Report, read_log, read_samples
from edge.remote import Slots
from edge.replay import Replay, progress_bar
from edge.rules import explain
from edge.rules import replay as replay_rule
from edge.settings import Settings, UplinkSettings, load_settings, load_zone, parse_broker
from edge.spool import Spool, SpoolSettings
from edge.spool.tool import add_spool_commands
from edge.thinning import PackThinner
from edge.wire import Kind, Topic


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = _parser().parse_args(argv)
    try:
        status: int = args.job(args)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has seen enough (`| head`); nothing is left to say, nor anybody to say it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2
    except EdgeError as why:
        print(f"error: {why}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tianmai-edge", description="The gateway on the farm.")
    jobs = parser.add_subparsers(required=True, metavar="COMMAND")

    run = jobs.add_parser("run", help="run the gateway until it is told to stop")
    run.add_argument("--config", type=Path, required=True, metavar="FILE", help="settings (TOML)")
    run.set_defaults(job=_run)

    check = jobs.add_parser("check", help="check a settings file and say what it means")
    check.add_argument("file", type=Path, metavar="FILE")
    check.set_defaults(job=_check)

    replay = jobs.add_parser("replay", help="send a recorded pond log (CSV)")
    replay.add_argument("file", type=Path, metavar="CSV", help="columns Date and any of Temperature, pH, Turbidity")
    replay.add_argument("--zone", required=True, help="time zone of the column Date, e.g. Asia/Shanghai")
    replay.add_argument("--gateway", required=True, metavar="ID", help="send as this gateway")
    replay.add_argument("--broker", required=True, metavar="HOST:PORT", help="MQTT broker")
    replay.add_argument("--spool", type=Path, required=True, metavar="DIR", help="where the spool is kept")
    replay.add_argument("--sensor", default="pond1", help="first part of the series names (pond1)")
    replay.add_argument("--speed", type=float, default=0.0, help="times the log's own speed; 0 = at once (0)")
    replay.add_argument("--pack", type=int, default=200, metavar="N", help="readings per pack (200)")
    replay.add_argument("--wait", action="store_true", help="wait until the cloud has confirmed everything")
    replay.add_argument("--timeout", type=float, default=600.0, metavar="S", help="give up after that long (600)")
    replay.set_defaults(job=_replay)

    rules = jobs.add_parser("rules", help="try the rules of a farm on recorded data, or explain them")
    verbs = rules.add_subparsers(required=True, metavar="VERB")
    test = verbs.add_parser("test", help="replay a CSV (columns time in UTC ms, series, value) and say what would ring")
    test.add_argument("file", type=Path, metavar="CSV")
    test.add_argument("--farm", required=True, help="farm type, e.g. fish_pond")
    test.set_defaults(job=_rules_test)
    tell = verbs.add_parser("explain", help="say every rule of a farm in words, with its source")
    tell.add_argument("farm", help="farm type, e.g. fish_pond")
    tell.set_defaults(job=_rules_explain)

    add_spool_commands(jobs)
    return parser


def _run(args: argparse.Namespace) -> int:
    stop = threading.Event()
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, lambda *_: stop.set())
    while _start(args.config).run(stop):
        pass  # it left in order, for settings from afar
    return 0


def _start(path: Path) -> Agent:
    """The gateway by its own file and what was laid over it from afar; what cannot be built is rolled back."""
    own = load_settings(path)
    thinner = PackThinner(own.thin.one_in, own.thin.quantities) if own.thin else None
    spool = Spool(own.spool_dir, own.spool, thinner)  # holds the lock: nobody else touches the slots

    def check(body: Mapping[str, Any]) -> None:
        build_agent(load_settings(path, body), spool)

    probation_ms = round(own.probation_s * 1000)
    slots = Slots(own.spool_dir / "config.z", own.gateway, own.secret, check=check, probation_ms=probation_ms)
    slots.begin()
    try:
        while True:
            try:
                return build_agent(load_settings(path, slots.body), spool, slots)
            except EdgeError as why:
                if not slots.failed(str(why)):
                    raise
    except BaseException:
        spool.close()
        raise


def build_agent(settings: Settings, spool: Spool, slots: Slots | None = None) -> Agent:
    """The gateway as configured, with its real clock and drivers; nothing is opened before it runs."""
    clock = Clock(SystemTime())
    agent = Agent(settings, spool=spool, clock=clock, slots=slots)
    for row in settings.drivers:
        driver = make_driver(row, settings, clock)
        agent.add_driver(driver)
        if isinstance(driver, SimulatorDriver):
            for actuator in settings.farm.actuators:
                agent.add_output(actuator.name, MemoryOutput(driver.outputs, actuator.name))
    for row in settings.outputs:
        output, manual = make_output(row)
        agent.add_output(row.name, output, manual=manual)
    return agent


def _check(args: argparse.Namespace) -> int:
    settings = load_settings(args.file)
    clock = Clock(SystemTime())
    drivers = [make_driver(row, settings, clock).name for row in settings.drivers]
    print(
        f"{settings.gateway}: {settings.farm.zh} ({settings.farm.en}), {len(settings.farm.series)} series; "
        f"broker {settings.uplink.host}:{settings.uplink.port}; spool {settings.spool_dir} "
        f"(cap {settings.spool.cap_bytes // 2**20} MiB); drivers: {', '.join(drivers) or 'none'}"
    )
    return 0


def _replay(args: argparse.Namespace) -> int:
    zone = load_zone(args.zone)
    gateway = Topic(args.gateway, Kind.STATUS).gateway
    _, host, port = parse_broker(args.broker, "--broker")
    uplink = UplinkSettings(host, port, stall_s=5.0, backoff_s=5.0)
    total = _count_lines(args.file)
    spool = Spool(args.spool, SpoolSettings())
    try:
        replay = Replay(args.file, spool, gateway, uplink)
        report = replay.report
        rows = read_log(args.file, zone, args.sensor, report, lambda text: print(f"warning: {text}", file=sys.stderr))
        show = progress_bar(total)
        replay.run(rows, speed=args.speed, pack_readings=max(1, min(args.pack, 2000)), tick=show)
        replay.finish(wait=args.wait, timeout_s=args.timeout, tick=show)
    finally:
        spool.close()
    return _replay_verdict(report, args)


def _replay_verdict(report: Report, args: argparse.Namespace) -> int:
    print(json.dumps({"name": "replay", **asdict(report)}, ensure_ascii=False))
    if report.rows and report.bad_rows == report.rows:
        print(f"error: {args.file}: none of its {report.rows} rows is readable", file=sys.stderr)
        return 2
    if args.wait and not report.settled:
        print(f"error: the cloud has not confirmed everything within {args.timeout:.0f} s; run again", file=sys.stderr)
        return 2
    return 0


def _rules_test(args: argparse.Namespace) -> int:
    farm, samples = load_farm(args.farm), read_samples(args.file)
    until_ms = max(sample.time_ms for sample in samples)
    heard = {sample.series for sample in samples}
    for rule in farm.rules.values():
        if heard.isdisjoint(one.series for one in rule.inputs.values()):
            continue
        state, transitions = replay_rule(rule, samples, until_ms)
        for one in transitions:
            print(json.dumps({**asdict(one), "zh": rule.texts["zh"]}, ensure_ascii=False))
        print(json.dumps({"rule": rule.id, "raised": state.raised, "shows": explain(rule, state)}, ensure_ascii=False))
    return 0


def _rules_explain(args: argparse.Namespace) -> int:
    for rule in load_farm(args.farm).rules.values():
        off = f" until {rule.off.text}" if rule.off else ""
        print(f"{rule.id} [{rule.severity}] {rule.texts['zh']} / {rule.texts['en']}")
        print(f"    {rule.on.text} for {rule.hold_ms // 1000} s{off}; {rule.texts['source']}")
    return 0


def _count_lines(path: Path) -> int:
    try:
        with path.open("rb") as log:
            return sum(block.count(b"\n") for block in iter(lambda: log.read(1 << 16), b""))
    except OSError as why:
        raise EdgeError("no_file", f"{path}: cannot read: {why.strerror}") from None


if __name__ == "__main__":
    sys.exit(main())
