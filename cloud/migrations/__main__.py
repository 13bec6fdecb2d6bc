"""`python -m cloud.migrations MESSAGE`: write the next revision from what the contexts' tables have become."""

import sys
import tempfile
from pathlib import Path

from cloud.database import open_database
from cloud.migrations import revise

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        engine = open_database(f"sqlite:///{Path(folder) / 'empty.db'}")
        revise(engine, " ".join(sys.argv[1:]) or "change")
        engine.dispose()
