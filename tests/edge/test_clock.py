"""Stamps never jump; wall time says how far it can be trusted."""

from edge.clock import SOFTWARE_BORN_MS, Clock, ClockQuality

NOW = SOFTWARE_BORN_MS + 10**10
HOUR = 3_600_000


class Times:
    """A machine whose clocks the test sets."""

    def __init__(self, wall):
        self.boot, self.wall = 5_000, wall

    def boot_ms(self):
        return self.boot

    def wall_ms(self):
        return self.wall

    def pass_ms(self, ms):
        self.boot += ms
        self.wall += ms


def test_a_plausible_system_clock_is_followed_without_a_word():
    times = Times(NOW)
    clock = Clock(times)
    times.pass_ms(HOUR)
    times.wall += 900  # slewing
    assert clock.check() is None
    assert clock.now_ms() == NOW + HOUR + 900
    assert clock.quality is ClockQuality.SYSTEM


def test_1970_is_never_called_a_time_and_stamps_are_corrected_in_retrospect():
    times = Times(86_400_000)
    clock = Clock(times)
    early = clock.stamp()
    assert clock.now_ms() is None
    times.pass_ms(60_000)
    times.wall = NOW
    assert clock.check() is None
    assert clock.wall_of(early) == NOW - 60_000


def test_the_cloud_gives_the_time_until_the_system_knows_it():
    times = Times(0)
    clock = Clock(times)
    assert clock.hear_cloud(NOW) is None
    assert (clock.now_ms(), clock.quality) == (NOW, ClockQuality.CLOUD)
    assert clock.hear_cloud(5) is None, "an absurd time from the cloud is ignored"
    times.pass_ms(1000)
    times.wall = NOW + 1000 + 3000
    step = clock.check()
    assert step is not None
    assert (step.moved_ms, clock.quality) == (3000, ClockQuality.SYSTEM)
    assert clock.hear_cloud(NOW + HOUR) is None, "a good system clock is not moved by the cloud"


def test_steps_of_the_system_clock_are_reported_with_their_size():
    times = Times(NOW)
    clock = Clock(times)
    times.pass_ms(1000)
    times.wall -= HOUR
    step = clock.check()
    assert step is not None
    assert step.moved_ms == -HOUR
    assert clock.check() is None
