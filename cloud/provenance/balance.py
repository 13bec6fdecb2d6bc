"""Mass over all events: no lot gives more grams than were made of it.

The rules of a chain weigh one transformation at a time. Two of them may each be right and together use up one lot
twice; that shows only when all events of the lot are weighed together, whoever sent them and whatever rules they stand
under. A lot of which nobody told how much was made is not judged.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from traceability.chain_rules.verdict import Finding
from traceability.epc_uris import canonical_name
from traceability.events import Event, Quantity

__all__ = ["lots_taken", "overdrawn"]

_RULE = "balance.overdrawn"
_SOURCE = "质量守恒 conservation of mass"


def lots_taken(event: Event) -> dict[str, int]:
    """Whole grams that an event takes from lots, by canonical name."""
    if event.kind == "TransformationEvent":
        return _grams(event.input_quantities)
    if event.kind == "ObjectEvent" and event.action == "DELETE":
        return _grams(event.quantities)
    return {}


def overdrawn(event: Event, others: Iterable[Event]) -> Iterator[Finding]:
    """The lots of which `event` takes more than the `others` left, each a finding."""
    wanted = lots_taken(event)
    made: dict[str, int] = defaultdict(int)
    used: dict[str, int] = defaultdict(int)
    for other in others:
        for lot, grams in _made(other).items():
            made[lot] += grams
        for lot, grams in lots_taken(other).items():
            used[lot] += grams
    for lot, grams in wanted.items():
        left = made[lot] - used[lot]
        if lot in made and made[lot] and grams > left:
            zh = f"批次 {lot} 共 {made[lot]} 克，已用 {used[lot]} 克，不能再用 {grams} 克"
            en = f"of {lot} {made[lot]} g were made and {used[lot]} g used: {grams} g are not there"
            yield Finding(_RULE, "refused", zh, en, _SOURCE, (lot,))


def _made(event: Event) -> dict[str, int]:
    if event.kind == "TransformationEvent":
        return _grams(event.output_quantities)
    if event.kind == "ObjectEvent" and event.action == "ADD":
        return _grams(event.quantities)
    return {}


def _grams(quantities: Iterable[Quantity]) -> dict[str, int]:
    found: dict[str, int] = defaultdict(int)
    for quantity in quantities:
        if grams := quantity.grams:
            found[canonical_name(quantity.epc_class)] += grams
    return dict(found)
