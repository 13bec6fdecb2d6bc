"""The alarm board: what is wrong, who has seen it, what may be quiet for a while.

`Alarms` answers and changes, each change with its entry of the audit trail in one transaction; `Watch` finds out. Both
know gateways only through callables that wiring passes, so this context stands without telemetry's tables.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Select

from cloud.alarms.addresses import check_address, check_name
from cloud.alarms.engine import Watched
from cloud.alarms.schemas import (
    AlarmPage,
    AlarmState,
    AlarmView,
    Receiver,
    ReceiverView,
    RuleView,
    ShelfView,
    StepView,
    Storm,
    rule_view,
)
from cloud.alarms.store import AlarmStore
from cloud.problems import Conflict, Invalid, NotFound
from cloud.who import Audit

__all__ = ["Alarms"]

Scope = frozenset[str] | None
# Alarms of one region that began within this time of each other, this many of them, are one storm.
STORM_MS = 5 * 60_000
STORM_SIZE = 5


class Alarms:
    """Questions about alarms and what people do with them.

    `watched` lists the gateways with their rules now; `covers(region, granted regions)` says who may see what, and
    `inside(granted regions)` gives all codes below them as a query: of a county's alarms only those are read.
    """

    def __init__(
        self,
        store: AlarmStore,
        *,
        clock: Callable[[], int],
        watched: Callable[[], Sequence[Watched]],
        covers: Callable[[str, frozenset[str]], bool],
        inside: Callable[[frozenset[str]], Select[tuple[str]]],
        audit: Audit,
    ) -> None:
        self._store = store
        self._audit = audit
        self._inside = inside
        self._clock = clock
        self._watched = watched
        self._covers = covers

    def board(
        self,
        scope: Scope = None,
        *,
        open_only: bool = False,
        gateway: str | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> AlarmPage:
        """Alarms in scope, the latest first, with the storms among them."""
        regions = None if scope is None else self._inside(scope)
        rows = self._store.alarms(open_only=open_only, gateway=gateway, regions=regions, before=before, limit=limit)
        shelved = self._shelved()
        items = [_view(row, shelved) for row in rows]
        following = str(rows[-1]["id"]) if len(rows) == limit else None
        return AlarmPage(items=items, storms=storms(items), next=following)

    def open_counts(self, scope: Scope = None) -> dict[tuple[str, str], int]:
        """Number of open alarms in scope by (gateway, severity), as the board shows them."""
        return self._store.count_open(None if scope is None else self._inside(scope))

    def get(self, alarm: int, scope: Scope = None) -> AlarmView:
        """One alarm with its steps. Raises `NotFound`."""
        rows = self._store.alarms(ids=[alarm])
        if not rows or not self._sees(scope, rows[0]["region"]):
            raise NotFound(f"there is no alarm {alarm}", pointer="/alarm")
        steps = [
            StepView(**{key: row[key] for key in ("at_ms", "kind", "by", "note")}) for row in self._store.steps(alarm)
        ]
        return _view(rows[0], self._shelved()).model_copy(update={"steps": steps})

    def acknowledge(self, ids: Collection[int], by: str, note: str = "", scope: Scope = None) -> int:
        """Say that somebody looks after these alarms; how many nobody had acknowledged before.

        Ids outside the scope raise `NotFound`, and then nothing is changed.
        """
        rows = {row["id"]: row for row in self._all(ids, scope)}

        def noted(db: Connection, fresh: Sequence[int]) -> None:
            by_gateway: dict[tuple[str, str], list[int]] = defaultdict(list)
            for one in fresh:
                by_gateway[rows[one]["gateway"], rows[one]["region"]].append(one)
            for (gateway, region), alarms in sorted(by_gateway.items()):
                self._audit(db, by, "alarm.acknowledged", gateway, {"alarms": alarms, "note": note[:500]}, region)

        return self._store.acknowledge(ids, by, note, self._clock(), noted)

    def _all(self, ids: Collection[int], scope: Scope) -> list[dict[str, Any]]:
        rows = {row["id"]: row for row in self._store.alarms(ids=ids, limit=len(ids))}
        hidden = [one for one in ids if one not in rows or not self._sees(scope, rows[one]["region"])]
        if hidden:
            raise NotFound(f"there is no alarm {hidden[0]}", pointer="/ids")
        return list(rows.values())

    def shelve_all(self, ids: Collection[int], minutes: int, by: str, reason: str, scope: Scope = None) -> int:
        """Keep quiet about the rules behind these alarms, each at its own gateway; how many rules.

        Ids outside the scope raise `NotFound`, and then nothing is changed.
        """
        rules = {(row["gateway"], row["rule"]): str(row["region"]) for row in self._all(ids, scope)}
        self._shelve(rules, minutes, by, reason)
        return len(rules)

    def _shelve(self, rules: Mapping[tuple[str, str], str], minutes: int, by: str, reason: str) -> int:
        """Rules with the regions of their gateways; until when (ms UTC)."""
        until = self._clock() + minutes * 60_000

        def note(db: Connection) -> None:
            for (gateway, rule), region in sorted(rules.items()):
                detail = {"rule": rule, "until_ms": until, "reason": reason[:500]}
                self._audit(db, by, "alarm.shelved", gateway, detail, region)

        self._store.shelve(sorted(rules), until, by, reason, note)
        return until

    def unshelve(self, gateway: str, rule: str, by: str, scope: Scope = None) -> None:
        """Speak again before the shelf expires. Raises `NotFound`."""
        if (gateway, rule) not in {(one.gateway, one.rule) for one in self.shelves(scope)}:
            raise NotFound(f"nothing is shelved at {gateway[:36]} under {rule[:48]}")
        region = self._gateway(gateway, scope).region
        self._store.unshelve(
            gateway, rule, lambda db: self._audit(db, by, "alarm.unshelved", gateway, {"rule": rule}, region)
        )

    def receivers(self, scope: Scope = None) -> list[ReceiverView]:
        """Who is told, of the regions in scope, and how telling them goes."""
        troubles, given_up = self._store.troubles(), self._store.given_up()
        found: list[ReceiverView] = []
        for row in self._store.receivers():
            if not self._sees(scope, row["region"]):
                continue
            trouble, lost = troubles.get(row["id"]), given_up.get(row["id"], 0)
            how = (
                {"given_up": lost}
                if trouble is None
                else {
                    "failures": trouble["failures"],
                    "last_error": trouble["error"],
                    "next_try_ms": trouble["retry_ms"],
                    "given_up": lost,
                }
            )
            found.append(ReceiverView(**row, **how))
        return found

    def add_receiver(self, new: Receiver, by: str, scope: Scope = None) -> ReceiverView:
        """Somebody to be told; the same address on the same level again changes its settings.

        Raises `Invalid` for a name or an address that cannot be used, `NotFound` for a region out of scope.
        """
        if not self._sees(scope, new.region):
            raise NotFound(f"there is no region {new.region} for you", pointer="/region")
        check_name(new.name)
        check_address(new.kind, new.address)
        held = self._held(new)
        if held is not None and not self._sees(scope, held.region):
            raise Conflict("this address is already a receiver of another region", pointer="/address")
        row = new.model_dump()
        self._store.add_receiver(
            row, lambda db: self._audit(db, by, "receiver.added", new.name, _without_secrets(row), new.region)
        )
        added = self._held(new)
        assert added is not None  # noqa: S101 - it has just been stored
        return added

    def _held(self, new: Receiver) -> ReceiverView | None:
        key = (new.kind, new.address, new.level)
        return next((one for one in self.receivers() if (one.kind, one.address, one.level) == key), None)

    def remove_receiver(self, one: int, by: str, scope: Scope = None) -> None:
        """Tell this receiver no more. Raises `NotFound`."""
        held = next((held for held in self.receivers(scope) if held.id == one), None)
        if held is None:
            raise NotFound(f"there is no receiver {one}", pointer="/receiver")
        told, region = _without_secrets(held.model_dump(include=set(Receiver.model_fields))), held.region
        if not self._store.remove_receiver(
            one, lambda db: self._audit(db, by, "receiver.removed", held.name, told, region)
        ):
            raise NotFound(f"there is no receiver {one}", pointer="/receiver")

    def shelve(self, gateway: str, rule: str, minutes: int, by: str, reason: str, scope: Scope = None) -> ShelfView:
        """Keep quiet about a rule of a gateway until the time is over. Raises `NotFound`, `Invalid`."""
        watched = self._gateway(gateway, scope)
        if rule != "*" and rule not in {one.id for one in watched.rules}:
            raise NotFound(f"gateway {gateway} has no rule {rule[:48]}", pointer="/rule")
        if minutes < 1:
            raise Invalid("a shelf needs an end in the future", pointer="/minutes")
        until = self._shelve({(gateway, rule): watched.region}, minutes, by, reason)
        return ShelfView(gateway=gateway, rule=rule, until_ms=until, by=by, reason=reason)

    def shelves(self, scope: Scope = None) -> list[ShelfView]:
        """Shelves in scope that have not expired."""
        mine = {one.gateway for one in self._watched() if self._sees(scope, one.region)}
        return [ShelfView(**row) for row in self._store.shelves(self._clock()) if row["gateway"] in mine]

    def rules(self, gateway: str, scope: Scope = None) -> list[RuleView]:
        """The rules that watch a gateway. Raises `NotFound`."""
        return [rule_view(rule) for rule in self._gateway(gateway, scope).rules]

    def _gateway(self, gateway: str, scope: Scope) -> Watched:
        for one in self._watched():
            if one.gateway == gateway and self._sees(scope, one.region):
                return one
        raise NotFound(f"there is no gateway {gateway[:36]}", pointer="/gateway")

    def _sees(self, scope: Scope, region: str) -> bool:
        return scope is None or self._covers(region, scope)

    def _shelved(self) -> set[tuple[str, str]]:
        return {(row["gateway"], row["rule"]) for row in self._store.shelves(self._clock())}


def _without_secrets(row: Mapping[str, Any]) -> dict[str, Any]:
    """A receiver for the trail, which auditors read: beyond its host, a chat robot's URL is its password."""
    if row["kind"] != "webhook":
        return dict(row)
    scheme, _, rest = str(row["address"]).partition("://")
    host = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]
    return {**row, "address": f"{scheme}://{host}/…"}


def storms(alarms: Sequence[AlarmView]) -> list[Storm]:
    """Open alarms of one region that began within five minutes of each other, where there are five or more."""
    by_region: dict[str, list[AlarmView]] = defaultdict(list)
    for one in alarms:
        if one.state in {"raised", "acknowledged"}:
            by_region[one.region].append(one)
    found: list[Storm] = []
    for region, members in by_region.items():
        members.sort(key=lambda one: one.raised_ms)
        starts = [n for n, one in enumerate(members) if n == 0 or one.raised_ms - members[n - 1].raised_ms > STORM_MS]
        for start, end in zip(starts, [*starts[1:], len(members)], strict=True):
            if end - start >= STORM_SIZE:
                found.append(_storm(region, members[start:end]))
    return found


def _storm(region: str, members: Sequence[AlarmView]) -> Storm:
    gateways = len({one.gateway for one in members})
    return Storm(
        title_zh=f"{gateways}处共{len(members)}条告警",
        title_en=f"{len(members)} alarms at {gateways} gateways",
        region=region,
        first_ms=members[0].raised_ms,
        alarms=[one.id for one in members],
    )


def _view(row: Mapping[str, Any], shelved: set[tuple[str, str]]) -> AlarmView:
    texts = row["texts"]
    return AlarmView(
        **{key: row[key] for key in _SAME},
        gateway_name=texts.get("gateway", row["gateway"]),
        state=_state(row),
        zh=texts.get("zh", row["rule"]),
        en=texts.get("en", row["rule"]),
        action_zh=texts.get("action_zh", ""),
        action_en=texts.get("action_en", ""),
        source=texts.get("source", ""),
        subject=row["subject"].split(),
        shelved=bool(shelved & {(row["gateway"], row["rule"]), (row["gateway"], "*")}),
    )


_SAME = (
    *("id", "gateway", "region", "rule", "severity", "values", "since_ms", "raised_ms", "noticed_ms", "cleared_ms"),
    *("acknowledged_ms", "acknowledged_by", "historical"),
)


def _state(row: Mapping[str, Any]) -> AlarmState:
    if row["withdrawn_ms"] is not None:
        return "withdrawn"
    if row["cleared_ms"] is not None:
        return "cleared"
    return "raised" if row["acknowledged_ms"] is None else "acknowledged"
