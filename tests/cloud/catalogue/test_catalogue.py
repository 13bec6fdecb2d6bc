import json
import zipfile
from hashlib import sha256

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from cloud import problems
from cloud.accounts import Accounts, Guard
from cloud.catalogue import Catalogue, DataLevel, Dataset, Kind, build_router
from cloud.catalogue.bundles import pack, rows_of
from cloud.problems import Conflict, Forbidden, Invalid, NotFound
from cloud.regions import Regions
from cloud.who import Grant, Role, Who

HERE, BELOW, THERE = "500153", "500153103", "500235"


def person(name, *grants):
    return Who(name, name, frozenset(Grant(role, region) for role, region in grants))


@pytest.fixture
def holdings():
    """What the producers have to tell, by region; tests change it."""
    return {HERE: [{"id": "a", "n": 1}, {"id": "b", "n": 1}], BELOW: [{"id": "a", "n": 1}]}


@pytest.fixture
def catalogue(engine, tmp_path, clock, holdings):
    regions = Regions(engine, clock)
    accounts = Accounts(engine, clock, inside=regions.codes_under)
    made = Catalogue(
        engine,
        tmp_path / "returns",
        clock,
        accounts.audit,
        inside=regions.codes_under,
        producers={"things": lambda region: holdings.get(region, [])},
    )
    for context in (regions, accounts, made):
        context.prepare()
    made.test_accounts = accounts
    return made


analyst = person("analyst", (Role.ANALYST, HERE))


def test_the_catalogue_says_what_there_is_whose_it_is_and_counts_its_use(catalogue, clock):
    own = {entry.id: entry for entry in catalogue.datasets()}
    assert own["parcels"].level is DataLevel.RESTRICTED
    assert own["cases"].calls == 0
    for who in (analyst, analyst, person("other")):
        catalogue.used("cases", who)
    clock.pass_days(1)
    catalogue.used("cases", analyst)
    counted = next(entry for entry in catalogue.datasets() if entry.id == "cases")
    assert (counted.calls, counted.last_used_ms) == (4, clock())
    with pytest.raises(NotFound):
        catalogue.used("nothing", analyst)


def test_describing_a_dataset_anew_keeps_its_counters(catalogue):
    soil = Dataset("soil", Kind.DATASET, "土壤", "Soil", "x", "y", "z", "yearly", DataLevel.INTERNAL)
    catalogue.register(soil)
    catalogue.used("soil", analyst)
    before = catalogue.test_accounts.verify_audit()
    catalogue.register(soil)
    assert catalogue.test_accounts.verify_audit() == before
    catalogue.register(Dataset("soil", Kind.DATASET, "土壤", "Soil", "x", "y", "z", "yearly", DataLevel.PUBLIC))
    entry = next(entry for entry in catalogue.datasets() if entry.id == "soil")
    assert (entry.level, entry.calls) == (DataLevel.PUBLIC, 1)


def test_a_package_tells_what_changed_since_the_last(catalogue, holdings, clock):
    first = catalogue.make_package(analyst, HERE)
    assert first.files == {"things": {"rows": 2, "added": 2, "changed": 0, "removed": 0}}
    holdings[HERE] = [{"id": "b", "n": 2}, {"id": "c", "n": 1}]
    clock.pass_days(1)
    second = catalogue.make_package(analyst, HERE)
    assert second.files == {"things": {"rows": 2, "added": 1, "changed": 1, "removed": 1}}
    assert second.previous == first.id
    path = catalogue.take_package(analyst, second.id)
    assert sha256(path.read_bytes()).hexdigest() == second.sha256
    with zipfile.ZipFile(path) as archive:
        changes = [json.loads(line) for line in archive.read("things.changes.ndjson").splitlines()]
        manifest = json.loads(archive.read("manifest.json"))
        body = archive.read("things.ndjson")
    assert changes == [
        {"id": "c", "change": "added"},
        {"id": "b", "change": "changed"},
        {"id": "a", "change": "removed"},
    ]
    assert manifest["previous"] == first.sha256
    assert manifest["files"]["things.ndjson"]["sha256"] == sha256(body).hexdigest()


def test_a_package_is_for_those_who_work_with_data_in_its_region(catalogue):
    with pytest.raises(NotFound):
        catalogue.make_package(person("there", (Role.ANALYST, THERE)), HERE)
    with pytest.raises(NotFound):
        catalogue.make_package(person("below", (Role.ANALYST, BELOW)), HERE)
    with pytest.raises(Forbidden):
        catalogue.make_package(person("viewer", (Role.VIEWER, HERE)), HERE)
    made = catalogue.make_package(analyst, BELOW)
    for outsider in (person("nobody"), person("there", (Role.ADMIN, THERE))):
        assert catalogue.packages(outsider) == ()
        with pytest.raises(NotFound):
            catalogue.take_package(outsider, made.id)
    assert [one.id for one in catalogue.packages(person("below", (Role.REVIEWER, BELOW)))] == [made.id]


def test_taking_a_package_is_audited_and_a_lost_file_is_said(catalogue):
    made = catalogue.make_package(analyst, HERE)
    before = catalogue.test_accounts.verify_audit()
    path = catalogue.take_package(analyst, made.id)
    assert catalogue.test_accounts.verify_audit() == before + 1
    path.unlink()
    with pytest.raises(Conflict):
        catalogue.take_package(analyst, made.id)


rows = st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.integers(), max_size=8)


@given(before=rows, now=rows)
def test_packages_are_the_same_bytes_for_the_same_content_and_their_changes_lead_from_one_to_the_next(
    tmp_path_factory, before, now
):
    def things(numbers):
        return {"things": [{"id": key, "n": number} for key, number in numbers.items()]}

    def stored(body):
        path = tmp_path_factory.mktemp("bundle") / "p.zip"
        path.write_bytes(body)
        return path

    first, _ = pack({"region": HERE}, things(before), {})
    assert first == pack({"region": HERE}, things(dict(reversed(before.items()))), {})[0]
    lines = rows_of(stored(first))
    second, told = pack({"region": HERE}, things(now), lines)
    with zipfile.ZipFile(stored(second)) as archive:
        changes = [json.loads(line) for line in archive.read("things.changes.ndjson").splitlines()]
    state = dict(before)
    for change in changes:
        if change["change"] == "removed":
            del state[change["id"]]
        else:
            state[change["id"]] = now[change["id"]]
    assert state == now
    assert told["things"]["rows"] == len(now)


def test_a_file_that_is_no_package_is_refused(tmp_path):
    path = tmp_path / "p.zip"
    path.write_bytes(b"no zip")
    with pytest.raises(Invalid, match=r"p\.zip"):
        rows_of(path)


def test_every_door_answers_nobody_the_wrong_one_and_the_right_one(catalogue):
    app = FastAPI()
    problems.install(app)
    accounts = catalogue.test_accounts
    app.add_middleware(Guard, accounts=accounts)
    app.include_router(build_router(catalogue))
    client = TestClient(app)
    sessions = {}
    for name, role, region in (
        ("right", Role.ANALYST, HERE),
        ("viewer", Role.VIEWER, HERE),
        ("far", Role.ANALYST, THERE),
    ):
        accounts.person(name, id=name)
        accounts.grant(name, role, region)
        sessions[name] = {"Authorization": f"Bearer {accounts.sign_in(accounts.issue_sign_in(name))}"}
    made = "/api/v1/catalogue/packages"
    body = {"region": HERE}
    for path in ("/api/v1/catalogue/datasets", made):
        assert client.get(path).status_code == 401
        assert client.get(path, headers=sessions["far"]).status_code == 200
    assert client.post(made, json=body).status_code == 401
    assert client.post(made, json=body, headers=sessions["far"]).status_code == 404
    assert client.post(made, json=body, headers=sessions["viewer"]).status_code == 403
    package = client.post(made, json=body, headers=sessions["right"]).json()
    assert client.get(f"{made}/{package['id']}").status_code == 401
    assert client.get(f"{made}/{package['id']}", headers=sessions["far"]).status_code == 404
    taken = client.get(f"{made}/{package['id']}", headers=sessions["right"])
    assert sha256(taken.content).hexdigest() == package["sha256"]
    assert taken.headers["content-type"] == "application/zip"
