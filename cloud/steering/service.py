"""Commands and configurations: asked for by people, carried by `Courier`, answered by gateways.

`scope` is the set of region codes in which a person may do or see this, None inside the process; a gateway outside it
does not exist. Every wish is written with its entry of the audit trail in one transaction.
"""

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from sqlalchemy import Connection, Engine

from cloud.problems import Invalid, NotFound, TooLarge, TooMany
from cloud.steering.schemas import (
    CommandPage,
    CommandView,
    CommandWish,
    ConfigurationView,
    ConfigurationWish,
    ReportView,
    RevisionView,
)
from cloud.steering.store import SteeringStore
from cloud.who import Audit
from edge.wire import Applied, Result

__all__ = ["Steered", "Steering"]

Scope = frozenset[str] | None
MAX_OPEN = 20
# What a gateway takes from afar; identity, uplink and spool are its own file's (edge.wire, Wanted).
TABLES = frozenset({"gateway", "page", "driver", "output"})
MAX_BODY_BYTES = 200_000  # a signed message may have 256 KiB, and its text is escaped once more
_HISTORY = 50
# A gateway's clock may lag behind ours, and refuses what is "too early".
_SLACK_MS = 60_000
_LONGEST_MS = 86_400_000


class Steered(Protocol):
    """A gateway, as far as steering must know it."""

    @property
    def id(self) -> str: ...  # noqa: D102 - the names say it
    @property
    def region(self) -> str: ...  # noqa: D102
    @property
    def farm(self) -> str: ...  # noqa: D102
    @property
    def secret(self) -> bytes: ...  # noqa: D102
    @property
    def disabled_ms(self) -> int | None: ...  # noqa: D102


class Steering:
    """What is wanted of gateways, and what they say about it.

    `gateway(id)` raises `NotFound`; `actuators(farm)` names what a farm type can drive, None where nobody knows.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        clock: Callable[[], int],
        gateway: Callable[[str], Steered],
        actuators: Callable[[str], frozenset[str] | None],
        covers: Callable[[str, frozenset[str]], bool],
        audit: Audit,
    ) -> None:
        self.store = SteeringStore(engine)
        self._clock = clock
        self._gateway = gateway
        self._actuators = actuators
        self._covers = covers
        self._audit = audit

    # --- commands -----------------------------------------------------------------------------------

    def command(self, gateway: str, wish: CommandWish, by: str, scope: Scope = None) -> CommandView:
        """Ask for something to be done, now and not later than `wish.valid_s` from now.

        The same id with the same wish again is the same command. Raises `NotFound`, `Invalid` (a wish that the
        gateway could only refuse), `Conflict` (the id stands for something else), `TooMany`.
        """
        owner = self._own(gateway, scope)
        self._check(owner, wish)
        now = self._clock()
        asked = {"target": wish.target, "operation": wish.operation, "value": wish.value, "by": by}
        if wish.id is not None and (held := self.store.command(wish.id)) is not None:
            same = held["gateway"] == owner.id and all(held[key] == value for key, value in asked.items())
            if same:
                return CommandView.model_validate(_without(held, "region"))
        if self.store.count_open(owner.id) >= MAX_OPEN:
            raise TooMany(f"{MAX_OPEN} commands of {owner.id} have no answer yet", code="too_many_open")
        number = wish.id or secrets.token_hex(12)
        expires = now + wish.valid_s * 1000
        row = {
            "id": number,
            "gateway": owner.id,
            "region": owner.region,
            **asked,
            "not_before_ms": max(now - _SLACK_MS, expires - _LONGEST_MS),
            "expires_ms": expires,
            "reason": wish.reason,
            "asked_ms": now,
        }
        told = {**asked, "id": number, "expires_ms": expires, "reason": wish.reason}

        def note(db: Connection) -> None:
            self._audit(db, by, "gateway.command", owner.id, told, owner.region)

        self.store.add_command(row, note)
        return self.one_command(number, scope)

    def _check(self, owner: Steered, wish: CommandWish) -> None:
        if owner.disabled_ms is not None:
            raise Invalid(f"gateway {owner.id} was disabled", code="disabled_gateway")
        if (wish.operation == "set") != (wish.value is not None):
            detail = "`set` needs a value from 0 to 1, `release` and `read` take none"
            raise Invalid(detail, code="bad_value", pointer="/value")
        known = self._actuators(owner.farm)
        if known is not None and wish.target not in known:
            there = ", ".join(sorted(known)) or "none"
            detail = f"{owner.farm} has no actuator {wish.target!r}; there are: {there}"
            raise Invalid(detail, code="unknown_target", pointer="/target")

    def one_command(self, number: str, scope: Scope = None) -> CommandView:
        """One command. Raises `NotFound`, also where its gateway is out of scope."""
        held = self.store.command(number)
        if held is None or not self._sees(held["gateway"], scope):
            raise NotFound(f"there is no command {number[:64]}", pointer="/number")
        return CommandView.model_validate(_without(held, "region"))

    def commands(self, gateway: str, scope: Scope = None, *, before: str | None = None, limit: int = 50) -> CommandPage:
        """Commands of one gateway, the latest first; `before` is the `next` of the page before."""
        rows = self.store.commands(self._own(gateway, scope).id, before=_place(before), limit=limit)
        items = [CommandView.model_validate(_without(row, "region")) for row in rows]
        more = f"{items[-1].asked_ms}~{items[-1].id}" if len(items) == limit else None
        return CommandPage(items=items, next=more)

    # --- configurations -----------------------------------------------------------------------------

    def want(self, gateway: str, wish: ConfigurationWish, by: str, scope: Scope = None) -> ConfigurationView:
        """Want another configuration from now on. Raises `NotFound`, `Invalid`, `TooLarge`, `Conflict` (`stale`)."""
        owner = self._own(gateway, scope)
        if strange := sorted(set(wish.body) - TABLES):
            known = ", ".join(sorted(TABLES))
            detail = f"{strange[0]!r} cannot be set from afar; a configuration may hold: {known}"
            raise Invalid(detail, code="unknown_table", pointer=f"/body/{strange[0]}")
        try:
            size = len(json.dumps(wish.body, allow_nan=False, ensure_ascii=False).encode())
        except ValueError as why:
            raise Invalid(f"the configuration is no JSON: {why}", code="bad_body", pointer="/body") from why
        if size > MAX_BODY_BYTES:
            detail = f"a configuration may have {MAX_BODY_BYTES} bytes, not {size}"
            raise TooLarge(detail, pointer="/body")
        row = {"gateway": owner.id, "body": wish.body, "by": by, "reason": wish.reason, "asked_ms": self._clock()}

        def note(db: Connection) -> None:
            detail = {"after": wish.after, "tables": sorted(wish.body), "reason": wish.reason}
            self._audit(db, by, "gateway.configuration", owner.id, detail, owner.region)

        self.store.want(row, wish.after, note)
        return self.configuration(owner.id, scope)

    def configuration(self, gateway: str, scope: Scope = None) -> ConfigurationView:
        """Desired, reported, and how it came to this. Raises `NotFound`."""
        owner = self._own(gateway, scope)
        rows = [ReportView.model_validate(_without(row, "gateway")) for row in self.store.reports(owner.id)]
        history = [_revision(row, rows) for row in self.store.revisions(owner.id, limit=_HISTORY)]
        desired = history[0] if history else None
        signed = next((one for one in rows if one.proved), None)
        last = next(iter(desired.reports), None) if desired else None
        return ConfigurationView(
            gateway=owner.id,
            desired=desired,
            reported=rows[0] if rows else None,
            effective=signed.effective if signed else None,
            state="none" if desired is None else "waiting" if last is None else last.outcome,
            history=history,
        )

    # --- what gateways say --------------------------------------------------------------------------

    def secret(self, gateway: str) -> bytes:
        """What messages of and to this gateway are signed with. Raises `NotFound`."""
        return self._gateway(gateway).secret

    def take_result(self, gateway: str, result: Result) -> None:
        """A signed word about a command."""
        self._answered(gateway, result.id, result.outcome, result.reason, proved=True)

    def take_applied(self, gateway: str, said: Applied) -> None:
        """A signed word about a configuration."""
        self._reported(gateway, said.revision, said.outcome, said.reason, said.time_ms, effective=said.effective)

    def take_events(self, events: Sequence[Mapping[str, Any]]) -> None:
        """What gateways report of commands and configurations by way of their spools: it cannot get lost.

        `events` are rows with gateway, kind, time_ms and body. Events are not signed: they count for less.
        """
        for event in events:
            body, gateway = event["body"], str(event["gateway"])
            outcome, reason = str(body.get("outcome", "")), str(body.get("reason", ""))
            if event["kind"] == "command" and isinstance(body.get("id"), str) and outcome in _ENDS:
                self._answered(gateway, body["id"], outcome, reason, proved=False)
            elif event["kind"] == "config" and _is_revision(body.get("revision")) and outcome in _OUTCOMES:
                self._reported(gateway, body["revision"], outcome, reason, event["time_ms"], effective=None)

    def _answered(self, gateway: str, number: str, outcome: str, reason: str, *, proved: bool) -> None:
        # We repeat ourselves until we are answered; that the gateway refuses the repetition is no answer.
        if reason != "replay":
            self.store.answer(gateway, number, outcome, reason, self._clock(), proved=proved)

    def _reported(
        self, gateway: str, revision: int, outcome: str, reason: str, at_ms: int, *, effective: int | None
    ) -> None:
        row = {"gateway": gateway, "revision": revision, "outcome": outcome, "reason": reason[:500]}
        said = {"time_ms": at_ms, "received_ms": self._clock(), "effective": effective}
        self.store.report({**row, **said, "proved": effective is not None})

    def _own(self, gateway: str, scope: Scope) -> Steered:
        one = self._gateway(gateway)
        if scope is not None and not self._covers(one.region, scope):
            raise NotFound(f"there is no gateway {gateway[:36]}", pointer="/gateway")
        return one

    def _sees(self, gateway: str, scope: Scope) -> bool:
        try:
            self._own(gateway, scope)
        except NotFound:
            return False
        return True


_ENDS = frozenset({"done", "refused", "expired", "failed"})
_OUTCOMES = frozenset({"trial", "kept", "rolled_back", "refused"})


def _is_revision(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 2**63


def _revision(row: Mapping[str, Any], reports: Sequence[ReportView]) -> RevisionView:
    mine = [one for one in reports if one.revision == row["revision"]]
    return RevisionView(**_without(row, "gateway"), reports=mine)


def _without(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != name}


def _place(before: str | None) -> tuple[int, str] | None:
    if before is None:
        return None
    at, _, number = before.partition("~")
    if not (at.isascii() and at.isdigit() and len(at) < 17 and number):  # noqa: PLR2004 - below 2**53
        raise Invalid("`before` takes the `next` of the page before", code="bad_cursor", pointer="/before")
    return int(at), number
