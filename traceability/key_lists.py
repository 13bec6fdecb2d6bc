"""Changing the log's key: the list of its keys is itself an entry of the log, signed by a key that was trusted before.

The keys are those of all its years (`shards`): one list, in the year's log in which it was announced, speaks for each.

A log announces its next key while the old one still signs, well before the change; whoever follows the log finds the
list and makes a new policy of the old one. There is no time at which two keys must sign one head: a reader who
followed knows both with their times, one who did not can still follow later, because the list is signed by the key
he has.

An entry is a signed note:

    tianmai-keys@1
    trace.example/log                                    the log's name, which is the origin of its first shard
    <vkey> <from, ms UTC, or -> <until, ms UTC, or ->    one line a key
    (empty line, signature lines: one of a key known before, and one of every key that is new)
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from traceability import TraceError
from traceability.keys import KeyKind, SigningKey, VerifierKey
from traceability.monitor import Monitor, Read, entries_of
from traceability.notes import Checkpoint, Note
from traceability.policy import Policy, Trusted, TrustedLog
from traceability.shard_monitor import Shown, check_joint, checkpoint_of, last_head, shown_shards
from traceability.shards import shard_name
from traceability.stores import MemoryHead

TITLE: Final = "tianmai-keys@1"
_LINE: Final = re.compile(r"(\S+) (-|[0-9]{1,16}) (-|[0-9]{1,16})")


class BadKeyList(TraceError):
    """A key list that must not be followed."""

    default_code = "bad_key_list"


def key_list(origin: str, keys: Sequence[Trusted], signers: Sequence[SigningKey]) -> bytes:
    """The entry that announces which keys speak for `origin`, and when; an old key and each new one must sign it."""
    lines = [f"{item.key.vkey} {_shown(item.from_ms)} {_shown(item.until_ms)}" for item in keys]
    note = Note("\n".join([TITLE, origin, *lines, ""]), ())
    for signer in signers:
        note = note.with_signature(signer)
    return note.whole.encode()


def is_key_list(entry: bytes) -> bool:
    """Whether a log entry claims to be a key list."""
    return entry.startswith(f"{TITLE}\n".encode())


def listed_keys(entry: bytes) -> tuple[str, tuple[Trusted, ...]]:
    """Origin and keys of a list, its signatures not verified: for who wrote it. Raises `BadKeyList`."""
    _, origin, listed = _read(entry)
    return origin, tuple(listed)


def _read(entry: bytes) -> tuple[Note, str, list[Trusted]]:
    try:
        note = Note.parse(entry.decode())
    except (TraceError, UnicodeDecodeError) as why:
        raise BadKeyList(f"not a signed list: {why}") from why
    title, *rest = note.text.removesuffix("\n").split("\n")
    if title != TITLE or len(rest) < len(("origin", "a key")):
        raise BadKeyList(f"not a list of the form {TITLE}")
    origin, *lines = rest
    return note, origin, [_parse(line) for line in lines]


def follow(policy: Policy, entry: bytes) -> Policy:
    """The policy with the keys of a list; the caller has seen the entry in the log (a proof, or a monitor's reading).

    A key the policy has may get a new time, a new one is added, for every shard that the policy names; keys of other
    logs, witnesses and quorum stay. Raises `BadKeyList` if no key trusted for that log signed the list, or a new key
    did not sign it itself.
    """
    note, origin, listed = _read(entry)
    shards = dict.fromkeys(log.origin for log in policy.logs if shard_name(log.origin, origin) is not None)
    known = {log.trusted.key for log in policy.logs if log.origin in shards}
    named = {item.key for item in listed}
    try:
        signed = note.signed_by(known | named).keys()
    except TraceError as why:
        raise BadKeyList(str(why)) from why
    if not signed & known:
        raise BadKeyList(f"no key that is trusted for {origin} signed the list")
    if unproven := named - known - signed:
        raise BadKeyList(f"the new key {min(key.name for key in unproven)} did not sign the list itself")
    kept = tuple(log for log in policy.logs if log.origin not in shards or log.trusted.key not in named)
    return replace(policy, logs=(*kept, *(TrustedLog(shard, item) for shard in shards for item in listed)))


def follow_log(policy: Policy, read: Read, *, now_ms: int) -> tuple[Policy, tuple[str, ...]]:
    """The policy that a whole log leads to, with every shard it has now, and what was found but not followed.

    Every list counts that is signed by a key trusted so far; the head over all entries must be signed by a key that is
    trusted in the end. A shard that the policy does not name is trusted by the keys of the one before it if its first
    entry holds that one's last head. Raises what `YearlyMonitor.step` raises.
    """
    refused: list[str] = []
    shards = tuple(shown_shards(read, policy))
    for number, shard in enumerate(shards):
        if number and all(log.origin != shard.origin for log in policy.logs):
            keys = [log.trusted for log in policy.logs if log.origin == shards[number - 1].origin]
            policy = replace(policy, logs=(*policy.logs, *(TrustedLog(shard.origin, key) for key in keys)))
        policy = _follow_shard(policy, shard, refused)
    before: Checkpoint | None = None
    for shard in shards:  # only now: closed years are signed anew by a key that a later year announced
        step = Monitor(shard.read, policy, MemoryHead()).step(now_ms=now_ms)
        if before is not None:
            check_joint(shard, last_head(shard, step.accepted.checkpoint), before)
        before = step.accepted.checkpoint
    return policy, tuple(refused)


def _follow_shard(policy: Policy, shard: Shown, refused: list[str]) -> Policy:
    size = Checkpoint.parse(Note.parse(checkpoint_of(shard.read)).text).size
    for first, entries in entries_of(shard.read, 0, size):
        for index, entry in enumerate(entries, first):
            if is_key_list(entry):
                try:
                    policy = follow(policy, entry)
                except BadKeyList as why:
                    refused.append(f"entry {index}: {why}")
    return policy


def _parse(line: str) -> Trusted:
    match = _LINE.fullmatch(line)
    if match is None:
        raise BadKeyList(f"not a line of a key list: {line[:60]!r}")
    try:
        key = VerifierKey.parse(match[1])
    except TraceError as why:
        raise BadKeyList(str(why)) from why
    if key.kind is not KeyKind.NOTE:
        raise BadKeyList(f"{key.name} is no key of a log")
    return Trusted(key, _time(match[2]), _time(match[3]))


def _shown(time_ms: int | None) -> str:
    return "-" if time_ms is None else str(time_ms)


def _time(text: str) -> int | None:
    return None if text == "-" else int(text)
