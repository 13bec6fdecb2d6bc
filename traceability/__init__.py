"""The chain: events nobody can rewrite, and codes anybody can check.

A farm writes down what happened to a lot (`events`, `codes`, `chain_rules`); the fact becomes one line of an
append-only Merkle log (`ledger`, on `merkle`, `notes`, `stores`); witnesses who do not trust us sign what they saw
(`witness`); a lot is followed both ways (`custody`, `recall`); and whoever holds the pack gets a story (`story`,
`labels`) with its proof (`packs`), which `tianmai-trace verify` checks on any machine without asking us.

Nothing here knows a web server, a broker or a database, and nothing asks to be believed: keys come from a policy
file that the reader holds, never from what is being checked.
"""

from typing import ClassVar


class TraceError(Exception):
    """Something is wrong with an event, a code, a proof or the log; `code` is stable, the message is for people."""

    default_code: ClassVar[str] = "trace"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code or self.default_code


__all__ = ["TraceError"]
