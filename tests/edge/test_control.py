"""Interlocks have the last word, and the pond gets its air when nobody is there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from turned_clock import SteppedGateway, Times

from edge.clock import SOFTWARE_BORN_MS
from edge.control import Actuator, Loop, Memory, Override, decide, parse_actuators, parse_controls
from edge.control.interlock import ControlError, Situation
from edge.drivers import Sample as DriverSample
from edge.farms import farm_names, load_farm
from edge.outputs import MemoryOutput
from edge.rules import Sample

SECOND, MINUTE, HOUR = 1000, 60_000, 3_600_000
T0 = 1_795_276_800_000  # midnight in China
DO = "pond1/dissolved_oxygen"


def pond_loop(stamp=0, now=T0):
    farm = load_farm("fish_pond")
    return Loop(farm.actuators, farm.controls, farm.inputs, now_ms=now, stamp=stamp)


def run(loop, level_at, start, stop, *, step=SECOND, silent=()):
    """Tick through the time with one sample a minute; returns the changes as (ms, actuator, value, reason)."""
    changes = []
    for now in range(start, stop, step):
        fresh = [Sample(DO, now, level_at(now))] if now % MINUTE == 0 and now not in silent else []
        changes += [(now, one.actuator, one.value, one.reason) for one in loop.tick(fresh, now, now - T0)]
    return changes


def test_the_aerator_runs_at_03_13_when_oxygen_falls_below_2_at_03_10():
    def level(now):
        hour = (now - T0) / HOUR
        if 3 + 10 / 60 <= hour < 3 + 20 / 60:
            return 1.9
        return 4.5 if 0 <= hour < 7 else 6.0

    loop = pond_loop()
    changes = run(loop, level, T0, T0 + 4 * HOUR)
    switched_on = [change for change in changes if change[2] == 1.0 and change[0] > T0 + HOUR]
    assert switched_on == [(T0 + 3 * HOUR + 13 * MINUTE, "aerator1", 1.0, "aerate-surfacing")]
    off = next(change for change in changes if change[2] == 0.0 and change[0] > switched_on[0][0])
    assert off[0] >= switched_on[0][0] + 10 * MINUTE


def test_a_silent_probe_puts_the_aerator_to_its_fail_safe_and_back():
    loop = pond_loop()
    quiet = {T0 + n * MINUTE for n in range(30, 60)}
    changes = run(loop, lambda _: 6.0, T0, T0 + 2 * HOUR, silent=quiet)
    reasons = [(round((at - T0) / MINUTE), value, why) for at, _, value, why in changes]
    assert reasons[0][1:] == (0.0, "nothing wanted"), "it starts at the fail-safe and lets go after min_on"
    assert (32, 1.0, "failsafe") in reasons
    assert reasons[-1][1] == 0.0
    assert reasons[-1][0] >= 60


def test_a_command_runs_until_its_time_and_cannot_stop_an_emergency():
    loop = pond_loop()
    run(loop, lambda _: 6.0, T0, T0 + HOUR)
    assert loop.command("aerator1", Override(1.0, HOUR + 20 * MINUTE, "user:li")) == ""
    changes = run(loop, lambda _: 6.0, T0 + HOUR, T0 + 2 * HOUR)
    assert [(round((at - T0) / MINUTE), value, why) for at, _, value, why in changes] == [
        (60, 1.0, "command by user:li"),
        (80, 0.0, "nothing wanted"),
    ]
    low = pond_loop()
    run(low, lambda _: 1.5, T0, T0 + 30 * MINUTE)
    low.command("aerator1", Override(0.0, 10 * HOUR, "user:li"))
    assert run(low, lambda _: 1.5, T0 + 30 * MINUTE, T0 + HOUR) == []
    assert low.memories["aerator1"].value == 1.0


def test_the_manual_switch_wins_over_everything():
    loop = pond_loop()
    loop.manual["aerator1"] = 0.0
    assert run(loop, lambda _: 1.0, T0, T0 + HOUR)[0][2:] == (0.0, "manual")
    assert loop.command("aerator1", Override(1.0, HOUR, "x")) == "interlock:manual"
    loop.manual["aerator1"] = None
    assert run(loop, lambda _: 1.0, T0 + HOUR, T0 + HOUR + MINUTE)[0][2] == 1.0


def test_the_position_of_a_switch_on_the_panel_reaches_the_actuator_through_the_whole_agent(tmp_path):
    values, times = {}, Times(SOFTWARE_BORN_MS + 10**10)
    gateway = SteppedGateway(tmp_path, times)
    gateway.agent.add_output("aerator1", MemoryOutput(values, "aerator1"), manual="panel/switch")

    def minutes(count, switch):
        for _ in range(count):
            stamp = times.boot + MINUTE
            panel = [DriverSample("panel/switch", switch, "", stamp=stamp)] if switch is not None else []
            gateway.pass_ms(MINUTE, [DriverSample("pond1/dissolved_oxygen", 1.5, "mg/L", stamp=stamp), *panel])
            gateway.pass_ms(1000)
        return values["aerator1"]

    with gateway:
        assert minutes(5, 2) == 0.0, "off by hand, though the fish gasp"
        assert minutes(2, None) == 0.0, "a switch that cannot be read stays where it was"
        assert minutes(2, 7) == 0.0, "and a position that there is not changes nothing"
        assert minutes(20, 0) == 1.0, "automatic"
        assert gateway.agent.status().body["actuators"]["aerator1"]["reason"] != "manual"


def test_state_survives_a_restart_with_its_hold_times():
    loop = pond_loop()
    run(loop, lambda _: 6.0, T0, T0 + HOUR)
    run(loop, lambda _: 1.9, T0 + HOUR, T0 + HOUR + 2 * MINUTE)
    kept = loop.to_json(HOUR + 2 * MINUTE)
    again = pond_loop(stamp=5, now=T0 + HOUR + 2 * MINUTE)
    again.restore(kept, stamp=5, away_ms=0)
    changes = []
    for second in range(120):
        now = T0 + HOUR + 2 * MINUTE + second * SECOND
        samples = [Sample(DO, now, 1.9)] if second % 60 == 0 else []
        changes += [(second, one.reason) for one in again.tick(samples, now, 5 + second * SECOND)]
    assert changes == [(60, "aerate-surfacing")], "three minutes in all, two of them before the restart"


ACTUATOR = Actuator(
    "a", "甲", "a", 0.0, min_on_ms=3000, min_off_ms=4000, max_run_ms=9000, rest_ms=5000, daily_max_ms=30_000
)


@given(
    wishes=st.lists(
        st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.booleans(), st.sampled_from([None, None, None, None, 0.0])),
        max_size=200,
    )
)
def test_no_sequence_of_wishes_gets_past_the_interlocks(wishes):
    memory, runs, values = Memory(0.0, -10_000, 0), [], []
    manual_seen = False
    for second, (wanted, other, manual) in enumerate(wishes):
        running = frozenset({"b"}) if other and second % 7 == 0 else frozenset()
        at = Situation(second * 1000, 0, fresh=second % 11 != 0, manual=manual, running=running)
        actuator = Actuator(
            **{field: getattr(ACTUATOR, field) for field in ACTUATOR.__dataclass_fields__}
            | {"excludes": frozenset({"b"})}
        )
        decision, memory = decide(actuator, memory, wanted, at)
        manual_seen |= manual is not None
        values.append(decision.value)
        assert 0.0 <= decision.value <= 1.0
        if running and manual is None:
            assert decision.value == 0.0
        if decision.value > 0:
            runs.append(second)
    assert memory.used_ms <= 31_000
    on_runs, length = [], 0
    for value in [*values, 0.0]:
        if value > 0:
            length += 1
        elif length:
            on_runs.append(length)
            length = 0
    assert all(length <= 9 for length in on_runs)


def test_a_stretch_on_and_off_keeps_its_shortest_times():
    memory, values = Memory(0.0, -10_000, 0), []
    for second in range(20):
        at = Situation(second * 1000, 0, fresh=True, manual=None, running=frozenset())
        decision, memory = decide(ACTUATOR, memory, 1.0 if second % 2 == 0 else 0.0, at)
        values.append(int(decision.value))
    text = "".join(map(str, values))
    assert "0110" not in text
    assert "010" not in text
    assert "1001" not in text
    assert "10001" not in text


def test_two_that_exclude_each_other_never_run_together_and_the_first_one_keeps_running():
    rows = [{"name": "a", "failsafe": 0, "excludes": ["b"]}, {"name": "b", "failsafe": 0, "excludes": ["a"]}]
    controls = [
        {"id": "a", "drive": "a", "periods": ["02:00-05:00"]},
        {"id": "b", "drive": "b", "periods": ["01:00-04:00"]},
    ]
    loop = Loop(parse_actuators(rows, {}), parse_controls(controls, {}, {}), {}, now_ms=T0, stamp=0)
    seen = []
    for minute in range(6 * 60):
        loop.tick((), T0 + minute * MINUTE, minute * MINUTE)
        on = [name for name, memory in loop.memories.items() if memory.on]
        assert len(on) < 2
        if not seen or seen[-1] != on:
            seen.append(on)
    assert seen == [[], ["b"], ["a"], []]


def test_a_pi_block_holds_a_simulated_barn_near_its_setpoint_and_never_winds_up():
    farm = load_farm("pig_barn")
    loop = Loop(farm.actuators, farm.controls, farm.inputs, now_ms=T0, stamp=0)
    temperature = 27.0
    for second in range(3 * 3600):
        now = T0 + second * SECOND
        samples = [Sample("barn1/air_temperature", now, temperature)] if second % 60 == 0 else []
        loop.tick(samples, now, second * SECOND)
        # heated from 20 outside by the animals (+6), cooled by the fan
        goal = 26.0 - 6.0 * loop.memories["fan1"].value
        temperature += (goal - temperature) / 900
    assert temperature == pytest.approx(21.0, abs=0.6)


@pytest.mark.parametrize("name", farm_names())
def test_each_farm_ships_actuators_that_controls_drive_and_that_have_a_fail_safe(name):
    farm = load_farm(name)
    assert farm.actuators
    assert {one.drive for one in farm.controls} == {one.name for one in farm.actuators}
    assert all(not one.zh.isascii() for one in farm.actuators)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"name": "a"}, "failsafe is missing"),
        ({"name": "a", "failsafe": 2}, "not in 0..1"),
        ({"name": "A B", "failsafe": 0}, "lower-case"),
        ({"name": "a", "failsafe": 1, "max_run": "1h"}, "fail-safe on"),
        ({"name": "a", "failsafe": 0, "max_run": "1min", "min_on": "2min"}, "shorter"),
        ({"name": "a", "failsafe": 0, "excludes": ["z"]}, "not there"),
        ({"name": "a", "failsafe": 0, "need_fresh": ["x/y"]}, "no series"),
        ({"name": "a", "failsafe": 0, "colour": 1}, "unknown key"),
    ],
)
def test_an_unsafe_actuator_is_refused_at_load(row, says):
    with pytest.raises(ControlError) as caught:
        parse_actuators([row], {})
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"on": "do < 30", "inputs": {"do": DO}}, "never clear"),
        ({"on": "do < 2", "off": "do > 30", "inputs": {"do": DO}}, "never clear"),
        ({"periods": ["00:00-24:00"]}, "never switches off"),
        ({"periods": ["5-6"]}, "not a period"),
        ({"measure": "x/y", "kp": 1}, "needs on, periods, or a measure"),
        ({"measure": DO, "kp": 0}, "kp must not be 0"),
        ({"value": 0, "periods": []}, "value must be"),
    ],
)
def test_a_control_that_can_never_switch_off_is_refused_at_load(row, says):
    farm = load_farm("fish_pond")
    with pytest.raises(ControlError) as caught:
        parse_controls([{"id": "c", "drive": "aerator1", **row}], farm.inputs, {DO: 60})
    assert says in str(caught.value)
