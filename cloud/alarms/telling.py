"""Who is told what, and when: shelves, ladders, escalation, storms, and a limit per receiver.

Decided anew from the tables on every round, so a restart forgets nothing: an alarm's `level` says up to which level of
receivers it was told, a message without a sending time is still to be sent.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cloud.alarms.notify import Notifier, NotSent, ended_text, one_text, storm_text
from cloud.alarms.store import SEVERITIES, AlarmStore

__all__ = ["ESCALATE_MS", "Teller"]

_LOG = logging.getLogger(__name__)
# Nobody acknowledged for this long: the next level is told.
ESCALATE_MS = 10 * 60_000
# So many unsent messages for one receiver at once are a storm and go out as one.
STORM = 4
_HOUR_MS = 3_600_000
_DAY_MS = 86_400_000
_HIGHEST_LEVEL = 5
_GIVE_UP_AFTER = 20


class Teller:
    """Queues and sends messages about open alarms.

    `covers(receiver's region, alarm's region)`; `notifiers` by kind of receiver.
    """

    def __init__(
        self, store: AlarmStore, covers: Callable[[str, str], bool], notifiers: Mapping[str, Notifier]
    ) -> None:
        self._store = store
        self._covers = covers
        self._notifiers = notifiers

    def round(self, now_ms: int) -> int:
        """Queue what is due, send what is queued; the number of sendings."""
        self._queue(now_ms)
        self._queue_ends(now_ms)
        return self._send(now_ms)

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

    def _send(self, now_ms: int) -> int:
        by_receiver: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for row in self._store.waiting():
            if row["failures"] < _GIVE_UP_AFTER:
                by_receiver[row["receiver"]].append(row)
        sent = 0
        for to in self._store.receivers():
            rows = by_receiver.get(to["id"], [])
            while rows and self._store.sent_since(to["id"], now_ms - _HOUR_MS) < to["per_hour"]:
                room = to["per_hour"] - self._store.sent_since(to["id"], now_ms - _HOUR_MS)
                # The last one allowed in this hour must carry all that is left.
                together = rows if len(rows) >= STORM or room == 1 else rows[:1]
                # Sendings are told apart by their time.
                if not self._one(to, together, now_ms + sent):
                    break
                rows = rows[len(together) :]
                sent += 1
        return sent

    def _one(self, to: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], now_ms: int) -> bool:
        if len(rows) == 1:
            one = rows[0]
            still = self._store.milder(one) if one["told"] == "cleared" else None
            text = one_text(one, one["told"], still)
        else:
            text = _together(rows)
        ids = [row["message"] for row in rows]
        try:
            self._notifiers[to["kind"]](to["address"], text)
        except NotSent as why:
            _LOG.warning("an alarm message did not go out: %s", why)
            self._store.mark_failed(ids)
            return False
        self._store.mark_sent(ids, now_ms)
        return True


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
