"""From an event to its line in the log: what stands there in clear, and what only as a salted commitment.

In clear stand the time, the business step, the chain and the things; whatever a person could be known by is committed.
Two views of the event are committed whole, as JSON text (events carry fractions, which the log's own JSON refuses): the
public one, which a consumer's pack discloses, and the private rest, which it does not. Deleting a salt and its value
erases them; every proof still holds.
"""

import json
import re
import secrets
from binascii import b2a_base64
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from struct import Struct
from typing import Any, Final, NamedTuple

import orjson

from cloud.problems import Invalid
from traceability.canon import encode, from_base64
from traceability.codes import gtin
from traceability.epc_uris import canonical_name
from traceability.events import Event
from traceability.packs import SALT_BYTES, EntryTooLarge, Leaf, Opening, check_openings, commitment, entry_of

__all__ = ["LeafOf", "captured", "committed", "flow", "fresh_salts", "json_text", "said", "seal"]

# Own extension fields that name people or exact places: never shown to a consumer.
PRIVATE = frozenset({"tm:person", "tm:holder", "tm:contact", "tm:exactPlace", "tm:credential"})
SHOWN = ("event", "view", "who", "where")
_CAPTURE: Final = "capture"
_SALTS: Final = Struct(f"{SALT_BYTES}s" * 256)  # so many at once
_TRADE_NUMBER = re.compile(r"^https?://[^?#]*/01/(\d{8,14})(?:[/?#]|$)", re.IGNORECASE)
# What nearly every thing is called; the pattern above would try every slash of it.
_CANONICAL: Final = re.compile(r"https://id\.gs1\.org/01/([0-9]{14})(?:/(?:21|10)/[^/?#]*)?").fullmatch
_CARRIERS = frozenset({"AggregationEvent", "AssociationEvent"})


class LeafOf(NamedTuple):
    """A sealed event: `entry` is the log's canonical JSON, `secrets` opens its commitments (JSON text).

    `uses` are the things it used up, `makes` those that left it, `carrier` the container or host among them.
    """

    entry: bytes
    secrets: str
    uses: tuple[str, ...] = ()
    makes: tuple[str, ...] = ()
    carrier: str | None = None

    @classmethod
    def load(cls, entry: bytes, secrets: str) -> "LeafOf":
        """A sealed event as it was stored."""
        return cls(entry, secrets)

    @staticmethod
    def carrier_of(event: Event) -> str | None:
        """Canonical name of the container or host of an event that has one."""
        return canonical_name(event.parent) if event.parent and event.kind in _CARRIERS else None

    @property
    def _leaf(self) -> Leaf:
        opened = json.loads(self.secrets).items()
        openings = {
            name: Opening(from_base64(item["salt"]), item["value"]) for name, item in opened if name != _CAPTURE
        }
        return Leaf(self.entry, openings)

    @property
    def shown(self) -> Leaf:
        """The leaf with exactly the fields open that a consumer may see, as far as they have not been erased."""
        return self._leaf.showing(SHOWN)

    @property
    def public(self) -> Mapping[str, Any]:
        """What stands in clear."""
        return self._leaf.fields

    @property
    def opened(self) -> dict[str, Any]:
        """What the commitments hold, as far as it has not been erased."""
        return {name: opening.value for name, opening in self._leaf.openings.items()}

    def check(self) -> None:
        """Raises `BadPack` for a secret that does not open its commitment."""
        check_openings(self._leaf)

    def commits_to(self, capture: bytes) -> bool:
        """Whether this is how it was taken (`captured`), as far as the leaf commits to that and its salt is there."""
        held, known = json.loads(self.secrets).get(_CAPTURE), self.public["commitments"].get(_CAPTURE)
        return held is None or commitment(from_base64(held["salt"]), capture) == known

    @property
    def view(self) -> str:
        """The public view of the event, JSON text. An erased one reads as an empty event of that time."""
        opened = json.loads(self.secrets).get("view")
        return str(opened["value"]) if opened else "{}"


def fresh_salts() -> Callable[[str], bytes]:
    """A source of salts for any thread: drawn from the system many at a time, each given out once."""
    drawn: list[bytes] = []

    def draw(_field: str) -> bytes:
        try:
            return drawn.pop()
        except IndexError:
            first, *rest = _SALTS.unpack(secrets.token_bytes(_SALTS.size))
            drawn.extend(rest)
            return bytes(first)

    return draw


def captured(by: str, recorded_ms: int, context: str) -> bytes:
    """How an event was taken, to be committed to: who sent it, when it was written down, its JSON-LD context (text)."""
    return encode({"by": by, "context": context, "recorded": recorded_ms})


def seal(
    event: Event, chain: str, salt: Callable[[str], bytes] | None = None, *, capture: bytes | None = None
) -> LeafOf:
    """Commit to an event with fresh salts, and to how it was taken (`captured`), which stands beside it in its row.

    Raises `TraceError` or `Invalid` for what cannot stand in the log.
    """
    public, uses, makes = _said(event, chain)
    _check_codes((*uses, *makes))
    draw = salt or fresh_salts()
    commitments: dict[str, str] = {}
    opened = []
    for name, written in _written(event).items():
        drawn = draw(name)
        commitments[name] = commitment(drawn, written)
        opened.append(b'"%b":{"salt":"%b","value":%b}' % (name.encode(), b2a_base64(drawn, newline=False), written))
    if capture is not None:
        drawn = draw(_CAPTURE)
        commitments[_CAPTURE] = commitment(drawn, capture)
        opened.append(b'"capture":{"salt":"%b"}' % b2a_base64(drawn, newline=False))
    secrets_text = (b"{%b}" % b",".join(opened)).decode()
    try:
        entry = entry_of(public, commitments)
    except EntryTooLarge as why:
        raise _too_large(event, len(uses) + len(makes), why) from why
    return LeafOf(entry, secrets_text, uses, makes, LeafOf.carrier_of(event))


def _too_large(event: Event, things: int, why: EntryTooLarge) -> Invalid:
    """Says it to who sends events; points at the longest of the event's lists."""
    lists = {name: len(str(value)) for name, value in event.body.items() if isinstance(value, list)}
    return Invalid(
        f"the event {str(event.id)[:120]} is too large: the names of its {things} things do not fit into one entry of "
        f"the log ({why}); split it into several events with fewer things each, a thousand usually fit",
        code=why.code,
        pointer=f"/{max(lists, key=lambda name: lists[name])}" if lists else "",
    )


def said(event: Event, chain: str) -> dict[str, Any]:
    """What stands in clear in the log about an event."""
    return _said(event, chain)[0]


def _said(event: Event, chain: str) -> tuple[dict[str, Any], tuple[str, ...], tuple[str, ...]]:
    uses, makes = flow(event)
    public = {
        "when": event.time_ms,
        "what": (event.step or event.kind).rsplit(":", 1)[-1],
        "chain": chain,
        "inputs": list(uses),
        "outputs": list(makes),
    }
    return public, uses, makes


def _check_codes(things: Iterable[str]) -> None:
    """A trade number with a wrong check digit names nothing; once in the log it would stand there for ever."""
    for thing in things:
        found = _CANONICAL(thing) or _TRADE_NUMBER.match(thing)
        if found is not None:
            _check_number(found[1])


@lru_cache(maxsize=4_096)
def _check_number(digits: str) -> None:
    gtin(digits)


def flow(event: Event) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Canonical names of what the event used up and of what left it; what is merely moved or watched leaves it.

    Raises `Invalid` for an origin that is no list of names.
    """
    makes = event.outputs if event.kind == "TransformationEvent" else event.things
    left = dict.fromkeys(map(canonical_name, makes))
    # A unit or lot that starts its life says in its master data what it was made from.
    taken = (*event.inputs, *_origin(event))
    if not taken:
        return (), tuple(left)
    return tuple(thing for thing in dict.fromkeys(map(canonical_name, taken)) if thing not in left), tuple(left)


def _origin(event: Event) -> list[str]:
    inside = event.body.get("ilmd") or {}
    named = (inside.get("tm:origin") if isinstance(inside, dict) else inside) or []
    if not isinstance(named, list) or not all(isinstance(thing, str) for thing in named):
        raise Invalid("must be a list of names of things", code="bad_origin", pointer="/ilmd/tm:origin")
    return named


def committed(event: Event) -> dict[str, Any]:
    """What the log only commits to, by field."""
    return {name: json.loads(written) for name, written in _written(event).items()}


def _written(event: Event) -> dict[str, bytes]:
    """What the log only commits to, by field, each as its canonical JSON."""
    hidden = {} if PRIVATE.isdisjoint(event.body) else {name: event.body[name] for name in PRIVATE & event.body.keys()}
    shown = {name: value for name, value in event.body.items() if name not in hidden} if hidden else event.body
    fields = {"event": encode(str(event.id)), "view": _as_text(_json(shown, ordered=True))}
    if hidden:
        fields["private"] = _as_text(_json(hidden, ordered=True))
    for name, own in (("who", "tm:signer"), ("where", "tm:village")):
        value = event.extension(own)
        if isinstance(value, dict) and isinstance(value.get("zh"), str):
            fields[name] = encode(value["zh"])
    return fields


def _as_text(written: bytes) -> bytes:
    """The JSON of a text that is itself JSON: control characters are escaped in it already."""
    return b'"%b"' % written.replace(b"\\", b"\\\\").replace(b'"', b'\\"')


def json_text(value: Any) -> str:
    """JSON without spaces. Raises `Invalid` for NaN, infinities, and half a surrogate pair."""
    return _json(value).decode()


def _json(value: Any, *, ordered: bool = False) -> bytes:
    try:
        text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS if ordered else None)
    except TypeError:
        text = b"null"  # a whole number beyond 64 bits, or half a surrogate pair: the slow writer knows what to say
    if b"null" not in text:
        return text
    # The fast writer makes null of what is no number.
    try:
        slow = json.dumps(value, ensure_ascii=False, sort_keys=ordered, separators=(",", ":"), allow_nan=False)
        return slow.encode()
    except UnicodeEncodeError as why:
        raise Invalid("text holds half a surrogate pair", code="surrogate") from why
    except ValueError as why:
        raise Invalid("NaN and infinities are no JSON numbers", code="not_a_number") from why
