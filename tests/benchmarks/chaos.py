"""Everything is killed at random, and nothing may be lost: agent, broker, ingest, and for InfluxDB the server too.

For each seed a made-up pond log goes through `tianmai-edge replay`, a real broker and `tianmai-cloud ingest` while
processes die by SIGKILL; with InfluxDB there are two of the last on one shared subscription, as only that store allows.
With `--outage-s` the store (InfluxDB; for DuckDB the ingest that owns it) also stays away for that long. Afterwards the
store is read through the public API and compared with the log. Figures are summed.
"""

import contextlib
import random
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from influx import Influx
from measuring import bench
from pondlog import add_gateway, broker, compare, expected, read_back, replay_command
from processes import Child, ProcessError, console

ROWS = 900
SECONDS = 16.0
KILLS = 6


def arguments(parser):
    parser.add_argument("--seeds", type=int, default=20, metavar="N", help="how many runs (default: 20)")
    parser.add_argument("--first-seed", type=int, default=1, metavar="N", help="seed of the first run (default: 1)")
    parser.add_argument("--broker", choices=("mosquitto", "amqtt"), default="mosquitto")
    parser.add_argument("--store", choices=("duckdb", "influx"), default="duckdb")
    parser.add_argument("--outage-s", type=float, default=0.0, metavar="S", help="how long the store stays away once")


def make_log(path, seed):
    """A pond log with steps backward, gaps and missing values; times never come twice (InfluxDB would overwrite)."""
    chance = random.Random(seed)
    at = datetime(2024, 6, 1, tzinfo=UTC)
    used = set()
    lines = ["Date,Temperature,pH,Turbidity"]
    while len(lines) <= ROWS:
        at += timedelta(seconds=chance.choice([55, 60, 60, 61, 65, -600, 1800]))
        if at in used:
            continue
        used.add(at)
        cells = [f"{chance.gauss(22, 2):.2f}", f"{chance.gauss(7.5, 0.2):.2f}", f"{chance.gauss(120, 9):.0f}"]
        cells[chance.randrange(3)] = chance.choice([cells[1], ""])
        lines.append(f"{at:%Y-%m-%d %H:%M:%S}," + ",".join(cells))
    path.write_text("\n".join(lines) + "\n", "utf-8")


def run_seed(args, seed, folder):
    """One run; its figures."""
    log, var = folder / "log.csv", folder / "var"
    make_log(log, seed)
    with contextlib.ExitStack() as stack:
        post = stack.enter_context(broker(folder / "broker", args.broker))
        post.wait_for_port(post.port)
        server, env = None, {}
        if args.store == "influx":
            (folder / "influx").mkdir()
            server = stack.enter_context(Influx(folder / "influx"))
            env = {"TIANMAI_READINGS_URL": f"{server.url}/chaos", "TIANMAI_MQTT_SHARE": "chaos"}
        add_gateway(var, folder)
        take = [console("tianmai-cloud"), "ingest", "--var", var, "--mqtt-port", str(post.port)]
        logs = [folder / f"ingest{n}.log" for n in range(1 if server is None else 2)]
        takers = [stack.enter_context(Child(take, log=log, env=env)) for log in logs]
        # The log lasts as long as the mayhem: who has nothing left to send cannot lose anything.
        seconds = SECONDS + 4.0 * (len(takers) - 1) + args.outage_s
        send = replay_command(log, "UTC", post.port, folder, seconds, 240 + 2 * args.outage_s)
        agent = stack.enter_context(Child(send, log=folder / "agent.log"))
        victims = [one for one in (agent, post, *takers, server) if one is not None]
        mayhem(random.Random(seed), victims, agent, server or takers[0], args.outage_s)
        code = agent.wait(300 + 2 * args.outage_s)
        if code != 0:
            ends = [f"{one.log.name}:\n{one.log.read_text(errors='replace')[-1500:]}" for one in (agent, *takers)]
            raise ProcessError(f"the agent ended with {code}:\n" + "\n".join(ends))
        kills = sum(one.kills for one in victims)
        for one in takers:
            one.stop()
        rows, told, _ = read_back(var, post.port, folder, env)
    return {**compare(expected(log, "UTC"), rows, told), "kills": kills}


def mayhem(chance, victims, agent, store, outage_s):
    """Kill each at least once and at least six times in all, at random; take the store away once for longer."""
    started = dict.fromkeys(victims, time.monotonic())
    order = [*victims, *(chance.choice(victims) for _ in range(max(0, KILLS - len(victims))))]
    chance.shuffle(order)
    away = chance.randrange(len(order)) if outage_s else None
    for turn, victim in enumerate(order):
        time.sleep(chance.uniform(0.2, 2.0))
        if turn == away:
            store.kill()
            time.sleep(outage_s)
            store.start()
            started[store] = time.monotonic()
        time.sleep(max(0.0, started[victim] + 2.0 - time.monotonic()))
        if not victim.alive:
            if victim is agent:
                continue
            raise ProcessError(f"it ended by itself:\n{victim.log.read_text(errors='replace')[-3000:]}")
        victim.kill()
        time.sleep(chance.uniform(0.0, 1.0))
        victim.start()
        started[victim] = time.monotonic()


def measure(args, report):
    report.environment |= {"broker": args.broker, "store": args.store, "outage_s": args.outage_s}
    totals = dict.fromkeys(("sent", "lost", "duplicated", "strange", "kills"), 0)
    fewest = KILLS
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        with tempfile.TemporaryDirectory(prefix="tianmai-chaos-") as name:
            began = time.monotonic()
            found = run_seed(args, seed, Path(name))
        totals = {key: total + found[key] for key, total in totals.items()}
        fewest = min(fewest, found["kills"])
        print(f"seed {seed}: {found} in {time.monotonic() - began:.0f} s", flush=True)
    report.figure("seeds", args.seeds, at_least=1)
    report.figure("sent", totals["sent"], at_least=1)
    report.figure("lost", totals["lost"], exactly=0)
    report.figure("duplicated", totals["duplicated"], exactly=0)
    report.figure("strange", totals["strange"], exactly=0)
    report.figure("kills", totals["kills"], at_least=KILLS * args.seeds)
    report.figure("fewest_kills", fewest, at_least=KILLS)


if __name__ == "__main__":
    sys.exit(bench("chaos", measure, arguments))
