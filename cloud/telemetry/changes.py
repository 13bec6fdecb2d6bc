"""What people change about a registered gateway, each change with its entry in the audit trail."""

from typing import Any

from sqlalchemy import Connection

from cloud.telemetry.registry import Gateway, Registry
from cloud.telemetry.schemas import GatewayChange
from cloud.who import Audit

__all__ = ["change_gateway"]


def change_gateway(
    registry: Registry, audit: Audit, one: Gateway, wish: GatewayChange, by: str, now_ms: int
) -> Gateway:
    """The gateway as it is afterwards; what the wish does not name, or what is so already, stays.

    A disabled gateway is not heard: what it sends becomes dead letters (by HTTP it is 401), its readings stay. Other
    processes notice within `registry.REMEMBERED_S`.
    """
    values: dict[str, Any] = {}
    if wish.name is not None and wish.name != one.name:
        values["name"] = wish.name
    if wish.max_series is not None and wish.max_series != one.max_series:
        values["max_series"] = wish.max_series
    if wish.disabled is not None and wish.disabled != (one.disabled_ms is not None):
        values["disabled_ms"] = now_ms if wish.disabled else None
    if not values:
        return one

    def record(connection: Connection) -> None:
        audit(connection, by, "gateway.changed", one.id, values, one.region)

    return registry.change_gateway(one.id, also=record, **values)
