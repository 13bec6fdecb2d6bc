"""Steering: what the cloud wants of gateways, signed and audited, and what became of it.

A wish is a row first: `Steering` writes commands and configurations, `Courier` (a thread with a broker session of its
own) carries what is due and brings back what gateways say. So API and ingest may be one process or several, and a
crash between the two costs a repetition, which the gateway refuses: commands run at most once there, not here.
"""

from cloud.steering.courier import Courier, Post
from cloud.steering.router import build_router
from cloud.steering.service import Steered, Steering
from cloud.steering.tables import metadata

__all__ = ["Courier", "Post", "Steered", "Steering", "build_router", "metadata"]
