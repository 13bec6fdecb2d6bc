"""Witnesses: others who remember the log's head, so that its owner cannot keep two books.

A witness signs a head only if it extends the last one it signed; it keeps that one on disk before it answers. A log
that was rolled back, or rewritten and signed again, finds no witness any more. `Witness` is the rule, `serve` its
small server, `cosign` the log's side of it.

Source: C2SP tlog-witness, tlog-cosignature.
"""

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from traceability import TraceError
from traceability.canon import from_base64, to_base64
from traceability.keys import SigningKey, VerifierKey
from traceability.ledger import Ledger
from traceability.merkle import verify_consistency
from traceability.notes import MAX_NOTE_CHARS, Checkpoint, Note, NoteSignature
from traceability.policy import Policy
from traceability.stores import Conflict, FileHead, HeadStore

MAX_BODY_BYTES: Final = 4 * MAX_NOTE_CHARS
_OLD: Final = re.compile(r"old (0|[1-9][0-9]{0,18})")
_MAX_PROOF_LINES: Final = 63
_TIMEOUT_S: Final = 10

Send = Callable[[bytes], tuple[int, bytes]]
"""Post an add-checkpoint request; gives status and body, raises `WitnessAway` if nobody answers."""


class WitnessError(TraceError):
    """A witness did not sign."""

    default_code = "no_cosignature"


class WitnessAway(WitnessError):
    """Nobody answered; try again later."""

    default_code = "witness_away"


class Contradiction(WitnessError):
    """The witness remembers another log than this one: rolled back (``rolled_back``) or rewritten (``forked``)."""

    default_code = "forked"


@dataclass(frozen=True)
class Answer:
    """What the witness answers, in the terms of HTTP that tlog-witness prescribes."""

    status: int
    body: str = ""
    content_type: str = "text/plain; charset=utf-8"


class Witness:
    """Signs heads of the logs it knows, each only if it extends the last. Safe to call from many threads."""

    def __init__(
        self,
        key: SigningKey,
        logs: Mapping[str, Sequence[VerifierKey]],
        heads: Callable[[str], HeadStore],
        *,
        seconds: Callable[[], int],
    ) -> None:
        """`logs`: keys by origin; `heads`: where the last head of an origin is kept, durably; `seconds`: since 1970."""
        self.key, self._logs, self._seconds = key, logs, seconds
        self._heads = {origin: heads(origin) for origin in logs}
        self._locks = {origin: threading.Lock() for origin in logs}

    def add_checkpoint(self, body: bytes) -> Answer:
        """Judge one request: 200 with the cosignature, or 400, 403, 404, 409, 422 as tlog-witness says."""
        try:
            old, proof, note = _parse_request(body)
            checkpoint = Checkpoint.parse(note.text)
        except TraceError as why:
            return Answer(400, f"{why}\n")
        keys = self._logs.get(checkpoint.origin)
        if keys is None:
            return Answer(404, f"log {checkpoint.origin} is not known here\n")
        try:
            signed = note.signed_by(keys)
        except TraceError as why:
            return Answer(403, f"{why}\n")
        if not signed:
            return Answer(403, "no signature by a key of this log\n")
        if old > checkpoint.size:
            return Answer(400, f"old size {old} is above the size {checkpoint.size}\n")
        with self._locks[checkpoint.origin]:
            return self._extend(old, proof, checkpoint)

    def _extend(self, old: int, proof: Sequence[bytes], checkpoint: Checkpoint) -> Answer:
        store = self._heads[checkpoint.origin]
        kept = store.read()
        last = Checkpoint.parse(kept) if kept is not None else None
        size = last.size if last else 0
        if old != size:
            return Answer(409, f"{size}\n", "text/x.tlog.size")
        if last is not None and last.size == checkpoint.size and last.root != checkpoint.root:
            return Answer(409, f"{size}\n", "text/x.tlog.size")
        try:
            if last is None or size == 0:
                _must_be_empty(proof)
            else:
                verify_consistency(size, checkpoint.size, proof, last.root, checkpoint.root)
        except TraceError as why:
            return Answer(422, f"{why}\n")
        if last is None or checkpoint.size > size:
            try:
                store.replace(kept, checkpoint.text)  # on disk before the answer
            except Conflict:  # another process of the same witness was faster
                return Answer(409, f"{Checkpoint.parse(store.read() or '').size}\n", "text/x.tlog.size")
        blob = self.key.sign(checkpoint.text.encode(), seconds=self._seconds())
        return Answer(200, NoteSignature(self.key.verifier.name, self.key.verifier.key_id, blob).line)


def open_witness(folder: Path, key: SigningKey, policy: Policy, *, seconds: Callable[[], int]) -> Witness:
    """A witness for the logs of a policy that keeps what it signed in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    logs: dict[str, list[VerifierKey]] = {}
    for log in policy.logs:
        logs.setdefault(log.origin, []).append(log.trusted.key)

    def head_of(origin: str) -> FileHead:
        return FileHead(folder / f"{sha256(origin.encode()).hexdigest()[:32]}.head", durable=True)

    return Witness(key, logs, head_of, seconds=seconds)


def serve(witness: Witness, address: tuple[str, int]) -> ThreadingHTTPServer:
    """A server for ``POST /add-checkpoint``, bound but not yet running: call its `serve_forever`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            if not length.isdigit() or int(length) > MAX_BODY_BYTES:
                self.close_connection = True
                self._say(Answer(413 if length.isdigit() else 411))
                return
            body = self.rfile.read(int(length))
            self._say(_judge(witness, body) if self.path.endswith("/add-checkpoint") else Answer(404))

        def do_GET(self) -> None:
            self._say(Answer(200, witness.key.verifier.vkey + "\n") if self.path == "/" else Answer(404))

        def _say(self, answer: Answer) -> None:
            data = answer.body.encode()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:  # type: ignore[explicit-override]  # @override needs Python 3.12
            """Say nothing: what matters is in the heads that were kept."""

    return ThreadingHTTPServer(address, Handler)


def _judge(witness: Witness, body: bytes) -> Answer:
    try:
        return witness.add_checkpoint(body)
    except TraceError as why:  # what cannot be kept is not signed
        return Answer(HTTPStatus.SERVICE_UNAVAILABLE, f"{why}\n")


@dataclass
class WitnessClient:
    """The log's side of one witness: its key, how to reach it, and the size it is believed to hold."""

    key: VerifierKey
    send: Send
    size: int = 0

    def cosign(self, note: Note, ledger: Ledger) -> NoteSignature:
        """The witness's signature for a head of this ledger.

        Raises `WitnessAway`, `Contradiction` if the witness remembers another log, or `WitnessError` with its answer.
        """
        checkpoint = Checkpoint.parse(note.text)
        status, body = self._offer(note, checkpoint.size, ledger)
        if status == HTTPStatus.UNPROCESSABLE_ENTITY:
            raise Contradiction(f"witness {self.key.name} has seen another tree of {self.size} entries")
        if status != HTTPStatus.OK:
            said = body[:200].decode(errors="replace").strip()
            raise WitnessError(f"witness {self.key.name} answered {status}: {said}")
        self.size = checkpoint.size
        return self._own_line(note, body)

    def _offer(self, note: Note, size: int, ledger: Ledger) -> tuple[int, bytes]:
        for _ in range(3):  # again with the size it told us, and once more if it moved meanwhile
            old = min(self.size, size)
            status, body = self.send(_request(old, ledger.consistency(old, size), note))
            if status != HTTPStatus.CONFLICT:
                return status, body
            held = _size(body)
            if held > size:
                told = f"witness {self.key.name} has seen {held} entries, this log has {size}"
                raise Contradiction(told, code="rolled_back")
            if held == old:
                raise Contradiction(f"witness {self.key.name} has seen another tree of {held} entries")
            self.size = held
        raise WitnessError(f"witness {self.key.name} moved on each time it was asked")

    def _own_line(self, note: Note, body: bytes) -> NoteSignature:
        try:
            lines = [NoteSignature.parse(line) for line in body.decode().removesuffix("\n").split("\n")]
        except (TraceError, UnicodeDecodeError) as why:
            raise WitnessError(f"witness {self.key.name} answered no signature: {why}") from why
        for line in lines:
            if line.is_by(self.key):
                self.key.check(note.text.encode(), line.blob)
                return line
        raise WitnessError(f"witness {self.key.name} signed with another key")


@dataclass(frozen=True)
class Cosigned:
    """A head with the cosignatures that could be had, and why the others are missing."""

    note: Note
    missing: Mapping[str, WitnessError]


def cosign(ledger: Ledger, witnesses: Sequence[WitnessClient]) -> Cosigned:
    """The newest head with a line of every witness that signs it. Keep it: packs are made under it."""
    note = Note.parse(ledger.checkpoint())
    lines, missing = [], {}
    for witness in witnesses:
        try:
            lines.append(witness.cosign(note, ledger))
        except WitnessError as why:
            missing[witness.key.name] = why
        except TraceError as why:
            missing[witness.key.name] = WitnessError(str(why))
    return Cosigned(Note(note.text, (*note.signatures, *lines)), missing)


def post_to(url: str, *, timeout_s: float = _TIMEOUT_S) -> Send:
    """`Send` over HTTP to a witness's submission prefix, ``http(s)://host/prefix``."""
    if not url.startswith(("http://", "https://")):
        raise WitnessError(f"witness address {url!r}: http:// or https:// is expected")
    target = f"{url.rstrip('/')}/add-checkpoint"

    def send(body: bytes) -> tuple[int, bytes]:
        request = Request(target, data=body, method="POST")  # noqa: S310  the scheme was looked at above
        try:
            with urlopen(request, timeout=timeout_s) as response:  # noqa: S310
                return response.status, response.read(MAX_BODY_BYTES)
        except HTTPError as why:
            with why:
                return why.code, why.read(MAX_BODY_BYTES)
        except (URLError, OSError) as why:
            raise WitnessAway(f"no answer from {target}: {why}") from why

    return send


def _request(old: int, proof: Sequence[bytes], note: Note) -> bytes:
    return "\n".join([f"old {old}", *map(to_base64, proof), "", note.whole]).encode()


def _parse_request(body: bytes) -> tuple[int, list[bytes], Note]:
    try:
        top, gap, note = body.decode().partition("\n\n")
    except UnicodeDecodeError as why:
        raise WitnessError("the request is not UTF-8") from why
    first, *lines = top.split("\n")
    match = _OLD.fullmatch(first)
    if match is None or not gap or len(lines) > _MAX_PROOF_LINES:
        raise WitnessError("a request is: old SIZE, up to 63 hashes, an empty line, a checkpoint")
    return int(match[1]), [from_base64(line) for line in lines], Note.parse(note)


def _must_be_empty(proof: Sequence[bytes]) -> None:
    if proof:
        raise WitnessError("the proof from an empty tree is empty")


def _size(body: bytes) -> int:
    text = body.decode("ascii", "replace").removesuffix("\n")
    if not re.fullmatch(r"0|[1-9][0-9]{0,18}", text):
        raise WitnessError(f"a size is expected, not {text[:40]!r}")
    return int(text)
