"""Greener or barer than everything around it on the same day: what drought and season cannot explain.

A dry spring makes all fields late; only the field that stays behind its neighbours says something of itself.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from remote_sensing.cubes import Stack
from remote_sensing.indices import layers_of
from remote_sensing.kernels import less_median

CONTRAST = "contrast"
"""Layer: NDVI minus the median NDVI of all clear pixels of the cube on that date, -2..2."""
FEWEST = 3
"""With fewer clear pixels on a date there are no neighbours, and the contrast of that date is missing."""


def beside_neighbours(stack: Stack, layers: tuple[str, ...]) -> Stack:
    """The stack with the band ``contrast`` where ``layers`` ask for it, else the stack as it is.

    Must be given a whole cube (a scene), not a tile of it: the neighbours are the scene. Missing stays missing.
    """
    if CONTRAST not in layers:
        return stack
    contrast = np.empty(stack.clear.shape, np.int16)
    for date in range(stack.days.size):
        less_median(layers_of(stack.dates(date, date + 1), ("ndvi",))[0, 0], FEWEST, contrast[date])
    return replace(stack, bands={**stack.bands, CONTRAST: contrast})
