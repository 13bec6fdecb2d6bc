"""HTTP doors of alarms: `/api/v1/alarms`, `/rules`, `/shelves`."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from cloud.alarms.schemas import (
    Acknowledge,
    AlarmPage,
    AlarmView,
    Done,
    Receiver,
    ReceiverView,
    RuleView,
    ShelfView,
    Shelve,
    ShelveAlarms,
)
from cloud.alarms.service import Alarms
from cloud.who import Role, SignedIn, Who, having

__all__ = ["build_router"]

Administrator = Annotated[Who, Depends(having(Role.ADMIN))]
Operator = Annotated[Who, Depends(having(Role.OPERATOR))]
Number = Annotated[int, Path(ge=0, le=2**53)]


def build_router(alarms: Alarms) -> APIRouter:
    """The routes over one `Alarms`."""
    router = APIRouter(prefix="/api/v1", tags=["alarms"])
    _board(router, alarms)
    _receivers(router, alarms)
    _shelves(router, alarms)
    return router


def _board(router: APIRouter, alarms: Alarms) -> None:

    @router.get("/alarms")
    def board(
        who: SignedIn,
        open: bool = False,  # noqa: A002, FBT001, FBT002 - the name in the query string
        gateway: str | None = None,
        before: Annotated[int | None, Query(ge=0, le=2**53)] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> AlarmPage:
        """Alarms, the latest first; `before` takes the `next` of the page before."""
        return alarms.board(who.regions(), open_only=open, gateway=gateway, before=before, limit=limit)

    @router.get("/alarms/{alarm}")
    def one(alarm: Number, who: SignedIn) -> AlarmView:
        """One alarm with what was done about it."""
        return alarms.get(alarm, who.regions())

    @router.post("/alarms/acknowledge")
    def acknowledge(body: Acknowledge, who: Operator) -> Done:
        """Say that somebody looks after these."""
        return Done(changed=alarms.acknowledge(body.ids, who.id, body.note, _own(who)))

    @router.post("/alarms/shelve")
    def shelve_alarms(body: ShelveAlarms, who: Operator) -> Done:
        """Keep quiet for a while about the rules that raised these."""
        return Done(changed=alarms.shelve_all(body.ids, body.minutes, who.id, body.reason, _own(who)))

    @router.get("/gateways/{gateway}/rules")
    def rules(gateway: str, who: SignedIn) -> list[RuleView]:
        """The rules that watch a gateway."""
        return alarms.rules(gateway, who.regions())


def _receivers(router: APIRouter, alarms: Alarms) -> None:
    @router.get("/receivers")
    def receivers(who: Administrator) -> list[ReceiverView]:
        """Who is told about alarms."""
        return alarms.receivers(who.regions(Role.ADMIN))

    @router.post("/receivers", status_code=201)
    def add_receiver(body: Receiver, who: Administrator) -> ReceiverView:
        """Tell somebody from now on; the same address on the same level again changes its settings."""
        return alarms.add_receiver(body, who.id, who.regions(Role.ADMIN))

    @router.delete("/receivers/{receiver}", status_code=204)
    def remove_receiver(receiver: Number, who: Administrator) -> None:
        """Tell this receiver no more."""
        alarms.remove_receiver(receiver, who.id, who.regions(Role.ADMIN))


def _shelves(router: APIRouter, alarms: Alarms) -> None:
    @router.get("/shelves")
    def shelves(who: SignedIn) -> list[ShelfView]:
        """Rules that are kept quiet, and until when."""
        return alarms.shelves(who.regions())

    @router.post("/shelves", status_code=201)
    def shelve(body: Shelve, who: Operator) -> ShelfView:
        """Keep quiet about a rule of a gateway for a while."""
        return alarms.shelve(body.gateway, body.rule, body.minutes, who.id, body.reason, _own(who))

    @router.delete("/shelves/{gateway}/{rule}", status_code=204)
    def unshelve(gateway: str, rule: str, who: Operator) -> None:
        """Speak again before its time is over."""
        alarms.unshelve(gateway, rule, who.id, _own(who))


def _own(who: Who) -> frozenset[str]:
    """Where this person may act, not only look."""
    return who.regions(Role.ADMIN, Role.OPERATOR)
