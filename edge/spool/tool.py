"""``tianmai-edge spool ...``: look into a spool, carry its messages to the cloud on a stick.

An export is a file of wire messages (format in ``edge.wire``). Importing on the cloud's side is idempotent;
importing into another spool re-numbers the messages there.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from edge import EdgeError
from edge.spool import Item, Kind, Spool, SpoolError, SpoolSettings
from edge.wire import Event, Topic, WireError, decode_pack, export_head, export_line, read_export
from edge.wire import Kind as WireKind

if TYPE_CHECKING:
    import argparse

_AS_IT_IS = SpoolSettings(cap_bytes=2**62, cap_days=0)  # who only looks drops nothing, whatever cap the gateway has
_WIRE = {Kind.DATA: WireKind.DATA, Kind.RECORD: WireKind.RECORD, Kind.EVENT: WireKind.EVENT}


def add_spool_commands(jobs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Hang ``spool stat|list|cat|verify|export|import`` into the command line."""
    spool = jobs.add_parser("spool", help="look into a spool, export or import it")
    verbs = spool.add_subparsers(required=True, metavar="VERB")
    for name, job, text in (
        ("stat", _stat, "figures, as JSON"),
        ("list", _list, "one line per message"),
        ("cat", _cat, "one JSON line per reading or event"),
        ("verify", _verify, "read everything; exit 1 where something is damaged"),
    ):
        verb = verbs.add_parser(name, help=text)
        verb.add_argument("dir", type=Path, metavar="DIR")
        verb.set_defaults(job=job)
    export = verbs.add_parser("export", help="write unconfirmed messages to a file, for a USB stick")
    export.add_argument("dir", type=Path, metavar="DIR")
    export.add_argument("file", type=Path, metavar="FILE")
    export.add_argument("--gateway", required=True, metavar="ID")
    export.set_defaults(job=_export)
    import_ = verbs.add_parser("import", help="take messages of an export into this spool")
    import_.add_argument("dir", type=Path, metavar="DIR")
    import_.add_argument("file", type=Path, metavar="FILE")
    import_.set_defaults(job=_import)


def _open(directory: Path) -> Spool:
    if not directory.is_dir():
        raise SpoolError("no_spool", f"{directory}: no such directory")
    return Spool(directory, _AS_IT_IS)


def messages(spool: Spool) -> Iterator[Item]:
    """All messages above the watermark, both lanes, in the order of their numbers."""
    after = spool.watermark
    while True:
        items = spool.read(after, events=False, limit=256) + spool.read(after, events=True, limit=256)
        items.sort(key=lambda item: item.seq)
        if not items:
            return
        # Of a full page only what both lanes are sure to have shown.
        yield from items[:256]
        after = items[:256][-1].seq


def _stat(args: argparse.Namespace) -> int:
    spool = _open(args.dir)
    _say(json.dumps({**asdict(spool.stat()), "backlog": spool.stat().backlog}))
    spool.close()
    return 0


def _list(args: argparse.Namespace) -> int:
    spool = _open(args.dir)
    for item in messages(spool):
        _say(f"{item.seq}\t{item.kind.name.lower()}\t{item.count}\t{len(item.payload)}")
    spool.close()
    return 0


def _cat(args: argparse.Namespace) -> int:
    spool = _open(args.dir)
    for item in messages(spool):
        for line in _lines(item):
            _say(json.dumps({"seq": item.seq, **line}, ensure_ascii=False))
    spool.close()
    return 0


def _lines(item: Item) -> Iterator[dict[str, Any]]:
    if item.kind is Kind.DATA:
        for reading in decode_pack(item.payload).readings:
            yield asdict(reading)
    elif item.kind is Kind.EVENT:
        event = Event.decode(item.payload)
        yield {"event": event.kind, "time_ms": event.time_ms, "body": dict(event.body)}
    else:
        yield {"record": item.payload.decode("utf-8", "replace")}


def _verify(args: argparse.Namespace) -> int:
    spool = _open(args.dir)
    good, bad = 0, 0
    for item in messages(spool):
        try:
            good += sum(1 for _ in _lines(item)) and 1
        except WireError as why:
            bad += 1
            _say(f"message {item.seq}: {why}", sys.stderr)
    gaps = spool.take_gaps()
    for gap in gaps:
        _say(f"messages {gap.first}..{gap.last}: lost ({gap.reason})", sys.stderr)
    _say(json.dumps({"good": good, "bad": bad, "gaps": len(gaps)}))
    spool.close()
    return 1 if bad or gaps else 0


def _export(args: argparse.Namespace) -> int:
    Topic(args.gateway, WireKind.STATUS)  # a wrong id is refused before a file is made
    spool, count = _open(args.dir), 0
    try:
        with args.file.open("xb") as out:
            out.write(export_head(args.gateway))
            for item in messages(spool):
                out.write(export_line(Topic(args.gateway, _WIRE[item.kind], spool.epoch, item.seq), item.payload))
                count += 1
    except OSError as why:
        raise SpoolError("no_file", f"{args.file}: cannot write: {why.strerror}") from None
    finally:
        spool.close()
    _say(json.dumps({"messages": count, "file": str(args.file)}))
    return 0


def _say(text: str, where: TextIO | None = None) -> None:
    (where or sys.stdout).write(text + "\n")


def _messages_of(path: Path) -> Iterator[tuple[Topic, bytes]]:
    try:
        with path.open("rb") as lines:
            yield from read_export(lines)
    except OSError as why:
        raise SpoolError("no_file", f"{path}: cannot read: {why.strerror}") from None
    except WireError as why:
        raise WireError(why.code, f"{path}: {why}") from None


def _import(args: argparse.Namespace) -> int:
    kinds = {wire: kind for kind, wire in _WIRE.items()}
    spool, count = Spool(args.dir, _AS_IT_IS), 0
    try:
        for topic, payload in _messages_of(args.file):
            readings = len(decode_pack(payload).readings) if topic.kind is WireKind.DATA else 1
            spool.put(kinds[topic.kind], payload, count=readings)
            count += 1
        spool.commit()
    except KeyError:
        raise EdgeError("bad_export", f"{args.file}: holds a message that no spool keeps") from None
    finally:
        spool.close()
    _say(json.dumps({"messages": count}))
    return 0
