"""Who is told what, and when: shelves, ladders, escalation, storms, and a limit per receiver.

Decided anew from the tables on every round, so a restart forgets nothing: an alarm's `level` says up to which level of
receivers it was told, a message without a sending time is still to be sent.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from threading import Event, Lock, Thread
from typing import Any

from cloud.alarms.notify import Notifier, NotSent, ended_text, one_text, storm_text
from cloud.alarms.store import GIVE_UP_AFTER, SEVERITIES, AlarmStore

__all__ = ["ESCALATE_MS", "Teller"]

_LOG = logging.getLogger(__name__)
# Nobody acknowledged for this long: the next level is told.
ESCALATE_MS = 10 * 60_000
# So many unsent messages for one receiver at once are a storm and go out as one.
STORM = 4
_HOUR_MS = 3_600_000
_DAY_MS = 86_400_000
_HIGHEST_LEVEL = 5
# After the n-th failure in a row a receiver is tried again 10 s * 2^(n-1) later: 20 tries take about a day.
_FIRST_WAIT_MS = 10_000
_LONGEST_WAIT_MS = 2 * _HOUR_MS
# Receivers told at the same time. One that does not answer takes a place for ten seconds.
_AT_ONCE = 8
_ROUND_S = 1.0
_STOP_WITHIN_S = 3.0


class Teller:
    """Queues and sends messages about open alarms, each receiver apart from the others, from `start` to `stop`.

    `covers(receiver's region, alarm's region)`; `notifiers` by kind of receiver.
    """

    def __init__(
        self, store: AlarmStore, covers: Callable[[str, str], bool], notifiers: Mapping[str, Notifier]
    ) -> None:
        self._store = store
        self._covers = covers
        self._notifiers = notifiers
        self._busy: set[int] = set()  # receivers that are being told
        self._lock = Lock()
        self._stop = Event()
        self._thread: Thread | None = None

    def start(self, clock: Callable[[], int]) -> None:
        """Begin in threads of its own; `clock` gives ms UTC."""
        self._thread = Thread(target=self._work, args=(clock,), name="telling", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End within seconds; a message that is still being handed over counts as not sent and comes again."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=_STOP_WITHIN_S)
        until = time.monotonic() + _STOP_WITHIN_S
        while self._busy and time.monotonic() < until:
            time.sleep(0.02)

    def round(self, now_ms: int) -> None:
        """Queue what is due and send it, one receiver after the other in this thread."""
        self._queue(now_ms)
        self._queue_ends(now_ms)
        for to in self._store.to_tell():
            if _due(to, now_ms):
                self._tell(to, now_ms)

    def _work(self, clock: Callable[[], int]) -> None:
        failing = False
        while not self._stop.is_set():
            try:
                now = clock()
                self._queue(now)
                self._queue_ends(now)
                self._begin(now)
                failing = False
            except Exception:  # noqa: BLE001 - the tables say what is to be told: the next round begins there anew
                if not failing:
                    _LOG.exception("alarms could not be told; trying again")
                failing = True
            self._stop.wait(_ROUND_S)

    def _queue(self, now_ms: int) -> None:
        receivers = self._store.receivers()
        alarms = self._store.open_and_quiet()
        shelved = {(row["gateway"], row["rule"]) for row in self._store.shelves(now_ms)}
        rows: list[dict[str, Any]] = []
        levels: dict[int, int] = {}
        for one in alarms:
            due = min(_HIGHEST_LEVEL, 1 + (now_ms - one["noticed_ms"]) // ESCALATE_MS)
            if one["level"] >= due or shelved & {(one["gateway"], one["rule"]), (one["gateway"], "*")}:
                continue
            levels[one["id"]] = due
            if _outranked(one, alarms):
                continue
            rows += [
                {"receiver": to["id"], "alarm": one["id"], "kind": "escalated" if to["level"] else "raised"}
                for to in receivers
                if one["level"] <= to["level"] < due and self._concerns(to, one)
            ]
        if levels:
            self._store.queue(rows, levels, now_ms)

    def _queue_ends(self, now_ms: int) -> None:
        """Who was called is told that it is over; quietly passed over where that was long ago."""
        pairs = {(row["to"], row["id"]) for row in self._store.ended(now_ms - _DAY_MS)}
        if pairs:
            self._store.tell_ended(sorted(pairs), now_ms)

    def _concerns(self, receiver: Mapping[str, Any], alarm: Mapping[str, Any]) -> bool:
        rank = SEVERITIES.index
        return rank(alarm["severity"]) >= rank(receiver["severity"]) and self._covers(
            receiver["region"], alarm["region"]
        )

    # --- sending ------------------------------------------------------------------------------------

    def _begin(self, now_ms: int) -> None:
        """Tell every receiver for whom something is due in a thread of its own, a few at once."""
        with self._lock:
            busy = set(self._busy)  # before the tables are asked: what they say of these is about to change
        for to in self._store.to_tell():
            if to["id"] in busy or not _due(to, now_ms):
                continue
            with self._lock:
                if len(self._busy) >= _AT_ONCE:
                    return
                self._busy.add(to["id"])
            Thread(target=self._tell, args=(to, now_ms), name=f"telling-{to['id']}", daemon=True).start()

    def _tell(self, to: Mapping[str, Any], now_ms: int) -> None:
        try:
            self._send(to, now_ms)
        except Exception:  # noqa: BLE001 - whatever it is, it is this receiver's and the others are told
            _LOG.exception("receiver %d (%s) could not be told", to["id"], to["name"])
        finally:
            with self._lock:
                self._busy.discard(to["id"])

    def _send(self, to: Mapping[str, Any], now_ms: int) -> None:
        rows = self._speakable(to, self._store.waiting(to["id"]))
        early, sent = _early(to, now_ms), 0
        due = [row for row in rows if row["failures"] == 0] if early else _another_first(rows, to["failures"] or 0)
        while due:
            room = to["per_hour"] - self._store.sent_since(to["id"], now_ms - _HOUR_MS)
            if room <= 0 or self._stop.is_set():
                return
            # The last one allowed in this hour must carry all that is left.
            together = due if len(due) >= STORM or room == 1 else due[:1]
            began = time.monotonic()
            wrong = self._say(to, together)
            took_ms = int((time.monotonic() - began) * 1000)
            if wrong is not None:
                before = 0 if sent else to["failures"] or 0
                self._failed(to, due, wrong, now_ms + took_ms, None if early and not sent else before + 1)
                return
            # Sendings are told apart by their time.
            self._store.mark_sent(to["id"], [row["message"] for row in together], now_ms + sent)
            gone = {row["message"] for row in together}
            due = rows = [row for row in rows if row["message"] not in gone]
            sent += 1

    def _speakable(self, to: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Those whose words can be made; an alarm without words must not stand before the others."""
        found: list[Mapping[str, Any]] = []
        for row in rows:
            try:
                one_text(row, row["told"])
            except Exception:  # noqa: BLE001 - whatever its rule or its gateway made of it
                _LOG.exception("alarm %d cannot be said; receiver %d (%s) is not told", row["id"], to["id"], to["name"])
                self._store.give_up([row["message"]])
            else:
                found.append(row)
        return found

    def _say(self, to: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str | None:
        """Hand it over; what went wrong, None where nothing did."""
        try:
            if len(rows) == 1:
                one = rows[0]
                still = self._store.milder(one) if one["told"] == "cleared" else None
                text = one_text(one, one["told"], still)
            else:
                text = _together(rows)
            self._notifiers[to["kind"]](to["address"], text)
        except NotSent as why:
            return str(why)
        except Exception as why:  # noqa: BLE001 - it counts as this receiver's failure; the others are told
            return f"{type(why).__name__}: {why}"
        return None

    def _failed(
        self, to: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], wrong: str, now_ms: int, failures: int | None
    ) -> None:
        """Count it for all that waited for this try; `failures` in a row, None where it was not its turn."""
        turn = failures is not None
        failures = failures if failures is not None else to["failures"]
        retry_ms = now_ms + _wait_ms(failures) if turn else to["retry_ms"]
        self._store.mark_failed(to["id"], [row["message"] for row in rows], failures, retry_ms, wrong)
        who = f"receiver {to['id']} ({to['name']})"
        _LOG.warning("%s was not reached, next try in %d s: %s", who, max(0, retry_ms - now_ms) // 1000, wrong)
        over = [str(row["id"]) for row in rows if row["failures"] + 1 >= GIVE_UP_AFTER]
        if over:
            _LOG.error("%s is not told of alarm %s any more: %d tries failed", who, ", ".join(over), GIVE_UP_AFTER)


def _early(to: Mapping[str, Any], now_ms: int) -> bool:
    """Whether it is not this receiver's turn again; a turn further off than any was never meant by this clock."""
    return to["retry_ms"] is not None and now_ms < to["retry_ms"] <= now_ms + _LONGEST_WAIT_MS


def _due(to: Mapping[str, Any], now_ms: int) -> bool:
    """What is new is tried at once, also where the last try failed: a new alarm waits for no back-off."""
    return to["least"] == 0 or not _early(to, now_ms)


def _wait_ms(failures: int) -> int:
    return int(min(_FIRST_WAIT_MS * 2 ** min(failures - 1, 20), _LONGEST_WAIT_MS))


def _another_first(rows: Sequence[Mapping[str, Any]], failures: int) -> list[Mapping[str, Any]]:
    """Begun at another one with every failure: a message that is never taken must not keep the others from going."""
    start = failures % len(rows) if rows else 0
    return [*rows[start:], *rows[:start]]


def _together(rows: Sequence[Mapping[str, Any]]) -> str:
    """Many in one message: what is still the matter comes before what is over."""
    begun = [row for row in rows if row["told"] != "cleared"]
    return storm_text(begun) if begun else ended_text(rows)


def _outranked(one: Mapping[str, Any], alarms: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a more severe alarm on the same subject is open: a ladder speaks with its highest rung."""
    rank = SEVERITIES.index
    return any(
        other["gateway"] == one["gateway"]
        and other["subject"] == one["subject"]
        and rank(other["severity"]) > rank(one["severity"])
        for other in alarms
    )
