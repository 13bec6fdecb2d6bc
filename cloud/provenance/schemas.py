"""What crosses the provenance doors: small frozen values, JSON-able as they are."""

from dataclasses import dataclass, field
from typing import Any

from traceability.story import Story

__all__ = [
    "CaptureJob",
    "Captured",
    "CodeState",
    "Consumer",
    "Item",
    "LogState",
    "Lot",
    "RefusalView",
    "ShardState",
    "WarningView",
]


@dataclass(frozen=True, slots=True)
class Captured:
    """Receipt of one event: its id, its index in the log, and what the rules warned of (as `RefusalView.findings`)."""

    event_id: str
    index: int
    warnings: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class CaptureJob:
    """What came of a capture (EPCIS 2.0 §12.3); `errors` have pointer, code and detail."""

    id: str
    created_ms: int
    finished_ms: int
    success: bool
    behaviour: str
    errors: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class CodeState:
    """Where a registered code stands: issued, activated, sold, retired, void.

    `since_ms`: when it came there (ms UTC); `reason`: why, where a person said so. `scratch_times`: how often the
    characters under the scratch layer were entered rightly, `scratch_first_ms`: when for the first time.
    """

    code: str
    path: str
    state: str
    since_ms: int
    reason: str
    has_scratch: bool
    scratch_first_ms: int | None
    scratch_times: int


@dataclass(frozen=True, slots=True)
class Consumer:
    """Everything a consumer's page needs; `pack` and `policy` are texts to be embedded or saved as they are.

    `level` says what story and pack are about: the `unit` that was asked for, or its `lot`, either because no serial
    was asked for (`serial` is empty) or because nothing is known of that one. `code` is None for a code that was never
    registered; `codes_of_lot` says how many of its lot were.
    """

    subject: str
    path: str
    level: str
    serial: str
    product_zh: str
    product_en: str
    chain: str
    story: Story
    pack: str
    policy: str
    fingerprint: str
    scans: int
    first_scan_ms: int
    recalled: bool
    code: CodeState | None
    codes_of_lot: int


@dataclass(frozen=True, slots=True)
class Item:
    """A trade item without a lot: its names (may be empty) and the codes of its newest packs."""

    path: str
    gtin: str
    product_zh: str
    product_en: str
    lots: "list[Lot]"


@dataclass(frozen=True, slots=True)
class Lot:
    """A code that a consumer may scan."""

    chain: str
    subject: str
    path: str
    product_zh: str
    product_en: str
    when_ms: int


@dataclass(frozen=True, slots=True)
class RefusalView:
    """A refused attempt; each finding has rule, zh, en, source, earliest_ms, earliest_basis and things."""

    number: int
    event_id: str
    chain: str
    tried_ms: int
    tried_by: str
    times: int
    findings: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class WarningView:
    """What the rules warned of when an event was taken; `index` is the event's in the log."""

    index: int
    event_id: str
    chain: str
    recorded_ms: int
    findings: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ShardState:
    """One year's log: its folder under the log's public files, and its closed range of places; it grows without `last`.

    Index 0 of its tree is the entry at place `first`.
    """

    origin: str
    folder: str
    first: int
    last: int | None


@dataclass(frozen=True, slots=True)
class LogState:
    """Health of this year's log; `fingerprint` is of its key. `missing` says of each witness why it has not signed.

    `shards` are the logs of all years, oldest first.
    """

    origin: str
    size: int
    root: str
    checkpoint_ms: int
    fingerprint: str
    witnesses: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    shards: list[ShardState] = field(default_factory=list)
