"""Where the value of an actuator goes: a file of the operating system (GPIO, PWM), a program, or the simulation."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edge.settings import SettingsError, Table

if TYPE_CHECKING:
    from edge.settings import DriverSettings

_PROGRAM_S = 5.0


class Output(Protocol):
    """One actuator's way out. ``write`` takes 0..1 and raises ``OSError`` where the device does not obey."""

    def write(self, value: float) -> None:
        """Drive the device."""


class FileOutput:
    """Writes ``on`` or ``off`` (or the value in ``scale`` steps) to a file such as a GPIO line's ``value``."""

    def __init__(self, path: Path, on: str, off: str, scale: int) -> None:
        self._path, self._on, self._off, self._scale = path, on, off, scale

    def write(self, value: float) -> None:
        """Drive the device."""
        text = str(round(value * self._scale)) if self._scale else self._on if value > 0 else self._off
        self._path.write_text(text, "ascii")


class ProgramOutput:
    """Runs a program with the value as its last argument; a failing exit status is an ``OSError``."""

    def __init__(self, command: tuple[str, ...]) -> None:
        self._command = command

    def write(self, value: float) -> None:
        """Drive the device."""
        try:
            subprocess.run([*self._command, f"{value:g}"], check=True, timeout=_PROGRAM_S, capture_output=True)  # noqa: S603 - the farm's own settings name it
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as why:
            raise OSError(f"{self._command[0]}: {why}") from None


class MemoryOutput:
    """Keeps what was written: the simulated farm reads it, and so do tests."""

    def __init__(self, values: dict[str, float], name: str) -> None:
        self._values, self._name = values, name

    def write(self, value: float) -> None:
        """Drive the simulation."""
        self._values[self._name] = value


def make_output(row: DriverSettings) -> tuple[Output, str]:
    """From ``[[output]]``, with the series of its hand switch, if it has one; raises ``SettingsError``."""
    options = Table(f"output {row.name!r}", row.options)
    manual = options.text("manual") if "manual" in options else ""
    if row.kind == "file":
        scale = options.whole("scale", 0, low=0, high=1_000_000)
        made: Output = FileOutput(Path(options.text("path")), options.text("on", "1"), options.text("off", "0"), scale)
    elif row.kind == "exec":
        made = ProgramOutput(tuple(options.texts("command")))
    else:
        raise SettingsError(f"output {row.name!r}: kind must be file or exec, not {row.kind!r}")
    options.done()
    return made, manual
