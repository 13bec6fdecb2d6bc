"""House rules that a machine can check: what lies where, what locks and sources may not say, what the docs promise."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("edge", "cloud", "traceability", "remote_sensing")
TOP = {*PACKAGES, "tests", "docs", "pyproject.toml", "README.md", "dev", "dev.lock", "CHANGELOG.md"}
COMMANDS = ("tianmai-edge", "tianmai-cloud", "tianmai-trace", "tianmai-land")
README = ROOT / "README.md"


@pytest.fixture(scope="module")
def tracked():
    """The paths that git knows of, relative to the checkout."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [Path(name) for name in listing.split("\0") if name and (ROOT / name).exists()]


def offences(tracked, pattern, *, suffixes=(".py", ".ts", ".toml", ".html", ".md", ""), under=()):
    """Every `path:line` of the tracked texts that matches."""
    found = []
    for path in tracked:
        if path.suffix in suffixes and (not under or path.parts[0] in under):
            lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
            found += [
                f"{path}:{number}: {line.strip()}" for number, line in enumerate(lines, 1) if re.search(pattern, line)
            ]
    return found


@pytest.fixture(scope="module")
def helps():
    """What each console script says of itself."""
    programs = {command: Path(sys.executable).with_name(command) for command in COMMANDS}
    calls = {
        name: subprocess.Popen([path, "--help"], stdout=-1, stderr=-1, text=True) for name, path in programs.items()
    }
    said = {name: call.communicate() for name, call in calls.items()}
    assert {name: call.returncode for name, call in calls.items()} == dict.fromkeys(COMMANDS, 0), said
    return {name: out for name, (out, _) in said.items()}


def test_the_top_holds_the_house_and_nothing_else(tracked):
    top = {path.parts[0] for path in tracked}
    assert {name for name in top if not name.startswith(".")} <= TOP
    assert {*PACKAGES, "tests", "docs", "pyproject.toml", "README.md", "dev", "dev.lock", "CHANGELOG.md", ".ci"} <= top


def test_nobody_owns_a_room_for_everything(tracked):
    rooms = {"common", "utils", "util", "helpers", "misc", "shared"}
    assert not [path for path in tracked if path.suffix == ".py" and rooms & {*path.parts[:-1], path.stem}]


def test_tests_are_no_packages(tracked):
    assert not [path for path in tracked if path.parts[0] == "tests" and path.name == "__init__.py"]


@pytest.mark.parametrize("lock", ["dev.lock", "cloud/frontend/package-lock.json", "cloud/frontend/.npmrc"])
def test_a_lock_names_no_index(lock):
    text = (ROOT / lock).read_text()
    assert not re.findall(r"://|--(?:extra-)?index-url|--find-links|\"resolved\"|^registry", text, re.MULTILINE)


def test_every_silenced_check_says_which(tracked):
    pattern = r"#\s*(ruff: )?no" + r"qa(?!: [A-Z]+\d)|#\s*type:\s*ig" + r"nore(?!\[)|pragma: no " + "cover"
    assert not offences(tracked, pattern, suffixes=(".py", ".ts", ""))


def test_there_are_no_stand_ins(tracked):
    words = [
        r"\bTO" + r"DO\b",
        r"\bFIX" + r"ME\b",
        "NotImplemented" + "Error",
        r"unittest\." + "mock",
        r"monkeypatch\.set" + "attr",
    ]
    assert not offences(tracked, "|".join(words), suffixes=(".py", ".ts", ".html"))


def test_no_path_of_a_private_machine_is_written_down(tracked):
    assert not offences(tracked, r"[\"'` (]/(work|root|home/\w+|Users)/")


def test_the_readme_is_short_and_gives_the_two_commands():
    text = README.read_text()
    assert len(text.splitlines()) <= 120
    assert "./dev run" in text
    assert "./dev test" in text


def test_every_dev_command_in_the_docs_exists(tracked):
    jobs = set(re.findall(r"^    \./dev (\w+)", (ROOT / "dev").read_text(), re.MULTILINE))
    for path in tracked:
        if path.suffix == ".md":
            named = set(re.findall(r"\./dev (\w+)", (ROOT / path).read_text()))
            assert named <= jobs, f"{path} names {named - jobs}"


def test_every_bench_and_conform_program_in_the_docs_exists(tracked):
    folders = {"bench": ROOT / "tests" / "benchmarks", "conform": ROOT / "tests" / "conformance"}
    for path in tracked:
        if path.suffix == ".md":
            for job, name in re.findall(r"\./dev (bench|conform) ([a-z]\w*)", (ROOT / path).read_text()):
                assert (folders[job] / f"{name}.py").exists(), f"{path} names ./dev {job} {name}"


def test_every_console_script_explains_itself(helps):
    assert all(command in text for command, text in helps.items())


def test_every_product_command_in_the_docs_exists(tracked, helps):
    for path in tracked:
        if path.suffix == ".md":
            for command, sub in re.findall(
                r"(tianmai-(?:edge|cloud|trace|land)) ([a-z]+)\b", (ROOT / path).read_text()
            ):
                assert re.search(rf"\b{sub}\b", helps[command]), f"{path} names {command} {sub}"
