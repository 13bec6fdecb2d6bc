"""SIGKILL at any moment: what was acknowledged is in the log and provable, and no head is ever contradicted."""

import random
import subprocess
import sys
import time

from traceability.keys import SigningKey
from traceability.ledger import open_ledger
from traceability.merkle import leaf_hash, verify_consistency, verify_inclusion
from traceability.notes import Checkpoint, Note

KEY = SigningKey.new("log.example", random=lambda n: b"k" * n)

WRITER = """
import sys
from pathlib import Path
from traceability.keys import SigningKey
from traceability.ledger import open_ledger

key = SigningKey.new("log.example", random=lambda n: b"k" * n)
with open_ledger(Path(sys.argv[1]), key, publish_every_s=float(sys.argv[2])) as ledger:
    for n in range(1_000_000):
        receipts = ledger.append([f"{sys.argv[3]}/{n}/{i}".encode() for i in range(7)])
        print(n, receipts[0].index, flush=True)
"""


def run_and_kill(folder, pause_s, name, after_s):
    """Receipts that the writer had printed when it was killed: (number of the append, index of its first entry)."""
    command = [sys.executable, "-c", WRITER, str(folder), str(pause_s), name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        first = writer.stdout.readline()
        time.sleep(after_s)
        writer.kill()
        lines = [first, *writer.stdout.read().splitlines(keepends=True)]
    return [tuple(map(int, line.split())) for line in lines if line.endswith("\n")]


def test_no_acknowledged_entry_is_lost_and_no_head_contradicted(tmp_path):
    chance = random.Random()
    heads = []
    for life, pause_s in enumerate((0.0, 0.05, 0.0, 5.0)):
        printed = run_and_kill(tmp_path, pause_s, str(life), chance.uniform(0.0, 0.3))
        assert printed
        heads.append(Checkpoint.parse(Note.parse((tmp_path / "public/checkpoint").read_text("utf-8")).text))
        with open_ledger(tmp_path, KEY) as ledger:
            head = Checkpoint.parse(Note.parse(ledger.checkpoint()).text)
            for old in heads:
                verify_consistency(old.size, head.size, ledger.consistency(old.size), old.root, head.root)
            for number, index in printed:
                proof = ledger.prove(index + 6)
                verify_inclusion(leaf_hash(b"%d/%d/6" % (life, number)), index + 6, head.size, proof.hashes, head.root)
