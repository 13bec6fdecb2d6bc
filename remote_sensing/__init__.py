"""The science of abandoned farmland 撂荒地: states, years and areas from space, with honest uncertainty.

Annual evidence of cultivation -> a calibrated look at each year -> a hidden Markov chain over years ->
parcels. ``detect`` is the door; ``synthetic.county`` makes a labelled invented scene to try it on.
A detection is a clue for a person to check, never a finding.
"""

from remote_sensing.cubes import Calendar, LandError
from remote_sensing.detection import Detection, Detections, detect
from remote_sensing.profiles import CN_ADMIN, ONE_YEAR, PROFILES, YIN2020, Profile
from remote_sensing.reasons import Onset

__all__ = [
    "CN_ADMIN",
    "ONE_YEAR",
    "PROFILES",
    "YIN2020",
    "Calendar",
    "Detection",
    "Detections",
    "LandError",
    "Onset",
    "Profile",
    "detect",
]
