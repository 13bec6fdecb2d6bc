"""What drives fans, aerators and valves: controls that want something, and interlocks that have the last word.

Once a second ``Loop.tick`` asks each control what it wants, lets a person's command replace that, and passes the
result through the interlocks of the actuator, which neither control nor command can get past: manual switch, fresh
sensors, mutual exclusion, longest run, daily quota, shortest on and off times. Where a needed sensor is silent the
actuator goes to its fail-safe value. All of it is pure; the agent reads the clock and writes the outputs.
"""

from __future__ import annotations

from edge.control.interlock import Actuator, Decision, Memory, decide
from edge.control.loop import Change, Control, Loop, Override
from edge.control.table import parse_actuators, parse_controls

__all__ = [
    "Actuator",
    "Change",
    "Control",
    "Decision",
    "Loop",
    "Memory",
    "Override",
    "decide",
    "parse_actuators",
    "parse_controls",
]
