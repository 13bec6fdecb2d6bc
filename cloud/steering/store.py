"""Wishes and answers as rows. Who asked stands in the audit trail of the same transaction."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, Select, and_, case, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from cloud.problems import Conflict
from cloud.steering.tables import applied, command, wanted

__all__ = ["NO_ANSWER", "OPEN", "SteeringStore"]

OPEN = ("queued", "sent", "accepted")
NO_ANSWER = "no_answer"
# A gateway's clock and ours may differ, and its answer needs its way.
_PATIENCE_MS = 60_000

Note = Callable[[Connection], None]


class SteeringStore:
    """The tables of steering behind plain methods; each is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def _rows(self, query: Select[Any]) -> list[dict[str, Any]]:
        with self._engine.connect().execution_options(reading=True) as db:
            return [dict(row) for row in db.execute(query).mappings()]

    # --- commands -----------------------------------------------------------------------------------

    def add_command(self, row: Mapping[str, Any], note: Note) -> None:
        """Keep a new command together with its entry of the audit trail. Raises `Conflict` for a known id."""
        try:
            with self._engine.begin() as db:
                db.execute(insert(command).values(**row, sendings=0, state="queued", said="", proved=False))
                note(db)
        except IntegrityError as why:
            raise Conflict(f"there is a command {row['id']} already", code="id_in_use", pointer="/id") from why

    def command(self, number: str) -> dict[str, Any] | None:
        """One command, or None."""
        return next(iter(self._rows(select(command).where(command.c.id == number))), None)

    def commands(self, gateway: str, *, before: tuple[int, str] | None, limit: int) -> list[dict[str, Any]]:
        """Commands of one gateway, the latest first, from before (time, id) on."""
        query = select(command).where(command.c.gateway == gateway)
        if before is not None:
            at, number = before
            same = and_(command.c.asked_ms == at, command.c.id < number)
            query = query.where(or_(command.c.asked_ms < at, same))
        return self._rows(query.order_by(command.c.asked_ms.desc(), command.c.id.desc()).limit(limit))

    def count_open(self, gateway: str) -> int:
        """How many commands of a gateway have no end yet."""
        query = select(func.count()).where(command.c.gateway == gateway, command.c.state.in_(OPEN))
        with self._engine.connect().execution_options(reading=True) as db:
            return int(db.execute(query).scalar_one())

    def due(self, now_ms: int, unsaid_since_ms: int) -> list[dict[str, Any]]:
        """Commands to carry: still valid, unanswered, and not carried since `unsaid_since_ms`."""
        quiet = or_(command.c.sent_ms.is_(None), command.c.sent_ms < unsaid_since_ms)
        query = select(command).where(command.c.state.in_(("queued", "sent")), command.c.expires_ms > now_ms, quiet)
        return self._rows(query.order_by(command.c.asked_ms).limit(500))

    def mark_carried(self, numbers: Sequence[str], now_ms: int) -> None:
        """The broker has them; one that was answered meanwhile keeps its state."""
        state = case((command.c.state == "queued", "sent"), else_=command.c.state)
        values = {"sent_ms": now_ms, "sendings": command.c.sendings + 1, "state": state}
        with self._engine.begin() as db:
            db.execute(update(command).where(command.c.id.in_(list(numbers))).values(values))

    def expire(self, now_ms: int) -> int:
        """Give up waiting for answers that can hardly come any more; how many."""
        late = and_(command.c.state.in_(OPEN), command.c.expires_ms < now_ms - _PATIENCE_MS)
        if not self._rows(select(command.c.id).where(late).limit(1)):
            return 0
        with self._engine.begin() as db:
            ended = update(command).where(late).values(state="expired", said=NO_ANSWER, said_ms=now_ms, proved=False)
            return db.execute(ended).rowcount

    def answer(self, gateway: str, number: str, state: str, said: str, at_ms: int, *, proved: bool) -> bool:
        """Take what a gateway says of a command; whether that was news.

        An end stands, except that a signed word outranks an unsigned one, and any word our own giving up.
        """
        weaker = or_(command.c.state.in_(OPEN), command.c.said == NO_ANSWER)
        if proved and state not in OPEN:
            weaker = or_(weaker, command.c.proved.is_(False))
        if state in OPEN:  # "accepted" adds nothing to a command that has an end
            weaker = command.c.state.in_(("queued", "sent"))
        mine = and_(command.c.id == number, command.c.gateway == gateway)
        values = {"state": state, "said": said[:300], "said_ms": at_ms, "proved": proved}
        with self._engine.begin() as db:
            return db.execute(update(command).where(mine, weaker).values(values)).rowcount > 0

    # --- configurations -----------------------------------------------------------------------------

    def want(self, row: Mapping[str, Any], after: int, note: Note) -> int:
        """Keep the next revision of a gateway's configuration; its number.

        Raises `Conflict` where the newest revision is not `after`: somebody else was faster.
        """
        gateway = row["gateway"]
        newest = select(func.coalesce(func.max(wanted.c.revision), 0)).where(wanted.c.gateway == gateway)
        heard = select(func.coalesce(func.max(applied.c.revision), 0)).where(
            applied.c.gateway == gateway, applied.c.proved
        )
        try:
            with self._engine.begin() as db:
                held = int(db.execute(newest).scalar_one())
                if held != after:
                    detail = f"the newest revision is {held}, not {after}: look at it, then ask again"
                    raise Conflict(detail, code="stale", pointer="/after")
                # A gateway that has signed for a higher number (we were restored from a backup) ignores lower ones.
                revision = max(held, int(db.execute(heard).scalar_one())) + 1
                db.execute(insert(wanted).values(**row, revision=revision))
                note(db)
        except IntegrityError as why:
            raise Conflict("somebody else changed it at this moment", code="stale", pointer="/after") from why
        return revision

    def revisions(self, gateway: str, *, limit: int) -> list[dict[str, Any]]:
        """Wanted configurations of a gateway, newest first."""
        query = select(wanted).where(wanted.c.gateway == gateway)
        return self._rows(query.order_by(wanted.c.revision.desc()).limit(limit))

    def revision(self, gateway: str, number: int) -> dict[str, Any] | None:
        """One wanted configuration, or None."""
        query = select(wanted).where(wanted.c.gateway == gateway, wanted.c.revision == number)
        return next(iter(self._rows(query)), None)

    def newest(self, *, unsent: bool) -> list[dict[str, Any]]:
        """The newest wanted configuration of every gateway; `unsent`: only those the broker does not have."""
        top = select(wanted.c.gateway, func.max(wanted.c.revision).label("revision")).group_by(wanted.c.gateway)
        if unsent:
            waiting = select(wanted.c.gateway).where(wanted.c.sent_ms.is_(None))
            top = top.where(wanted.c.gateway.in_(waiting))
        high = top.subquery()
        query = select(wanted).join(
            high, and_(wanted.c.gateway == high.c.gateway, wanted.c.revision == high.c.revision)
        )
        return self._rows(query.where(wanted.c.sent_ms.is_(None)) if unsent else query)

    def mark_wanted(self, gateway: str, revision: int, now_ms: int) -> None:
        """This revision lies at the broker; those before it never need to."""
        mine = and_(wanted.c.gateway == gateway, wanted.c.revision <= revision, wanted.c.sent_ms.is_(None))
        with self._engine.begin() as db:
            db.execute(update(wanted).where(mine).values(sent_ms=now_ms))

    def report(self, row: Mapping[str, Any]) -> bool:
        """Keep what a gateway says about a revision; the same again changes nothing, a signed word an unsigned one."""
        key = and_(*(applied.c[name] == row[name] for name in ("gateway", "revision", "outcome")))
        with self._engine.begin() as db:
            held = db.execute(select(applied.c.proved).where(key).with_for_update()).scalar_one_or_none()
            if held is None:
                db.execute(insert(applied).values(**row))
            elif row["proved"] and not held:
                db.execute(update(applied).where(key).values(**row))
            return held is None or bool(row["proved"] and not held)

    def reports(self, gateway: str) -> list[dict[str, Any]]:
        """What a gateway said about its revisions, the newest word first."""
        query = select(applied).where(applied.c.gateway == gateway)
        return self._rows(query.order_by(applied.c.time_ms.desc(), applied.c.revision.desc()).limit(500))
