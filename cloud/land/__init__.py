"""Parcels, what satellites suspect about them, and the loop by which people find out and put right.

A finding from above is a clue. It can open a candidate and nothing more; there is no way in this package from a
detection to a verdict, and none from a detection to any sanction at all. Only a person's verdict with valid field
evidence says "abandoned", and it takes two persons: who collects does not judge.
"""

from cloud.land.batch import Batch, Imported
from cloud.land.cycle import Action, State
from cloud.land.model import Case, CaseDetail, Claim, Evidence, LandRules, Page, Step, Verdict, VerdictKind
from cloud.land.router import build_router
from cloud.land.service import Land
from cloud.land.store import metadata

__all__ = [
    "Action",
    "Batch",
    "Case",
    "CaseDetail",
    "Claim",
    "Evidence",
    "Imported",
    "Land",
    "LandRules",
    "Page",
    "State",
    "Step",
    "Verdict",
    "VerdictKind",
    "build_router",
    "metadata",
]
