"""People, what they may do where, how they sign in, and the record of what they did.

Nothing a person holds in their hand is kept here in clear: sign-in links and sessions are stored as SHA-256 of a
random token, passwords as argon2id. Rights are roles in regions (`cloud.who.Grant`). Every change anywhere in the
cloud is written to one append-only, hash-chained audit trail, in the same transaction as the change itself.
"""

from cloud.accounts.audit import AuditBroken
from cloud.accounts.guard import COOKIE, Guard
from cloud.accounts.router import build_router
from cloud.accounts.service import Accounts
from cloud.accounts.store import metadata

__all__ = ["COOKIE", "Accounts", "AuditBroken", "Guard", "build_router", "metadata"]
