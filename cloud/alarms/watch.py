"""The thread that finds out: stored readings in, alarms and messages out.

It runs behind the watermark, not before it: a slow rule must not hold up a gateway's data. Nothing is lost by that,
because what a crash or a full queue takes from it is read again from the readings store, and rules judge event time.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from threading import Event, Thread

from cloud.alarms.engine import Change, Engine, History, Watched
from cloud.alarms.store import AlarmStore
from cloud.alarms.telling import Teller
from edge.rules import Sample

__all__ = ["Watch"]

_LOG = logging.getLogger(__name__)
Told = Callable[[], Mapping[str, Sequence[Sample]]]
_ROUND_S = 1.0
_SAVE_MS = 60_000
_RELOAD_MS = 30_000
_MOST_WAITING = 500_000  # samples; past it they are read again from the store instead


class Watch:
    """Judges stored readings by the rules of their gateways, from `start` to `stop`.

    `watched` lists gateways with their rules (asked again every half minute, so new ones join), `history` reads samples
    back from the readings store. While `busy` says that readings are waiting to be stored, judging takes a third of the
    time only: data that are not yet durable come first.
    """

    def __init__(
        self,
        store: AlarmStore,
        teller: Teller,
        *,
        clock: Callable[[], int],
        watched: Callable[[], Sequence[Watched]],
        history: History,
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store = store
        self._teller = teller
        self._clock = clock
        self._watched = watched
        self._engine = Engine(history)
        self._busy = busy
        self._known: dict[str, Watched] = {}
        self._wanted: dict[str, frozenset[str]] = {}
        self._queue: SimpleQueue[Told] = SimpleQueue()
        self._waiting = 0
        self._overrun = False
        self._stop = Event()
        self._thread = Thread(target=self._work, name="alarms", daemon=True)
        self._saved_ms = 0
        self._loaded_ms = 0

    def start(self) -> None:
        """Begin in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the present round and end."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def wanted(self, gateway: str) -> frozenset[str]:
        """Names of the series of a gateway that any rule looks at: others need not be told."""
        return self._wanted.get(gateway, frozenset())

    def tell(self, told: Told, size: int) -> None:
        """Samples that are durable now, `size` of them at most; any thread, never blocks.

        `told` gives them by gateway when it is called, in the thread of this watch.
        """
        if self._waiting > _MOST_WAITING:
            self._overrun = True
            return
        self._waiting += size
        self._queue.put(told)

    def round(self) -> list[Change]:
        """One round: take what has come, let time pass, save, tell people."""
        now = self._clock()
        changes = self._reload(now) if now - self._loaded_ms >= _RELOAD_MS else []
        touched = {change.watched.gateway for change in changes}
        overrun, self._overrun = self._overrun, False
        for gateway, samples in self._drain().items():
            with self._third_of_the_time():
                changes += self._engine.feed(gateway, samples, now)
        for gateway in self._engine.gateways() if overrun else ():
            with self._third_of_the_time():
                changes += self._engine.catch_up(gateway, now)
        changes += self._engine.tick(now)
        touched |= {change.watched.gateway for change in changes}
        if now - self._saved_ms >= _SAVE_MS:
            touched |= set(self._engine.gateways())
            self._saved_ms = now
        if touched:
            self._store.apply(changes, self._engine.courses(changes), self._engine.states(touched), now)
        self._teller.round(now)
        return changes

    def _drain(self) -> dict[str, list[Sample]]:
        found: dict[str, list[Sample]] = defaultdict(list)
        for _ in range(self._queue.qsize()):
            try:
                told = self._queue.get_nowait()
            except Empty:
                break
            for gateway, samples in told().items():
                found[gateway].extend(samples)
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
            saved = self._store.saved() if saved is None else saved
            self._engine.watch(one, saved.get(one.gateway, {}), now)
            self._known[one.gateway] = one
            self._wanted[one.gateway] = self._engine.wanted(one.gateway)
            with self._third_of_the_time():
                changes += self._engine.catch_up(one.gateway, now)
        return changes

    def _work(self) -> None:
        failing = False
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                self.round()
                failing = False
            except Exception:  # noqa: BLE001 - a broken rule must not end the watch over all others; it is logged
                # Whatever it was: the rules have moved on, the tables have not. Begin again from the tables.
                if not failing:
                    _LOG.exception("alarms could not be judged; trying again")
                failing = True
                self._known.clear()
                self._loaded_ms = 0
            self._stop.wait(max(0.05, _ROUND_S - (time.monotonic() - began)))
