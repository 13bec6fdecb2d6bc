"""The audit trail: append-only, each entry holding the hash of the one before.

An entry is written on the caller's own connection, so that a change and its record stand or fall together. Changing,
removing or reordering entries breaks the chain; cutting the tail off disagrees with the head. Who can rewrite the
whole database can rewrite the whole chain too: against that, an operator keeps a head (`Trail.head`) elsewhere.
"""

import json
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import IntegrityError

from cloud.accounts.store import audit_head, audit_log
from cloud.problems import CloudError

__all__ = ["AuditBroken", "Trail"]

_START = "0" * 64


class AuditBroken(CloudError):
    """An entry of the audit trail was changed, removed or added behind the trail's back."""

    code = "audit_broken"


class Trail:
    """Writes and checks the chain. Holds no connection of its own."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock

    def begin(self, connection: Connection) -> None:
        """Make the chain's head where there is none: the first two writers must find one to queue at."""
        if connection.execute(select(audit_head)).first() is not None:
            return
        try:
            with connection.begin_nested():
                connection.execute(insert(audit_head).values(id=1, seq=0, digest=_START))
        except IntegrityError:  # another process has started at this moment
            return

    def append(
        self,
        connection: Connection,
        who: str,
        what: str,
        subject: str,
        detail: Mapping[str, Any] | None = None,
        region: str | None = None,
    ) -> None:
        """Record that `who` did `what` to `subject`, as part of the caller's transaction."""
        head = connection.execute(select(audit_head).with_for_update()).one()
        seq, previous = head.seq, head.digest
        row = {
            "seq": seq + 1,
            "at_ms": self._clock(),
            "who": who,
            "what": what,
            "subject": subject,
            "region": region,
            "detail": _canonical(dict(detail or {})),
            "previous": previous,
        }
        digest = _digest(row)
        connection.execute(insert(audit_log).values(**row, digest=digest))
        connection.execute(update(audit_head).values(seq=seq + 1, digest=digest))

    def verify(self, connection: Connection) -> int:
        """Walk the whole chain; the number of entries. Raises `AuditBroken` naming the first misfit."""
        previous, count = _START, 0
        for row in connection.execute(select(audit_log).order_by(audit_log.c.seq)).mappings():
            plain = {key: row[key] for key in row if key != "digest"}
            if row["seq"] != count + 1 or row["previous"] != previous or _digest(plain) != row["digest"]:
                raise AuditBroken(
                    f"audit entry {count + 1} does not follow from the one before: "
                    "restore the database from a backup and compare the two"
                )
            previous, count = row["digest"], count + 1
        head = self.head(connection)
        if head != (count, previous):
            raise AuditBroken(f"the audit trail ends at entry {count}, its head says {head[0]}: entries were cut off")
        return count

    def head(self, connection: Connection) -> tuple[int, str]:
        """(number of entries, hash of the last): what an operator may note down elsewhere."""
        head = connection.execute(select(audit_head)).one_or_none()
        return (0, _START) if head is None else (head.seq, head.digest)


def _canonical(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _digest(row: Mapping[str, Any]) -> str:
    return sha256(_canonical(dict(row)).encode()).hexdigest()
