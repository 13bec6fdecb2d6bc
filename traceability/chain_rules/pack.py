"""A rule pack: one TOML file per chain, read once, each row with its source.

Adding a drug or a paper is adding a row. A row without a source does not load.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

from traceability import TraceError

__all__ = ["CHAINS", "CertificateRule", "PackError", "RulePack", "SubstanceRule", "YieldRule", "load_pack"]

CHAINS: Final = ("pork", "eggs", "citrus", "fish")


class PackError(TraceError):
    """A rule pack is unknown or unreadable."""

    default_code = "bad_rule_pack"


@dataclass(frozen=True, slots=True)
class SubstanceRule:
    """How long one drug or pesticide keeps a lot from the market.

    Exactly one of ``days``, ``degree_days`` (Σ daily mean water temperature, Cel·d) or ``forbidden``;
    ``max_uses`` counts applications within a year. ``route`` narrows the rule (empty: any).
    """

    substance: str
    zh: str
    source: str
    route: str = ""
    days: int | None = None
    degree_days: int | None = None
    forbidden: bool = False
    max_uses: int | None = None


@dataclass(frozen=True, slots=True)
class CertificateRule:
    """How long a quarantine certificate is good for: ``days`` counted from its day of issue (1 = that day only)."""

    kind: str
    zh: str
    days: int
    source: str


@dataclass(frozen=True, slots=True)
class YieldRule:
    """What share of the mass taken may come out, in thousandths; outside is refused above and amber below."""

    step: str
    low_permille: int
    high_permille: int
    source: str


@dataclass(frozen=True, slots=True)
class RulePack:
    """All rules of one chain in one version."""

    chain: str
    version: str
    date: str
    gates: frozenset[str]  # steps that an open withdrawal period stops
    certified: frozenset[str]  # steps that need a quarantine certificate for living animals
    release: str  # step at which the papers are counted; empty: none
    papers: Mapping[str, str]  # kind -> Chinese name, all needed at release
    texts: Mapping[str, Mapping[str, str]]  # rule -> zh, en, source
    substances: tuple[SubstanceRule, ...]
    certificates: Mapping[str, CertificateRule]
    yields: Mapping[str, YieldRule]

    def substance(self, name: str, route: str) -> SubstanceRule | None:
        """The rule for a substance given by a route; the narrower one first."""
        rows = [row for row in self.substances if row.substance == name and row.route in {"", route}]
        return max(rows, key=lambda row: len(row.route), default=None)


@cache
def load_pack(chain: str) -> RulePack:
    """The pack of one chain (`CHAINS`). Raises `PackError`."""
    if chain not in CHAINS:
        raise PackError(f"no rule pack for chain {chain!r}; there are {', '.join(CHAINS)}")
    return read_pack(_toml(chain), _toml("texts"))


def _toml(name: str) -> dict[str, Any]:
    file = resources.files("traceability.chain_rules").joinpath(f"packs/{name}.toml")
    return tomllib.loads(file.read_text("utf-8"))


def _with_sources(texts: Mapping[str, Mapping[str, str]], sources: Mapping[str, str]) -> dict[str, Mapping[str, str]]:
    """Each rule's text, with the pack's closer source for the rule or for its whole family."""
    own = {rule: sources.get(rule, sources.get(rule.partition(".")[0])) for rule in texts}
    return {rule: {**text, "source": own[rule] or text["source"]} for rule, text in texts.items()}


def read_pack(data: Mapping[str, Any], texts: Mapping[str, Mapping[str, str]]) -> RulePack:
    """A pack from parsed TOML and the rules' texts. Raises `PackError` for a missing or unknown field."""
    try:
        substances = tuple(SubstanceRule(**row) for row in data.get("substance", ()))
        certificates = {row["kind"]: CertificateRule(**row) for row in data.get("certificate", ())}
        yields = {row["step"]: YieldRule(**row) for row in data.get("yield", ())}
        return RulePack(
            chain=data["chain"],
            version=data["version"],
            date=str(data["date"]),
            gates=frozenset(data["gates"]),
            certified=frozenset(data.get("certified", ())),
            release=data.get("release", ""),
            papers=data.get("papers", {}),
            texts=_with_sources(texts, data.get("sources", {})),
            substances=substances,
            certificates=certificates,
            yields=yields,
        )
    except (KeyError, TypeError) as why:
        raise PackError(f"rule pack {data.get('chain', '?')!r} is incomplete: {why}") from why
