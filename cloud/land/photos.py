"""Field photos on disk: named by their own SHA-256, decoded before they are believed.

The bytes are kept exactly as they came, because the hash is the evidence; the name they came with is thrown away.
"""

import io
import os
import uuid
import warnings
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from PIL import Image, UnidentifiedImageError

from cloud.land.model import LandRules
from cloud.problems import Invalid, NotFound, TooLarge

__all__ = ["Photo", "Photos", "differing_bits"]

_TYPES: Final = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
_MOST_PIXELS: Final = 80_000_000
_GRID: Final = 8
# What Pillow raises for bytes that are no honest picture; of one that unpacks to far more than it weighs it only warns,
# and beyond twice that it refuses.
_UNREADABLE: Final = (
    UnidentifiedImageError,
    OSError,
    ValueError,
    SyntaxError,
    Image.DecompressionBombWarning,
    Image.DecompressionBombError,
)


@dataclass(frozen=True, slots=True)
class Photo:
    """A picture that could be decoded. `look` is a 64-bit difference hash in hex: alike pictures, few bits apart."""

    sha256: str
    media_type: str
    width: int
    height: int
    look: str


class Photos:
    """The folder of photos."""

    def __init__(self, folder: Path, rules: LandRules) -> None:
        self._folder = folder
        self._rules = rules

    def read(self, content: bytes) -> Photo:
        """Check and describe a picture. Raises `TooLarge`, or `Invalid` with code `photo_unreadable`."""
        if len(content) > self._rules.photo_bytes:
            raise TooLarge(f"the photo has {len(content)} bytes; the limit is {self._rules.photo_bytes}")
        try:
            with warnings.catch_warnings():
                # Pillow only warns of pictures that unpack to far more than they weigh.
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(io.BytesIO(content), formats=tuple(_TYPES)) as image:
                    if image.width * image.height > _MOST_PIXELS:
                        raise TooLarge(f"the photo has {image.width} x {image.height} pixels; that is too many")
                    kind, width, height, look = str(image.format), image.width, image.height, _look(image)
        except _UNREADABLE as why:
            raise Invalid(
                "the photo cannot be decoded as JPEG, PNG or WebP: send the original file", code="photo_unreadable"
            ) from why
        if min(width, height) < self._rules.photo_shortest_side_px:
            raise Invalid(
                f"the photo has {width} x {height} pixels; at least {self._rules.photo_shortest_side_px} "
                "on the short side are needed to see a field",
                code="photo_too_small",
            )
        return Photo(sha256(content).hexdigest(), _TYPES[kind], width, height, look)

    def keep(self, photo: Photo, content: bytes) -> None:
        """Write the bytes; durable when it returns. Writing the same photo again changes nothing."""
        path = self.path(photo.sha256)
        if path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{uuid.uuid4().hex}")
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)

    def path(self, digest: str) -> Path:
        """Where a photo lies. Raises `NotFound` for what is no hash."""
        if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):  # noqa: PLR2004 - SHA-256 in hex
            raise NotFound("no such photo")
        return self._folder / digest[:2] / digest


def differing_bits(look: str, other: str) -> int:
    """How far apart two pictures look, 0..64."""
    return (int(look, 16) ^ int(other, 16)).bit_count()


def _look(image: Image.Image) -> str:
    small = image.convert("L").resize((_GRID + 1, _GRID), Image.Resampling.BILINEAR)
    values = small.tobytes()
    bits = 0
    for row in range(_GRID):
        for column in range(_GRID):
            at = row * (_GRID + 1) + column
            bits = bits << 1 | (values[at] > values[at + 1])
    return f"{bits:016x}"
