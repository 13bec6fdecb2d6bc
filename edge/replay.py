"""A recorded pond log goes the whole way: CSV rows become readings, packs, messages, and wait for the watermark.

Times that go back, stand still or jump are sent as they are: the log is evidence, and the cloud decides what a
second value at the same time means.

The place in the file is noted in the spool under the same checksum as the pack it belongs to, so after a kill
the next run goes on with the first row that was not yet durable and no row gets two numbers.
"""

from __future__ import annotations

import queue
import sys
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import TYPE_CHECKING

from edge.pond_log import LogError, Pace, Report, Row
from edge.spool import Kind as SpoolKind
from edge.spool import Spool
from edge.uplink import Message, Notice, Uplink
from edge.wire import Ack, Kind, Pack, Reading, WireError, encode_pack

if TYPE_CHECKING:
    from pathlib import Path

    from edge.settings import UplinkSettings

_BAR_S = 0.1


class Replay:
    """One run over one file. The caller owns the spool; ``speed`` 0 means as fast as the disk takes it."""

    def __init__(self, path: Path, spool: Spool, gateway: str, uplink: UplinkSettings) -> None:
        self._path, self._spool, self._gateway = path, spool, gateway
        self._inbox: queue.SimpleQueue[Notice] = queue.SimpleQueue()
        self._uplink = Uplink(gateway, uplink, self._inbox.put)
        self._mark = f"replay:{_fingerprint(path)}"
        self.report = Report()

    def run(
        self, rows: Iterator[Row], *, speed: float, pack_readings: int, tick: Callable[[Report, Spool], None]
    ) -> None:
        """Spool every row that is not yet durable, sending meanwhile."""
        self._uplink.start()
        done = int(self._spool.notes.get(self._mark, 1))
        pace = Pace(speed)
        batch: list[Reading] = []
        last = done
        for row in rows:
            if row.line <= done:
                self.report.skipped_rows += 1
                continue
            if row.readings:
                while pace.early(row.readings[0].time_ms):
                    last = self._flush(batch, last)
                    self._serve(0.05)
            batch.extend(row.readings)
            last = row.line
            if len(batch) >= pack_readings:
                self._flush(batch, last)
                self._serve(0.0)
                tick(self.report, self._spool)
        self._flush(batch, last)

    def finish(self, *, wait: bool, timeout_s: float, tick: Callable[[Report, Spool], None]) -> None:
        """Send on until the cloud has confirmed all (``wait``), or until all went out once; then leave."""
        deadline = time.monotonic() + timeout_s
        quiet = 0.0
        while not self._spool.settled and time.monotonic() < deadline:
            sent = self._serve(0.2)
            tick(self.report, self._spool)
            quiet = 0.0 if sent or self._uplink.busy else quiet + 0.2
            if not wait and quiet > 2.0:  # noqa: PLR2004 - seconds without anything to send
                break
        self.report.settled = self._spool.settled
        self._uplink.close()

    def _flush(self, batch: list[Reading], line: int) -> int:
        if batch:
            pack = Pack(self._gateway, tuple(batch))
            self._spool.put(SpoolKind.DATA, encode_pack(pack), count=len(batch), note={self._mark: line})
            self._spool.commit(time.time_ns() // 1_000_000)
            self.report.readings += len(batch)
            self.report.packs += 1
            batch.clear()
        return line

    def _serve(self, patience_s: float) -> int:
        """Take what came from the network, then send; returns how many messages went out."""
        deadline = time.monotonic() + patience_s
        while True:
            try:
                notice = self._inbox.get(timeout=max(0.0, deadline - time.monotonic()) or 0.0005)
            except queue.Empty:
                break
            self._hear(notice)
            if self._inbox.empty():
                break
        return self._uplink.pump(self._spool, now=time.monotonic())

    def _hear(self, notice: Notice) -> None:
        now = time.monotonic()
        if not isinstance(notice, Message):
            self._uplink.hear(notice, now=now)
        elif notice.topic.kind is Kind.ACK:
            try:
                ack = Ack.decode(notice.payload)
            except WireError:
                return
            moved = self._spool.settle(ack.epoch, ack.watermark)
            self._uplink.confirmed(moved=moved, now=now, again=ack.again)


def _fingerprint(path: Path) -> str:
    digest = sha256()
    try:
        with path.open("rb") as log:
            while block := log.read(1 << 16):
                digest.update(block)
    except OSError as why:
        raise LogError("no_file", f"{path}: cannot read: {why.strerror}") from None
    return digest.hexdigest()[:16]


def progress_bar(total: int) -> Callable[[Report, Spool], None]:
    """A line on stderr that keeps itself up to date; silent where stderr is no terminal."""
    shown = [0.0]

    def show(report: Report, spool: Spool) -> None:
        now = time.monotonic()
        if not sys.stderr.isatty() or now - shown[0] < _BAR_S:
            return
        shown[0] = now
        share = min(1.0, (report.rows / total) if total else 1.0)
        bar = "#" * round(30 * share)
        backlog = spool.stat().backlog
        sys.stderr.write(f"\r[{bar:<30}] {report.rows} rows, {backlog} packs not yet confirmed ")
        sys.stderr.flush()

    return show
