"""The chain's side of the cloud: capture and query of events, refusals, codes, scans; it hosts the log."""

from cloud.provenance.auditing import audit_log, restore_log
from cloud.provenance.capture import Neighbours
from cloud.provenance.codes import serial_key
from cloud.provenance.door import CaptureDoor
from cloud.provenance.log import LogBook, LogPlace, log_policy, open_key, read_witnesses
from cloud.provenance.log_keys import announce_next_key
from cloud.provenance.records import record_keeper
from cloud.provenance.router import build_router
from cloud.provenance.service import Provenance

__all__ = [
    "CaptureDoor",
    "LogBook",
    "LogPlace",
    "Neighbours",
    "Provenance",
    "announce_next_key",
    "audit_log",
    "build_router",
    "log_policy",
    "open_key",
    "read_witnesses",
    "record_keeper",
    "restore_log",
    "serial_key",
]
