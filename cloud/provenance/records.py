"""What a farmer taps on his gateway becomes an event of the chain: feeding, vaccination, medication, weighing, tags.

The record's signature was checked on arrival; here its words become EPCIS. The place is where the gateway stands, the
thing is the pen's or pond's own lot (or the animals whose tags were read), and the record's place in the gateway's
sequence goes along, so that the same record is the same event however often it comes.
"""

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from sqlalchemy import Engine

from cloud.problems import Invalid
from cloud.provenance.store import EventStore
from traceability.codes import ear_tag
from traceability.events import STEP, object_event

__all__ = ["event_of", "record_keeper"]

# Kind of record -> business step of ours.
STEPS = {
    "feeding": "feeding",
    "vaccination": "vaccinating",
    "medication": "treating",
    "weighing": "weighing",
    "tag": "tagging",
}
_LOT = "urn:tianmai:lot:"
_SITE = "urn:tianmai:place:"


def record_keeper(engine: Engine) -> Callable[[Any], None]:
    """What ingest calls with a gateway's signed record, its signature checked: durable when it returns.

    It needs the database alone, so that a process which does not own the log may take records in. The same place in a
    gateway's sequence again is absorbed.
    """
    store = EventStore(engine)

    def keep(arrival: Any) -> None:
        names = ("gateway", "epoch", "seq", "kind", "received_ms")
        row = {name: getattr(arrival, name) for name in names}
        store.keep_record(
            {**row, "when_ms": arrival.time_ms, "payload": arrival.payload.decode("utf-8"), "body": dict(arrival.body)}
        )

    return keep


def event_of(record: Mapping[str, Any], *, site: str, farm: str) -> dict[str, Any]:
    """The EPCIS event of a stored record (gateway, epoch, seq, kind, when_ms, body). `site` and `farm` may be empty.

    Raises `Invalid` for a kind nobody has words for, `TraceError` for a tag that is none.
    """
    kind, body = str(record["kind"]), record["body"]
    if kind not in STEPS:
        raise Invalid(f"a record of kind {kind[:40]!r} has no event; there are: {', '.join(STEPS)}", code="record_kind")
    gateway = str(record["gateway"])
    tags = [ear_tag(str(tag)).uri for tag in body.get("tags") or ()]
    group = quote(str(body.get("group") or "all").strip(), safe="-")
    own: dict[str, Any] = {
        "tm:record": {"gateway": gateway, "epoch": str(record["epoch"]), "seq": int(record["seq"]), "said": dict(body)},
        "tm:signer": {"kind": "device", "zh": farm or gateway, "en": gateway},
    }
    if kind == "medication":
        own["tm:treatment"] = {"substance": str(body.get("drug", "")), "dose": str(body.get("dose", ""))}
    lots = None if tags else {f"{_LOT}{gateway}-{group}": _amount(kind, body)}
    return object_event(
        "OBSERVE",
        STEP + STEPS[kind],
        int(record["when_ms"]),
        epcs=tags,
        lots=lots,
        place=site or _SITE + gateway,
        **own,
    )


def _amount(kind: str, body: Mapping[str, Any]) -> tuple[int | float, str | None]:
    """How much of the group: its mass where it was weighed, else its heads, else one group."""
    mass, heads = body.get("kg"), body.get("animals")
    if kind == "weighing" and isinstance(mass, int | float):
        return mass, "KGM"
    return (heads if isinstance(heads, int) and heads > 0 else 1), None
