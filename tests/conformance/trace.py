"""Scores `traceability` on published vectors, and on six ways to tamper with a log.

Merkle proofs, signed notes, proof texts, a real tiled log and odd Ed25519 signatures come from --data; the tampering is
done to a log of this program's own. `ed25519_agree` runs the page's own checker under Node (WebCrypto, and the bundled
fallback where it was built) and asks it and Python for the same answer.
"""

import base64
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import trace_events
from measuring import ROOT, conform
from services import ProgramMissing, find_program

from traceability import TraceError
from traceability.audit import audit
from traceability.keys import KeyKind, SigningKey, VerifierKey, verify_ed25519
from traceability.ledger import BadLedger, open_ledger
from traceability.merkle import inclusion_proof, leaf_hash, verify_consistency, verify_inclusion
from traceability.monitor import Contradiction, Monitor, files_at
from traceability.notes import Checkpoint, Note
from traceability.policy import Policy, Trusted, TrustedLog
from traceability.proofs import TlogProof
from traceability.stores import Batch, DirectoryEntries, DirectoryTiles, FileHead, MemoryHead
from traceability.tiles import TileReader, stored_tiles, unpack_bundle
from traceability.witness import WitnessClient, cosign, open_witness

NOW_MS = 1_800_000_000_000
CHECKER = ROOT / "cloud" / "pages" / "static" / "verify.js"


def score(args, report):
    for kind in ("inclusion", "consistency"):
        score_merkle(args.data, report, kind)
    score_notes(args.data, report)
    score_proof_texts(args.data, report)
    score_tiled_logs(args.data, report)
    score_ed25519(args.data, report)
    score_tampering(report)
    trace_events.score(args.data, report)


def refuses(call):
    """Whether the call raises the package's own error; any other exception is a case judged wrong."""
    try:
        call()
    except TraceError:
        return True
    return False


# -- vectors ----------------------------------------------------------


def score_merkle(data, report, kind):
    verify = {"inclusion": inclusion_case, "consistency": consistency_case}[kind]
    with report.cases(f"merkle_{kind}", at_least=1.0) as judge:
        for path in sorted(data.rglob(f"{kind}*.json")):
            for case in json.loads(path.read_text("utf-8")):
                judge(case.get("desc", "?"), lambda case=case: refuses(lambda: verify(case)) == case["wantErr"])


def inclusion_case(case):
    leaf, root = raw(case["leafHash"]), raw(case["root"])
    verify_inclusion(leaf, case["leafIdx"], case["treeSize"], [raw(item) for item in case["proof"] or []], root)


def consistency_case(case):
    proof = [raw(item) for item in case["proof"] or []]
    verify_consistency(case["size1"], case["size2"], proof, raw(case["root1"]), raw(case["root2"]))


def raw(text):
    return base64.b64decode(text or "")


def score_notes(data, report):
    with report.cases("notes", at_least=1.0) as judge:
        for path in sorted(data.rglob("signed-notes*.json")):
            cases = json.loads(path.read_text("utf-8"))
            for case in cases.get("vkeys", ()):
                judge(case["vkey"], lambda case=case: key_case(case))
            for case in cases.get("vectors", ()):
                judge(case["desc"], lambda case=case, path=path: note_case(case, path.parent))


def key_case(case):
    if not case["valid"]:
        return refuses(lambda: VerifierKey.parse(case["vkey"]))
    return case.get("alg") in (None, VerifierKey.parse(case["vkey"]).kind)


def note_case(case, folder):
    text = case["note"] if "note" in case else (folder / case["file"]).read_text("utf-8")
    if not case["valid"]:
        return refuses(lambda: note_head(text, case["vkey"]))
    head = note_head(text, case["vkey"])
    return all(getattr(head, name) == case[name] for name in ("origin", "size") if name in case)


def note_head(text, vkey):
    note = Note.parse(text)
    if not note.signed_by([VerifierKey.parse(vkey)]):
        raise TraceError("not signed by this key")
    return Checkpoint.parse(note.text)


def score_proof_texts(data, report):
    with report.cases("tlog_proofs", at_least=1.0) as judge:
        for path in sorted(data.rglob("tlog-proof*.json")):
            for case in json.loads(path.read_text("utf-8"))["vectors"]:
                judge(case["desc"], lambda case=case: proof_case(case))


def proof_case(case):
    if not case["parses"]:
        return refuses(lambda: TlogProof.parse(case["proof"]))
    return TlogProof.parse(case["proof"]).text == case["proof"]


def score_tiled_logs(data, report):
    """Every checkpoint of every tiled log: signed, its root made from the entries, every entry proven by the tiles."""
    keys = published_keys(data)
    with report.cases("tessera_log", at_least=1.0) as judge:
        for folder in sorted({path.parent for path in data.rglob("checkpoint") if (path.parent / "tile").is_dir()}):
            for path in sorted(folder.glob("checkpoint*")):
                judge(f"{folder.name}/{path.name}", lambda folder=folder, path=path: tiled_case(folder, path, keys))
            judge(f"{folder.name} followed", lambda folder=folder: followed_case(folder, keys))


def published_keys(data):
    keys = {}
    for path in sorted(data.rglob("signed-notes*.json")):
        for case in json.loads(path.read_text("utf-8")).get("vectors", ()):
            if case["valid"]:
                keys[case["origin"]] = case["vkey"]
    return keys


def tiled_case(folder, path, keys):
    text = path.read_text("utf-8")
    head = note_head(text, keys[text.split("\n", 1)[0]])
    read = files_at(str(folder))
    entries = [entry for number in range(-(-head.size // 256)) for entry in bundle(read, number, head.size)]
    node = TileReader(stored_tiles(read, head.size), keep=99).node(head.size)
    for index, entry in enumerate(entries):
        verify_inclusion(leaf_hash(entry), index, head.size, inclusion_proof(index, head.size, node), head.root)
    return len(entries) == head.size


def bundle(read, number, size):
    width = min(256, size - number * 256)
    name = f"tile/entries/{number:03d}"
    return unpack_bundle(read(name if width == 256 else f"{name}.p/{width}"))


def followed_case(folder, keys):
    origin = (folder / "checkpoint").read_text("utf-8").split("\n", 1)[0]
    policy = Policy((TrustedLog(origin, Trusted(VerifierKey.parse(keys[origin]))),))
    return Monitor(files_at(str(folder)), policy, MemoryHead()).step(now_ms=NOW_MS).new > 0


# -- the browser's checker and ours ----------------------------------------------------------

ASK_NODE = """
import { readFileSync } from "node:fs";
import { signed } from CHECKER;
const bytes = (hex) => Uint8Array.from(Buffer.from(hex, "hex"));
const old = { importKey: async () => { throw new Error("an old browser"); } };
const answers = [];
for (const { key, sig, msg } of JSON.parse(readFileSync(0, "utf-8"))) {
  const question = [bytes(sig), new TextEncoder().encode(msg), bytes(key)];
  const answer = [await signed(...question, { subtle: crypto.subtle })];
  if (FALLBACK) answer.push(await signed(...question, { subtle: old, fallback: FALLBACK }));
  answers.push(answer);
}
console.log(JSON.stringify(answers));
"""


def score_ed25519(data, report):
    cases = [case for path in sorted(data.rglob("edge-cases*.json")) for case in json.loads(path.read_text("utf-8"))]
    cases += own_signatures() if cases else []
    try:
        answers = ask_browser_checker(cases)
    except ProgramMissing as why:
        print(f"  ed25519_agree: {why}")
        cases, answers = [], []
    with report.cases("ed25519_agree", at_least=1.0) as judge:
        for case, answer in zip(cases, answers, strict=True):
            ours = verify_ed25519(bytes.fromhex(case["key"]), bytes.fromhex(case["sig"]), case["msg"].encode())
            judge(f"number {case['number']}: {ours}, {answer}", lambda o=ours, a=answer: all(each is o for each in a))


def own_signatures():
    """Honest signatures, so that two checkers that refuse everything do not agree."""
    key = SigningKey.new("log.example")
    made = [(n, f"message {n}") for n in range(8)]
    public = key.verifier.public.hex()
    return [{"number": f"own {n}", "key": public, "sig": key.sign(msg.encode()).hex(), "msg": msg} for n, msg in made]


def ask_browser_checker(cases):
    """Answers of the page's `signed`: by WebCrypto, and by the bundled fallback where it was built."""
    node = find_program("node")
    bundles = sorted(CHECKER.parent.glob("dist/ed25519*.js"))
    fallback = json.dumps(bundles[0].as_uri() if bundles else None)
    with tempfile.TemporaryDirectory() as folder:
        checker, asker = Path(folder, "checker.mjs"), Path(folder, "ask.mjs")
        checker.write_text(CHECKER.read_text("utf-8") + "\nexport { signed };\n", "utf-8")
        asker.write_text(
            ASK_NODE.replace("CHECKER", json.dumps(checker.as_uri())).replace("FALLBACK", fallback), "utf-8"
        )
        question = json.dumps(cases)
        done = subprocess.run([node, asker], input=question, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise RuntimeError(f"node: {done.stderr[-400:]}")
    return json.loads(done.stdout)


# -- tampering ----------------------------------------------------------

ORIGIN = "log.example"
LOG = SigningKey.new(ORIGIN, random=lambda n: b"L" * n)
WITNESS = SigningKey.new("witness.example", KeyKind.COSIGNATURE, random=lambda n: b"W" * n)
POLICY = Policy((TrustedLog(ORIGIN, Trusted(LOG.verifier)),), (Trusted(WITNESS.verifier),), quorum=1)
EVENTS = [b"event %d" % n for n in range(700)]
CHANGED = [*EVENTS[:333], b"another event", *EVENTS[334:]]


def score_tampering(report):
    """Each way must be found, and the place named: the event, or the two signed heads between which it lies."""
    with tempfile.TemporaryDirectory() as name, report.cases("tamper", at_least=1.0) as judge:
        folder = Path(name)
        witness = open_witness(folder / "witness", WITNESS, POLICY, seconds=lambda: NOW_MS // 1000)
        with make_log(folder / "log", EVENTS[:300]) as ledger:
            early = cosign(ledger, [client(witness)]).note.whole
            ledger.append(EVENTS)
            late = cosign(ledger, [client(witness)]).note.whole
        swapped = [*EVENTS[:333], EVENTS[500], *EVENTS[334:500], EVENTS[333], *EVENTS[501:]]
        judge("edit a row", lambda: audited(folder, CHANGED) == [("edited", 333)])
        judge("delete a row", lambda: deleted(folder))
        judge("swap two rows", lambda: audited(folder, swapped) == [("moved", 333)])
        judge("roll the log back", lambda: rolled_back(folder, witness, late))
        judge("re-sign a head", lambda: signed_again(folder, witness, [early, late]))
        judge("show two readers a fork", lambda: forked(folder, late))


def make_log(folder, events):
    ledger = open_ledger(folder, LOG)
    for at in range(0, len(events), 150):
        ledger.append(events[at : at + 150])
    return ledger


def client(witness):
    def send(body):
        answer = witness.add_checkpoint(body)
        return answer.status, answer.body.encode()

    return WitnessClient(WITNESS.verifier, send)


def audited(folder, events):
    """Findings after the rows of the log's journal were replaced by these."""
    public = folder / "log" / "public"
    with tempfile.TemporaryDirectory(dir=folder) as other, DirectoryEntries(Path(other) / "journal") as journal:
        journal.append([Batch(tuple(events))])
        found = audit(journal, DirectoryTiles(public), FileHead(public / "checkpoint").read(), LOG.verifier)
    return [(each.code, each.index) for each in found]


def deleted(folder):
    fillers = ([], [b"a filler, so that the count fits"])
    return all(audited(folder, [*EVENTS[:333], *EVENTS[334:], *filler]) == [("removed", 333)] for filler in fillers)


def rolled_back(folder, witness, late):
    """An older backup of journal, tiles and head is whole in itself; the witness and the kept head know better."""
    with make_log(folder / "backup", EVENTS[:450]) as ledger:
        missing = cosign(ledger, [client(witness)]).missing[WITNESS.verifier.name]
        kept = findings(folder / "backup", [late])
    try:
        open_ledger(folder / "half", LOG).close()
        (folder / "half" / "public" / "checkpoint").write_text(late, "utf-8")
        open_ledger(folder / "half", LOG).close()
    except BadLedger as why:
        refused = why.code
    return (missing.code, refused, kept) == ("rolled_back", "rolled_back", [("rolled_back", 450)])


def signed_again(folder, witness, kept):
    with make_log(folder / "again", CHANGED) as ledger:
        missing = cosign(ledger, [client(witness)]).missing[WITNESS.verifier.name]
    return missing.code == "forked" and findings(folder / "again", kept) == [("forked", 300)]


def findings(folder, kept):
    public = folder / "public"
    with DirectoryEntries(folder / "copy") as journal:
        journal.append([Batch(journal_of(folder))])
        found = audit(journal, DirectoryTiles(public), FileHead(public / "checkpoint").read(), LOG.verifier, kept=kept)
    return [(each.code, each.index) for each in found]


def journal_of(folder):
    read = files_at(str(folder / "public"))
    size = Checkpoint.parse(Note.parse((folder / "public" / "checkpoint").read_text("utf-8")).text).size
    return tuple(entry for number in range(-(-size // 256)) for entry in bundle(read, number, size))


def forked(folder, late):
    """Reader one follows the log, reader two was shown another; comparing heads is enough."""
    with make_log(folder / "fork", CHANGED):
        pass
    one = Monitor(files_at(str(folder / "log" / "public")), POLICY, MemoryHead())
    two = Monitor(files_at(str(folder / "fork" / "public")), POLICY, MemoryHead())
    one.step(now_ms=NOW_MS)
    two.step(now_ms=NOW_MS)
    try:
        two.compare(late, now_ms=NOW_MS)
    except Contradiction as why:
        return why.code == "forked" and "\n700\n" in why.kept and "\n700\n" in why.shown
    return False


if __name__ == "__main__":
    sys.exit(conform("trace", score, default="traceability"))
