"""A data return package as bytes: a ZIP of NDJSON files and a manifest, the same bytes for the same content.

manifest.json        region, day, previous package, and for each file rows, SHA-256 and what changed
parcels.ndjson       one JSON object a line, by id
parcels.changes.ndjson   {"id", "change": "added" | "changed" | "removed"} against the package before
"""

import json
import zipfile
from collections.abc import Iterable, Mapping
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from cloud.catalogue.model import Change
from cloud.problems import Invalid

__all__ = ["pack", "rows_of"]

_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the earliest time a ZIP can tell; a real one would change the bytes
Rows = Mapping[str, str]


def pack(
    header: Mapping[str, Any], files: Mapping[str, Iterable[Mapping[str, Any]]], before: Mapping[str, Rows]
) -> tuple[bytes, dict[str, dict[str, int]]]:
    """(the package, rows and changes by file). `before` holds the lines of the previous package by file and id."""
    told: dict[str, dict[str, int]] = {}
    manifest: dict[str, Any] = {"format": "tianmai-return@1", **header, "files": {}}
    content: dict[str, bytes] = {}
    for name in sorted(files):
        lines = _lines(name, files[name])
        change, listed = _compare(before.get(name, {}), lines)
        body = "".join(line + "\n" for line in lines.values()).encode()
        told[name] = {"rows": len(lines), "added": change.added, "changed": change.changed, "removed": change.removed}
        manifest["files"][f"{name}.ndjson"] = told[name] | {"sha256": sha256(body).hexdigest()}
        content[f"{name}.ndjson"] = body
        content[f"{name}.changes.ndjson"] = "".join(line + "\n" for line in listed).encode()
    out = BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in {"manifest.json": _line(manifest).encode() + b"\n", **content}.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), body, zipfile.ZIP_DEFLATED)
    return out.getvalue(), told


def rows_of(path: Path) -> dict[str, Rows]:
    """The lines of a package by file and id. Raises `Invalid` for a file that is no package of ours."""
    found: dict[str, Rows] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".ndjson") and ".changes." not in name]
            for name in names:
                lines = archive.read(name).decode().splitlines()
                found[name.removesuffix(".ndjson")] = {str(json.loads(line)["id"]): line for line in lines}
    except (OSError, zipfile.BadZipFile, ValueError, KeyError) as why:
        raise Invalid(f"{path.name} is not a data return package ({why})") from why
    return found


def _lines(name: str, rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    lines = {str(row["id"]): _line(row) for row in rows}
    if "/" in name or not name.isascii():
        raise Invalid(f"file name {name!r} in a package: plain letters only")
    return dict(sorted(lines.items()))


def _compare(before: Rows, now: Rows) -> tuple[Change, list[str]]:
    added = [key for key in now if key not in before]
    changed = [key for key in now if key in before and before[key] != now[key]]
    removed = [key for key in before if key not in now]
    words = (("added", added), ("changed", changed), ("removed", removed))
    listed = [_line({"id": key, "change": word}) for word, keys in words for key in sorted(keys)]
    return Change(len(added), len(changed), len(removed)), listed


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
