"""The gateway agent: it stands on the farm and loses nothing between the sensor and the store.

Readings are written to a durable spool before anything else happens to them, sent in packs over MQTT,
and forgotten only when the cloud's watermark says they are stored. Alarms and actuators are decided here,
so that a pond gets its air when the network is down.

The story in the order the data take it: ``drivers`` read, ``rules`` judge, ``control`` acts, ``spool``
keeps, ``uplink`` sends. ``wire`` is the contract with the cloud, ``farms`` the data both sides read.
Only paho-mqtt and the standard library are needed.
"""

from __future__ import annotations


class EdgeError(Exception):
    """Something the gateway expected to go wrong; its message is one line for a person.

    Attributes:
        code: a stable lower-case word for programs, e.g. ``bad_topic``.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


__all__ = ["EdgeError"]
