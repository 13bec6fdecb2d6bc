"""Papers: the quarantine certificate of a load, the five papers of release, the promise of conformity, ear tags.

One vehicle, one certificate; a certificate is good for its days, for its tags and for one journey.
"""

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, Final

from traceability.chain_rules.exposure import History
from traceability.chain_rules.pack import RulePack
from traceability.chain_rules.verdict import Facts
from traceability.chain_rules.withdrawal import china_day
from traceability.codes import EAR_TAG_URI, CodeError, ear_tag
from traceability.epcis_checks import read_time
from traceability.events import STEP, Event
from traceability.own_fields import origins, own

__all__ = ["Breach", "certificate_breaches", "paper_breaches", "promise_breaches", "renewal_breaches", "tag_breaches"]

# A breach is (rule, words to fill into the rule's text, things it is about).
Breach = tuple[str, dict[str, Any], tuple[str, ...]]

PROMISE_FIELDS: Final = ("product", "quantity", "origin", "date", "promisor", "contact")
PROVINCE_DIGITS: Final = 2
_HANDED_ON: Final = frozenset({"shipping", "retail_selling"})


def certificate_breaches(pack: RulePack, event: Event, history: History, facts: Facts) -> Iterator[Breach]:
    """What is wrong with the certificate of a load of living animals."""
    certificate = own(event, "tm:quarantine")
    animals = tuple(thing for thing in event.things if thing.startswith(EAR_TAG_URI))
    if event.step not in pack.certified or not (animals or certificate):
        return
    if not isinstance(certificate, dict) or not certificate.get("number"):
        yield "certificate.missing", {}, animals
        return
    number, plate = str(certificate["number"]), own(event, "tm:vehicle")
    if plate != certificate.get("vehicle"):
        words = {"number": number, "vehicle": certificate.get("vehicle"), "plate": plate}
        yield "certificate.vehicle", words, animals
    if facts.vehicles is not None and plate is not None and plate not in facts.vehicles:
        yield "vehicle.unregistered", {"plate": plate}, animals
    yield from _validity(pack, event, certificate, animals)
    listed = certificate.get("tags")
    if listed is not None and (odd := {_number(t) for t in listed} ^ {_number(a) for a in animals}):
        yield "certificate.tags", {"number": number, "tags": "、".join(sorted(odd)[:5])}, animals
    if any(_used_elsewhere(earlier, event, number) for earlier in history.events):
        yield "certificate.reused", {"number": number}, animals


def _validity(pack: RulePack, event: Event, certificate: dict[str, Any], animals: tuple[str, ...]) -> Iterator[Breach]:
    rule = pack.certificates.get(str(certificate.get("kind")))
    try:
        issued = china_day(round(read_time(str(certificate.get("issued"))).timestamp() * 1000))
    except ValueError:
        rule = None
        issued = None
    if rule is None or issued is None:
        yield "certificate.unreadable", {"number": certificate["number"]}, animals
        return
    age = (china_day(event.time_ms) - issued).days
    if not 0 <= age < rule.days:
        words = {"number": certificate["number"], "kind": rule.zh, "days": rule.days, "issued": issued}
        yield "certificate.expired", words, animals


def _used_elsewhere(earlier: Event, event: Event, number: str) -> bool:
    """The same paper on another journey: another lorry, or the same step with other animals."""
    certificate = own(earlier, "tm:quarantine")
    if earlier.body is event.body or not isinstance(certificate, dict) or certificate.get("number") != number:
        return False
    if earlier.step == STEP + "certifying":
        return False
    return earlier.step == event.step and set(earlier.things) != set(event.things)


def _number(tag: str) -> str:
    return tag.removeprefix(EAR_TAG_URI)


def paper_breaches(pack: RulePack, event: Event, history: History) -> Iterator[Breach]:
    """Papers and stamps missing at release, and a strip-tested lot that leaves its province."""
    if pack.release and event.step == pack.release:
        seen = set(own(event, "tm:papers") or ())
        missing = [name for kind, name in pack.papers.items() if kind not in seen]
        if missing:
            yield "papers.missing", {"papers": "、".join(missing)}, event.things
    region = own(event, "tm:destinationRegion")
    if event.step != "shipping" or region is None or "asf.strip_province" not in pack.texts:
        return
    for earlier in _about(event.things, history):
        test = own(earlier, "tm:asfTest")
        home = own(earlier, "tm:region")
        if not isinstance(test, dict) or test.get("method") != "strip" or not isinstance(home, str):
            continue
        if str(region)[:PROVINCE_DIGITS] != home[:PROVINCE_DIGITS]:
            yield "asf.strip_province", {"region": region, "number": test.get("number")}, event.things
            return


def _about(things: Iterable[str], history: History) -> Iterator[Event]:
    """Earlier events about these things or what they were made from."""
    wanted = set(things)
    for event in reversed(history.events):
        if wanted.isdisjoint(event.things):
            continue
        yield event
        if not wanted.isdisjoint(event.outputs):
            wanted.update(event.inputs)
        elif event.action == "ADD":
            wanted.update(origins(event))


def promise_breaches(event: Event) -> Iterator[Breach]:
    """A promise of conformity that does not say what the order wants it to say."""
    promise = own(event, "tm:conformityPromise")
    if promise is None:
        return
    given = promise if isinstance(promise, dict) else {}
    missing = [name for name in PROMISE_FIELDS if not given.get(name)]
    if missing:
        yield "promise.incomplete", {"fields": ", ".join(missing)}, event.things


def renewal_breaches(event: Event, history: History) -> Iterator[Breach]:
    """Goods that were mixed or packed again since their promise and go on without a new one."""
    if event.step not in _HANDED_ON or own(event, "tm:conformityPromise") is not None:
        return
    changed: Event | None = None
    for earlier in _about(event.things, history):
        if own(earlier, "tm:conformityPromise") is not None:
            if changed is not None:
                words = {"day": china_day(changed.time_ms), "promised": china_day(earlier.time_ms)}
                yield "promise.renew", words, event.things
            return
        if changed is None and earlier.kind == "TransformationEvent":
            changed = earlier


def tag_breaches(event: Event, history: History, facts: Facts) -> Iterator[Breach]:
    """A tag that cannot be one, whose county nobody could look up, or that was given to an animal before."""
    if event.action != "ADD" or event.step != "commissioning":
        return
    day, known = china_day(event.time_ms), facts.county_known and cache(facts.county_known)
    unchecked: dict[str, list[str]] = {}
    for thing in event.epcs:
        if not thing.startswith(EAR_TAG_URI):
            continue
        try:
            tag = ear_tag(thing, day, known)
        except CodeError as why:
            yield "tag.malformed", {"tag": _number(thing), "why": why}, (thing,)
        else:
            if known is not None and known(tag.county, day) is None:
                unchecked.setdefault(tag.county, []).append(thing)
        if any(e.action == "ADD" and e.step == "commissioning" and thing in e.epcs for e in history.events):
            yield "tag.reused", {"tag": _number(thing)}, (thing,)
    for county, things in unchecked.items():
        yield "tag.county_unchecked", {"county": county, "count": len(things), "day": day}, tuple(things)
