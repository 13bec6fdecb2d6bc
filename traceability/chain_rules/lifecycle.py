"""The life of single things: what has ended does not go on, what is counted is there, nothing comes from the future.

An animal is slaughtered once and a pack sold once. After that it may still be looked at, held, recalled, taken back or
written off, but not shipped, packed, treated or sold again: a second life is how a stolen number shows.
"""

from collections.abc import Iterator
from typing import Final

from traceability.chain_rules.certificates import Breach
from traceability.chain_rules.exposure import History
from traceability.chain_rules.pack import RulePack
from traceability.chain_rules.withdrawal import china_day
from traceability.codes import EAR_TAG_URI
from traceability.events import STEP, Event
from traceability.own_fields import own

__all__ = ["life_breaches", "speaks_of_the_end"]

CLOCK_SLACK_MS: Final = 15 * 60_000  # clocks of farms and phones differ by minutes, not by days
_ENDS: Final = {
    STEP + "slaughtering": ("屠宰", "slaughtered"),
    "decommissioning": ("注销", "written off"),
    "destroying": ("销毁", "destroyed"),
    "retail_selling": ("售出", "sold"),
}
_STILL_ALLOWED: Final = frozenset(
    {"inspecting", "holding", "decommissioning", "destroying", "sensor_reporting", "other", STEP + "disposal"}
)


def life_breaches(pack: RulePack, event: Event, history: History, now_ms: int) -> Iterator[Breach]:
    """Events after the end, from the future, or about more or other things than are there."""
    if event.time_ms > now_ms + CLOCK_SLACK_MS:
        yield "life.future", {"day": china_day(event.time_ms)}, event.things
    yield from _after_the_end(event, history)
    yield from _never_born(pack, event, history)
    yield from _inside_itself(event, history)
    yield from _head_count(event, history)


def _singles(event: Event) -> set[str]:
    """The single things an event uses up or moves; lots may be used many times."""
    lots = {q.epc_class for q in (*event.quantities, *event.input_quantities, *event.child_quantities)}
    made = set(event.outputs)
    return {thing for thing in event.things if thing not in lots and thing not in made and thing != event.parent}


def speaks_of_the_end(event: Event) -> bool:
    """Whether an event may still be about what has ended: looked at, held, recalled, taken back, written off."""
    lasting = event.body.get("persistentDisposition")
    return event.step in _STILL_ALLOWED or bool(lasting) or event.disposition == "returned"


def _after_the_end(event: Event, history: History) -> Iterator[Breach]:
    if speaks_of_the_end(event):
        return
    things = _singles(event)
    if event.kind == "AggregationEvent" and event.action == "DELETE":
        return
    ended: dict[str, Event] = {}
    for earlier in history.events:
        for thing in things.intersection(earlier.things):
            if earlier.step in _ENDS and thing in _singles(earlier):
                ended[thing] = earlier
            elif earlier.disposition == "returned":
                ended.pop(thing, None)
    for thing, end in ended.items():
        zh, en = _ENDS[str(end.step)]
        words = {"thing": thing.rpartition(":")[2], "zh": zh, "en": en, "day": china_day(end.time_ms)}
        yield "life.ended", words, (thing,)


def _never_born(pack: RulePack, event: Event, history: History) -> Iterator[Breach]:
    """Animals at a gate, or packs at the till, that nobody ever registered here."""
    things = _singles(event)
    if event.step in pack.gates or event.step in pack.certified:
        things = {thing for thing in things if thing.startswith(EAR_TAG_URI)}
    elif event.step != "retail_selling":
        return
    for earlier in history.events:
        things -= {thing for thing in earlier.things if earlier.action == "ADD" or thing in earlier.outputs}
    if things:
        names = sorted(thing.rpartition(":")[2] for thing in things)
        more = f"（共 {len(names)}）" if len(names) > 5 else ""  # noqa: PLR2004 - enough to find them
        yield "life.unknown", {"things": "、".join(names[:5]) + more}, tuple(sorted(things))


def _inside_itself(event: Event, history: History) -> Iterator[Breach]:
    """A container that would hold itself, at any depth."""
    if event.kind != "AggregationEvent" or event.action == "DELETE" or event.parent is None:
        return
    todo, seen = list(event.children), set[str]()
    for thing in todo:
        if thing == event.parent:
            yield "life.cycle", {"thing": thing.rpartition(":")[2]}, (thing,)
            return
        if thing not in seen:
            seen.add(thing)
            todo += sorted(history.members(thing, event.time_ms))


def _head_count(event: Event, history: History) -> Iterator[Breach]:
    """A count that differs from what went in and out, and things taken out of where they are not."""
    counted = own(event, "tm:headCount")
    if counted is not None:
        known = len(history.members(counted["pen"], event.time_ms))
        if known and known != counted["count"]:
            words = {"pen": counted["pen"], "count": counted["count"], "known": known}
            yield "count.mismatch", words, (counted["pen"],)
    if event.kind == "AggregationEvent" and event.action == "DELETE" and event.parent is not None:
        inside = history.members(event.parent, event.time_ms)
        missing = tuple(child for child in event.children if child not in inside)
        if inside and missing:
            words = {"pen": event.parent, "things": "、".join(m.rpartition(":")[2] for m in missing[:5])}
            yield "count.not_inside", words, missing
