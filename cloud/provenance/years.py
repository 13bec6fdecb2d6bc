"""Where in the journal the log's years begin, and the public names that follow from it."""

from collections.abc import Iterable, Sequence

from sqlalchemy import Engine, func, insert, inspect, select
from sqlalchemy.exc import SQLAlchemyError

from cloud.provenance.journal import entry_bytes
from cloud.provenance.store import ENTRY, SHARD
from traceability.ledger import BadLedger
from traceability.merkle import leaf_hash
from traceability.policy import Trusted
from traceability.shards import TITLE, Span, shard_origin
from traceability.stores import Conflict, StoreError

__all__ = ["SqlYears", "check_years", "origins_of", "policy_of"]


class SqlYears:
    """See `traceability.shards.Years`: kept beside the entries, and begun in one transaction with the first of them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def begun(self) -> Sequence[tuple[int, int]]:
        """See `Years`; nothing where the database was not yet made."""
        with self._engine.connect().execution_options(reading=True) as db:
            if not inspect(db).has_table(SHARD.name):
                return ()
            rows = db.execute(select(SHARD.c.year, SHARD.c.first_place).order_by(SHARD.c.year))
            return tuple((int(row.year), int(row.first_place)) for row in rows)

    def begin(self, year: int, first: int, entry: bytes | None) -> None:
        """See `Years`."""
        try:
            with self._engine.begin() as db:
                if entry is not None:
                    highest = db.execute(select(func.max(ENTRY.c.place))).scalar()
                    following = 0 if highest is None else int(highest) + 1
                    if following != first:
                        raise Conflict(f"the journal's next place is {following}, not {first}")
                    db.execute(insert(ENTRY).values(place=first, leaf=leaf_hash(entry), entry=entry))
                db.execute(insert(SHARD).values(year=year, first_place=first))
        except SQLAlchemyError as why:
            raise StoreError(f"the journal could not begin the year {year}: {type(why).__name__}") from why


def check_years(engine: Engine) -> None:
    """Every year that the journal's entries begin is a year of the list, and the other way round.

    To be asked before a log is opened: a year that the list lost would be signed on as a part of the one before it.
    Raises `BadLedger`. Only entries that are no events are read, and those are few.
    """
    if not inspect(engine).has_table(ENTRY.name):
        return
    with engine.connect().execution_options(reading=True) as db:
        bare = db.execute(select(ENTRY.c.place, ENTRY.c.entry).where(ENTRY.c.leaf.is_not(None)))
        held = {int(row.place) for row in bare if entry_bytes(row.entry).startswith(f"{TITLE}\n".encode())}
    listed = {first for _, first in SqlYears(engine).begun()}
    if held != listed - {0} or (listed and 0 not in listed):
        place = min(held ^ (listed | {0}) - {0}, default=0)
        raise BadLedger(
            f"place {place} of the journal begins a year, and the list of years (chain_shard) does not agree: nothing "
            "was written; restore the database",
            code="year_missing",
        )


def origins_of(log: str, spans: Sequence[Span], year: int) -> list[str]:
    """Origins of a log's shards, and of the one that comes after them: its name is known, and witnesses must know it.

    `year` is the present one where there are no shards yet.
    """
    newest = spans[-1].year if spans else year
    names = [span.name for span in spans] or [""]
    return [shard_origin(log, name) for name in (*names, f"{newest + 1:04d}")]


def policy_of(origins: Iterable[str], keys: Sequence[Trusted], witnesses: Iterable[str], quorum: int) -> str:
    """A policy file in which each of these keys, in its time, may speak for each of these logs."""
    logs = "\n".join(_log_lines(origin, key) for origin in origins for key in keys)
    seen = "".join(f'\n[[witnesses]]\nvkey = "{vkey}"\n' for vkey in witnesses)
    return f'format = "tianmai-policy@1"\nquorum = {quorum}\n\n{logs}{seen}'


def _log_lines(origin: str, key: Trusted) -> str:
    times = (("from", key.from_ms), ("until", key.until_ms))
    told = "".join(f"{name} = {time_ms}\n" for name, time_ms in times if time_ms is not None)
    return f'[[logs]]\norigin = "{origin}"\nvkey = "{key.key.vkey}"\n{told}'
