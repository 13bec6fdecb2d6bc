"""The bytes of one segment file: a header, then records, each with its own checksum.

A record that is torn or hit by a bit flip costs only itself: the reader looks for the next marker whose
checksum holds. The checksum starts from the epoch, so that leftovers of another spool never pass.
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

_HEADER = struct.Struct("<8s16sQQI20x")
_MAGIC = b"TMSPOOL1"
HEADER_BYTES = _HEADER.size
_RECORD = struct.Struct("<IIQHH")
_CRC = struct.Struct("<I")
_MARKER = 0x5EA7D1C3
_MARKER_BYTES = _MARKER.to_bytes(4, "little")
RECORD_OVERHEAD = _RECORD.size + _CRC.size
_NOTE_LENGTH = struct.Struct("<I")
_MAX_PAYLOAD = 4 * 1024 * 1024
_HAS_NOTE = 0x100


class Kind(IntEnum):
    """What a record is; the first three become messages."""

    DATA = 1
    RECORD = 2
    EVENT = 3
    NOTE = 9


_KINDS = {int(kind): kind for kind in Kind}


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one record lies: ``offset`` and ``length`` are those of its payload."""

    seq: int
    kind: Kind
    count: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Scan:
    """What was found in a segment.

    ``end`` is the offset after the last good record; ``clean`` is False where bytes lie that belong to no
    record, ``stray_bytes`` of them behind ``end``; ``notes`` are the last values noted.
    """

    entries: list[Entry]
    end: int
    clean: bool
    stray_bytes: int
    notes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Header:
    """The first bytes of a segment: whose it is, its first number and when it was begun (UTC ms, 0 unknown)."""

    epoch: str
    first: int
    created_ms: int

    def encode(self) -> bytes:
        """64 bytes."""
        body = _HEADER.pack(_MAGIC, self.epoch.encode(), self.first, self.created_ms, 0)[:-24]
        return body + _CRC.pack(zlib.crc32(body)) + bytes(20)


def decode_header(data: bytes) -> Header | None:
    """The header, or None where it is damaged."""
    if len(data) < HEADER_BYTES:
        return None
    magic, epoch, first, created_ms, crc = _HEADER.unpack_from(data)
    if magic != _MAGIC or crc != zlib.crc32(data[: HEADER_BYTES - 24]):
        return None
    return Header(epoch.rstrip(b"\0").decode("ascii", "replace"), first, created_ms)


def seed_of(epoch: str) -> int:
    """Where the checksums of this epoch start."""
    return zlib.crc32(epoch.encode())


def encode_record(seed: int, seq: int, kind: Kind, count: int, payload: bytes, note: dict[str, Any] | None) -> bytes:
    """One record; ``note`` is kept with it under the same checksum."""
    flags = int(kind)
    if note is not None:
        text = json.dumps(note, separators=(",", ":")).encode()
        payload, flags = _NOTE_LENGTH.pack(len(text)) + text + payload, flags | _HAS_NOTE
    head = _RECORD.pack(_MARKER, len(payload), seq, min(count, 0xFFFF), flags)
    return head + _CRC.pack(zlib.crc32(payload, zlib.crc32(head, seed))) + payload


def scan(data: bytes, seed: int) -> Scan:
    """Find all good records of a segment, whatever happened to it."""
    entries: list[Entry] = []
    notes: dict[str, Any] = {}
    at, end, clean, last = HEADER_BYTES, HEADER_BYTES, True, -1
    while True:
        found = _record_at(data, at, seed)
        if found is not None and found.seq >= last:
            entry, note = _split_note(data, found, flags=_flags(data, at))
            notes.update(note)
            last = entry.seq
            if entry.kind is not Kind.NOTE:
                entries.append(entry)
            at = end = found.offset + found.length
            continue
        if data.count(0, at) == len(data) - at:
            break
        clean = False
        at = data.find(_MARKER_BYTES, at + 1)
        if at < 0:
            break
    return Scan(entries, end, clean, len(data[end:].rstrip(b"\0")), notes)


def _flags(data: bytes, at: int) -> int:
    return int(_RECORD.unpack_from(data, at)[4])


def _record_at(data: bytes, at: int, seed: int) -> Entry | None:
    if at + RECORD_OVERHEAD > len(data):
        return None
    marker, length, seq, count, flags = _RECORD.unpack_from(data, at)
    start = at + RECORD_OVERHEAD
    if marker != _MARKER or length > _MAX_PAYLOAD or start + length > len(data):
        return None
    (crc,) = _CRC.unpack_from(data, at + _RECORD.size)
    view = memoryview(data)
    if crc != zlib.crc32(view[start : start + length], zlib.crc32(view[at : at + _RECORD.size], seed)):
        return None
    kind = _KINDS.get(flags & 0xFF)
    return None if kind is None else Entry(seq, kind, count, start, length)


def _split_note(data: bytes, entry: Entry, flags: int) -> tuple[Entry, dict[str, Any]]:
    if not flags & _HAS_NOTE:
        return entry, {}
    (size,) = _NOTE_LENGTH.unpack_from(data, entry.offset)
    start = entry.offset + _NOTE_LENGTH.size
    note: dict[str, Any] = json.loads(data[start : start + size])
    skipped = _NOTE_LENGTH.size + size
    return Entry(entry.seq, entry.kind, entry.count, entry.offset + skipped, entry.length - skipped), note
