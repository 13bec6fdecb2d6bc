"""Mass does not come from nowhere: what goes into a transformation and what comes out, in whole grams.

A transformation told in several events (one ``transformationID``) is weighed as one. Things counted in pieces
carry no mass and are left to the head count; where one side has no mass at all, there is nothing to compare.
"""

from collections.abc import Iterable, Iterator

from traceability.chain_rules.certificates import Breach
from traceability.chain_rules.exposure import History
from traceability.chain_rules.pack import RulePack
from traceability.events import Event, Quantity

__all__ = ["balance_breaches"]


def balance_breaches(pack: RulePack, event: Event, history: History) -> Iterator[Breach]:
    """More out than in, a yield outside its band, or a mass finer than a gram."""
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


def _other_parts(event: Event, history: History) -> list[Event]:
    name = event.body.get("transformationID")
    if name is None:
        return []
    return [e for e in history.events if e.body.get("transformationID") == name and e.body is not event.body]


def _finer_than_gram(quantity: Quantity) -> bool:
    return quantity.unit in {"KGM", "GRM", "TNE"} and quantity.amount is not None and quantity.grams is None


def _grams(quantities: Iterable[Quantity]) -> int:
    return sum(q.grams or 0 for q in quantities)
