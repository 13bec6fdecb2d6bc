"""What every use case of the land context has at hand, and who may see what.

Scope is applied here and nowhere else: a row outside the asker's regions does not exist for him.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Engine, literal, select

from cloud.land.cycle import MAY, Action
from cloud.land.model import Case, LandRules
from cloud.problems import Forbidden, NotFound
from cloud.who import Audit, Inside, Role, Who

__all__ = ["Desk", "crop_year_end_ms", "month_start_ms"]

_CHINA = timedelta(hours=8)


@dataclass(frozen=True, slots=True)
class Desk:
    """The collaborators of the land context."""

    engine: Engine
    clock: Callable[[], int]
    audit: Audit
    inside: Inside
    rules: LandRules

    def reading(self) -> Connection:
        """A connection that will not write."""
        return self.engine.connect().execution_options(reading=True)

    def seen_by(self, who: Who, region: Column[Any]) -> ColumnElement[bool]:
        """The condition that a row's region lies in one of the asker's."""
        return region.in_(self.inside(who.regions()))

    def known(self, db: Connection, region: str) -> bool:
        """Whether records may be written under this region today."""
        return self._within(db, region, {region})

    def sees(self, db: Connection, who: Who, region: str) -> bool:
        """Whether the asker has any role over this region."""
        return self._within(db, region, who.regions())

    def holds(self, db: Connection, who: Who, region: str, *roles: Role) -> bool:
        """Whether the asker has one of the roles over this region."""
        return self._within(db, region, who.regions(*roles))

    def let(self, db: Connection, who: Who, case: Case, action: Action) -> None:
        """Raise `Forbidden` for an action that is not the asker's in the case's region."""
        roles = MAY[action]
        if not self.holds(db, who, case.region, Role.ADMIN, *roles):
            wanted = " or ".join(sorted(roles))
            raise Forbidden(f"to {action} a case in {case.region} needs the role {wanted} there")

    def _within(self, db: Connection, region: str, offices: Collection[str]) -> bool:
        # On the caller's own connection: a second one, asked for inside a transaction, could wait for ever for
        # connections that are held by others who wait for this transaction.
        query = select(literal(value=1)).where(literal(region).in_(self.inside(offices)))
        return bool(offices) and db.execute(query).first() is not None


def no_case(case_id: str) -> NotFound:
    """The one answer for a case that is not there and for one that is not yours."""
    return NotFound(f"no case {case_id!r}")


def crop_year_end_ms(crop_year: int) -> int:
    """The first millisecond after a crop year (1 October to 30 September, China's days)."""
    return int((datetime(crop_year, 10, 1, tzinfo=UTC) - _CHINA).timestamp() * 1000)


def month_start_ms(at_ms: int) -> int:
    """The first millisecond of the month in China."""
    day = datetime.fromtimestamp(at_ms / 1000, UTC) + _CHINA
    return int((day.replace(day=1, hour=0, minute=0, second=0, microsecond=0) - _CHINA).timestamp() * 1000)
