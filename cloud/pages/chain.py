"""The chain's refusals, lots and log as the console shows them, in the reader's language."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cloud.pages.words import Language

if TYPE_CHECKING:
    from cloud.provenance import Provenance
    from cloud.provenance.schemas import Lot, RefusalView

__all__ = ["FindingText", "LotRow", "RefusalText", "lot_row", "lot_rows", "refusal_texts"]


@dataclass(frozen=True, slots=True)
class FindingText:
    """Why a rule said no. `basis` is exact, computed or estimated and belongs to `earliest_ms`."""

    text: str
    source: str
    earliest_ms: int | None
    basis: str


@dataclass(frozen=True, slots=True)
class RefusalText:
    """One refused attempt."""

    chain: str
    tried_ms: int
    tried_by: str
    times: int
    findings: tuple[FindingText, ...]


@dataclass(frozen=True, slots=True)
class LotRow:
    """A code that may be scanned."""

    chain: str
    path: str
    lot: str
    product: str
    when_ms: int


def refusal_texts(provenance: "Provenance", language: Language) -> list[RefusalText]:
    """Refused attempts, newest first."""
    return [_refusal(each, language) for each in provenance.refusals()]


def lot_rows(provenance: "Provenance", language: Language) -> list[LotRow]:
    """Codes that may be scanned, newest first."""
    return [lot_row(each, language) for each in provenance.lots()]


def _refusal(view: "RefusalView", language: Language) -> RefusalText:
    findings = tuple(_finding(each, language) for each in view.findings if each.get("severity") != "amber")
    return RefusalText(view.chain, view.tried_ms, view.tried_by, view.times, findings)


def _finding(finding: Mapping[str, Any], language: Language) -> FindingText:
    return FindingText(
        text=str(finding["zh" if language is Language.ZH else "en"]),
        source=str(finding["source"]),
        earliest_ms=finding.get("earliest_ms"),
        basis=str(finding.get("earliest_basis") or "exact"),
    )


def lot_row(lot: "Lot", language: Language) -> LotRow:
    """One code that may be scanned."""
    product = (lot.product_zh if language is Language.ZH else lot.product_en) or lot.path
    return LotRow(lot.chain, lot.path, _lot_of(lot.path), product, lot.when_ms)


def _lot_of(path: str) -> str:
    parts = path.strip("/").split("/")
    return dict(zip(parts[::2], parts[1::2], strict=False)).get("10", "–")
