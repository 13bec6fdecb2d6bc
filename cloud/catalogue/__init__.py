"""What data there is, whose it is, how sensitive, who used it; and the packages that flow back down.

Data rises easily from villages to cities and rarely comes back. So each region may take, any day, one package with
everything the system holds and has derived about it, and see at a glance what changed since the last one.
"""

from cloud.catalogue.model import DataLevel, Dataset, Kind, Package
from cloud.catalogue.router import build_router
from cloud.catalogue.service import Catalogue
from cloud.catalogue.store import metadata

__all__ = ["Catalogue", "DataLevel", "Dataset", "Kind", "Package", "build_router", "metadata"]
