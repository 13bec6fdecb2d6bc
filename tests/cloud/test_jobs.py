import threading
from datetime import UTC

import pytest

from cloud.database import open_database
from cloud.jobs import ATTEMPTS, LEASE_MS, Jobs, ask_daily, metadata, work


@pytest.fixture
def engine(tmp_path):
    engine = open_database(f"sqlite:///{tmp_path / 'jobs.db'}")
    metadata.create_all(engine)
    yield engine
    engine.dispose()


def test_asking_twice_makes_one_job_and_the_first_body_stands(engine):
    jobs = Jobs(engine)
    jobs.ask("detect", "county", {"seed": 1})
    assert jobs.ask("detect", "county", {"seed": 2}).body == {"seed": 1}


def test_a_leased_job_is_nobody_elses_until_its_lease_runs_out(engine):
    now = [1000]
    jobs = Jobs(engine, lambda: now[0])
    jobs.ask("detect", "county")
    assert jobs.lease("a", ("detect",)).key == "county"
    assert jobs.lease("b", ("detect",)) is None
    now[0] += LEASE_MS + 1
    assert jobs.lease("b", ("detect",)).attempts == 2


def test_a_job_whose_workers_keep_dying_is_given_up_with_a_reason(engine):
    now = [1000]
    jobs = Jobs(engine, lambda: now[0])
    jobs.ask("detect", "county")
    for _ in range(ATTEMPTS):
        assert jobs.lease("a", ("detect",)) is not None
        now[0] += LEASE_MS + 1
    assert jobs.lease("a", ("detect",)) is None
    assert "given up" in jobs.find("county").why


def test_a_failing_job_is_noted_and_the_next_one_still_runs(engine):
    jobs, stop = Jobs(engine), threading.Event()
    jobs.ask("bad", "one")
    jobs.ask("good", "two", {"n": 3})

    def fail(_body):
        raise ValueError("band B04 is missing")

    def succeed(body):
        stop.set()
        return body["n"] + 1

    work(jobs, {"bad": fail, "good": succeed}, owner="me", stop=stop)
    assert (jobs.find("one").state, jobs.find("one").why) == ("failed", "ValueError: band B04 is missing")
    assert (jobs.find("two").state, jobs.find("two").result) == ("done", 4)


def test_a_daily_job_is_asked_for_once_a_day_by_however_many(engine):
    jobs, stop = Jobs(engine), threading.Event()
    stop.set()
    for _ in range(3):
        ask_daily(jobs, ("remind",), zone=UTC, stop=stop)
    assert jobs.lease("a", ("remind",)) is not None
    assert jobs.lease("a", ("remind",)) is None


def test_a_note_keeps_the_lease_and_tells_who_works_that_the_job_is_forgotten(engine):
    now = [1000]
    jobs = Jobs(engine, lambda: now[0])
    jobs.ask("detect", "county")
    assert not jobs.note("county", 0)  # nobody works at it yet
    jobs.lease("a", ("detect",))
    now[0] += LEASE_MS - 1
    assert jobs.note("county", {"done": 0.5})
    assert jobs.find("county").result == {"done": 0.5}
    now[0] += 2
    assert jobs.lease("b", ("detect",)) is None
    assert [job.key for job in jobs.all("detect")] == ["county"]
    jobs.forget("county")
    assert not jobs.note("county", {"done": 0.9})
    assert jobs.all("detect") == []
