import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete, select, update

from cloud.accounts import Accounts, AuditBroken
from cloud.accounts.store import audit_log, people, sessions, sign_in_links
from cloud.database import open_database
from cloud.problems import Forbidden, Invalid, NotFound, Refused, Unauthenticated
from cloud.regions import Regions
from cloud.who import Grant, Role


@pytest.fixture
def accounts(engine, clock):
    regions = Regions(engine, clock)
    regions.prepare()
    made = Accounts(engine, clock, inside=regions.codes_under)
    made.prepare()
    return made


def everything_stored(engine):
    with engine.connect() as db:
        tables = (people, sign_in_links, sessions, audit_log)
        return repr([list(db.execute(select(table))) for table in tables])


def test_a_link_signs_in_once_and_is_nowhere_stored_in_clear(accounts, engine):
    li = accounts.person("李网格员")
    accounts.grant(li, Role.COLLECTOR, "500153")
    token = accounts.issue_sign_in(li)
    session = accounts.sign_in(token)
    who = accounts.who(session)
    assert (who.id, who.name, who.grants) == (li, "李网格员", frozenset({Grant(Role.COLLECTOR, "500153")}))
    assert token not in everything_stored(engine)
    assert session not in everything_stored(engine)
    with pytest.raises(Unauthenticated):
        accounts.sign_in(token)


def test_a_link_expires_and_so_does_a_session(accounts, clock):
    li = accounts.person("李")
    late = accounts.issue_sign_in(li, hours=1)
    clock.pass_days(1 / 24)
    with pytest.raises(Unauthenticated):
        accounts.sign_in(late)
    session = accounts.sign_in(accounts.issue_sign_in(li))
    clock.pass_days(0.49)
    assert accounts.who(session) is not None
    clock.pass_days(0.02)
    assert accounts.who(session) is None


def test_signing_out_and_disabling_end_sessions_at_once(accounts):
    li = accounts.person("李")
    one, two = accounts.sign_in(accounts.issue_sign_in(li)), accounts.sign_in(accounts.issue_sign_in(li))
    unused = accounts.issue_sign_in(li)
    accounts.sign_out(one)
    accounts.sign_out(one)
    assert accounts.who(one) is None
    assert accounts.who(two) is not None
    accounts.disable(li)
    assert accounts.who(two) is None
    with pytest.raises(NotFound):
        accounts.sign_in(unused)


def test_a_password_is_argon2_and_a_wrong_one_tells_nothing(accounts, engine):
    li = accounts.person("李", id="li")
    accounts.set_password(li, "correct horse battery", by="system")
    assert "$argon2id$" in everything_stored(engine)
    assert accounts.who(accounts.sign_in_with_password("li", "correct horse battery")).id == "li"
    answers = set()
    for person, password in (("li", "wrong horse battery"), ("nobody", "correct horse battery")):
        with pytest.raises(Unauthenticated) as no:
            accounts.sign_in_with_password(person, password)
        answers.add(no.value.detail)
    assert len(answers) == 1
    with pytest.raises(Invalid):
        accounts.set_password(li, "short", by="system")


def test_rights_end_when_revoked_or_when_their_term_is_over(accounts, clock):
    li = accounts.person("李")
    accounts.grant(li, Role.COLLECTOR, "500153")
    accounts.grant(li, Role.REVIEWER, "500108", until_ms=clock() + 3_600_000)
    session = accounts.sign_in(accounts.issue_sign_in(li))
    assert len(accounts.who(session).grants) == 2
    accounts.revoke(li, Role.COLLECTOR, "500153")
    clock.pass_days(0.1)
    assert accounts.who(session).grants == frozenset()
    with pytest.raises(NotFound):
        accounts.revoke(li, Role.COLLECTOR, "500153")


@pytest.mark.parametrize("acting", [Role.ANALYST, Role.COLLECTOR, Role.REVIEWER])
def test_nobody_audits_his_own_work(accounts, acting):
    zhang = accounts.person("张")
    accounts.grant(zhang, acting, "500153")
    with pytest.raises(Refused):
        accounts.grant(zhang, Role.AUDITOR, "500000")
    accounts.grant(zhang, Role.AUDITOR, "500108")  # another district is nobody's own work
    wang = accounts.person("王")
    accounts.grant(wang, Role.AUDITOR, "500000")
    with pytest.raises(Refused):
        accounts.grant(wang, acting, "500153")
    accounts.grant(wang, Role.VIEWER, "500153")


def test_the_audit_trail_shows_tampering_wherever_it_happens(accounts, engine):
    for name in "甲乙丙丁":
        accounts.person(name)
    assert accounts.verify_audit() == 4
    forgeries = [
        update(audit_log).where(audit_log.c.seq == 2).values(subject="another"),
        delete(audit_log).where(audit_log.c.seq == 3),
        delete(audit_log).where(audit_log.c.seq == 4),
        update(audit_log).where(audit_log.c.seq == 4).values(at_ms=0),
    ]
    for forgery in forgeries:
        with engine.connect() as db:
            db.execute(forgery)
            with pytest.raises(AuditBroken):
                accounts._trail.verify(db)
            db.rollback()
    assert accounts.verify_audit() == 4


def test_an_audit_entry_stands_or_falls_with_its_change(accounts, engine):
    before = accounts.verify_audit()
    with engine.connect() as db:
        accounts.audit(db, "li", "case.closed", "500153-2026-00001")
        db.rollback()
    assert accounts.verify_audit() == before


def test_only_auditors_read_the_trail_and_only_of_their_regions(accounts, engine):
    chief, other = accounts.person("审计"), accounts.person("外人")
    accounts.grant(chief, Role.AUDITOR, "500153")
    with engine.begin() as db:
        accounts.audit(db, "li", "case.close", "inside", region="500153")
        accounts.audit(db, "li", "case.close", "outside", region="500108")
    who = accounts.who(accounts.sign_in(accounts.issue_sign_in(chief)))
    subjects = {entry["subject"] for entry in accounts.audit_trail(who)}
    assert "inside" in subjects
    assert "outside" not in subjects
    with pytest.raises(Forbidden):
        accounts.audit_trail(accounts.who(accounts.sign_in(accounts.issue_sign_in(other))))


@given(
    entries=st.lists(st.tuples(st.text(max_size=8), st.dictionaries(st.text(max_size=4), st.integers())), max_size=8)
)
def test_any_entries_make_a_chain_that_verifies(entries):
    engine = open_database("sqlite:///:memory:")
    accounts = Accounts(engine, lambda: 0)
    accounts.prepare()
    with engine.begin() as db:
        for subject, detail in entries:
            accounts.audit(db, "li", "did", subject, detail)
    assert accounts.verify_audit() == len(entries)
    engine.dispose()


def test_names_are_told_of_those_who_are_known(accounts):
    accounts.person("李", id="li")
    assert accounts.names(["li", "nobody", "li"]) == {"li": "李"}
    assert accounts.names([]) == {}


def test_a_session_is_remembered_for_a_second_and_forgotten_at_once_when_rights_change(accounts, clock):
    li = accounts.person("李")
    accounts.grant(li, Role.COLLECTOR, "500153")
    session = accounts.sign_in(accounts.issue_sign_in(li))
    assert accounts.seen(session) is None
    assert accounts.seen("nonsense") is None
    assert accounts.who(session) == accounts.seen(session)
    clock.ms += 1_000
    assert accounts.seen(session) is None
    accounts.who(session)
    accounts.revoke(li, Role.COLLECTOR, "500153")
    assert accounts.seen(session) is None
    assert accounts.who(session).grants == frozenset()
    accounts.sign_out(session)
    assert accounts.seen(session) is None
    assert accounts.who(session) is None
