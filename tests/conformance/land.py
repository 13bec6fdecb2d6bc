"""How well land states are judged: every figure through the public detect or its pixel-series door.

Fitted only on --train, judged only on --data; when both are the same folder, by blocks of places. Sets that
are absent are null. Land-use maps are no input. Undecided counts as wrong on labelled sets.
"""

import os
import sys

# products this small are slower on many threads, and hopeless beside other work; must be said before numpy is there
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from land_labels import score_central_asia, score_modis
from land_made import score_made
from land_spliced import score as score_spliced
from land_stable import score_landsat, score_slovenia
from measuring import conform


def score(args, report):
    score_slovenia(report, args.data)
    score_landsat(report, args.data)
    score_modis(report, args.train, args.data)
    score_spliced(report, args.train, args.data)
    score_central_asia(report, args.train, args.data)
    score_made(report)


if __name__ == "__main__":
    sys.exit(conform("land", score, default="remote_sensing"))
