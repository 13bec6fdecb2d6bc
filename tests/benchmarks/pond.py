"""A recorded pond log through agent, broker and ingest while both ends are killed again and again.

The CSV is replayed by `tianmai-edge replay` into `tianmai-cloud ingest` over a real broker (mosquitto, else amqtt).
Agent and ingest are killed with SIGKILL at random times. Afterwards the store is read through the public API of
`tianmai-cloud serve` and compared with what this program parsed from the CSV by itself: every distinct (series, ms)
must be there exactly once, with its first value; other values at the same time must be on record as conflicts.
"""

import random
import sys
import tempfile
import time
from pathlib import Path

from measuring import bench
from pondlog import add_gateway, broker, compare, expected, read_back, replay_command
from processes import Child, ProcessError, console


def arguments(parser):
    parser.add_argument(
        "--data", type=Path, required=True, metavar="FILE.csv", help="columns Date, Temperature, pH, ..."
    )
    parser.add_argument("--zone", required=True, help="time zone of the column Date, for example Asia/Shanghai")
    parser.add_argument("--kills", type=int, default=5, help="SIGKILLs of agent and of ingest, each (default: 5)")
    parser.add_argument("--seconds", type=float, default=75.0, help="how long the replay is stretched (default: 75)")
    parser.add_argument("--seed", type=int, default=None, help="of the times of the kills (default: a new one)")


def run_with_kills(agent, ingest, *, kills, seed, seconds):
    """Kill both at random until each had its share, then let the agent come to its end."""
    chance = random.Random(seed)
    started = {agent: time.monotonic(), ingest: time.monotonic()}
    left = {agent: kills, ingest: kills}
    pause = seconds / (2 * kills + 2)
    deadline = time.monotonic() + 4 * seconds + 300
    while agent.alive:
        if time.monotonic() > deadline:
            raise ProcessError("the agent never finished")
        time.sleep(chance.uniform(0.2, 1.4) * pause)
        victims = [child for child, count in left.items() if count > 0]
        if not victims or not agent.alive:
            break
        victim = chance.choice(victims)
        # A process that is only just importing its modules has nothing to lose: let it live for a moment.
        time.sleep(max(0.0, started[victim] + 2.5 - time.monotonic()))
        if not victim.alive:
            continue
        victim.kill()
        left[victim] -= 1
        time.sleep(chance.uniform(0.0, 1.0))
        victim.start()
        started[victim] = time.monotonic()
    return agent.wait(300)


def measure(args, report):
    wanted = expected(args.data, args.zone)
    seed = random.SystemRandom().randrange(2**32) if args.seed is None else args.seed
    report.environment["seed"] = seed
    print(f"{args.data.name}: {len(wanted)} distinct (series, ms); seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="tianmai-pond-") as name:
        folder = Path(name)
        var = folder / "var"
        with broker(folder / "broker") as post:
            report.environment["broker"] = type(post).__name__
            post.wait_for_port(post.port)
            kills = replay(args, folder, var, post.port, seed)
            rows, told, letters = read_back(var, post.port, folder)
    for key, value in compare(wanted, rows, told).items():
        target = {"sent": {"at_least": 1}, "conflicts": {}}.get(key, {"exactly": 0})
        report.figure(key, value, **target)
    report.figure("dead_letters", letters, exactly=0)
    report.figure("kills_agent", kills[0], at_least=args.kills)
    report.figure("kills_ingest", kills[1], at_least=args.kills)
    report.figure("kills", sum(kills), at_least=2 * args.kills)


def replay(args, folder, var, mqtt_port, seed):
    """The whole replay under kills; how often agent and ingest were killed."""
    add_gateway(var, folder)
    take = [console("tianmai-cloud"), "ingest", "--var", var, "--mqtt-port", str(mqtt_port)]
    send = replay_command(args.data, args.zone, mqtt_port, folder, args.seconds, 300)
    with Child(take, log=folder / "ingest.log") as ingest, Child(send, log=folder / "agent.log") as agent:
        code = run_with_kills(agent, ingest, kills=args.kills, seed=seed, seconds=args.seconds)
        if code != 0:
            raise ProcessError(f"the agent ended with {code}:\n{agent.log.read_text(errors='replace')[-2000:]}")
        ingest.stop()
        return agent.kills, ingest.kills


if __name__ == "__main__":
    sys.exit(bench("pond", measure, arguments))
