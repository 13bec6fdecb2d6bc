"""`tianmai-cloud` with things that are not as they should be: one line, exit 2, nothing made on the way."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime

import duckdb
import pytest
from sqlalchemy.exc import ArgumentError, OperationalError

from cloud.__main__ import main
from cloud.database import open_database
from cloud.expected import expected
from cloud.migrations import migrate
from cloud.people import ROLES
from cloud.provenance import LogBook
from cloud.settings import Settings
from cloud.who import Grant, Role, Who
from cloud.wiring import build_office, log_place, utc_now_ms


@pytest.fixture
def var(tmp_path):
    """A folder with a log that has begun."""
    folder = tmp_path / "var"
    engine = open_database(f"sqlite:///{folder / 'tianmai.db'}")
    migrate(engine)
    LogBook(engine, log_place(Settings(var=folder)), utc_now_ms).close()
    engine.dispose()
    return folder


def refused(capsys, *command):
    assert main(command) == 2
    told = capsys.readouterr().err
    lines = [line for line in told.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in told
    assert len(lines) == 1
    assert told.splitlines()[-1] == lines[0]
    return lines[0]


def test_fsck_of_a_folder_without_a_log_says_so_and_makes_nothing(tmp_path, capsys):
    assert "no log here" in refused(capsys, "fsck", "--var", str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()
    assert "empty" in refused(capsys, "fsck", "--var", "")


def test_fsck_names_the_file_that_is_gone_or_damaged(var, capsys):
    key = var / "keys" / "log.key"
    good = key.read_bytes()
    key.unlink()
    assert str(key) in refused(capsys, "fsck", "--var", str(var))
    key.write_bytes(b"\xff\x00garbage")
    key.chmod(0o600)
    assert str(key) in refused(capsys, "fsck", "--var", str(var))
    key.write_bytes(good)
    (var / "ledger" / "public" / "checkpoint").write_bytes(b"\xff\xff")
    assert "checkpoint" in refused(capsys, "fsck", "--var", str(var))
    (var / "tianmai.db").unlink()
    assert "lost its journal" in refused(capsys, "fsck", "--var", str(var))


@pytest.mark.parametrize("command", ["fsck", "serve", "migrate", "sign-in"])
def test_a_database_that_is_none_is_named(var, command, capsys):
    (var / "tianmai.db").write_bytes(os.urandom(9000))
    for left in var.glob("tianmai.db-*"):
        left.unlink()
    told = refused(capsys, command, "--var", str(var), "--port", "0")
    assert str(var / "tianmai.db") in told


def test_a_folder_that_cannot_be_made_is_named(tmp_path, capsys):
    (tmp_path / "file").write_bytes(b"")
    for command in ("serve", "migrate", "sign-in", "run"):
        assert str(tmp_path / "file") in refused(capsys, command, "--var", str(tmp_path / "file"))


def test_serving_without_the_log_s_key_ends_and_does_not_hang(var):
    (var / "keys" / "log.key").unlink()
    serve = [sys.executable, "-m", "cloud", "serve", "--var", str(var), "--port", "0"]
    done = subprocess.run(serve, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: the key of this log is missing: restore ")
    assert not (var / "keys" / "log.key").exists()


def test_a_gateway_whose_secret_cannot_be_kept_is_not_registered(tmp_path, capsys):
    var, place = str(tmp_path / "var"), str(tmp_path / "no" / "secret")
    asked = ["add-gateway", "pond-1", "--farm", "fish_pond", "--region", "500108", "--var", var, "--secret-file"]
    assert place in refused(capsys, *asked, place)
    good = tmp_path / "secret"
    assert main([*asked, str(good)]) == 0
    capsys.readouterr()
    kept = good.read_bytes()
    assert good.stat().st_mode & 0o777 == 0o600
    asked[1] = "BAD ID"
    refused(capsys, *asked, str(good))
    refused(capsys, *asked, str(tmp_path / "second"))
    assert good.read_bytes() == kept
    assert not (tmp_path / "second").exists()


def test_what_is_expected_is_one_line_without_the_password_and_a_bug_is_not_expected():
    url = "postgresql+psycopg://me:hush@db.example/tm?password=hush"
    told = expected(OperationalError("select 1", {}, sqlite3.OperationalError("it is\naway")), url)
    assert told is not None
    assert "db.example/tm" in told
    assert "it is" in told
    assert "hush" not in told
    assert "\n" not in told
    assert "database_url" in (expected(ArgumentError("odd"), "hush:me") or "")
    assert "migrate" in (expected(OperationalError("", {}, sqlite3.OperationalError("no such table: x")), url) or "")
    assert "readings" in (expected(duckdb.IOException("odd"), "") or "")
    assert expected(ValueError("a bug"), url) is None


def test_who_asks_twice_to_stop_is_obeyed_at_once():
    wait = "from cloud.__main__ import _stop_on_signals as s; import time; s(); print('on', flush=True); time.sleep(30)"
    with subprocess.Popen([sys.executable, "-c", wait], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        began = time.monotonic()
        child.send_signal(signal.SIGINT)
        time.sleep(0.2)
        child.send_signal(signal.SIGINT)
        assert child.wait(10) == 128 + signal.SIGINT
    assert time.monotonic() - began < 5


def test_receivers_of_alarms_are_added_listed_and_removed(tmp_path, capsys):
    var = ["--var", str(tmp_path)]
    new = ["receivers", "add", "webhook", "https://example.org/hook", "--name", "值班室", "--region", "500108"]
    assert main([*new, "--severity", "critical", "--per-hour", "5", *var]) == 0
    assert main([*new, "--level", "1", *var]) == 0
    capsys.readouterr()
    assert main(["receivers", "list", *var]) == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["name"], first["severity"], first["per_hour"], second["level"]) == ("值班室", "critical", 5, 1)
    assert main(["receivers", "remove", str(first["id"]), *var]) == 0
    capsys.readouterr()
    assert main(["receivers", "list", *var]) == 0
    assert [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()] == [second["id"]]
    with closing(build_office(Settings(var=tmp_path))) as office:
        trail = office.accounts.audit_trail(Who("a", "A", frozenset({Grant(Role.AUDITOR, "500108")})))
    told = [(row["what"], row["who"], row["region"]) for row in reversed(trail) if row["region"]]
    assert told == [(f"receiver.{done}", "command line", "500108") for done in ("added", "added", "removed")]


def test_people_are_made_given_roles_and_locked_out(tmp_path, capsys):
    def run(*words):
        assert main(["people", *words, "--var", str(tmp_path)]) == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    (made,) = run("add", "王网格", "--id", "wang", "--role", "collector", "--region", "500108", "--until", "2090-06-30")
    assert made["id"] == "wang"
    assert "/sign-in/" in made["sign_in"]
    run("grant", "wang", "--role", "operator", "--region", "500153")
    run("revoke", "wang", "--role", "collector", "--region", "500108")
    (again,) = run("link", "wang")
    assert again["sign_in"] != made["sign_in"]
    assert run("list") == [
        {
            "id": "wang",
            "name": "王网格",
            "disabled": False,
            "grants": [{"role": "operator", "region": "500153", "until_ms": None}],
        }
    ]
    run("disable", "wang")
    assert [one["disabled"] for one in run("list")] == [True]


def test_a_role_ends_with_its_last_day_in_china(tmp_path, capsys):
    words = ["people", "add", "li", "--role", "viewer", "--region", "500108", "--until", "2090-06-30"]
    assert main([*words, "--var", str(tmp_path)]) == 0
    capsys.readouterr()
    assert main(["people", "list", "--var", str(tmp_path)]) == 0
    (one,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert datetime.fromtimestamp(one["grants"][0]["until_ms"] / 1000, UTC).isoformat() == "2090-06-30T16:00:00+00:00"


def test_the_roles_of_the_command_line_are_those_of_the_program():
    assert tuple(map(str, Role)) == ROLES


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("add", "x", "--role", "viewer", "--region", "999999"), "no region '999999'"),
        (("add", "x", "--id", "a b", "--role", "viewer", "--region", "500108"), "an id is 1 to 64"),
        (("add", " ", "--role", "viewer", "--region", "500108"), "a person needs a name"),
        (("grant", "nobody", "--role", "viewer", "--region", "500108"), "no person 'nobody'"),
        (("revoke", "nobody", "--role", "viewer", "--region", "500108"), "does not hold viewer"),
        (("disable", "nobody"), "no person 'nobody'"),
        (("link", "nobody"), "no person 'nobody'"),
    ],
)
def test_what_cannot_be_done_with_people_is_said_in_a_line(tmp_path, capsys, words, says):
    assert says in refused(capsys, "people", *words, "--var", str(tmp_path))


def test_an_id_is_one_persons(tmp_path, capsys):
    words = ["people", "add", "li", "--id", "li", "--role", "viewer", "--region", "500108", "--var", str(tmp_path)]
    assert main(words) == 0
    capsys.readouterr()
    assert "somebody's id already" in refused(capsys, *words)


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["add", "webhook", "ftp://x", "--name", "a", "--region", "500108"], "http"),
        (["add", "webhook", "http://[::1", "--name", "a", "--region", "500108"], "http or https URL"),
        (["add", "smtp", "nobody", "--name", "a", "--region", "500108"], "mail address"),
        (["add", "log", "x", "--name", "a", "--region", "999999"], "no region"),
        (["add", "log", "x", "--name", "a", "--region", "500108", "--per-hour", "0"], "per_hour"),
        (["remove", "7"], "no receiver 7"),
    ],
)
def test_a_receiver_that_cannot_be_is_refused_in_one_line(tmp_path, capsys, command, says):
    assert says in refused(capsys, "receivers", *command, "--var", str(tmp_path))
