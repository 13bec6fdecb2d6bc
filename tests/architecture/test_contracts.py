"""Every import contract of pyproject.toml is kept, and each of them notices when it is broken.

The contracts run on a copy of the real packages with one import added, so that what is proven is the contract as it
stands, on the tree as it stands.
"""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("edge", "cloud", "traceability", "remote_sensing")
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]

# contract -> (file that gets the import, the import); several ways to break one contract may be listed
BREACHES = [
    ("cloud composes; the three never meet", "traceability/breach.py", "import remote_sensing"),
    ("cloud composes; the three never meet", "edge/breach.py", "import cloud.settings"),
    ("engines know no web, broker or database", "traceability/breach.py", "import fastapi"),
    ("engines know no web, broker or database", "remote_sensing/breach.py", "import sqlalchemy"),
    ("a gateway stays small", "edge/breach.py", "import numpy"),
    ("cloud knows of edge only the contract", "cloud/breach.py", "import edge.agent"),
    ("cloud knows of edge only the contract", "cloud/telemetry/breach.py", "from edge.spool import Spool"),
    ("contexts of the cloud are independent", "cloud/land/breach.py", "import cloud.telemetry.store"),
    (
        "inside a context the door asks the service, the service asks the store",
        "cloud/accounts/store.py",
        "import cloud.accounts.service",
    ),
    (
        "inside a context the door asks the service, the service asks the store",
        "cloud/accounts/service.py",
        "def late() -> None:\n    import cloud.accounts.router",
    ),
    ("pages ask services, never stores", "cloud/pages/breach.py", "import cloud.accounts.store"),
    ("no cycles", "cloud/problems.py", "import cloud.app"),
]


@pytest.fixture(scope="module")
def copied_house(tmp_path_factory):
    """The sources of the four packages and the contracts, in a folder where they may be broken."""
    house = tmp_path_factory.mktemp("house")
    shutil.copy(ROOT / "pyproject.toml", house)
    for package in PACKAGES:
        for source in (ROOT / package).rglob("*.py"):
            if "node_modules" not in source.parts:
                copy = house / source.relative_to(ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, copy)
    for wanted in ("edge/agent.py", "edge/spool/__init__.py"):
        (house / wanted).parent.mkdir(exist_ok=True)
        (house / wanted).touch()
    return house


def judge(house):
    """The names of the broken contracts of a house, and what the linter said."""
    # `python -c` looks into the current folder first: the copy is judged, not the checkout.
    lint = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run([sys.executable, "-c", lint, "--no-cache"], cwd=house, capture_output=True, text=True)
    judged = dict(re.findall(r"^(.+?) (KEPT|BROKEN)\b", done.stdout, re.MULTILINE))
    assert set(judged) == {contract["name"] for contract in CONTRACTS}, done.stdout + done.stderr
    return {name for name, verdict in judged.items() if verdict == "BROKEN"}, done.stdout


def test_the_house_keeps_every_contract(copied_house):
    broken, said = judge(copied_house)
    assert not broken, said


@pytest.mark.parametrize(("contract", "file", "line"), BREACHES, ids=[f"{file}: {line}" for _, file, line in BREACHES])
def test_a_contract_notices_its_breach(copied_house, contract, file, line):
    path = copied_house / file
    before = path.read_text() if path.exists() else None
    path.write_text(f"{before or ''}\n{line}\n")
    try:
        broken, _ = judge(copied_house)
    finally:
        path.unlink() if before is None else path.write_text(before)
    assert contract in broken


def test_no_contract_is_without_a_breach():
    assert {contract["name"] for contract in CONTRACTS} == {contract for contract, _, _ in BREACHES}


def test_the_root_of_edge_holds_no_door_around_its_contract():
    """The cloud may import `edge` itself for its base error: so it must not lead further in."""
    tree = ast.parse((ROOT / "edge" / "__init__.py").read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert {getattr(node, "module", None) for node in imports} <= {"__future__"}
