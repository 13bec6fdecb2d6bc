"""The administrative tree, with the dates between which each code is valid.

Codes change: counties become districts, districts are dissolved (Chongqing itself did so in November 2025). So a
region is a code *and* a span of days, and "does this office's area contain that parcel?" is a question with a date.
The answer is kept as a closure table, which is also the one filter that every list of the cloud is cut down by.
"""

from cloud.regions.router import build_router
from cloud.regions.service import Regions
from cloud.regions.store import metadata
from cloud.regions.tree import Level, Region

__all__ = ["Level", "Region", "Regions", "build_router", "metadata"]
