"""HTTP doors of steering: `/api/v1/gateways/{gateway}/commands`, `/configuration`, and `/commands/{id}`."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from cloud.steering.schemas import CommandPage, CommandView, CommandWish, ConfigurationView, ConfigurationWish
from cloud.steering.service import Steering
from cloud.who import Role, SignedIn, Who, having

__all__ = ["build_router"]

Operator = Annotated[Who, Depends(having(Role.OPERATOR))]


def build_router(steering: Steering) -> APIRouter:
    """The routes over one `Steering`. Looking at commands needs any role; the rest is an operator's."""
    router = APIRouter(prefix="/api/v1", tags=["steering"])

    @router.post("/gateways/{gateway}/commands", status_code=202)
    def command(gateway: str, body: CommandWish, who: Operator) -> CommandView:
        """Ask an actuator for something. The answer is where to look, not that it was done."""
        return steering.command(gateway, body, who.id, _own(who))

    @router.get("/gateways/{gateway}/commands")
    def commands(
        gateway: str,
        who: SignedIn,
        before: Annotated[str | None, Query(max_length=100)] = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
    ) -> CommandPage:
        """Commands of a gateway, the latest first: who asked for what, why, and what became of it."""
        return steering.commands(gateway, who.regions(), before=before, limit=limit)

    @router.get("/commands/{number}")
    def one_command(number: str, who: SignedIn) -> CommandView:
        """One command and how far it is."""
        return steering.one_command(number, who.regions())

    @router.get("/gateways/{gateway}/configuration")
    def configuration(gateway: str, who: Operator) -> ConfigurationView:
        """Desired and reported configuration; it may hold a page's PIN, so it is for operators."""
        return steering.configuration(gateway, _own(who))

    @router.put("/gateways/{gateway}/configuration")
    def want(gateway: str, body: ConfigurationWish, who: Operator) -> ConfigurationView:
        """Want another configuration. The gateway tries it on probation and says whether it kept it."""
        return steering.want(gateway, body, who.id, _own(who))

    return router


def _own(who: Who) -> frozenset[str]:
    """Where this person may act, not only look."""
    return who.regions(Role.ADMIN, Role.OPERATOR)
