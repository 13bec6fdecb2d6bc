"""How every `./dev bench NAME` and `./dev conform NAME` reports.

A program is one file, tests/benchmarks/NAME.py or tests/conformance/NAME.py. It has one function that does the work
and leaves its arguments, its figures, its last line and its exit code to this module::

    from measuring import Report, bench

    def measure(args, report):
        report.figure("lost", sent - found, exactly=0)
        report.figure("append_pps", points / seconds, at_least=200_000)
        report.figure("entry_bytes_per_event", size)          # printed, judged by nobody

    def arguments(parser):
        parser.add_argument("--data", type=Path, required=True)

    if __name__ == "__main__":
        sys.exit(bench("pond", measure, arguments))

and, where outside data is scored::

    def score(args, report):                                  # args.data and args.train are folders that exist
        with report.cases("digital_link", at_least=1.0) as judge:
            for vector in vectors(args.data):                 # no file found: the figure is null, 0 cases
                judge(vector["name"], lambda: parse(vector["uri"]) == vector["expected"])
        report.figure("spliced_clear_f1", f1, cases=len(series), wrong=errors, at_least=0.96)

    if __name__ == "__main__":
        sys.exit(conform("trace", score, default="traceability"))

The last line of output, also written to `--json FILE`, is one object with the keys name, passed, figures and
environment. `passed` is false when a target is missed, when a figure with a target is not a number, when the program
raises (what was measured until then is still printed), or when a conform program met no case at all.
"""

import argparse
import contextlib
import importlib.metadata
import json
import math
import operator
import os
import platform
import re
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"

Arguments = Callable[[argparse.ArgumentParser], object]
Work = Callable[[argparse.Namespace, "Report"], object]
Judge = Callable[[str, Callable[[], object]], bool]


class Report:
    """The figures of one program, each with the target it is held to.

    ``environment`` may be added to: ``report.environment["versions"]["mosquitto"] = "2.0.11"``.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.figures: dict[str, Any] = {}
        self.misses: list[str] = []
        self.environment = environment()
        self.total_cases = 0

    def figure(
        self,
        key: str,
        value: Any,
        *,
        at_least: float | None = None,
        at_most: float | None = None,
        exactly: Any = None,
        cases: int | None = None,
        wrong: int = 0,
    ) -> None:
        """Note one figure and judge it by the targets given.

        ``value``: a number, None for "no data", or anything JSON takes; None is no miss, NaN and infinity are.
        ``cases``: how many cases it rests on, noted as ``{key}_cases``; ``wrong`` of them count in ``failed``.
        """
        value = _plain(value)
        self.figures[key] = None if cases == 0 else value
        if cases is not None:
            self.figures[f"{key}_cases"] = int(cases)
            self.figures["failed"] = self.figures.get("failed", 0) + int(wrong)
            self.total_cases += int(cases)
        targets = ((">=", at_least), ("<=", at_most), ("=", exactly))
        asked = " and ".join(f"{sign} {target}" for sign, target in targets if target is not None)
        met = self.figures[key] is None or all(
            _COMPARE[sign](value, target) for sign, target in targets if target is not None
        )
        if isinstance(value, float) and not math.isfinite(value):
            met, self.figures[key] = False, None
        if not met:
            self.misses.append(f"{key} = {value}, wanted {asked or 'a number'}")
        note = ("" if met else "  MISSED") + (f"  (target {asked})" if asked else "")
        print(f"{key:32} {value}{f'  of {cases} cases' if cases is not None else ''}{note}", flush=True)

    @contextlib.contextmanager
    def cases(self, key: str, *, at_least: float | None = None) -> Iterator[Judge]:
        """Judge case by case; the figure is the share judged right, null where there was no case.

        The judge takes a label and a call. The case is right if the call returns something true; an exception makes
        it wrong, is printed, and stops nothing else.
        """
        right = total = 0

        def judge(label: str, call: Callable[[], object]) -> bool:
            nonlocal right, total
            total += 1
            try:
                verdict, why = bool(call()), "judged wrong"
            except Exception as error:  # noqa: BLE001 - whatever a case raises is that case's failure
                verdict, why = False, f"{type(error).__name__}: {error}"
            right += verdict
            if not verdict:
                print(f"  {key}: {label}: {why}", flush=True)
            return verdict

        yield judge
        share = right / total if total else None
        self.figure(key, share, cases=total, wrong=total - right, at_least=at_least)

    def close(self, json_file: Path | None = None) -> int:
        """Print the object as the last line, write it to ``json_file``, and return the exit code."""
        self.environment["load_at_end"] = os.getloadavg()[0]
        for miss in self.misses:
            print(f"missed: {miss}", flush=True)
        result = {
            "name": self.name,
            "passed": not self.misses,
            "figures": self.figures,
            "environment": self.environment,
        }
        line = json.dumps(result, ensure_ascii=False, allow_nan=False)
        if json_file:
            json_file.write_text(line + "\n", encoding="utf-8")
        sys.stderr.flush()
        print(line, flush=True)
        return 0 if result["passed"] else 1


def bench(name: str, work: Work, arguments: Arguments = lambda _: None) -> int:
    """Run one benchmark: parse, measure, report. Returns the exit code."""
    parser = _parser(name, "bench")
    arguments(parser)
    return _run(Report(name), work, parser.parse_args())


def conform(name: str, work: Work, arguments: Arguments = lambda _: None, *, default: str) -> int:
    """Score one package on outside data, by default the shared folder ``default``. Returns the exit code."""
    parser = _parser(name, "conform")
    folder = {"type": Path, "default": SHARED / default, "metavar": "DIR"}
    parser.add_argument("--data", **folder, help="what is judged (default: %(default)s)")
    parser.add_argument("--train", **folder, help="what may be fitted on (default: %(default)s)")
    arguments(parser)
    args = parser.parse_args()
    for folder in (args.data, args.train):
        if not folder.is_dir():
            parser.error(f"there is no folder {folder}")

    def checked(args: argparse.Namespace, report: Report) -> None:
        report.figures["failed"] = 0
        work(args, report)
        if not report.total_cases:
            report.misses.append(f"not one case was found under {args.data}")

    return _run(Report(name), checked, args)


def environment() -> dict[str, Any]:
    """Where the figures were taken: machine, load, and the versions of what Tianmai asks for."""
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpu": _first(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo")) or platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mb": int(_first(r"^MemTotal:\s*(\d+) kB", Path("/proc/meminfo")) or 0) // 1024,
        "load_at_start": os.getloadavg()[0],
        "commit": _commit(),
        "versions": _versions(),
    }


def _run(report: Report, work: Work, args: argparse.Namespace) -> int:
    try:
        work(args, report)
    except Exception as error:  # noqa: BLE001 - a crash must not swallow what was measured before it
        traceback.print_exc()
        report.misses.append(f"the program stopped: {type(error).__name__}: {error}")
    return report.close(args.json)


def _parser(name: str, job: str) -> argparse.ArgumentParser:
    story = sys.modules["__main__"].__doc__
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog=f"./dev {job} {name}", description=story, formatter_class=shape)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the last line here too")
    return parser


def _plain(value: Any) -> Any:
    """Numbers of numpy and its like as Python's own."""
    return value.item() if hasattr(value, "item") else value


_COMPARE = {">=": operator.ge, "<=": operator.le, "=": operator.eq}


def _versions() -> dict[str, str]:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        asked = {re.split(r"[^\w.-]", line)[0] for line in importlib.metadata.requires("tianmai") or ()}
        return {name: importlib.metadata.version(name) for name in sorted(asked) if name not in {"tianmai", "pyserial"}}
    return {}


def _commit() -> str | None:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    with contextlib.suppress(OSError):
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None
    return None


def _first(pattern: str, file: Path) -> str | None:
    with contextlib.suppress(OSError):
        found = re.search(pattern, file.read_text(), re.MULTILINE)
        return found[1].strip() if found else None
    return None
