"""Alarms as rows: one per raising, found again by (gateway, rule, time of raising), however often it is told."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, Select, and_, delete, exists, func, select, update

from cloud.alarms.engine import Change, Course, Late, Watched
from cloud.alarms.past import Recorded, Verdict, start_ms
from cloud.alarms.tables import alarm, cursor, insert_or, message, metadata, receiver, shelf, state, step, trouble
from edge.rules import Rule

__all__ = ["AlarmStore", "Note"]

# Writes the audit trail on the connection of what it tells of.
Note = Callable[[Connection], None]

# Changes noticed later than this after they happened are history: nobody is called about them.
CALL_WITHIN_MS = 15 * 60_000
_MINUTE_MS = 60_000
SEVERITIES = ("warning", "critical")
# A message that did not go out so often is given up.
GIVE_UP_AFTER = 20
_LONGEST_ERROR = 300


class AlarmStore:
    """The tables of alarms behind plain methods; each is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def create(self) -> None:
        """Create the tables that are missing."""
        metadata.create_all(self._engine)

    # --- what the watch writes ----------------------------------------------------------------------

    def saved(self) -> dict[str, dict[str, Mapping[str, Any]]]:
        """Saved states by gateway and rule."""
        found: dict[str, dict[str, Mapping[str, Any]]] = {}
        for row in self._rows(select(state)):
            found.setdefault(row["gateway"], {})[row["rule"]] = row["document"]
        return found

    def apply(
        self,
        changes: Sequence[Change],
        courses: Sequence[Course],
        states: Mapping[tuple[str, str], Mapping[str, Any]],
        past: Sequence[tuple[Late, Verdict]],
        position: int,
        now_ms: int,
    ) -> None:
        """States, what follows from them, and how far in the store that goes, in one transaction.

        The same again changes nothing.
        """
        with self._engine.begin() as connection:
            for change in changes:
                _apply(connection, change, now_ms)
            for course in courses:
                _reconcile(connection, course, now_ms)
            for late, verdict in past:
                _rewrite(connection, late, verdict, now_ms)
            row: dict[str, Any] = {"id": 1, "position": position}
            insert = insert_or(connection, cursor).values(row)
            connection.execute(insert.on_conflict_do_update(index_elements=["id"], set_=row))
            for (gateway, rule), document in states.items():
                row = {"gateway": gateway, "rule": rule, "document": dict(document)}
                insert = insert_or(connection, state).values(row)
                connection.execute(insert.on_conflict_do_update(index_elements=["gateway", "rule"], set_=row))

    def position(self) -> int:
        """Up to where in the readings store everything has been judged; 0 before the first time."""
        return next((int(row["position"]) for row in self._rows(select(cursor.c.position))), 0)

    def recorded(self, late: Late) -> Recorded:
        """The alarms of a rule that the board has of a forgotten stretch and of what follows up to the floor."""
        mine, since = _of(late.watched, late.rule), start_ms(late.rule, late.first_ms)
        query = select(alarm.c.raised_ms, alarm.c.cleared_ms).where(mine, alarm.c.withdrawn_ms.is_(None))
        query = query.where(alarm.c.raised_ms <= late.floor_ms)
        query = query.where(alarm.c.cleared_ms.is_(None) | (alarm.c.cleared_ms > since)).order_by(alarm.c.raised_ms)
        return [(row["raised_ms"], row["cleared_ms"]) for row in self._rows(query)]

    def happened(self, row: Mapping[str, Any], what: str, at_ms: int, now_ms: int) -> None:
        """Something happened that is an alarm by itself: opens one for this gateway and `rule`, or adds a step to it.

        `row` has gateway, rule, region, severity, subject and texts; `what` tells happenings apart: the same one told
        again changes nothing, nor does another within a minute. What came late (`at_ms`) opens a historical alarm.
        """
        mine = and_(alarm.c.gateway == row["gateway"], alarm.c.rule == row["rule"])
        with self._engine.begin() as connection:
            told = exists().where(step.c.alarm == alarm.c.id, step.c.kind == "happened", step.c.note == what)
            if connection.execute(select(alarm.c.id).where(mine, told).limit(1)).first() is not None:
                return
            latest = select(alarm.c.id).where(mine, _open()).order_by(alarm.c.id.desc()).limit(1)
            one = connection.execute(latest).scalar()
            if one is None:
                times = {"since_ms": at_ms, "raised_ms": at_ms, "noticed_ms": now_ms, "level": 0, "values": {}}
                fresh = {**row, **times, "historical": now_ms - at_ms > CALL_WITHIN_MS}
                connection.execute(insert_or(connection, alarm).values(fresh).on_conflict_do_nothing())
                one = connection.execute(select(func.max(alarm.c.id)).where(mine)).scalar_one()
            lately = select(step.c.id).where(step.c.alarm == one, step.c.at_ms > at_ms - _MINUTE_MS)
            if connection.execute(lately.where(step.c.kind == "happened").limit(1)).first() is None:
                _note(connection, [one], "happened", "tianmai", what, at_ms)

    def quiet_down(self, rules: Collection[str], quiet_ms: int, now_ms: int) -> None:
        """End open alarms of these `rules` where nothing has happened for `quiet_ms`."""
        lately = exists().where(step.c.alarm == alarm.c.id, step.c.kind == "happened", step.c.at_ms > now_ms - quiet_ms)
        over = and_(alarm.c.rule.in_(list(rules)), _open(), ~lately)
        with self._engine.begin() as connection:
            connection.execute(update(alarm).where(over).values(cleared_ms=now_ms))

    def unspoken(self) -> list[dict[str, Any]]:
        """Open alarms that were found out too late to call anybody, and that nobody has seen yet."""
        return self._rows(select(alarm).where(_open(), alarm.c.historical.is_(True), alarm.c.acknowledged_ms.is_(None)))

    def call_after_all(self, ids: Collection[int], now_ms: int) -> None:
        """These go on: people are told from now on as if they had been noticed now, with their true beginning."""
        with self._engine.begin() as connection:
            late = and_(alarm.c.id.in_(list(ids)), alarm.c.historical.is_(True))
            connection.execute(update(alarm).where(late).values(historical=False, noticed_ms=now_ms))

    # --- questions ----------------------------------------------------------------------------------

    def alarms(
        self,
        *,
        open_only: bool = False,
        gateway: str | None = None,
        regions: Select[tuple[str]] | None = None,
        ids: Collection[int] | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[dict[str, Any]]:
        """Alarms, the latest first, of these `regions`; `before` is the id at which the last page ended."""
        query = select(alarm).order_by(alarm.c.id.desc()).limit(limit)
        if open_only:
            query = query.where(_open())
        if gateway is not None:
            query = query.where(alarm.c.gateway == gateway)
        if regions is not None:
            query = query.where(alarm.c.region.in_(regions))
        if ids is not None:
            query = query.where(alarm.c.id.in_(list(ids)))
        if before is not None:
            query = query.where(alarm.c.id < before)
        return self._rows(query)

    def steps(self, alarm_id: int) -> list[dict[str, Any]]:
        """What people and the service did about one alarm, in order."""
        return self._rows(select(step).where(step.c.alarm == alarm_id).order_by(step.c.id))

    def count_open(self, regions: Select[tuple[str]] | None) -> dict[tuple[str, str], int]:
        """Number of open alarms by (gateway, severity), of these regions."""
        query = select(alarm.c.gateway, alarm.c.severity, func.count()).where(_open())
        if regions is not None:
            query = query.where(alarm.c.region.in_(regions))
        with self._engine.connect().execution_options(reading=True) as connection:
            rows = connection.execute(query.group_by(alarm.c.gateway, alarm.c.severity))
            return {(name, severity): int(n) for name, severity, n in rows}

    def shelves(self, now_ms: int) -> list[dict[str, Any]]:
        """Shelves that have not expired."""
        return self._rows(select(shelf).where(shelf.c.until_ms > now_ms).order_by(shelf.c.gateway, shelf.c.rule))

    def _rows(self, query: Any) -> list[dict[str, Any]]:
        with self._engine.connect().execution_options(reading=True) as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    # --- what people do -----------------------------------------------------------------------------

    def acknowledge(
        self, ids: Collection[int], by: str, note: str, now_ms: int, noted: Callable[[Connection, Sequence[int]], None]
    ) -> int:
        """Mark alarms as seen by a person; the number that were not yet, which `noted` writes down in one with it."""
        with self._engine.begin() as connection:
            fresh = connection.execute(
                select(alarm.c.id).where(alarm.c.id.in_(list(ids)), alarm.c.acknowledged_ms.is_(None))
            ).scalars()
            todo = list(fresh)
            connection.execute(
                update(alarm).where(alarm.c.id.in_(todo)).values(acknowledged_ms=now_ms, acknowledged_by=by)
            )
            _note(connection, todo, "acknowledged", by, note, now_ms)
            noted(connection, todo)
        return len(todo)

    def shelve(self, rules: Collection[tuple[str, str]], until_ms: int, by: str, reason: str, note: Note) -> None:
        """Keep quiet about rules (gateway, rule or `*`) until a time; a second shelf replaces the first."""
        with self._engine.begin() as connection:
            for gateway, rule in rules:
                row = {"gateway": gateway, "rule": rule, "until_ms": until_ms, "by": by, "reason": reason[:500]}
                insert = insert_or(connection, shelf).values(row)
                connection.execute(insert.on_conflict_do_update(index_elements=["gateway", "rule"], set_=row))
            note(connection)

    def unshelve(self, gateway: str, rule: str, note: Note) -> None:
        """Speak again at once."""
        with self._engine.begin() as connection:
            connection.execute(delete(shelf).where(shelf.c.gateway == gateway, shelf.c.rule == rule))
            note(connection)

    def add_receiver(self, row: Mapping[str, Any], note: Note) -> None:
        """Somebody to be told; the same address on the same level again changes its settings and is tried at once."""
        with self._engine.begin() as connection:
            insert = insert_or(connection, receiver).values(dict(row))
            keys = ["kind", "address", "level"]
            rest = {key: value for key, value in row.items() if key not in keys}
            connection.execute(insert.on_conflict_do_update(index_elements=keys, set_=rest))
            mine = and_(*(receiver.c[key] == row[key] for key in keys))
            number = connection.execute(select(receiver.c.id).where(mine)).scalar_one()
            connection.execute(delete(trouble).where(trouble.c.receiver == number))
            note(connection)

    def receivers(self) -> list[dict[str, Any]]:
        """Everybody to be told."""
        return self._rows(select(receiver).order_by(receiver.c.level, receiver.c.id))

    def troubles(self) -> dict[int, dict[str, Any]]:
        """Receivers that were not reached last time (failures in a row, retry_ms, error), by id."""
        return {row["receiver"]: row for row in self._rows(select(trouble))}

    def given_up(self) -> dict[int, int]:
        """Number of messages that were given up, by receiver."""
        query = select(message.c.receiver, func.count().label("n")).where(message.c.sent_ms.is_(None))
        query = query.where(message.c.failures >= GIVE_UP_AFTER).group_by(message.c.receiver)
        return {row["receiver"]: int(row["n"]) for row in self._rows(query)}

    def remove_receiver(self, one: int, note: Note) -> bool:
        """Nobody is told there any more, nor what still waits; whether there was such a receiver."""
        with self._engine.begin() as connection:
            connection.execute(delete(trouble).where(trouble.c.receiver == one))
            connection.execute(delete(message).where(message.c.receiver == one, message.c.sent_ms.is_(None)))
            there = connection.execute(delete(receiver).where(receiver.c.id == one)).rowcount > 0
            if there:
                note(connection)
            return there

    # --- telling ------------------------------------------------------------------------------------

    def open_and_quiet(self) -> list[dict[str, Any]]:
        """Open alarms that nobody acknowledged and that may call somebody."""
        return self._rows(
            select(alarm).where(_open(), alarm.c.acknowledged_ms.is_(None), alarm.c.historical.is_(False))
        )

    def ended(self, since_ms: int) -> list[dict[str, Any]]:
        """Alarms that are over, each beside a receiver who was told since `since_ms` and does not know yet."""
        said = message.alias()
        known = exists().where(
            said.c.receiver == message.c.receiver, said.c.alarm == message.c.alarm, said.c.kind == "cleared"
        )
        query = select(message.c.receiver.label("to"), alarm).join(alarm, alarm.c.id == message.c.alarm)
        query = query.where(message.c.sent_ms >= since_ms, ~_open(), ~known).distinct()
        return self._rows(query.limit(1000))

    def milder(self, one: Mapping[str, Any]) -> dict[str, Any] | None:
        """An open alarm on the same subject of the same gateway, or None."""
        same = and_(alarm.c.gateway == one["gateway"], alarm.c.subject == one["subject"], alarm.c.id != one["id"])
        return next(iter(self._rows(select(alarm).where(same, _open(), alarm.c.historical.is_(False)).limit(1))), None)

    def tell_ended(self, pairs: Sequence[tuple[int, int]], now_ms: int) -> None:
        """Queue the all-clear for (receiver, alarm)."""
        rows = [
            {"receiver": to, "alarm": one, "kind": "cleared", "queued_ms": now_ms, "failures": 0} for to, one in pairs
        ]
        with self._engine.begin() as connection:
            connection.execute(insert_or(connection, message).on_conflict_do_nothing(), rows)

    def queue(self, rows: Sequence[Mapping[str, Any]], levels: Mapping[int, int], now_ms: int) -> None:
        """Queue messages, and note for each alarm up to which level people were told."""
        with self._engine.begin() as connection:
            if rows:
                fresh = [{**row, "queued_ms": now_ms, "failures": 0} for row in rows]
                connection.execute(insert_or(connection, message).on_conflict_do_nothing(), fresh)
            for one, level in levels.items():
                connection.execute(update(alarm).where(alarm.c.id == one).values(level=level))
                if level > 1:
                    _note(connection, [one], "escalated", "tianmai", f"level {level - 1}", now_ms)

    def to_tell(self) -> list[dict[str, Any]]:
        """Receivers for whom something waits, those who were reached last time first.

        `least`: failures of what failed least often; `failures` in a row and `retry_ms`: None for who was reached.
        """
        due = select(message.c.receiver, func.min(message.c.failures).label("least")).where(_waits())
        found = due.group_by(message.c.receiver).subquery()
        query = select(receiver, found.c.least, trouble.c.failures, trouble.c.retry_ms)
        query = query.join(found, found.c.receiver == receiver.c.id)
        query = query.outerjoin(trouble, trouble.c.receiver == receiver.c.id)
        return self._rows(query.order_by(func.coalesce(trouble.c.failures, 0) > 0, receiver.c.level, receiver.c.id))

    def waiting(self, receiver_id: int) -> list[dict[str, Any]]:
        """Messages not yet sent to one receiver, oldest first, beside their alarms."""
        query = select(message.c.id.label("message"), message.c.receiver, message.c.kind.label("told"), alarm)
        query = query.add_columns(message.c.queued_ms, message.c.failures).join(alarm, alarm.c.id == message.c.alarm)
        return self._rows(query.where(_waits(), message.c.receiver == receiver_id).order_by(message.c.id).limit(1000))

    def sent_since(self, receiver_id: int, since_ms: int) -> int:
        """Distinct sendings to one receiver since a time (a grouped message counts once)."""
        query = select(func.count(message.c.sent_ms.distinct())).where(
            message.c.receiver == receiver_id, message.c.sent_ms >= since_ms
        )
        with self._engine.connect().execution_options(reading=True) as connection:
            return int(connection.execute(query).scalar_one())

    def mark_sent(self, receiver_id: int, messages: Collection[int], now_ms: int) -> None:
        """They have gone out: this receiver can be reached."""
        with self._engine.begin() as connection:
            connection.execute(update(message).where(message.c.id.in_(list(messages))).values(sent_ms=now_ms))
            connection.execute(delete(trouble).where(trouble.c.receiver == receiver_id))

    def mark_failed(
        self, receiver_id: int, messages: Collection[int], failures: int, retry_ms: int, error: str
    ) -> None:
        """They have not gone out this time; the receiver failed so often in a row and is tried again then."""
        row = {"receiver": receiver_id, "failures": failures, "retry_ms": retry_ms, "error": error[:_LONGEST_ERROR]}
        with self._engine.begin() as connection:
            these = update(message).where(message.c.id.in_(list(messages)))
            connection.execute(these.values(failures=message.c.failures + 1))
            if connection.execute(select(receiver.c.id).where(receiver.c.id == receiver_id)).first() is not None:
                insert = insert_or(connection, trouble).values(row)
                connection.execute(insert.on_conflict_do_update(index_elements=["receiver"], set_=row))

    def give_up(self, messages: Collection[int]) -> None:
        """They will never go out."""
        with self._engine.begin() as connection:
            connection.execute(update(message).where(message.c.id.in_(list(messages))).values(failures=GIVE_UP_AFTER))


def _waits() -> Any:
    return and_(message.c.sent_ms.is_(None), message.c.failures < GIVE_UP_AFTER)


def _open() -> Any:
    return and_(alarm.c.cleared_ms.is_(None), alarm.c.withdrawn_ms.is_(None))


def _note(connection: Connection, ids: Sequence[int], kind: str, by: str, note: str, now_ms: int) -> None:
    rows = [{"alarm": one, "at_ms": now_ms, "kind": kind, "by": by, "note": note[:500]} for one in ids]
    if rows:
        connection.execute(step.insert(), rows)


def _apply(connection: Connection, change: Change, now_ms: int) -> None:
    """Take one change as it was told; what several of them together leave unclear, `_reconcile` settles."""
    at, rule = change.transition.at_ms, change.rule
    mine = _of(change.watched, rule)
    if change.transition.kind == "raised":
        raised = _row(change.watched, rule, at, change.transition.since_ms, now_ms)
        raised["values"] = dict(change.transition.values)
        connection.execute(insert_or(connection, alarm).values(raised).on_conflict_do_nothing())
        # Raised again after all: what later data took back, still later data brought again.
        connection.execute(update(alarm).where(mine, alarm.c.raised_ms == at).values(withdrawn_ms=None))
    elif change.transition.kind == "withdrawn":
        connection.execute(update(alarm).where(mine, alarm.c.raised_ms == at).values(withdrawn_ms=now_ms))
    else:
        latest = select(func.max(alarm.c.raised_ms)).where(mine, alarm.c.raised_ms <= at).scalar_subquery()
        connection.execute(update(alarm).where(mine, alarm.c.raised_ms == latest).values(cleared_ms=at))


def _reconcile(connection: Connection, course: Course, now_ms: int) -> None:
    """Make the rows after the floor say exactly what the rule says now.

    Late data may move a raising while its clearing stays where it was: told one by one, such changes do not add up.
    """
    mine = _of(course.watched, course.rule)
    spans = {raised: (cleared, since) for raised, cleared, since in course.spans}
    after = select(alarm.c.raised_ms, alarm.c.withdrawn_ms).where(mine, alarm.c.raised_ms > course.floor_ms)
    known = {row.raised_ms: row.withdrawn_ms for row in connection.execute(after)}
    for raised, (cleared, since) in spans.items():
        if raised not in known:
            connection.execute(alarm.insert(), _row(course.watched, course.rule, raised, since, now_ms))
        one = update(alarm).where(mine, alarm.c.raised_ms == raised)
        connection.execute(one.values(cleared_ms=cleared, withdrawn_ms=None))
    for raised, withdrawn in known.items():
        if raised not in spans and withdrawn is None:
            connection.execute(update(alarm).where(mine, alarm.c.raised_ms == raised).values(withdrawn_ms=now_ms))
    older = and_(mine, alarm.c.raised_ms <= course.floor_ms, alarm.c.withdrawn_ms.is_(None))
    if course.carried is None:
        connection.execute(update(alarm).where(older, alarm.c.cleared_ms.is_(None)).values(cleared_ms=course.floor_ms))
    else:
        one = update(alarm).where(older, alarm.c.raised_ms >= course.carried)
        connection.execute(one.values(cleared_ms=course.carried_end))


def _rewrite(connection: Connection, late: Late, verdict: Verdict, now_ms: int) -> None:
    """Make the rows of a forgotten stretch say what it came to when it was judged again."""
    mine = and_(_of(late.watched, late.rule), alarm.c.raised_ms >= verdict.first_ms)
    mine = and_(mine, alarm.c.raised_ms <= verdict.until_ms)
    values = {one.at_ms: dict(one.values) for one in verdict.raised}
    for raised, cleared, since in verdict.spans:
        row = _row(late.watched, late.rule, raised, since, now_ms) | {"values": values.get(raised, {})}
        row |= {"historical": True, "cleared_ms": cleared}
        connection.execute(insert_or(connection, alarm).values(row).on_conflict_do_nothing())
        one = update(alarm).where(mine, alarm.c.raised_ms == raised)
        connection.execute(one.values(cleared_ms=cleared, withdrawn_ms=None))
    true = [raised for raised, _, _ in verdict.spans]
    wrong = and_(mine, alarm.c.withdrawn_ms.is_(None), alarm.c.raised_ms.not_in(true))
    if not verdict.on:
        # What goes on beyond the stretch was decided without it, and stays.
        wrong = and_(wrong, alarm.c.cleared_ms <= verdict.until_ms)
    connection.execute(update(alarm).where(wrong).values(withdrawn_ms=now_ms))
    if verdict.carried is not None:
        one = update(alarm).where(_of(late.watched, late.rule), alarm.c.raised_ms == verdict.carried)
        connection.execute(one.values(cleared_ms=verdict.carried_end))


def _of(watched: Watched, rule: Rule) -> Any:
    return and_(alarm.c.gateway == watched.gateway, alarm.c.rule == rule.id)


def _row(watched: Watched, rule: Rule, raised_ms: int, since_ms: int, now_ms: int) -> dict[str, Any]:
    return {
        "gateway": watched.gateway,
        "rule": rule.id,
        "region": watched.region,
        "severity": rule.severity,
        "subject": " ".join(sorted(one.series for one in rule.inputs.values()))[:300],
        "texts": {**rule.texts, "gateway": watched.name},
        "values": {},
        "since_ms": since_ms,
        "raised_ms": raised_ms,
        "noticed_ms": now_ms,
        "historical": now_ms - raised_ms > CALL_WITHIN_MS,
        "level": 0,
    }
