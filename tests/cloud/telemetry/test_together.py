"""Equal questions asked at once are answered once, and never with an answer older than the question."""

import threading
import time

import pytest

from cloud.telemetry.together import Together


def test_equal_questions_that_wait_share_one_answer_which_begins_after_they_were_asked():
    together, gate, runs = Together(at_once=2), threading.Event(), []

    def answer():
        gate.wait(5)
        runs.append(1)
        return len(runs)

    found = []
    ask = [threading.Thread(target=lambda: found.append(together.ask("q", answer))) for _ in range(6)]
    ask[0].start()
    while "q" in together._waiting or not ask[0].is_alive():  # the first has begun: the others must not share it
        time.sleep(0.01)
    for one in ask[1:]:
        one.start()
    time.sleep(0.1)
    gate.set()
    for one in ask:
        one.join(5)
    assert sorted(found) == [1, 2, 2, 2, 2, 2]


def test_an_equal_question_waits_for_the_answer_in_the_making_though_there_is_room_and_another_one_does_not():
    together, at_work, most = Together(at_once=2), [], []
    both = threading.Barrier(2, timeout=5)

    def answer():
        at_work.append(1)
        time.sleep(0.02)
        most.append(len(at_work))
        at_work.pop()

    same = [threading.Thread(target=lambda: together.ask("q", answer)) for _ in range(4)]
    for one in same:
        one.start()
        time.sleep(0.01)
    for one in same:
        one.join(5)
    assert set(most) == {1}
    other = threading.Thread(target=lambda: together.ask("a", both.wait))
    other.start()
    together.ask("b", both.wait)  # meets the other, or the barrier breaks
    other.join(5)


def test_different_questions_have_their_own_answers():
    together = Together()
    assert together.ask("a", lambda: 1) == 1
    assert together.ask("b", lambda: 2) == 2


def test_an_error_reaches_who_asked_and_does_not_stay():
    together = Together()

    def fail():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        together.ask("a", fail)
    assert together.ask("a", lambda: 3) == 3
