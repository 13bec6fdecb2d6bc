"""Doors of accounts: sign in by link or password, see who one is, sign out, read the audit trail."""

import json
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from cloud.accounts.guard import COOKIE, session_of
from cloud.accounts.schemas import AuditEntry, Password, SessionView
from cloud.accounts.service import Accounts
from cloud.problems import Unauthenticated
from cloud.who import SignedIn

__all__ = ["build_router"]


def build_router(accounts: Accounts, *, home: str = "/console", secure: bool = False) -> APIRouter:
    """Routes of `accounts`. `home` is where a sign-in link leads; `secure` marks the cookie for HTTPS only."""
    router = APIRouter(tags=["accounts"])

    def remember(response: Response, session: str) -> None:
        response.set_cookie(COOKIE, session, httponly=True, samesite="lax", secure=secure, path="/")

    @router.get("/sign-in/{token}", include_in_schema=False)
    def follow_link(token: str) -> Response:
        """Use a one-time link: sets the session cookie and leads to the console."""
        response = RedirectResponse(home, status_code=303)
        remember(response, accounts.sign_in(token))
        # The address holds a secret, spent though it is: neither caches nor the next site may learn it.
        response.headers["Cache-Control"] = "no-store"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    @router.post("/sign-out", include_in_schema=False)
    def leave_by_form(request: Request) -> Response:
        """Sign out from a page."""
        response = RedirectResponse("/", status_code=303)
        _end(accounts, request, response)
        return response

    @router.get("/api/v1/session")
    def session(who: SignedIn) -> SessionView:
        """Who is signed in, with roles and regions."""
        return SessionView.of(who)

    @router.post("/api/v1/session", status_code=201)
    def sign_in(given: Password, response: Response) -> SessionView:
        """Sign in with a password."""
        token = accounts.sign_in_with_password(given.person, given.password)
        remember(response, token)
        who = accounts.who(token)
        if who is None:
            raise Unauthenticated("the account was disabled at this moment")
        return SessionView.of(who)

    @router.delete("/api/v1/session", status_code=204)
    def sign_out(request: Request, response: Response) -> None:
        """End the session; no error when there is none."""
        _end(accounts, request, response)

    @router.get("/api/v1/audit")
    def audit(
        who: SignedIn,
        before: Annotated[int | None, Query(ge=1, le=2**53)] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> list[AuditEntry]:
        """The audit trail of one's regions, newest first (auditors and admins)."""
        rows = accounts.audit_trail(who, before=before, limit=limit)
        return [AuditEntry(**(row | {"detail": json.loads(row["detail"])})) for row in rows]

    return router


def _end(accounts: Accounts, request: Request, response: Response) -> None:
    session = session_of({name.lower(): value for name, value in request.headers.items()})
    if session:
        accounts.sign_out(session)
    response.delete_cookie(COOKIE, path="/")
