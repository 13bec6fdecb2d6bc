"""What the gateway says about itself: figures for ``status``, read from the operating system."""

from __future__ import annotations

import os
from pathlib import Path


def rss_bytes() -> int:
    """Memory this process holds; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def disk_free_bytes(directory: Path) -> int:
    """Room left where the spool lives; 0 where the system does not tell."""
    try:
        room = os.statvfs(directory)
    except OSError:
        return 0
    return room.f_bavail * room.f_frsize
