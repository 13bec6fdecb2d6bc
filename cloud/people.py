"""`tianmai-cloud people`: who may do what, and the links they sign in with.

Whoever may run commands on this machine may do this; each step stands in the audit trail as done by "command line".
"""

import argparse
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from cloud.settings import Settings

if TYPE_CHECKING:
    from cloud.accounts import Accounts

__all__ = ["ROLES", "arguments", "people"]

_BY: Final = "command line"
# The values of `cloud.who.Role`, which would bring the whole web framework into every start; a test compares them.
ROLES: Final = ("admin", "analyst", "collector", "reviewer", "auditor", "operator", "tracer", "viewer")


def people(args: argparse.Namespace, settings: Settings) -> list[dict[str, Any]]:
    """Do what the parsed command asks for; the lines to print. Raises `Invalid`, `NotFound`, `Refused`."""
    from cloud.who import Role  # noqa: PLC0415 - only this command loads the services
    from cloud.wiring import build_office  # noqa: PLC0415

    with closing(build_office(settings)) as office:
        accounts = office.accounts
        if args.action == "list":
            return accounts.people()
        if args.action == "add":
            office.regions.expect(args.region)
            person = accounts.newcomer(args.name, args.id, by=_BY)
            accounts.grant(person, Role(args.role), args.region, by=_BY, until_ms=_end_ms(args.until, settings))
            return [_link(accounts, person, settings)]
        if args.action == "grant":
            office.regions.expect(args.region)
            accounts.grant(args.id, Role(args.role), args.region, by=_BY, until_ms=_end_ms(args.until, settings))
        elif args.action == "revoke":
            accounts.revoke(args.id, Role(args.role), args.region, by=_BY)
        elif args.action == "disable":
            accounts.disable(args.id, by=_BY)
        else:
            return [_link(accounts, args.id, settings)]
    return []


def _end_ms(day: datetime | None, settings: Settings) -> int | None:
    """The first instant after this day, where the office is."""
    if day is None:
        return None
    end = datetime.combine(day.date() + timedelta(days=1), time(), ZoneInfo(settings.timezone))
    return int(end.timestamp() * 1000)


def _link(accounts: "Accounts", person: str, settings: Settings) -> dict[str, Any]:
    token = accounts.issue_sign_in(person, hours=settings.sign_in_minutes / 60, by=_BY)
    return {"id": person, "sign_in": f"{settings.site}/sign-in/{token}"}


def arguments(parser: argparse.ArgumentParser, parents: Sequence[argparse.ArgumentParser]) -> None:
    """The words that `people` understands."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, text: str, *, person: bool = True, role: bool = False) -> argparse.ArgumentParser:
        made = actions.add_parser(name, parents=list(parents), help=text, description=text)
        if person:
            made.add_argument("id", help="the person's id, as `list` shows it")
        if role:
            made.add_argument("--role", choices=ROLES, required=True, help="what for")
            made.add_argument("--region", required=True, help="region code; the role holds in it and all below it")
        return made

    action("list", "one JSON line for each person: id, name, roles and regions, whether locked out", person=False)
    add = action("add", "make a person with a first role; prints a one-time sign-in link", person=False, role=True)
    add.add_argument("name", help="the person's name")
    add.add_argument("--id", help="an id that nobody has yet (default: one is made)")
    grant = action("grant", "give a person one more role", role=True)
    for each in (add, grant):
        each.add_argument("--until", type=datetime.fromisoformat, metavar="YYYY-MM-DD", help="the role's last day")
    action("revoke", "take a role away", role=True)
    action("disable", "lock a person out at once; what he did stays")
    action("link", "print a new one-time sign-in link for a person")
