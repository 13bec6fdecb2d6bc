"""The thread of all four packages, started as a person starts it and looked at from outside."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest
import zxingcpp
from PIL import Image

from traceability import TraceError
from traceability.keys import SigningKey
from traceability.notes import Checkpoint, Note
from traceability.packs import Pack
from traceability.policy import Policy

RUN = [sys.executable, "-m", "cloud", "run"]
VERIFY = [sys.executable, "-m", "traceability", "verify"]


def environment():
    return {name: value for name, value in os.environ.items() if not name.startswith("TIANMAI_")}


def smoke(var, *more):
    command = [*RUN, "--var", str(var), "--port", "0", "--smoke", "--smoke-timeout", "170", *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment())
    return done, json.loads(done.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """State of a first run whose smoke passed, on the broker that needs nothing installed."""
    var = tmp_path_factory.mktemp("run") / "var"
    done, seen = smoke(var, "--broker", "amqtt")
    assert done.returncode == 0, done.stdout + done.stderr
    return var, seen


def processes_of(var):
    """The ids of the processes whose command line names ``var``; read from /proc, for slim machines have no pgrep."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.fsencode(var) in (process / "cmdline").read_bytes():
                found.append(process.name)
    return found


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_first_run_shows_farms_parcels_a_closed_case_a_refusal_and_four_verified_codes(played):
    var, seen = played
    assert seen["smoke"] == "passed"
    assert seen["gateways"] == 4
    assert seen["readings"] >= 8
    assert seen["first_data_s"] <= 60
    assert seen["parcels"] >= 500
    assert (seen["closed_cases"], seen["verified_codes"]) == (1, 4)
    assert seen["refusals"] >= 1
    assert processes_of(var) == []


@dataclass
class Visit:
    """What a second start showed to a person with a browser, and how it ended."""

    link: str
    signed_in: int
    closed_cases: int
    link_again: int
    packs: Path
    exit_code: int
    left_over: list


@pytest.fixture(scope="module")
def visited(played, tmp_path_factory):
    """Start again without --smoke, sign in by the printed link, take the four packs, press Ctrl-C."""
    var, _ = played
    folder = tmp_path_factory.mktemp("visit")
    output = folder / "out.txt"
    with output.open("w") as out:
        run = subprocess.Popen([*RUN, "--var", str(var), "--port", "0"], stdout=out, env=environment())
    try:
        until = time.monotonic() + 90
        while "sign-in" not in output.read_text() and time.monotonic() < until:
            time.sleep(0.2)
        link = re.search(r"http://\S+/sign-in/\S+", output.read_text()).group(0)
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        signed_in = browser.open(link, timeout=30).status
        site = link.split("/sign-in/")[0]
        cases = json.load(browser.open(f"{site}/api/v1/land/cases?state=closed", timeout=30))["items"]
        for lot in json.load(browser.open(f"{site}/api/v1/trace/lots", timeout=30))["items"]:
            pack = browser.open(f"{site}/api/v1/trace/pack?path={lot['path']}", timeout=30).read()
            (folder / f"{lot['chain']}.json").write_bytes(pack)
        try:
            again = urllib.request.build_opener().open(link, timeout=30).status
        except urllib.error.HTTPError as refused:
            again = refused.code
    finally:
        run.send_signal(signal.SIGINT)
        exit_code = run.wait(60)
    time.sleep(0.5)
    return Visit(link, signed_in, len(cases), again, folder, exit_code, processes_of(var))


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_second_start_continues_from_the_state_on_disk_and_ctrl_c_ends_every_child(visited):
    assert visited.signed_in == 200
    assert visited.closed_cases == 1
    assert visited.exit_code == 0
    assert visited.left_over == []


def test_the_sign_in_link_works_once_and_is_nowhere_stored_in_clear(visited, played):
    assert visited.link_again >= 400
    token = visited.link.rsplit("/", 1)[1].encode()
    assert all(token not in file.read_bytes() for file in played[0].glob("tianmai.db*"))


@pytest.fixture
def packs(visited):
    """The folder with the four packs, as downloaded."""
    return visited.packs


def verify(file, policy):
    # Where the machine lets us, the stranger's process has no network at all.
    alone = ["unshare", "-n"] if shutil.which("unshare") and os.geteuid() == 0 else []
    return subprocess.run(
        [*alone, *VERIFY, str(file), "--policy", str(policy)], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("chain", ["pork", "eggs", "citrus", "fish"])
def test_a_stranger_accepts_each_pack_with_his_own_policy(packs, played, chain):
    done = verify(packs / f"{chain}.json", played[0] / "policy.toml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("chain", ["pork", "eggs", "citrus", "fish"])
def test_a_pack_with_any_one_byte_flipped_is_rejected(packs, played, chain):
    policy = Policy.load(played[0] / "policy.toml")
    data = (packs / f"{chain}.json").read_bytes()
    now_ms = time.time_ns() // 1_000_000
    Pack.parse(data).verify(policy, now_ms=now_ms)
    chance = random.Random(chain)
    # Every byte of a small pack is flipped in tests/traceability; here, real ones in four hundred places each.
    for place in sorted(chance.sample(range(len(data)), 400)):
        flipped = bytearray(data)
        flipped[place] ^= 1 << chance.randrange(8)
        with pytest.raises(TraceError):
            Pack.parse(bytes(flipped)).verify(policy, now_ms=now_ms)


def test_a_pack_signed_again_by_another_key_is_rejected_even_with_that_key_beside_it(packs, played, tmp_path):
    pack = Pack.parse((packs / "fish.json").read_bytes())
    head = Checkpoint.parse(Note.parse(pack.checkpoints[0]).text)
    forged = Pack(pack.subject, pack.events, head.sign(SigningKey.new(head.origin)).whole)
    file = tmp_path / "forged.json"
    file.write_bytes(forged.encode())
    done = verify(file, played[0] / "policy.toml")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_nothing_of_a_run_is_written_outside_its_folder(played):
    var, _ = played
    assert {path.name for path in Path(var).iterdir()} >= {
        "tianmai.db",
        "readings.duckdb",
        "ledger",
        "logs",
        "policy.toml",
    }


@pytest.mark.parametrize("chain", ["pork", "eggs", "citrus", "fish"])
def test_the_printed_label_of_a_lot_is_read_as_its_address(played, chain):
    var, seen = played
    with Image.open(var / "labels" / f"{chain}.png") as picture:
        (read,) = zxingcpp.read_barcodes(picture.convert("L"))
    assert read.text == seen["addresses"][chain]
    assert (var / "labels" / f"{chain}.svg").read_text().startswith("<svg")
