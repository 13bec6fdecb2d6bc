"""`tianmai-trace`: an independent checker. It asks no server, and takes its keys from the reader's policy only."""

import argparse
import contextlib
import json
import os
import re
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from traceability import TraceError
from traceability.canon import to_base64
from traceability.key_lists import follow_log
from traceability.keys import KeyKind, SigningKey, load_key, save_key
from traceability.monitor import Contradiction, LogAway, files_at
from traceability.notes import Checkpoint, Note
from traceability.packs import BadPack, Pack
from traceability.policy import Policy
from traceability.report import TEXTS, report_lines, report_table, shown_time
from traceability.shard_monitor import YearlyMonitor
from traceability.stores import FileHead
from traceability.witness import open_witness, serve

_SCRIPT: Final = re.compile(rb"<script\b([^>]*)>(.*?)</script", re.DOTALL | re.IGNORECASE)
_MARKS: Final = frozenset({b'type="application/tianmai-pack+json"', b'id="pack"'})
# A file with none of these is no pack that was changed, it is something else.
_PACK_MARKS: Final = (b"tianmai-pack@", b'"checkpoint":', b'"events":')
_MAX_FILE_BYTES: Final = 8 * 1024 * 1024
_GOOD, _NOT_VERIFIED, _USAGE = 0, 1, 2


class BadInput(TraceError):
    """The command cannot start: a file is missing or is not what it should be."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 good, 1 not verified, 2 wrong use."""
    given = list(sys.argv[1:] if argv is None else argv)
    arguments = _parser(with_labels=given[:1] == ["labels"]).parse_args(given)
    try:
        result: int = arguments.job(arguments)
        sys.stdout.flush()
    except TraceError as why:
        print(f"error: {why}", file=sys.stderr)
        return _USAGE
    except BrokenPipeError:
        # Whoever read our output has seen enough (`| head`); nothing is left to say, nor anybody to say it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _USAGE
    return result


def _parser(*, with_labels: bool) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tianmai-trace", description="Check what Tianmai says, without asking Tianmai."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    verify = commands.add_parser("verify", help="check a proof pack, or a saved consumer page with one inside")
    verify.add_argument("file", type=Path, metavar="FILE")
    verify.add_argument(
        "--policy", type=Path, required=True, help="whom you trust: logs, witnesses, quorum (TOML or JSON)"
    )
    verify.add_argument("--json", action="store_true", help="print the result as one JSON object")
    verify.add_argument("--lang", choices=sorted(TEXTS), default="zh", help="language of the report (default: zh)")
    verify.set_defaults(job=_verify)

    monitor = commands.add_parser("monitor", help="follow a log from year to year, read every entry, keep its heads")
    monitor.add_argument("log", metavar="LOG", help="address (http...) or folder of the log's static files")
    monitor.add_argument("--policy", type=Path, required=True, help="the log's keys (TOML or JSON)")
    monitor.add_argument(
        "--state", type=Path, required=True, metavar="FILE", help="where the last good head is kept, a file a year"
    )
    monitor.add_argument(
        "--every", type=float, default=10.0, metavar="SECONDS", help="time between looks (default: 10)"
    )
    monitor.add_argument("--once", action="store_true", help="look once, then end")
    monitor.add_argument("--find", metavar="TEXT", help="print every new entry that holds this text")
    monitor.add_argument("--against", type=Path, metavar="FILE", help="a head that somebody else was shown")
    monitor.set_defaults(job=_monitor)

    witness = commands.add_parser("witness", help="remember the heads of logs and cosign what extends them")
    witness.add_argument("--key", type=Path, required=True, metavar="FILE", help="the witness's signing key")
    witness.add_argument("--policy", type=Path, required=True, help="the logs to be witnessed (TOML or JSON)")
    witness.add_argument("--state", type=Path, required=True, metavar="DIR", help="where signed heads are kept")
    witness.add_argument("--listen", default="127.0.0.1:8390", metavar="HOST:PORT", help="(default: 127.0.0.1:8390)")
    witness.set_defaults(job=_witness)

    labels = commands.add_parser("labels", help="issue serials and print their QR labels as PDF, SVG or PNG")
    if with_labels:
        from traceability import labels as printing  # noqa: PLC0415  drawing is heavy, and a checker draws nothing

        printing.add_arguments(labels)
        labels.set_defaults(job=printing.run)

    keys = commands.add_parser("keys", help="make a key, show its public half, or follow a log to its next key")
    deeds = keys.add_subparsers(required=True, metavar="new|show|follow")
    new = deeds.add_parser("new", help="write a new signing key to a file that only you may read")
    new.add_argument("name", help="key name, as in trace.example/2026")
    new.add_argument("file", type=Path, metavar="FILE")
    new.add_argument("--witness", action="store_true", help="a key for cosignatures instead of checkpoints")
    new.set_defaults(job=_new_key)
    show = deeds.add_parser("show", help="print the verifier key that belongs to a signing key")
    show.add_argument("file", type=Path, metavar="FILE")
    show.set_defaults(job=_show_key)
    follow = deeds.add_parser("follow", help="print your policy with the key lists that its log announced")
    follow.add_argument("log", metavar="LOG", help="address (http...) or folder of the log's static files")
    follow.add_argument("--policy", type=Path, required=True, help="whom you trust now")
    follow.set_defaults(job=_follow_keys)
    return parser


# -- verify ------------------------------------------------------------------------------------------------------------


def _verify(arguments: argparse.Namespace) -> int:
    policy = Policy.load(arguments.policy)
    data = _read(arguments.file)
    try:
        proven = Pack.parse(_pack_in(data)).verify(policy, now_ms=_now_ms())
    except BadPack as why:
        if not any(mark in data for mark in _PACK_MARKS):
            raise BadInput(f"{arguments.file} holds no proof pack: {why}") from why
        if arguments.json:
            _say(json.dumps({"verified": False, "event": why.event, "reason": str(why)}, ensure_ascii=False))
        else:
            _say(TEXTS[arguments.lang]["bad"].format(why=why))
        return _NOT_VERIFIED
    if arguments.json:
        _say(json.dumps(report_table(proven), ensure_ascii=False))
    else:
        _say(*report_lines(proven, arguments.lang))
    return _GOOD


def _say(*lines: str) -> None:
    """Print a verdict. Who reads only its first line (`| head -1`) does not change it, nor how the command ends."""
    try:
        print(*lines, sep="\n", flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise BadInput(f"{path} is larger than {_MAX_FILE_BYTES} bytes: no pack or page of ours is")
        return path.read_bytes()
    except OSError as why:
        raise BadInput(f"cannot read {path}: {why.strerror}") from why


def _pack_in(data: bytes) -> bytes:
    """The pack itself: the file, or the one script element that holds it in a saved page."""
    if not data.lstrip().startswith(b"<"):
        return data
    found = [text for attributes, text in _SCRIPT.findall(data) if set(attributes.split()) >= _MARKS]
    if len(found) != 1:
        raise BadPack(f"the page holds {len(found)} packs instead of one")
    return bytes(found[0])


# -- monitor, witness --------------------------------------------------------------------------------------------------


def _monitor(arguments: argparse.Namespace) -> int:
    state: Path = arguments.state

    def head_of(name: str) -> FileHead:
        path = state.with_name(f"{state.name}.{name}") if name else state
        head = FileHead(path, durable=True)
        _check_head(path, head.read())
        return head

    monitor = YearlyMonitor(files_at(arguments.log), Policy.load(arguments.policy), head_of)
    try:
        _look(monitor, arguments.find, once=arguments.once)
        if arguments.against is not None:
            shown = _read(arguments.against).decode(errors="replace")
            _check_head(arguments.against, shown)
            other = monitor.compare(shown, now_ms=_now_ms())
            print(f"the head of {other.size} entries in {arguments.against} is of this log: {other.origin}")
        while not arguments.once:
            time.sleep(arguments.every)
            _look(monitor, arguments.find)
    except Contradiction as why:
        _say(f"CONTRADICTION ({why.code}): {why}", "--- kept ---", why.kept, "--- shown ---", why.shown)
        return _NOT_VERIFIED
    except KeyboardInterrupt:
        return _GOOD
    return _GOOD


def _check_head(path: Path, text: str | None) -> None:
    try:
        if text is not None:
            Checkpoint.parse(Note.parse(text).text)
    except TraceError as why:
        raise BadInput(f"{path} holds no head of a log: {why}") from why


def _look(monitor: YearlyMonitor, wanted: str | None, *, once: bool = False) -> None:
    def seen(index: int, entry: bytes) -> None:
        if wanted is not None and wanted.encode() in entry:
            print(f"entry {index}: {entry.decode(errors='replace')}")

    try:
        steps = monitor.step(now_ms=_now_ms(), seen=seen)
    except LogAway as why:
        if once or why.code != LogAway.default_code:
            raise
        print(f"{shown_time(_now_ms())}  {why}", flush=True)
        return
    for step in steps:
        checkpoint = step.accepted.checkpoint
        if step is steps[-1] or step.new > step.old:  # of a year that is over there is nothing to say but once
            told = f"{step.new} entries ({step.new - step.old} new), root {to_base64(checkpoint.root)}"
            print(f"{shown_time(_now_ms())}  {checkpoint.origin}: {told}", flush=True)


def _witness(arguments: argparse.Namespace) -> int:
    host, gap, port = arguments.listen.rpartition(":")
    if not gap or not port.isdigit():
        raise BadInput(f"--listen {arguments.listen!r}: HOST:PORT is expected")
    key = load_key(arguments.key)
    if key.verifier.kind is not KeyKind.COSIGNATURE:
        raise BadInput(f"{arguments.key} is no witness key: make one with `keys new --witness`")
    witness = open_witness(arguments.state, key, Policy.load(arguments.policy), seconds=lambda: int(time.time()))
    try:
        server = serve(witness, (host, int(port)))
    except OSError as why:
        raise BadInput(f"cannot listen on {arguments.listen}: {why.strerror}") from why
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with server:
        print(f"{key.verifier.vkey} at http://{host}:{server.server_port}/add-checkpoint", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
    return _GOOD


# -- keys --------------------------------------------------------------------------------------------------------------


def _new_key(arguments: argparse.Namespace) -> int:
    key = SigningKey.new(arguments.name, KeyKind.COSIGNATURE if arguments.witness else KeyKind.NOTE)
    save_key(arguments.file, key)
    print(key.verifier.vkey)
    return _GOOD


def _show_key(arguments: argparse.Namespace) -> int:
    print(load_key(arguments.file).verifier.vkey)
    return _GOOD


def _follow_keys(arguments: argparse.Namespace) -> int:
    policy, refused = follow_log(Policy.load(arguments.policy), files_at(arguments.log), now_ms=_now_ms())
    for why in refused:
        print(f"not followed: {why}", file=sys.stderr)
    print(policy.to_json().decode())
    return _GOOD


if __name__ == "__main__":
    sys.exit(main())
