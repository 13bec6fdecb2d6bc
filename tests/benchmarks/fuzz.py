"""Foreign bytes against every decoder of ingest, guided by coverage (atheris, in a virtual environment under var/).

Counts runs and findings; a finding is printed with the bytes that led to it. Without atheris it says how to get it.
"""

import os
import re
import subprocess
import sys
import sysconfig
import tempfile

from measuring import ROOT, bench
from processes import ProcessError

_HOME = ROOT / "var" / "peers" / "atheris"
_WANTED = "atheris>=2.3,<4"


def arguments(parser):
    parser.add_argument("--seconds", type=int, default=60, help="how long (default: 60)")


def installed():
    """The interpreter that has atheris; made where it is missing."""
    python = _HOME / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", _HOME], check=True)
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", _WANTED], capture_output=True, text=True, check=False
    )
    if done.returncode and subprocess.run([python, "-c", "import atheris"], check=False).returncode:
        raise ProcessError(f"atheris cannot be installed here: {done.stderr.strip()[-300:]}")
    return python


def measure(args, report):
    python = installed()
    # Its own environment has atheris only; the product and what it needs come from ours.
    paths = os.pathsep.join([str(ROOT), sysconfig.get_path("purelib")])
    with tempfile.TemporaryDirectory(prefix="tianmai-fuzz-") as folder:
        program = ROOT / "tests" / "harness" / "fuzz_decoders.py"
        command = [python, program, folder, f"-max_total_time={args.seconds}", "-max_len=8192", "-print_final_stats=1"]
        done = subprocess.run(
            command, cwd=folder, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=False
        )
    text = done.stdout + done.stderr
    runs = re.search(r"stat::number_of_executed_units:\s+(\d+)", text)
    if done.returncode:
        print(text[-5000:], flush=True)
    report.figure("runs", int(runs[1]) if runs else 0, at_least=1)
    report.figure("findings", int(done.returncode != 0), exactly=0)


if __name__ == "__main__":
    sys.exit(bench("fuzz", measure, arguments))
