"""A small document that survives: written to a new file, synced, then put in the place of the old one."""

from __future__ import annotations

import json
import os
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def save(path: Path, document: Any) -> None:
    """Durable when it returns; the old document stays whole until then. Raises ``OSError``."""
    text = zlib.compress(json.dumps(document, separators=(",", ":")).encode())
    draft = path.with_suffix(".new")
    with draft.open("wb") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    draft.replace(path)
    names = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(names)
    finally:
        os.close(names)


def load(path: Path) -> Any:
    """The document, or None where there is none or it is damaged: state is worth keeping, never worth dying for."""
    try:
        return json.loads(zlib.decompress(path.read_bytes()))
    except (OSError, zlib.error, ValueError):
        return None
