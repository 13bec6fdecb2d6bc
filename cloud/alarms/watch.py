"""The thread that finds out: stored readings in, alarms out; `Teller` has threads of its own.

It runs behind the watermark, not before it: a slow rule must not hold up a gateway's data. Nothing is lost by that:
the readings store counts its appends, and the position up to which everything was judged is saved with what the judging
came to. Whatever was not told here (a crash, a full queue, another process that stored it) leaves a hole in the
positions, and what stands there is read from the store instead.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Protocol

from cloud.alarms.engine import Change, Engine, History, Late, Watched
from cloud.alarms.impostors import KINDS, QUIET_MS
from cloud.alarms.past import Verdict
from cloud.alarms.store import AlarmStore
from cloud.alarms.telling import Teller
from edge.rules import Sample

__all__ = ["Follow", "Watch"]

_LOG = logging.getLogger(__name__)
Told = Callable[[], Mapping[str, Sequence[Sample]]]


class Follow(Protocol):
    """The readings store as it is followed: how far it has come, and whose readings of which times came between."""

    def position(self) -> int:
        """The latest position; they rise by one each."""

    def stored(self, after: int, upto: int) -> Sequence[tuple[str, int, int]]:
        """(gateway or empty for any, first, last time) of what was stored at `(after, upto]`."""


_ROUND_S = 1.0
_SAVE_MS = 60_000
_RELOAD_MS = 30_000
_MOST_WAITING = 500_000  # samples; past it they are read again from the store instead
_HOLE_MS = 10_000  # so long a position may be missing: its teller is on the way
_POSITIONS_AT_ONCE = 200


class _Stopping(Exception):
    """The watch is to end in the middle of a round: as after a crash, the next life begins where it was saved last."""


class Watch:
    """Judges stored readings by the rules of their gateways, from `start` to `stop`.

    `watched` lists gateways with their rules (asked again every half minute, so new ones join), `history` reads samples
    back from the readings store, which `follow` counts. While `busy` says that readings are waiting to be stored,
    judging takes a third of the time only: data that are not yet durable come first.
    """

    def __init__(
        self,
        store: AlarmStore,
        teller: Teller,
        *,
        clock: Callable[[], int],
        watched: Callable[[], Sequence[Watched]],
        history: History,
        follow: Follow,
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store = store
        self._teller = teller
        self._clock = clock
        self._watched = watched
        self._engine = Engine(history)
        self._history = history
        self._follow = follow
        self._busy = busy
        self._known: dict[str, Watched] = {}
        self._wanted: dict[str, frozenset[str]] = {}
        self._met: set[str] = set()  # gateways that nobody watched when they were heard
        self._queue: SimpleQueue[tuple[Told, int]] = SimpleQueue()
        self._waiting = 0
        self._position: int | None = None  # up to here everything was judged; None: to be asked of the tables
        self._ahead: set[int] = set()  # positions judged beyond it
        self._moved_ms = 0
        self._stop = Event()
        self._thread = Thread(target=self._work, name="alarms", daemon=True)
        self._saved_ms = 0
        self._loaded_ms = 0

    def start(self) -> None:
        """Begin, judging in a thread of its own and telling in others: no receiver holds the rules up."""
        self._thread.start()
        self._teller.start(self._clock)

    def stop(self) -> None:
        """End; a round that still has readings of many gateways before it is not finished."""
        self._stop.set()
        self._teller.stop()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def wanted(self, gateway: str) -> frozenset[str]:
        """Names of the series of a gateway that any rule looks at: others need not be told."""
        found = self._wanted.get(gateway)
        if found is None:
            self._met.add(gateway)
        return found or frozenset()

    def tell(self, told: Told, size: int, position: int) -> None:
        """Samples that are durable now, `size` of them at most, stored at `position`; any thread, never blocks.

        `told` gives them by gateway when it is called, in the thread of this watch.
        """
        if self._waiting <= _MOST_WAITING:
            self._waiting += size
            self._queue.put((told, position))

    def round(self) -> list[Change]:
        """Judge once and then tell once, one after the other in this thread."""
        changes = self._judge()
        self._teller.round(self._clock())
        return changes

    def _judge(self) -> list[Change]:
        """Take what has come, let time pass, save."""
        now = self._clock()
        changes = self._reload(now) if now - self._loaded_ms >= _RELOAD_MS else []
        begun = self._position is None
        before = self._begin() if self._position is None else self._position
        for gateway, samples in self._drain().items():
            with self._third_of_the_time():
                changes += self._engine.feed(gateway, samples, now)
        met, self._met = self._met - self._wanted.keys(), set()
        if met:
            changes += self._reload(now)
            self._wanted |= dict.fromkeys(met - self._wanted.keys(), frozenset())  # no farm of ours: asked once
        changes += self._go_on(before, now, at_once=begun or bool(met))
        changes += self._engine.tick(now)
        late = self._engine.late()
        if late:
            # Judged by what the board says, so the board must say first what was found so far; `before` stays the
            # position of that, and a crash in between repeats no more than this round.
            self._save(changes, [], before, now)
        past = list[tuple[Late, Verdict]]()
        for one in late:
            self._unless_stopping()
            past.append((one, self._engine.past(one, self._store.recorded(one))))
        self._save([] if late else changes, past, self._position, now)
        goes_on = [
            one["id"] for one in self._store.unspoken() if self._engine.present(one["gateway"], one["rule"], now)
        ]
        if goes_on:
            self._store.call_after_all(goes_on, now)
        return changes

    def _begin(self) -> int:
        """Where an earlier life left off. A store that has not come that far is another one: all of it is judged."""
        saved = self._store.position()
        self._ahead.clear()
        return saved if saved <= self._follow.position() else 0

    def _go_on(self, position: int, now: int, *, at_once: bool) -> list[Change]:
        """Move the position over what was judged; read what is missing from the store once it is overdue."""
        before, changes = self._position, list[Change]()
        while position + 1 in self._ahead:
            position += 1
            self._ahead.discard(position)
        self._position = position
        if position != before:
            self._moved_ms = now
        if not at_once and now - self._moved_ms < _HOLE_MS:
            return changes
        latest = self._follow.position()
        while position < latest:
            self._unless_stopping()
            upto = min(position + _POSITIONS_AT_ONCE, latest)
            for gateway, samples in self._missed(position, upto):
                with self._third_of_the_time():
                    changes += self._engine.feed(gateway, samples, now)
            self._position = position = upto
        self._ahead = {one for one in self._ahead if one > position}
        self._moved_ms = now
        return changes

    def _missed(self, after: int, upto: int) -> Iterator[tuple[str, Sequence[Sample]]]:
        for owner, first, last in self._follow.stored(after, upto):
            for gateway in [owner] if owner else self._engine.gateways():
                names = self.wanted(gateway)
                if names:
                    yield gateway, self._history(gateway, sorted(names), first, last + 1)

    def _save(
        self, changes: Sequence[Change], past: Sequence[tuple[Late, Verdict]], position: int | None, now: int
    ) -> None:
        touched = {change.watched.gateway for change in changes} | {late.watched.gateway for late, _ in past}
        if now - self._saved_ms >= _SAVE_MS:
            self._store.quiet_down(KINDS, QUIET_MS, now)
            touched |= set(self._engine.gateways())
            self._saved_ms = now
        if touched and position is not None:
            states = self._engine.states(touched)
            self._store.apply(changes, self._engine.courses(changes), states, past, position, now)

    def _drain(self) -> dict[str, list[Sample]]:
        found: dict[str, list[Sample]] = defaultdict(list)
        strangers = set[str]()
        for _ in range(self._queue.qsize()):
            try:
                told, position = self._queue.get_nowait()
            except Empty:
                break
            self._met = set()
            for gateway, samples in told().items():
                found[gateway].extend(samples)
            if not self._met:  # else some of it was not taken, and is read again
                self._ahead.add(position)
            strangers |= self._met
        self._met = strangers
        self._waiting = 0
        return found

    @contextmanager
    def _third_of_the_time(self) -> Iterator[None]:
        began = time.monotonic()
        yield
        if self._busy():
            self._stop.wait(2 * (time.monotonic() - began))

    def _reload(self, now: int) -> list[Change]:
        """Take over gateways and rules that are new or changed; judge what came before they were watched."""
        self._loaded_ms = now
        saved = None
        changes: list[Change] = []
        for one in self._watched():
            if self._known.get(one.gateway) == one:
                continue
            self._unless_stopping()
            saved = self._store.saved() if saved is None else saved
            self._engine.watch(one, saved.get(one.gateway, {}), now)
            self._known[one.gateway] = one
            self._wanted[one.gateway] = self._engine.wanted(one.gateway)
            with self._third_of_the_time():
                changes += self._engine.catch_up(one.gateway, now)
        return changes

    def _unless_stopping(self) -> None:
        if self._stop.is_set():
            raise _Stopping

    def _work(self) -> None:
        failing = False
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                self._judge()
                failing = False
            except _Stopping:
                return
            except Exception:  # noqa: BLE001 - a broken rule must not end the watch over all others; it is logged
                # Whatever it was: the rules have moved on, the tables have not. Begin again from the tables.
                if not failing:
                    _LOG.exception("alarms could not be judged; trying again")
                failing = True
                self._known.clear()
                self._position = None
                self._loaded_ms = 0
            self._stop.wait(max(0.05, _ROUND_S - (time.monotonic() - began)))
