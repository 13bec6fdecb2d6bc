"""From an event to its line in the log: what stands there in clear, and what only as a salted commitment.

In clear stand the time, the business step, the chain and the things; whatever a person could be known by is committed.
Two views of the event are committed whole, as JSON text (events carry fractions, which the log's own JSON refuses): the
public one, which a consumer's pack discloses, and the private rest, which it does not. Deleting a salt and its value
erases them; every proof still holds.
"""

import json
from dataclasses import dataclass
from typing import Any

from traceability.canon import from_base64, to_base64
from traceability.epc_uris import canonical_name
from traceability.events import Event
from traceability.packs import Leaf, Opening, commit

__all__ = ["LeafOf", "flow", "seal"]

# Own extension fields that name people or exact places: never shown to a consumer.
PRIVATE = frozenset({"tm:person", "tm:holder", "tm:contact", "tm:exactPlace", "tm:credential"})
SHOWN = ("event", "view", "who", "where")
_CARRIERS = frozenset({"AggregationEvent", "AssociationEvent"})


@dataclass(frozen=True, slots=True)
class LeafOf:
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

    @property
    def shown(self) -> Leaf:
        """The leaf with exactly the fields open that a consumer may see, as far as they have not been erased."""
        openings = {
            name: Opening(from_base64(item["salt"]), item["value"]) for name, item in json.loads(self.secrets).items()
        }
        return Leaf(self.entry, openings).showing(SHOWN)

    @property
    def view(self) -> str:
        """The public view of the event, JSON text. An erased one reads as an empty event of that time."""
        opened = json.loads(self.secrets).get("view")
        return str(opened["value"]) if opened else "{}"


def seal(event: Event, chain: str) -> LeafOf:
    """Commit to an event with fresh salts. Raises `TraceError` for what cannot stand in the log."""
    uses, makes = flow(event)
    public = {
        "when": event.time_ms,
        "what": (event.step or event.kind).rsplit(":", 1)[-1],
        "chain": chain,
        "inputs": list(uses),
        "outputs": list(makes),
    }
    leaf = commit(public, _committed(event))
    opened = {
        name: {"salt": to_base64(opening.salt), "value": opening.value} for name, opening in leaf.openings.items()
    }
    carrier = canonical_name(event.parent) if event.parent and event.kind in _CARRIERS else None
    return LeafOf(leaf.entry, json.dumps(opened, ensure_ascii=False), uses, makes, carrier)


def flow(event: Event) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Canonical names of what the event used up and of what left it; what is merely moved or watched leaves it."""
    makes = event.outputs if event.kind == "TransformationEvent" else event.things
    # A unit or lot that starts its life says in its master data what it was made from.
    origin = tuple(str(thing) for thing in (event.body.get("ilmd") or {}).get("tm:origin") or ())
    left = tuple(dict.fromkeys(map(canonical_name, makes)))
    return tuple(
        thing for thing in dict.fromkeys(map(canonical_name, (*event.inputs, *origin))) if thing not in left
    ), left


def _committed(event: Event) -> dict[str, Any]:
    shown = {name: value for name, value in event.body.items() if name not in PRIVATE}
    hidden = {name: value for name, value in event.body.items() if name in PRIVATE}
    fields: dict[str, Any] = {"event": str(event.id), "view": _text(shown)}
    if hidden:
        fields["private"] = _text(hidden)
    for name, own in (("who", "tm:signer"), ("where", "tm:village")):
        value = event.extension(own)
        if isinstance(value, dict) and isinstance(value.get("zh"), str):
            fields[name] = value["zh"]
    return fields


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
