"""What can be done with people: grant, sign in, recognise, sign out, look back.

A role is held in a region and all below it. An auditor must not judge his own doing, so nobody may hold the auditor's
role together with one that acts, where the two regions meet (rule L6 of the domain reference).
"""

import re
import secrets
import uuid
from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from hashlib import sha256
from typing import Any, Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import ColumnElement, Connection, Engine, and_, insert, literal, or_, select, update

from cloud.accounts.audit import Trail
from cloud.accounts.store import audit_log, grants, metadata, people, sessions, sign_in_links
from cloud.problems import Conflict, Forbidden, Invalid, NotFound, Refused, Unauthenticated
from cloud.who import Grant, Inside, Role, Who

__all__ = ["Accounts"]

_HOUR_MS: Final = 3_600_000
_SESSION_HOURS: Final = 12
_SHORTEST_PASSWORD: Final = 10
_SEEN_MS: Final = 1_000
_MOST_SEEN: Final = 1_000
_ACTING: Final = frozenset({Role.ANALYST, Role.COLLECTOR, Role.REVIEWER})
_REGION = re.compile(r"[0-9]{6}[0-9A-Za-z]{0,34}")
_PERSON = re.compile(r"[A-Za-z0-9._@-]{1,64}")
_NOBODY = "sign_in_refused"


class Accounts:
    """People and their rights over one database.

    `inside` gives all codes below some regions as a query over the same database (the closure table of
    `cloud.regions`, passed by wiring); without it a region holds itself only.
    """

    def __init__(
        self,
        engine: Engine,
        clock: Callable[[], int],
        *,
        inside: Inside | None = None,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._inside = inside
        self._trail = Trail(clock)
        self._hasher = PasswordHasher()
        self._changes = 0  # of rights and sessions, by this object
        self._seen: dict[str, tuple[int, int, Who]] = {}  # digest of a session -> changes and time of the look, person

    def prepare(self) -> None:
        """Make the tables where they are missing (a real deployment migrates instead)."""
        metadata.create_all(self._engine)
        with self._engine.begin() as db:
            self._trail.begin(db)

    # -- people and rights ---------------------------------------------------------------------------------------

    def person(self, name: str, *, id: str | None = None, by: str = "system") -> str:  # noqa: A002 - the field's name
        """The id of this person, who is made if there is nobody of that id yet. Names need not be unique."""
        name = name.strip()
        if not name:
            raise Invalid("a person needs a name")
        key = id or uuid.uuid4().hex
        with self._engine.begin() as db:
            if db.execute(select(people.c.id).where(people.c.id == key)).first() is None:
                db.execute(insert(people).values(id=key, name=name, created_ms=self._clock()))
                self._trail.append(db, by, "person.made", key, {"name": name})
        return key

    def newcomer(self, name: str, id: str | None = None, *, by: str = "system") -> str:  # noqa: A002 - as above
        """The id of a person who is made now. Raises `Conflict` where the id is somebody's already, `Invalid`."""
        if id is not None and not _PERSON.fullmatch(id):
            raise Invalid(f"an id is 1 to 64 letters, digits, and . _ @ -, not {id[:80]!r}", pointer="/id")
        if id is not None and self.names([id]):
            raise Conflict(f"{id} is somebody's id already", code="id_in_use", pointer="/id")
        return self.person(name, id=id, by=by)

    def people(self) -> list[dict[str, Any]]:
        """Everybody by name: id, name, disabled, and grants as (role, region, until_ms) that hold now."""
        with self._engine.connect().execution_options(reading=True) as db:
            rows = db.execute(select(people).order_by(people.c.name, people.c.id)).all()
            held: dict[str, list[dict[str, Any]]] = {}
            for one in db.execute(select(grants).where(self._running).order_by(grants.c.region, grants.c.role)):
                grant = {"role": one.role, "region": one.region, "until_ms": one.until_ms}
                held.setdefault(one.person, []).append(grant)
        return [
            {
                "id": row.id,
                "name": row.name,
                "disabled": row.disabled_ms is not None,
                "grants": held.get(row.id, []),
            }
            for row in rows
        ]

    def names(self, ids: Collection[str]) -> dict[str, str]:
        """Names by id, of those that are known."""
        with self._engine.connect().execution_options(reading=True) as db:
            rows = db.execute(select(people.c.id, people.c.name).where(people.c.id.in_(sorted(set(ids)))))
            return {row.id: row.name for row in rows}

    def grant(self, person: str, role: Role, region: str, *, by: str = "system", until_ms: int | None = None) -> None:
        """Give a role in a region and all below it; giving it again changes nothing.

        Raises `Refused` where it would make an auditor of somebody who acts in the same region, or the reverse,
        `NotFound` where there is no such person, or he is locked out.
        """
        if not _REGION.fullmatch(region):
            raise Invalid(f"region {region!r} is not an administrative code: give 6 digits (county) or more")
        wanted = Grant(role, region)
        with self._engine.begin() as db:
            self._living(db, person)
            held = self._grants(db, person)
            if wanted in held:
                return
            self._refuse_own_auditor(db, wanted, held)
            db.execute(
                insert(grants).values(
                    person=person,
                    role=str(role),
                    region=region,
                    granted_by=by,
                    granted_ms=self._clock(),
                    until_ms=until_ms,
                )
            )
            self._trail.append(db, by, "grant.given", person, {"role": str(role), "until_ms": until_ms}, region)
        self._changes += 1

    def revoke(self, person: str, role: Role, region: str, *, by: str = "system") -> None:
        """Take a role away. Raises `NotFound` when the person does not hold it."""
        with self._engine.begin() as db:
            done = db.execute(
                update(grants)
                .where(grants.c.person == person, grants.c.role == str(role), grants.c.region == region, self._running)
                .values(revoked_ms=self._clock())
            )
            if done.rowcount == 0:
                raise NotFound(f"{person} does not hold {role} in {region}")
            self._trail.append(db, by, "grant.revoked", person, {"role": str(role)}, region)
        self._changes += 1

    def disable(self, person: str, *, by: str = "system") -> None:
        """Lock a person out at once: sessions, links and passwords stop working; the history stays."""
        now = self._clock()
        with self._engine.begin() as db:
            self._living(db, person)
            db.execute(update(people).where(people.c.id == person).values(disabled_ms=now))
            db.execute(
                update(sessions)
                .where(sessions.c.person == person, sessions.c.revoked_ms.is_(None))
                .values(revoked_ms=now)
            )
            self._trail.append(db, by, "person.disabled", person)
        self._changes += 1

    # -- signing in and out --------------------------------------------------------------------------------------

    def issue_sign_in(self, person: str, *, hours: float = 12, by: str = "system") -> str:
        """A token for one sign-in within `hours`. It is shown once: only its hash is kept."""
        token = secrets.token_urlsafe(32)
        with self._engine.begin() as db:
            self._living(db, person)
            db.execute(
                insert(sign_in_links).values(
                    digest=_hash(token), person=person, expires_ms=self._clock() + int(hours * _HOUR_MS)
                )
            )
            self._trail.append(db, by, "sign_in.offered", person)
        return token

    def sign_in(self, token: str) -> str:
        """Turn a sign-in token into a session token. A token works once. Raises `Unauthenticated`."""
        now = self._clock()
        with self._engine.begin() as db:
            # One conditional update decides: of two simultaneous uses exactly one finds the link unused.
            used = db.execute(
                update(sign_in_links)
                .where(
                    sign_in_links.c.digest == _hash(token),
                    sign_in_links.c.used_ms.is_(None),
                    sign_in_links.c.expires_ms > now,
                )
                .values(used_ms=now)
                .returning(sign_in_links.c.person)
            ).scalar_one_or_none()
            if used is None:
                raise Unauthenticated("this sign-in link is unknown, used or too old: ask for a new one", code=_NOBODY)
            return self._open_session(db, used, "link")

    def set_password(self, person: str, password: str, *, by: str) -> None:
        """Set a password (at least 10 characters); all open sessions of the person end."""
        if len(password) < _SHORTEST_PASSWORD:
            raise Invalid(f"a password needs at least {_SHORTEST_PASSWORD} characters")
        hashed = self._hasher.hash(password)
        with self._engine.begin() as db:
            self._living(db, person)
            db.execute(update(people).where(people.c.id == person).values(password=hashed))
            db.execute(
                update(sessions)
                .where(sessions.c.person == person, sessions.c.revoked_ms.is_(None))
                .values(revoked_ms=self._clock())
            )
            self._trail.append(db, by, "password.set", person)
        self._changes += 1

    def sign_in_with_password(self, person: str, password: str) -> str:
        """A session token for a person's id and password. Raises `Unauthenticated`, never telling which was wrong."""
        with self._engine.connect().execution_options(reading=True) as db:
            row = db.execute(select(people).where(people.c.id == person, people.c.disabled_ms.is_(None))).one_or_none()
        known = row is not None and row.password is not None
        try:
            self._hasher.verify(row.password if row is not None and row.password else self._decoy, password)
        except (VerificationError, InvalidHashError):
            known = False
        if not known:
            raise Unauthenticated("name or password is wrong", code=_NOBODY)
        with self._engine.begin() as db:
            return self._open_session(db, person, "password")

    def who(self, session: str) -> Who | None:
        """The person behind a session token with the rights of this moment; None when there is nobody."""
        now, changes = self._clock(), self._changes
        with self._engine.connect().execution_options(reading=True) as db:
            row = db.execute(
                select(people.c.id, people.c.name)
                .join(sessions, sessions.c.person == people.c.id)
                .where(
                    sessions.c.digest == _hash(session),
                    sessions.c.revoked_ms.is_(None),
                    sessions.c.expires_ms > now,
                    people.c.disabled_ms.is_(None),
                )
            ).one_or_none()
            found = None if row is None else Who(row.id, row.name, frozenset(self._grants(db, row.id)))
        if found is not None:
            if len(self._seen) >= _MOST_SEEN:
                self._seen.clear()
            self._seen[_hash(session)] = (changes, now, found)
        return found

    def seen(self, session: str) -> Who | None:
        """As `who` told within the last second, without a look at the database; None where that must be asked.

        A sign-out or a change of rights through this object ends it at once, one by another process within the second.
        """
        changes, then, found = self._seen.get(_hash(session), (-1, 0, None))
        return found if changes == self._changes and 0 <= self._clock() - then < _SEEN_MS else None

    def sign_out(self, session: str) -> None:
        """End a session; ending it twice, or one that never was, is no error."""
        with self._engine.begin() as db:
            person = db.execute(
                update(sessions)
                .where(sessions.c.digest == _hash(session), sessions.c.revoked_ms.is_(None))
                .values(revoked_ms=self._clock())
                .returning(sessions.c.person)
            ).scalar_one_or_none()
            if person is not None:
                self._trail.append(db, person, "session.ended", person)
        self._changes += 1

    # -- looking back --------------------------------------------------------------------------------------------

    def audit(
        self,
        connection: Connection,
        who: str,
        what: str,
        subject: str,
        detail: Mapping[str, Any] | None = None,
        region: str | None = None,
    ) -> None:
        """Record on the caller's connection what it is about to commit. Wiring passes this to the other contexts."""
        self._trail.append(connection, who, what, subject, detail, region)

    def audit_trail(self, who: Who, *, before: int | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """Entries newest first, below entry `before`: those of the regions in which `who` is auditor or admin.

        Entries that belong to no region (sign-ins, persons) are shown to whoever is auditor or admin somewhere.
        """
        held = who.regions(Role.AUDITOR, Role.ADMIN)
        if not held:
            raise Forbidden("only an auditor or an admin reads the audit trail")
        inside = audit_log.c.region.in_(self._inside(held)) if self._inside else audit_log.c.region.in_(held)
        query = select(audit_log).where(or_(audit_log.c.region.is_(None), inside))
        if before is not None:
            query = query.where(audit_log.c.seq < before)
        with self._engine.connect().execution_options(reading=True) as db:
            rows = db.execute(query.order_by(audit_log.c.seq.desc()).limit(limit)).mappings()
            return [dict(row) for row in rows]

    def verify_audit(self) -> int:
        """Check the whole chain; the number of entries. Raises `AuditBroken`."""
        with self._engine.connect().execution_options(reading=True) as db:
            return self._trail.verify(db)

    # -- inside --------------------------------------------------------------------------------------------------

    @cached_property
    def _decoy(self) -> str:
        """Checked when there is no such person, so that the answer takes as long as for one who exists."""
        return self._hasher.hash(secrets.token_urlsafe())

    @property
    def _running(self) -> ColumnElement[bool]:
        return and_(grants.c.revoked_ms.is_(None), or_(grants.c.until_ms.is_(None), grants.c.until_ms > self._clock()))

    def _grants(self, db: Connection, person: str) -> set[Grant]:
        rows = db.execute(select(grants.c.role, grants.c.region).where(grants.c.person == person, self._running))
        return {Grant(Role(row.role), row.region) for row in rows}

    def _living(self, db: Connection, person: str) -> None:
        found = db.execute(select(people.c.id).where(people.c.id == person, people.c.disabled_ms.is_(None))).first()
        if found is None:
            raise NotFound(f"no person {person!r}")

    def _open_session(self, db: Connection, person: str, how: str) -> str:
        self._living(db, person)
        token, now = secrets.token_urlsafe(32), self._clock()
        db.execute(
            insert(sessions).values(
                digest=_hash(token), person=person, created_ms=now, expires_ms=now + _SESSION_HOURS * _HOUR_MS
            )
        )
        self._trail.append(db, person, "session.opened", person, {"how": how})
        return token

    def _refuse_own_auditor(self, db: Connection, wanted: Grant, held: set[Grant]) -> None:
        def holds(one: Grant, other: Grant) -> bool:
            if self._inside is None:
                return one.region == other.region
            within = literal(other.region).in_(self._inside(frozenset({one.region})))
            return db.execute(select(literal(value=1)).where(within)).first() is not None

        audits = wanted.role is Role.AUDITOR
        clash = [
            grant
            for grant in held
            if (holds(wanted, grant) or holds(grant, wanted))
            and (grant.role in _ACTING if audits else grant.role is Role.AUDITOR)
        ]
        if clash and (audits or wanted.role in _ACTING):
            raise Refused(
                f"{clash[0].role} in {clash[0].region} and {wanted.role} in {wanted.region} must be two persons: "
                "nobody audits his own work",
                rule="L6",
            )


def _hash(token: str) -> str:
    return sha256(token.encode()).hexdigest()
