"""What crosses the provenance doors: small frozen values, JSON-able as they are."""

from dataclasses import dataclass, field
from typing import Any

from traceability.story import Story

__all__ = ["CaptureJob", "Captured", "Consumer", "LogState", "Lot", "RefusalView"]


@dataclass(frozen=True, slots=True)
class Captured:
    """Receipt of one event: its id and its index in the log."""

    event_id: str
    index: int


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
class Consumer:
    """Everything a consumer's page needs; `pack` and `policy` are texts to be embedded or saved as they are."""

    subject: str
    path: str
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
class LogState:
    """Health of the log; `fingerprint` is of its key. `missing` says of each witness that has not signed why not."""

    origin: str
    size: int
    root: str
    checkpoint_ms: int
    fingerprint: str
    witnesses: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
