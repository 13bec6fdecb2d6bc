"""The policy: whom the reader trusts, in a file that the reader holds.

    format = "tianmai-policy@1"
    quorum = 1                                     # cosignatures a checkpoint needs, of the witnesses below

    [[logs]]                                       # a log may have several keys over time, and a log a year (`shards`)
    origin = "trace.example/2026"
    vkey = "trace.example/2026+1a2b3c4d+AY..."
    from = 2026-01-01T00:00:00+08:00               # optional; ms since 1970, or a time with its zone
    until = 2027-01-31T00:00:00+08:00              # optional; from then on the key counts no more

    [[witnesses]]
    vkey = "bureau.example/witness+5e6f7a8b+BO..."   # `from` and `until` as above

TOML, or the same as JSON. A key that was withdrawn stays in the file with its `until`: what it signed before, as its
witnesses date it, remains good. Nothing that is being checked can add to a policy.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Self

from traceability import TraceError
from traceability.canon import LARGEST_INT, NotCanonical, decode, encode
from traceability.keys import BadKey, BadSignature, KeyKind, VerifierKey
from traceability.notes import Checkpoint, Note

FORMAT: Final = "tianmai-policy@1"
FUTURE_MS: Final = 300_000  # clocks of two honest machines differ by less


class BadPolicy(TraceError):
    """The policy file is not one."""

    default_code = "bad_policy"


class NotTrusted(TraceError):
    """By this policy the checkpoint proves nothing."""

    default_code = "not_trusted"


@dataclass(frozen=True)
class Trusted:
    """A key with the time it counts for: ``[from_ms, until_ms)``, ms UTC; None is open."""

    key: VerifierKey
    from_ms: int | None = None
    until_ms: int | None = None

    def counts_at(self, time_ms: int) -> bool:
        """Whether the key is trusted for a signature of that time."""
        return (self.from_ms is None or self.from_ms <= time_ms) and (self.until_ms is None or time_ms < self.until_ms)


@dataclass(frozen=True)
class TrustedLog:
    """A key that may speak for the log with this origin."""

    origin: str
    trusted: Trusted


@dataclass(frozen=True)
class Accepted:
    """A checkpoint that the policy trusts, and who says so."""

    checkpoint: Checkpoint
    log: VerifierKey
    witnesses: tuple[tuple[str, int], ...]  # name, time stated (ms UTC), oldest first

    @property
    def seen_ms(self) -> int | None:
        """Time by which a first witness had seen it; None without witnesses."""
        return self.witnesses[0][1] if self.witnesses else None


@dataclass(frozen=True)
class Policy:
    """Logs, witnesses, and how many of these a checkpoint needs."""

    logs: tuple[TrustedLog, ...]
    witnesses: tuple[Trusted, ...] = ()
    quorum: int = 0

    def __post_init__(self) -> None:
        if not self.logs:
            raise BadPolicy("no log in the policy")
        if not 0 <= self.quorum <= len(self.witnesses):
            raise BadPolicy(f"quorum {self.quorum} of {len(self.witnesses)} witnesses")
        for log in self.logs:
            _must_be(log.trusted.key, KeyKind.NOTE, "a log's key")
        for witness in self.witnesses:
            _must_be(witness.key, KeyKind.COSIGNATURE, "a witness's key")
        spoken = [(log.origin, log.trusted.key.public) for log in self.logs]  # one key may speak for several logs
        votes = [*{key for _, key in spoken}, *(witness.key.public for witness in self.witnesses)]
        if len(set(spoken)) != len(spoken) or len(set(votes)) != len(votes):
            raise BadPolicy("one key stands twice: each vote needs its own")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Policy of a file; raises `BadPolicy` naming the file."""
        try:
            data = path.read_bytes()
        except OSError as why:
            raise BadPolicy(f"cannot read the policy {path}: {why.strerror}") from why
        try:
            return cls.parse(data)
        except BadPolicy as why:
            raise BadPolicy(f"{path}: {why}") from why

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Policy of TOML or JSON text."""
        try:
            if data.lstrip()[:1] == b"{":
                table: object = decode(data)
            else:
                table = tomllib.loads(data.decode())
        except (NotCanonical, ValueError, RecursionError) as why:  # the TOML reader has its own, and Python's limits
            raise BadPolicy(f"neither JSON nor TOML: {why}") from why
        fields = _fields(table, {"format", "logs"}, {"witnesses", "quorum"}, "policy")
        if fields["format"] != FORMAT:
            raise BadPolicy(f"format {fields['format']!r} instead of {FORMAT!r}")
        quorum = fields.get("quorum", 0)
        if not isinstance(quorum, int) or isinstance(quorum, bool):
            raise BadPolicy("quorum is not a number")
        return cls(
            tuple(_log(item, n) for n, item in enumerate(_items(fields["logs"], "logs"))),
            tuple(_witness(item, n) for n, item in enumerate(_items(fields.get("witnesses", []), "witnesses"))),
            quorum,
        )

    def to_json(self) -> bytes:
        """The policy as canonical JSON, to be published."""
        logs = [{"origin": log.origin, **_table(log.trusted)} for log in self.logs]
        witnesses = [_table(witness) for witness in self.witnesses]
        return encode({"format": FORMAT, "logs": logs, "witnesses": witnesses, "quorum": self.quorum})

    def accept(self, note: Note, *, now_ms: int, every_line: bool = False) -> Accepted:
        """The checkpoint in `note`, if a log of the policy signed it and the quorum of witnesses saw it.

        `every_line` also refuses a line by a key outside the policy, and a log's signature that is not the first line
        (for packs, where no byte may be without meaning). Raises `NotTrusted`, `BadSignature` or `BadNote`.
        """
        checkpoint = Checkpoint.parse(note.text)
        logs = [log.trusted for log in self.logs if log.origin == checkpoint.origin]
        if not logs:
            raise NotTrusted(f"log {checkpoint.origin!r} is not in the policy")
        trusted = {item.key: item for item in (*logs, *self.witnesses)}
        signed = note.signed_by(trusted)
        if every_line:
            _only_known(note, signed, logs)
        seen = {key: seconds * 1000 for key, seconds in signed.items() if seconds is not None}
        if any(time > now_ms + FUTURE_MS for time in seen.values()):
            raise NotTrusted("a witness dates the checkpoint in the future")
        counted = {key: time for key, time in seen.items() if trusted[key].counts_at(time)}
        if len(counted) < self.quorum:
            raise NotTrusted(f"{len(counted)} witnesses of the policy cosigned, {self.quorum} are needed")
        log = _speaker(logs, signed, list(counted.values()) or [now_ms])
        witnesses = sorted(((key.name, time) for key, time in counted.items()), key=lambda item: (item[1], item[0]))
        return Accepted(checkpoint, log, tuple(witnesses))


def _only_known(note: Note, signed: Mapping[VerifierKey, int | None], logs: list[Trusted]) -> None:
    for line in note.signatures:
        if not any(line.is_by(key) for key in signed):
            raise BadSignature(f"a signature by {line.name}, a key outside the policy")
    if not any(note.signatures[0].is_by(log.key) for log in logs):
        raise BadSignature("the first signature is not the log's")


def _speaker(logs: list[Trusted], signed: Mapping[VerifierKey, int | None], times_ms: list[int]) -> VerifierKey:
    speaking = [log for log in logs if log.key in signed]
    if not speaking:
        raise NotTrusted("no key of the log signed the checkpoint")
    for log in speaking:
        if all(log.counts_at(time) for time in times_ms):
            return log.key
    raise NotTrusted(f"the log's key {speaking[0].key.name} is not valid at the time of the checkpoint")


def _log(item: object, number: int) -> TrustedLog:
    where = f"logs[{number}]"
    fields = _fields(item, {"origin", "vkey"}, {"from", "until"}, where)
    origin = fields["origin"]
    if not isinstance(origin, str) or not origin:
        raise BadPolicy(f"{where}: origin is not text")
    return TrustedLog(origin, _trusted(fields, where))


def _witness(item: object, number: int) -> Trusted:
    where = f"witnesses[{number}]"
    return _trusted(_fields(item, {"vkey"}, {"from", "until"}, where), where)


def _trusted(fields: Mapping[str, object], where: str) -> Trusted:
    try:
        key = VerifierKey.parse(str(fields["vkey"]))
    except BadKey as why:
        raise BadPolicy(f"{where}: {why}") from why
    return Trusted(key, _time(fields.get("from"), where), _time(fields.get("until"), where))


def _time(value: object, where: str) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    try:
        time = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        if time.tzinfo is None:
            raise BadPolicy(f"{where}: the time {value} lacks its zone")
        return int(time.timestamp() * 1000)
    except (ValueError, OverflowError) as why:
        raise BadPolicy(f"{where}: {str(value)[:40]!r} is not a time") from why


def _table(trusted: Trusted) -> dict[str, object]:
    times = {"from": trusted.from_ms, "until": trusted.until_ms}
    return {"vkey": trusted.key.vkey, **{name: time for name, time in times.items() if time is not None}}


def _must_be(key: VerifierKey, kind: KeyKind, what: str) -> None:
    if key.kind is not kind:
        raise BadPolicy(f"{key.name}: {what} has type byte {int(kind)}, not {int(key.kind)}")


def _items(value: object, where: str) -> list[object]:
    if not isinstance(value, list):
        raise BadPolicy(f"{where} is not a list")
    return value


def _fields(value: object, needed: set[str], allowed: set[str], where: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise BadPolicy(f"{where} is not a table")
    if any(isinstance(item, int) and abs(item) > LARGEST_INT for item in value.values()):
        raise BadPolicy(f"{where}: a number beyond 2^53")
    if missing := needed - value.keys():
        raise BadPolicy(f"{where}: {', '.join(sorted(missing))} missing")
    if unknown := value.keys() - needed - allowed:
        raise BadPolicy(f"{where}: unknown {', '.join(sorted(unknown))}")
    return value
