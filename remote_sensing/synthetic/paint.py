"""From cells to pixels: the two inner loops of the scene generator (Voronoi terraces, blurred drawing)."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

FINE = 4
"""Fine cells along one pixel: 2.5 m drawing for 10 m pixels."""
FAR = np.float32(1e30)
REACH = 1
"""Fine cells beyond the pixel that the sensor's blur (sigma 0.5 px) still sees."""


@njit(cache=True, nogil=True)
def terraces(size: int, seeds: NDArray[np.float32], bucket: int) -> NDArray[np.int32]:
    """Owner (size, size) of every fine cell: the nearest seed in that seed's own stretched measure.

    ``seeds`` float32 (P, 5): x, y, cos and sin of the contour's direction, weight; stretched 3:1.
    """
    across = size // bucket + 1
    first = np.full((across, across), -1, np.int32)
    follow = np.full(seeds.shape[0], -1, np.int32)
    for p in range(seeds.shape[0]):
        i, j = int(seeds[p, 1]) // bucket, int(seeds[p, 0]) // bucket
        follow[p] = first[i, j]
        first[i, j] = p
    out = np.zeros((size, size), np.int32)
    for y in range(size):
        for x in range(size):
            best = FAR
            for ring in range(2, across + 1):
                for i in range(max(0, y // bucket - ring), min(across, y // bucket + ring + 1)):
                    for j in range(max(0, x // bucket - ring), min(across, x // bucket + ring + 1)):
                        p = first[i, j]
                        while p >= 0:
                            dx, dy = x + 0.5 - seeds[p, 0], y + 0.5 - seeds[p, 1]
                            along = (dx * seeds[p, 2] + dy * seeds[p, 3]) * 0.577
                            aside = (dy * seeds[p, 2] - dx * seeds[p, 3]) * 1.732
                            far = (along * along + aside * aside) / (seeds[p, 4] * seeds[p, 4])
                            if far < best:
                                best = far
                                out[y, x] = p
                            p = follow[p]
                if best < FAR:
                    break
    return out


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "arcp", "nsz"})
def draw(
    owners: NDArray[np.int32],
    table: NDArray[np.float32],
    texture: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]],
    shift: tuple[int, int],
    weights: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Blur and average the fine cells to pixels: float32 (B, rows, columns).

    ``owners`` (FINE * rows, FINE * columns); ``table`` (P, B) value of each cell; ``texture``: pattern of the ground
    like ``owners``, mean 0 and sd 1, by how much it shows in each cell (P,), and how each band takes it (B,), as shares
    of the value; ``shift`` misregistration in fine cells (y, x); ``weights`` (FINE + 2 * REACH, same) of the blur,
    sum 1.
    """
    rows, columns = owners.shape[0] // FINE, owners.shape[1] // FINE
    bands = table.shape[1]
    pattern, rough, takes = texture
    window = FINE + 2 * REACH
    out = np.empty((bands, rows, columns), np.float32)
    total = np.empty(bands, np.float32)
    for r in range(rows):
        for c in range(columns):
            for b in range(bands):
                total[b] = 0
            for i in range(window):
                y = min(max(r * FINE - REACH + i + shift[0], 0), owners.shape[0] - 1)
                for j in range(window):
                    x = min(max(c * FINE - REACH + j + shift[1], 0), owners.shape[1] - 1)
                    weight = weights[i, j]
                    who = owners[y, x]
                    lift = pattern[y, x] * rough[who]
                    for b in range(bands):
                        total[b] += weight * table[who, b] * (np.float32(1) + lift * takes[b])
            for b in range(bands):
                out[b, r, c] = total[b]
    return out


def blur_weights() -> NDArray[np.float32]:
    """Point spread of the sensor over the window of ``draw``: box of one pixel times Gaussian, sum 1."""
    offsets = (np.arange(FINE + 2 * REACH) - (FINE + 2 * REACH - 1) / 2) / FINE
    line = np.exp(-0.5 * (offsets / 0.5) ** 2) * np.where(np.abs(offsets) <= 0.5, 1.0, 0.5)  # noqa: PLR2004 - half a pixel
    plane = np.outer(line, line)
    weights: NDArray[np.float32] = (plane / plane.sum()).astype(np.float32)
    return weights
