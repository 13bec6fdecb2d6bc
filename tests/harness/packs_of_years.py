"""A pack whose events lie in the logs of two years, and everything that can be wrong with one.

Python's checker and the browser's are asked about the same texts (`WRONG` says what is wrong, and how each tells it).
"""

import json

from traceability.keys import KeyKind, SigningKey
from traceability.ledger import Ledger
from traceability.notes import Note
from traceability.packs import assemble, commit, together
from traceability.policy import Policy, Trusted, TrustedLog
from traceability.stores import MemoryEntries, MemoryHead, MemoryTiles

NOW_MS = 1_750_000_000_000  # past: commands look at the clock
ORIGINS = ("trace.example/log", "trace.example/log/2027")
KEY = SigningKey.new(ORIGINS[0], random=lambda n: b"L" * n)
WITNESS = SigningKey.new("witness.example", KeyKind.COSIGNATURE, random=lambda n: b"w" * n)
POLICY = Policy(
    tuple(TrustedLog(origin, Trusted(KEY.verifier)) for origin in ORIGINS), (Trusted(WITNESS.verifier),), quorum=1
)
ONLY_FIRST = Policy(POLICY.logs[:1], POLICY.witnesses, quorum=1)
SUBJECT = "https://t.example/01/06901234567892/10/L7"
EVENTS = (  # year's log, leaf; the last two share a log and, with another index, a time
    (0, commit({"when": 1000, "what": "collecting", "inputs": [], "outputs": ["lot:eggs"]}, {"who": "王小明"})),
    (0, commit({"when": 2000, "what": "storing", "inputs": [], "outputs": ["lot:eggs"]}, {})),
    (1, commit({"when": 2000, "what": "packing", "inputs": ["lot:eggs"], "outputs": [SUBJECT]}, {"who": "<李>"})),
    (1, commit({"when": 3000, "what": "shipping", "inputs": [], "outputs": [SUBJECT]}, {})),
)


def pack_of(*years, key=KEY):
    """The pack of the events of these years' logs, each log with as many others in it as its number asks for."""
    parts = []
    for year in years:
        leaves = [leaf for number, leaf in EVENTS if number == year]
        with Ledger(MemoryEntries(), MemoryTiles(), MemoryHead(), key, origin=ORIGINS[year]) as ledger:
            ledger.append([b"other %d" % n for n in range(3 + year)])
            places = [receipt.index for receipt in ledger.append([leaf.entry for leaf in leaves])]
            note = Note.parse(ledger.checkpoint()).with_signature(WITNESS, seconds=NOW_MS // 1000 - 60).whole
            prove = lambda i, n, ledger=ledger: ledger.prove(i, n).hashes  # noqa: E731
            parts.append(assemble(SUBJECT, zip(leaves, places, strict=True), checkpoint=note, prove=prove))
    return together(parts)


GOOD = pack_of(0, 1).encode()


def text_of(table):
    """The file form of a pack's table."""
    text = json.dumps(table, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").encode()


def _changed(change):
    table = json.loads(GOOD)
    change(table)
    return text_of(table)


def _exchange(table):
    table["checkpoints"].reverse()


def _one_log_twice(table):
    table["checkpoints"][1] = table["checkpoints"][0]


def _other_log(table):
    table["events"][1]["log"] = 1


def _proof_of_the_other(table):
    events = table["events"]
    events[0]["proof"], events[2]["proof"] = events[2]["proof"], events[0]["proof"]


def _no_second_checkpoint(table):
    table["checkpoints"].pop()


def _unused_checkpoint(table):
    table["checkpoints"].append(json.loads(pack_of(0).encode())["checkpoint"])


def _only_one(table):
    table["checkpoints"].pop()
    table["events"] = [event for event in table["events"] if event["log"] == 0]
    table["subject"] = "lot:eggs"


def _out_of_order(table):
    table["events"][1:3] = table["events"][2:0:-1]


def _no_log(table):
    del table["events"][0]["log"]


def _negative_log(table):
    table["events"][0]["log"] = -1


def _first_form_with_log(table):
    table.update(json.loads(pack_of(0).encode()), subject="lot:eggs")
    del table["checkpoints"]
    table["events"][0]["log"] = 0


# What is wrong: the text, what Python's message says, and the rule that the browser names.
WRONG = {
    "checkpoints exchanged": (_changed(_exchange), "event 1: inclusion proof", "inclusion"),
    "one log twice": (_changed(_one_log_twice), "checkpoint 2: a second one of the log", "checkpoint"),
    "event under the other year": (_changed(_other_log), "event 2: ", "inclusion"),
    "proof of the other year": (_changed(_proof_of_the_other), "event 1: ", "inclusion"),
    "checkpoint missing": (_changed(_no_second_checkpoint), "one checkpoint", "form"),
    "checkpoint without event": (_changed(_unused_checkpoint), "checkpoint 3: no event", "form"),
    "one log in the second form": (_changed(_only_one), "one checkpoint", "form"),
    "out of order": (_changed(_out_of_order), "event 3: not after", "order"),
    "no log": (_changed(_no_log), "event 1: an object with exactly", "form"),
    "negative log": (_changed(_negative_log), "event 1: log is not a count", "form"),
    "log in the first form": (_changed(_first_form_with_log), "event 1: an object with exactly", "form"),
    "signed by another": (
        pack_of(0, 1, key=SigningKey.new(ORIGINS[0], random=lambda n: b"O" * n)).encode(),
        "checkpoint 1: a signature by trace.example/log, a key outside the policy",
        "log_key",
    ),
    "text beside it": (_changed(lambda table: table.update(checkpoint="x")), "an object with exactly", "form"),
}
