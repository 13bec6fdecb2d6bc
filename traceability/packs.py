r"""The proof pack: everything needed to check one code offline, in one small file.

File
    Canonical JSON (`canon.encode`) in which every "<" is written `\u003c`, so that the text may stand inside an HTML
    page: JavaScript's twin is JSON.stringify of sorted objects, then .replace(/</g, "\\u003c"). A file that is not
    byte-equal to its own re-encoding is refused; unknown or missing keys are refused; at most 1 MiB and 500 events.

    {"checkpoint": "<signed note>", "events": [EVENT, ...], "format": "tianmai-pack@1", "subject": "<Digital Link URI>"}
    EVENT = {"disclosed": {"field": {"salt": "<b64 of 16 bytes>", "value": JSON}, ...},
             "index": n, "leaf": LEAF, "proof": ["<b64 of 32 bytes>", ...]}
    LEAF  = {"format": "tianmai-leaf@1", "when": <int, ms UTC of the event>, "what": "<business step, short CBV word>",
             "inputs": ["<identifier>", ...], "outputs": ["<identifier>", ...],
             "commitments": {"field": "<b64 of SHA-256(salt || canonical JSON of the value)>", ...},
             ... further public fields, any JSON without fractions ...}
    Field names are [a-z][a-z0-9_]{0,47}. Base64 is the standard alphabet, padded, canonical. The leaf's entry in the
    log is the plain canonical JSON of LEAF (there "<" stays "<"); its leaf hash is SHA-256(0x00 || entry), RFC 6962.

    `inputs` are the things an event used up or looked at, `outputs` the things that left it (what is merely moved,
    watched or packed stands in `outputs`). Well-known further names, public or disclosed: `who`, `where`, `lot`,
    `product`, `quantity`, `event` (the EPCIS event id). Names of people, phones, exact places, and hashes that
    could be guessed back to them (an EPCIS event hash can be) belong into commitments.

    Where the events lie in several logs (a log has a shard a year, see `shards`) the pack has the second form: format
    "tianmai-pack@2", "checkpoints": ["<signed note>", ...] instead of "checkpoint", two or more, each of a log of its
    own and with an event under it; and each EVENT has "log": n besides, the number of its checkpoint from 0. `index`
    and `proof` are those within that log.

What must hold (in this order; the first failure is reported with the event's number, counted from 1)
    1. The file is in the form above.
    2. Each checkpoint is a signed note: text of exactly three lines (origin, decimal size, b64 root), a blank line,
       then signature lines. The first is the log's, the rest are cosignatures by distinct witnesses; EVERY line must be
       by a key of the policy and verify (a line nobody can check would be a byte without meaning). At least `quorum`
       witnesses. Ed25519 by the strict rule of `keys.verify_ed25519`; type byte 1 = signature over the text, type
       byte 4 = cosignature/v1: 8 bytes of seconds, big endian, then a signature over
       "cosignature/v1\ntime <seconds>\n" + text.
    3. The log's key is valid at the times its witnesses state (without witnesses: now); no time lies in the future.
    4. Every event's leaf is in the tree of the checkpoint at `index` (RFC 6962 inclusion proof).
    5. Every disclosed field opens its commitment; it is not also a public field.
    6. Events stand in ascending order of (`when`, `log`, `index`), each entry of a log once.
    7. The last event's `outputs` contain `subject`; and walking from the last event to the first, the `outputs` of each
       meet the set of things already reached ({subject} plus inputs and outputs of the later events): no event of
       another animal's life can be slipped in.

So nothing in a pack lies outside the hash, and any one changed byte makes it fail.
"""

import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from hashlib import sha256
from itertools import pairwise
from typing import Final, NamedTuple, Self, cast

from traceability import TraceError
from traceability.canon import Json, decode, encode, encode_checked, from_base64, to_base64
from traceability.merkle import HASH_BYTES, BadProof, leaf_hash, verify_inclusion
from traceability.notes import Checkpoint, Note
from traceability.policy import Accepted, Policy

PACK_FORMAT: Final = "tianmai-pack@1"
SEVERAL_FORMAT: Final = "tianmai-pack@2"  # events of several logs
LEAF_FORMAT: Final = "tianmai-leaf@1"
SALT_BYTES: Final = 16
MAX_PACK_BYTES: Final = 1024 * 1024
MAX_EVENTS: Final = 500
MAX_ENTRY_BYTES: Final = 65_535  # C2SP tlog-tiles: an entry's length is two bytes
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,47}")
_TEXT: Final = frozenset({str})
_OWN_FIELDS: Final = frozenset({"format", "when", "what", "inputs", "outputs", "commitments"})

Salts = Callable[[str], bytes]
"""The salt of a field: 16 bytes that nobody can guess, for a field's name."""

Prove = Callable[[int, int], Sequence[bytes]]
"""Inclusion proof of entry `index` in the tree of `size`."""


class BadPack(TraceError):
    """The pack proves nothing; `event` is the number of the failing event (from 1), None if it is the pack itself."""

    default_code = "bad_pack"

    def __init__(self, message: str, *, event: int | None = None) -> None:
        super().__init__(message if event is None else f"event {event}: {message}")
        self.event = event


class EntryTooLarge(BadPack):
    """What stands in clear about an event is more than one entry of the log can hold."""

    default_code = "event_too_large"


class Opening(NamedTuple):
    """What opens a commitment: delete it, and the value is gone while every proof still holds."""

    salt: bytes
    value: Json


@dataclass(frozen=True)
class Leaf:
    """One log entry and what opens its private fields (all of them, some, or none)."""

    entry: bytes
    openings: Mapping[str, Opening] = field(default_factory=dict)

    @cached_property
    def fields(self) -> dict[str, Json]:
        """The public content, `commitments` included."""
        return cast("dict[str, Json]", decode(self.entry))

    def showing(self, names: Iterable[str]) -> "Leaf":
        """The same leaf with only these private fields open."""
        return Leaf(self.entry, {name: self.openings[name] for name in names if name in self.openings})


@dataclass(frozen=True)
class PackEvent:
    """One event of a pack: its leaf, what of it is shown, and where it stands under which checkpoint."""

    leaf: Leaf
    index: int
    proof: tuple[bytes, ...]
    log: int = 0


@dataclass(frozen=True)
class ProvenEvent:
    """What a verified event says; `public` and `disclosed` are as entered, `withheld` names what is not shown.

    It is entry `index` of the log `origin`.
    """

    number: int
    origin: str
    index: int
    when_ms: int
    what: str
    public: Mapping[str, Json]
    disclosed: Mapping[str, Json]
    withheld: tuple[str, ...]

    def get(self, name: str) -> Json:
        """A field by its name, public or disclosed; None if it is not shown."""
        return self.public.get(name, self.disclosed.get(name))


@dataclass(frozen=True)
class Proven:
    """A verified pack; `heads` are its checkpoints, accepted."""

    subject: str
    heads: tuple[Accepted, ...]
    events: tuple[ProvenEvent, ...]


def commit(
    fields_public: Mapping[str, object], fields_private: Mapping[str, object], *, salt: Salts | None = None
) -> Leaf:
    """Seal one event: the public fields stand in the entry, the private ones as salted commitments.

    `fields_public` needs `when` (ms UTC), `what`, `inputs`, `outputs` (the module says what they mean); `format` and
    `commitments` are added. `salt` defaults to fresh random ones: keep the result, a second call gives another leaf.
    Raises `BadPack` for a bad name or type, `NotCanonical` for a value without a canonical form.
    """
    draw = salt or (lambda _: secrets.token_bytes(SALT_BYTES))
    openings = {name: Opening(draw(name), cast("Json", value)) for name, value in fields_private.items()}
    return Leaf(entry_of(fields_public, {name: _commitment(opening) for name, opening in openings.items()}), openings)


def commitment(salt: bytes, written: bytes) -> str:
    """What stands in an entry for a private value; `written` is the value's canonical JSON. Raises `BadPack`."""
    if len(salt) != SALT_BYTES:
        raise BadPack(f"a salt of {len(salt)} bytes instead of {SALT_BYTES}")
    return to_base64(sha256(salt + written).digest())


def entry_of(fields_public: Mapping[str, object], commitments: Mapping[str, str]) -> bytes:
    """The entry of an event whose private fields are committed to already; raises as `commit` does."""
    fields = cast("dict[str, Json]", {**fields_public, "format": LEAF_FORMAT, "commitments": commitments})
    _check_names(fields)
    # Its own fields are of the right kinds now, and every name is ASCII: for most events there is nothing else.
    others = [value for name, value in fields.items() if name not in _OWN_FIELDS]
    plain = set(map(type, (*others, *commitments.values()))) <= _TEXT
    entry = encode_checked(fields) if plain else encode(fields)
    if len(entry) > MAX_ENTRY_BYTES:
        raise EntryTooLarge(f"a log entry of {len(entry)} bytes; {MAX_ENTRY_BYTES} are allowed")
    return entry


def assemble(subject: str, items: Iterable[tuple[Leaf, int]], *, checkpoint: str, prove: Prove) -> "Pack":
    """The pack of one thing: leaves with their places in the log, one checkpoint (note text), proofs by `prove`."""
    size = int(checkpoint.split("\n", 2)[1])
    events = [PackEvent(leaf, index, tuple(prove(index, size))) for leaf, index in items]
    return Pack(subject, tuple(sorted(events, key=_order)), (checkpoint,))


def together(packs: Sequence["Pack"]) -> "Pack":
    """One pack of the packs of one subject, each under a log of its own, in the order of the logs."""
    events = [replace(event, log=number) for number, pack in enumerate(packs) for event in pack.events]
    checkpoints = tuple(checkpoint for pack in packs for checkpoint in pack.checkpoints)
    return Pack(packs[0].subject, tuple(sorted(events, key=_order)), checkpoints)


@dataclass(frozen=True)
class Pack:
    """A subject, its events in order of time, and the checkpoints they are under: one of each log."""

    subject: str
    events: tuple[PackEvent, ...]
    checkpoints: tuple[str, ...]

    def encode(self) -> bytes:
        """The file: of the first form if one checkpoint will do."""
        if len(self.checkpoints) == 1:
            form: dict[str, object] = {"format": PACK_FORMAT, "checkpoint": self.checkpoints[0]}
            events = [_event_table(event) for event in self.events]
        else:
            form = {"format": SEVERAL_FORMAT, "checkpoints": list(self.checkpoints)}
            events = [_event_table(event) | {"log": event.log} for event in self.events]
        return _file_form({**form, "subject": self.subject, "events": events})

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Pack of a file's bytes, in exactly the form that `encode` writes; raises `BadPack`."""
        try:
            table = decode(data, max_bytes=MAX_PACK_BYTES)
        except TraceError as why:
            raise BadPack(str(why)) from why
        if _file_form(table) != data:
            raise BadPack("the file is not in its canonical form")
        several = isinstance(table, dict) and table.get("format") == SEVERAL_FORMAT
        fields = _exactly(table, {"format", "subject", "checkpoints" if several else "checkpoint", "events"}, None)
        subject, events = fields["subject"], fields["events"]
        if not several and fields["format"] != PACK_FORMAT:
            raise BadPack(f"format {str(fields['format'])[:40]!r} instead of {PACK_FORMAT!r}")
        checkpoints = fields["checkpoints"] if several else [fields["checkpoint"]]
        if not isinstance(subject, str) or not isinstance(events, list):
            raise BadPack("subject is text, events a list")
        if not isinstance(checkpoints, list) or not all(isinstance(each, str) for each in checkpoints):
            raise BadPack("a checkpoint is text")
        if not 1 <= len(events) <= MAX_EVENTS:
            raise BadPack(f"{len(events)} events; 1 to {MAX_EVENTS} are allowed")
        found = tuple(_event(item, number, several=several) for number, item in enumerate(events, 1))
        _check_logs(found, len(checkpoints), several=several)
        return cls(subject, found, tuple(cast("list[str]", checkpoints)))

    def verify(self, policy: Policy, *, now_ms: int) -> Proven:
        """What the pack proves to a reader with this policy; raises `BadPack` for the first thing that fails."""
        heads: list[Accepted] = []
        for number, checkpoint in enumerate(self.checkpoints, 1):
            named = "checkpoint" if len(self.checkpoints) == 1 else f"checkpoint {number}"
            heads.append(_head(checkpoint, policy, now_ms, named))
            if any(heads[-1].checkpoint.origin == before.checkpoint.origin for before in heads[:-1]):
                raise BadPack(f"{named}: a second one of the log {heads[-1].checkpoint.origin!r}")
        for number, event in enumerate(self.events, 1):
            _verify_event(event, number, heads[event.log].checkpoint)
        _verify_order(self.events)
        _verify_links(self.subject, self.events)
        origins = [head.checkpoint.origin for head in heads]
        proven = tuple(_proven(event, number, origins) for number, event in enumerate(self.events, 1))
        return Proven(self.subject, tuple(heads), proven)


def _head(checkpoint: str, policy: Policy, now_ms: int, named: str) -> Accepted:
    try:
        accepted = policy.accept(Note.parse(checkpoint), now_ms=now_ms, every_line=True)
    except TraceError as why:
        raise BadPack(f"{named}: {why}") from why
    if accepted.checkpoint.extensions:
        raise BadPack(f"{named}: more than three lines")
    return accepted


def _check_logs(events: Sequence[PackEvent], logs: int, *, several: bool) -> None:
    """Every event has its checkpoint and every checkpoint an event; one alone belongs into a pack of the first form."""
    if several and logs == 1:
        raise BadPack(f"one checkpoint; the form {SEVERAL_FORMAT!r} is for two or more")
    for number, event in enumerate(events, 1):
        if event.log >= logs:
            raise BadPack(f"the checkpoint of its log {event.log} is missing", event=number)
    if unused := set(range(logs)) - {event.log for event in events}:
        raise BadPack(f"checkpoint {min(unused) + 1}: no event stands under it")


def _verify_event(event: PackEvent, number: int, checkpoint: Checkpoint) -> None:
    try:
        verify_inclusion(leaf_hash(event.leaf.entry), event.index, checkpoint.size, event.proof, checkpoint.root)
        check_openings(event.leaf)
    except (BadProof, BadPack) as why:
        raise BadPack(str(why), event=number) from why


def _verify_order(events: Sequence[PackEvent]) -> None:
    for number, (before, after) in enumerate(pairwise(events), 2):
        if _order(before) >= _order(after):
            raise BadPack("not after the event before it", event=number)
    if len({(event.log, event.index) for event in events}) != len(events):
        raise BadPack("one log entry stands in two places")


def _verify_links(subject: str, events: Sequence[PackEvent]) -> None:
    reached = {subject}
    for number in range(len(events), 0, -1):
        fields = events[number - 1].leaf.fields
        outputs = set(_texts(fields["outputs"]))
        if not outputs & reached:
            told = f"the last event is not about {subject}" if number == len(events) else "not about this thing"
            raise BadPack(told, event=number)
        reached |= outputs | set(_texts(fields["inputs"]))


def _order(event: PackEvent) -> tuple[int, int, int]:
    return cast("int", event.leaf.fields["when"]), event.log, event.index


def _proven(event: PackEvent, number: int, origins: Sequence[str]) -> ProvenEvent:
    fields = event.leaf.fields
    disclosed = {name: opening.value for name, opening in sorted(event.leaf.openings.items())}
    withheld = tuple(sorted(cast("dict[str, Json]", fields["commitments"]).keys() - disclosed.keys()))
    public = {name: value for name, value in fields.items() if name not in {"format", "commitments"}}
    when, what = cast("int", fields["when"]), cast("str", fields["what"])
    return ProvenEvent(number, origins[event.log], event.index, when, what, public, disclosed, withheld)


def _commitment(opening: Opening) -> str:
    return commitment(opening.salt, encode(opening.value))


def check_openings(leaf: Leaf) -> None:
    """Raises `BadPack` for a private field that does not open its commitment."""
    fields = leaf.fields
    commitments = cast("dict[str, Json]", fields["commitments"])
    for name, opening in leaf.openings.items():
        if commitments.get(name) != _commitment(opening):
            raise BadPack(f"field {name!r} is not what was committed to")


def is_leaf(entry: bytes) -> bool:
    """Whether a log entry claims to be a leaf; key lists and heads of other logs stand in a log too."""
    return entry.startswith(b"{") and f'"format":"{LEAF_FORMAT}"'.encode() in entry


@lru_cache(maxsize=1_024)
def _bad_name(names: tuple[str, ...]) -> str | None:
    """The first that cannot be a field's name; the fields of most events have the same few names."""
    return next((name for name in names if _NAME.fullmatch(name) is None), None)


def _check_leaf(fields: Mapping[str, Json]) -> None:
    commitments = _check_names(fields)
    for name, value in commitments.items():
        if not isinstance(value, str) or len(from_base64(value)) != HASH_BYTES:
            raise BadPack(f"the commitment of {name!r} is not a hash")


def _check_names(fields: Mapping[str, Json]) -> Mapping[str, Json]:
    if not fields.keys() >= _OWN_FIELDS:
        missing = sorted(_OWN_FIELDS - fields.keys())
        raise BadPack(f"the leaf lacks {', '.join(missing)}")
    commitments, when = fields["commitments"], fields["when"]
    if fields["format"] != LEAF_FORMAT or not isinstance(commitments, dict):
        raise BadPack(f"the leaf is not of format {LEAF_FORMAT!r}")
    if type(when) is not int or type(fields["what"]) is not str:
        raise BadPack("'when' is ms since 1970, 'what' is text")
    if not _texts(fields["outputs"]) or _texts(fields["inputs"]) is None:
        raise BadPack("'inputs' and 'outputs' are lists of texts, and something leaves every event")
    if not fields.keys().isdisjoint(commitments):
        raise BadPack(f"field {min(fields.keys() & commitments.keys())!r} is both public and private")
    if (wrong := _bad_name((*fields, *commitments))) is not None:
        raise BadPack(f"field name {wrong[:60]!r}")
    return commitments


def _texts(value: Json) -> list[str]:
    if isinstance(value, list | tuple) and set(map(type, value)) <= _TEXT and "" not in value:
        return cast("list[str]", value)
    raise BadPack("a list of texts is expected")


def _event_table(event: PackEvent) -> dict[str, object]:
    return {
        "leaf": event.leaf.fields,
        "disclosed": {
            name: {"salt": to_base64(opening.salt), "value": opening.value}
            for name, opening in event.leaf.openings.items()
        },
        "index": event.index,
        "proof": [to_base64(item) for item in event.proof],
    }


def _event(item: Json, number: int, *, several: bool) -> PackEvent:
    names = {"leaf", "disclosed", "index", "proof"}
    fields = _exactly(item, names | {"log"} if several else names, number)
    leaf, disclosed, index, proof = (fields[name] for name in ("leaf", "disclosed", "index", "proof"))
    if not isinstance(leaf, dict) or not isinstance(disclosed, dict) or not isinstance(proof, list):
        raise BadPack("leaf and disclosed are objects, proof is a list", event=number)
    log = fields.get("log", 0)
    for name, value in (("index", index), ("log", log)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise BadPack(f"{name} is not a count", event=number)
    try:
        _check_leaf(leaf)
        openings = {name: _opening(value) for name, value in disclosed.items()}
        hashes = tuple(from_base64(text) for text in (_texts(proof) if proof else []))
    except TraceError as why:
        raise BadPack(str(why), event=number) from why
    if any(len(each) != HASH_BYTES for each in hashes):
        raise BadPack("a hash of the proof is not 32 bytes long", event=number)
    return PackEvent(Leaf(encode(leaf), openings), cast("int", index), hashes, cast("int", log))


def _opening(item: Json) -> Opening:
    fields = _exactly(item, {"salt", "value"}, None)
    if not isinstance(fields["salt"], str):
        raise BadPack("a salt is base64 text")
    return Opening(from_base64(fields["salt"]), fields["value"])


def _exactly(value: Json, names: set[str], event: int | None) -> dict[str, Json]:
    if not isinstance(value, dict) or value.keys() != names:
        raise BadPack(f"an object with exactly {', '.join(sorted(names))} is expected", event=event)
    return value


def _file_form(table: object) -> bytes:
    return encode(table).replace(b"<", b"\\u003c")  # "<" occurs in texts only: the file may stand inside an HTML page
