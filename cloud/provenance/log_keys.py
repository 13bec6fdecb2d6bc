"""The log's keys over time: which one signs, which one will, and the list of all of them that stands in the log.

A next key is made and announced by a command, well before the change; the process that owns the log enters the list
(`traceability.key_lists`) and changes over when the hour has come. Beside `log.key` lie `log.next`, until then, and
`log.list`, the list as it stands in the log. When a key has been followed by the next one its secret is gone: nothing
may be signed with it any more. A stolen key is replaced in the same way with no time between.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from cloud.problems import Conflict
from traceability.key_lists import key_list, listed_keys
from traceability.keys import SigningKey, VerifierKey, load_key, save_key
from traceability.policy import Trusted
from traceability.stores import replace_file, sync_folder

__all__ = ["LogKeys", "announce_next_key"]


@dataclass(frozen=True, slots=True)
class LogKeys:
    """The log's keys at one moment.

    `listed` are all that ever spoke or will, with their times; `entry` is the list as the log must hold it, None where
    there never was but one key; `next_ms` is when the next key begins, None where none waits.
    """

    signing: SigningKey
    listed: tuple[Trusted, ...]
    entry: bytes | None
    next_ms: int | None

    @classmethod
    def read(cls, key_file: Path, now_ms: int) -> "LogKeys":
        """The keys beside `key_file`; a next key whose time has come takes the place of the one before it."""
        entry, listed = _list(key_file)
        waiting, next_ms = key_file.with_suffix(".next"), None
        if waiting.exists():
            verifier = load_key(waiting).verifier
            begins = next((each.from_ms or 0 for each in listed if each.key == verifier), None)
            if begins is not None and begins <= now_ms:
                waiting.replace(key_file)
                sync_folder(key_file.parent)
            else:
                next_ms = begins  # None: the announcement was never finished; the command takes it up
        signing = load_key(key_file)
        return cls(signing, listed or (Trusted(signing.verifier),), entry, next_ms)

    @staticmethod
    def seen(key_file: Path) -> tuple[VerifierKey, ...]:
        """Every key that heads may be signed with, the one that signs first; for who only looks."""
        signing = load_key(key_file).verifier
        return (signing, *(each.key for each in _list(key_file)[1] if each.key != signing))


def announce_next_key(key_file: Path, origin: str, *, from_ms: int) -> Trusted:
    """Make the key that signs from `from_ms` (ms UTC) on, and the list that announces it.

    Raises `Conflict` where a next key waits already.
    """
    _, listed = _list(key_file)
    current, waiting = load_key(key_file), key_file.with_suffix(".next")
    if waiting.exists():
        following = load_key(waiting)
        if any(each.key == following.verifier for each in listed):
            raise Conflict(f"a next key is announced already: {following.verifier.vkey}", code="next_key_waits")
    else:
        following = SigningKey.new(origin)
        save_key(waiting, following)
    kept = [
        replace(each, until_ms=from_ms) if each.key == current.verifier else each
        for each in (listed or (Trusted(current.verifier),))
    ]
    fresh = Trusted(following.verifier, from_ms)
    entry = key_list(origin, [*kept, fresh], [current, following])
    replace_file(key_file.with_suffix(".list"), entry, durable=True)
    return fresh


def _list(key_file: Path) -> tuple[bytes | None, tuple[Trusted, ...]]:
    try:
        entry = key_file.with_suffix(".list").read_bytes()
    except FileNotFoundError:
        return None, ()
    return entry, listed_keys(entry)[1]
