"""Readings of gateways: taken in, stored once, answered for.

A message travels `Ingest` (the broker's loop) -> `Pipeline` (decode, authorise, name) -> `ReadingsStore` (durable,
once) -> watermark, and only then may its gateway forget it. `Registry` knows the gateways, the series and everything
that could not be taken. `Telemetry` answers questions.
"""

from cloud.telemetry.imports import take_export
from cloud.telemetry.ingest import Broker, Ingest
from cloud.telemetry.opening import open_readings
from cloud.telemetry.pipeline import Pipeline, RecordArrival
from cloud.telemetry.registry import Gateway, Registry
from cloud.telemetry.retention import parse_keep
from cloud.telemetry.router import build_router
from cloud.telemetry.service import Telemetry
from cloud.telemetry.store import Arrival, ReadingsStore, StoreUnavailable
from cloud.telemetry.take_away import TakeAway

__all__ = [
    "Arrival",
    "Broker",
    "Gateway",
    "Ingest",
    "Pipeline",
    "ReadingsStore",
    "RecordArrival",
    "Registry",
    "StoreUnavailable",
    "TakeAway",
    "Telemetry",
    "build_router",
    "open_readings",
    "parse_keep",
    "take_export",
]
