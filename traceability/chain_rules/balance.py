"""Mass does not come from nowhere: what goes into a transformation and what comes out, in whole grams.

A transformation told in several events (one ``transformationID``) is weighed as one, and no lot gives more than it had,
however many events take from it. Things counted in pieces carry no mass and are left to the head count; where one side
has no mass at all, there is nothing to compare.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

from traceability.chain_rules.certificates import Breach
from traceability.chain_rules.exposure import History
from traceability.chain_rules.pack import RulePack
from traceability.events import Event, Quantity

__all__ = ["balance_breaches"]


def balance_breaches(pack: RulePack, event: Event, history: History) -> Iterator[Breach]:
    """More out than in, a yield outside its band, a lot used up twice, or a mass finer than a gram."""
    yield from _overdrawn(event, history)
    if event.kind != "TransformationEvent":
        return
    parts = [event, *_other_parts(event, history)]
    took = [q for part in parts for q in part.input_quantities]
    made = [q for part in parts for q in part.output_quantities]
    if fine := [q.epc_class for q in (*took, *made) if _finer_than_gram(q)]:
        yield "balance.fraction", {}, tuple(fine)
    grams_in, grams_out = _grams(took), _grams(made)
    if not grams_in or not grams_out:
        return
    words = {"grams_in": grams_in, "grams_out": grams_out, "permille": 1000 * grams_out // grams_in}
    if grams_out > grams_in:
        yield "balance.gain", words, event.outputs
        return
    band = pack.yields.get(event.step or "")
    if band is None:
        return
    words |= {"low": band.low_permille, "high": band.high_permille}
    if 1000 * grams_out > band.high_permille * grams_in:
        yield "balance.yield_high", words, event.outputs
    elif 1000 * grams_out < band.low_permille * grams_in and event.body.get("transformationID") is None:
        # A transformation told in parts may still be waiting for its outputs.
        yield "balance.yield_low", words, event.outputs


def _overdrawn(event: Event, history: History) -> Iterator[Breach]:
    """Lots of which more is taken than there ever was; one that nobody weighed when it came to be is not judged."""
    taken = _by_lot(_taken(event))
    if not taken:
        return
    made: Counter[str] = Counter()
    used: Counter[str] = Counter()
    for earlier in history.events:
        made.update(_by_lot(_brought(earlier)))
        used.update(_by_lot(_taken(earlier)))
    for lot, grams in taken.items():
        over = used[lot] + grams - made[lot]
        if made[lot] and over > 0:
            words = {"lot": lot, "made": made[lot], "used": used[lot], "grams": grams, "over": over}
            yield "balance.overdrawn", words, (lot,)


def _taken(event: Event) -> tuple[Quantity, ...]:
    ended = event.quantities if event.kind == "ObjectEvent" and event.action == "DELETE" else ()
    return (*event.input_quantities, *ended)


def _brought(event: Event) -> tuple[Quantity, ...]:
    born = event.quantities if event.kind == "ObjectEvent" and event.action == "ADD" else ()
    return (*event.output_quantities, *born)


def _by_lot(quantities: Iterable[Quantity]) -> Counter[str]:
    found: Counter[str] = Counter()
    for each in quantities:
        if each.grams:
            found[each.epc_class] += each.grams
    return found


def _other_parts(event: Event, history: History) -> list[Event]:
    name = event.body.get("transformationID")
    if name is None:
        return []
    return [e for e in history.events if e.body.get("transformationID") == name and e.body is not event.body]


def _finer_than_gram(quantity: Quantity) -> bool:
    return quantity.unit in {"KGM", "GRM", "TNE"} and quantity.amount is not None and quantity.grams is None


def _grams(quantities: Iterable[Quantity]) -> int:
    return sum(q.grams or 0 for q in quantities)
