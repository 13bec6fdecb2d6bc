"""Under whose rules things stand, so that nobody leaves a chain's rules by not naming the chain.

A trade item or a place is given to a chain by a person; a thing comes under a chain's rules with the first event that
was judged by them, and so does everything that is made of it or packed with it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, delete, insert, select

from cloud.problems import Conflict
from cloud.provenance.leaves import flow, json_text
from cloud.provenance.store import RULED
from traceability.events import Event

__all__ = ["Ruling", "Rulings", "among", "chain_for", "grounds", "rulings_among", "trade_item"]

_ITEM = "https://id.gs1.org/01/"
_ITEM_LENGTH = len(_ITEM) + 14
_ASK = "SELECT name, chain, place FROM chain_ruled WHERE name IN ({})"


class Ruling(NamedTuple):
    """A chain, and the place in the log of the newest event that put the name under it; None: a person did."""

    chain: str
    place: int | None


class Rulings:
    """The table of what stands under which chain."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def of(self, names: Iterable[str]) -> dict[str, Ruling]:
        """Those of `names` that stand under a chain."""
        with self._engine.connect().execution_options(reading=True) as db:
            return rulings_among(db, list(names))

    def give(self, name: str, chain: str | None) -> None:
        """Put a trade item or a place under a chain; None takes it away again."""
        with self._engine.begin() as db:
            db.execute(delete(RULED).where(RULED.c.name == name))
            if chain is not None:
                db.execute(insert(RULED).values(name=name, chain=chain, place=None))

    def given(self) -> dict[str, str]:
        """What persons put under a chain."""
        with self._engine.connect().execution_options(reading=True) as db:
            rows = db.execute(select(RULED).where(RULED.c.place.is_(None)).order_by(RULED.c.name))
            return {row.name: row.chain for row in rows}


def rulings_among(db: Connection, names: Sequence[str]) -> dict[str, Ruling]:
    """Those of `names` that stand under a chain, as a transaction sees them."""
    return {name: Ruling(chain, place) for name, chain, place in among(db, _ASK, names)} if names else {}


def among(db: Connection, statement: str, keys: Sequence[str] | Sequence[int], *before: Any) -> Sequence[Any]:
    """Rows of a statement whose `{}` stands for any number of keys, at least one, all texts or all whole numbers.

    `before` are its parameters ahead of them.
    """
    if db.dialect.name == "sqlite":
        # Text of its own, so that the driver prepares one statement for any number of keys.
        text, given = statement.format("SELECT value FROM json_each(?)"), json_text(keys)
        return db.exec_driver_sql(text, (*before, given)).all()
    kind = "text" if isinstance(keys[0], str) else "bigint"
    text = statement.format(f"SELECT unnest(%s::{kind}[])").replace("?", "%s")
    return db.exec_driver_sql(text, (*before, list(keys))).all()


def trade_item(thing: str) -> str | None:
    """The trade item of a thing's canonical name, itself a canonical name; None where it has none."""
    return thing[:_ITEM_LENGTH] if thing.startswith(_ITEM) and len(thing) >= _ITEM_LENGTH else None


def grounds(event: Event, things: Iterable[str]) -> tuple[str, ...]:
    """Trade items and places by which an event can come under a chain's rules, beside its things."""
    items = [thing[:_ITEM_LENGTH] for thing in things if thing.startswith(_ITEM) and len(thing) >= _ITEM_LENGTH]
    places = [place for place in (event.read_point, event.location) if place is not None]
    return tuple(dict.fromkeys(items + places))


def chain_for(event: Event, rulings: Mapping[str, Ruling], named: str | None) -> str | None:
    """The chain whose rules judge an event, None where no rules apply.

    It is that of its trade items, else of its places; else the `named` one; else what its things stood under last.
    Raises `Conflict` where the sender names another chain than its trade item or place is given to.
    """
    uses, makes = flow(event)
    by_person = [
        (name, rulings[name].chain)
        for name in grounds(event, (*makes, *uses))
        if name in rulings and rulings[name].place is None
    ]
    if by_person:
        name, chain = by_person[0]
        if named not in {None, chain}:
            raise Conflict(
                f"{name} belongs to the chain {chain}, not {named}: leave the chain away", code="other_chain"
            )
        return chain
    if named is not None:
        return named
    past = [rulings[thing] for thing in (*uses, *makes) if thing in rulings]
    return max(past, key=lambda ruling: ruling.place or 0).chain if past else None
