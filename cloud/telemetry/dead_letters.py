"""Messages that could not be taken: kept whole, counted, never in the way.

A bad payload is the sender's fault or ours, and one looks the same as the other until somebody reads it. So it is kept
with the reason, and can be sent through the pipeline again once the reason is mended (a gateway registered, a unit
corrected). The same bad message a thousand times is one row with a count.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple

from sqlalchemy import Engine, and_, func, select, tuple_, update

from cloud.problems import NotFound
from cloud.telemetry.tables import dead_letter, insert_or

__all__ = ["DeadLetters", "Letter", "Message"]

# What one message may occupy: the wire's own limit. Of a longer one the beginning is kept, and the row says so.
_KEEP_BYTES = 64 * 1024
# What one sender may occupy. Past it the oldest payloads of that sender make room.
_KEEP_PER_GATEWAY = 1000


class Message(NamedTuple):
    """Something that arrived: at a topic of the wire protocol, whoever carried it."""

    topic: str
    payload: bytes
    received_ms: int
    retained: bool = False

    @property
    def digest(self) -> bytes:
        """SHA-256 over topic and payload: the identity of what was said."""
        return sha256(self.topic.encode("utf-8", "surrogatepass") + b"\0" + self.payload).digest()


@dataclass(frozen=True, slots=True)
class Letter:
    """A message and why it could not be taken. `reason` is a stable code, `detail` a sentence for a person."""

    message: Message
    reason: str
    detail: str
    gateway: str | None = None


class DeadLetters:
    """The table of refused messages."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def keep(self, letters: Sequence[Letter]) -> None:
        """Durable on return; the same message again raises its count."""
        if not letters:
            return
        with self._engine.begin() as connection:
            fresh = insert_or(connection, dead_letter)
            again = {name: fresh.excluded[name] for name in ("last_ms", "reason", "detail")}
            again["count"] = dead_letter.c.count + 1
            upsert = fresh.on_conflict_do_update(index_elements=["digest"], set_=again)
            connection.execute(upsert, [_row(letter) for letter in letters])
            for name in {letter.gateway for letter in letters}:
                connection.execute(_make_room(name))

    def list(
        self,
        *,
        gateways: Sequence[str] | None = None,
        before_ms: int | None = None,
        before: tuple[int, str] | None = None,
        limit: int = 100,
    ) -> list[dict[str, Any]]:
        """Rows without payload, newest first; `gateways` limits them to these senders.

        `before` is the row (time it last came, digest) behind which to begin.
        """
        columns = [column for column in dead_letter.c if column.name != "payload"]
        query = select(*columns, func.length(dead_letter.c.payload).label("bytes"))
        query = query.order_by(dead_letter.c.last_ms.desc(), dead_letter.c.digest.desc()).limit(limit)
        if gateways is not None:
            query = query.where(dead_letter.c.gateway.in_(gateways))
        if before_ms is not None:
            query = query.where(dead_letter.c.last_ms < before_ms)
        if before is not None:
            query = query.where(tuple_(dead_letter.c.last_ms, dead_letter.c.digest) < before)
        with self._engine.connect().execution_options(reading=True) as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def counts(self) -> dict[str, int]:
        """Messages refused so far, by reason."""
        query = select(dead_letter.c.reason, func.sum(dead_letter.c.count)).group_by(dead_letter.c.reason)
        with self._engine.connect().execution_options(reading=True) as connection:
            return {reason: int(count) for reason, count in connection.execute(query)}

    def get(self, digest: str) -> tuple[Message, dict[str, Any]]:
        """The message behind a row, of the time when it first came, and the row as `list` has it. Raises `NotFound`."""
        query = select(dead_letter).where(dead_letter.c.digest == digest)
        with self._engine.connect().execution_options(reading=True) as connection:
            found = connection.execute(query).mappings().one_or_none()
        if found is None:
            raise NotFound(f"there is no dead letter {digest[:64]}", pointer="/digest")
        row = dict(found)
        payload = bytes(row.pop("payload"))
        return Message(row["topic"], payload, row["first_ms"]), {**row, "bytes": len(payload)}

    def replayed(self, digest: str, now_ms: int) -> None:
        """Note that the message has gone through after all."""
        with self._engine.begin() as connection:
            connection.execute(update(dead_letter).where(dead_letter.c.digest == digest).values(replayed_ms=now_ms))


def _row(letter: Letter) -> dict[str, Any]:
    message = letter.message
    return {
        "digest": message.digest.hex(),
        "topic": message.topic.encode("utf-8", "replace").decode()[:300],
        "gateway": letter.gateway,
        "payload": message.payload[:_KEEP_BYTES],
        "truncated": len(message.payload) > _KEEP_BYTES,
        "reason": letter.reason,
        "detail": letter.detail[:500],
        "count": 1,
        "first_ms": message.received_ms,
        "last_ms": message.received_ms,
    }


def _make_room(gateway: str | None) -> Any:
    """Empty the payloads of a sender's oldest rows; reason and count stay."""
    mine = dead_letter.c.gateway == gateway if gateway is not None else dead_letter.c.gateway.is_(None)
    held = and_(mine, func.length(dead_letter.c.payload) > 0)
    newest = select(dead_letter.c.last_ms).where(held).order_by(dead_letter.c.last_ms.desc())
    edge = newest.offset(_KEEP_PER_GATEWAY).limit(1).scalar_subquery()
    return update(dead_letter).where(held, dead_letter.c.last_ms <= edge).values(payload=b"", truncated=True)
