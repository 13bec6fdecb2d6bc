import threading

import pytest
from alembic import command
from sqlalchemy import Column, MetaData, String, Table, create_engine, inspect, text

from cloud.database import open_database
from cloud.migrations import METADATA, _config, differences, head, migrate, revise
from cloud.problems import Conflict


def test_an_empty_database_is_brought_to_exactly_the_tables_of_the_contexts(engine):
    assert migrate(engine) is None
    assert differences(engine) == []
    assert {name for part in METADATA for name in part.tables} <= set(inspect(engine).get_table_names())


def test_migrating_again_changes_nothing_and_keeps_what_is_there(engine):
    migrate(engine)
    with engine.begin() as db:
        db.execute(text("insert into person (id, name, created_ms) values ('li', '李', 1)"))
    assert migrate(engine) == head()
    with engine.connect() as db:
        assert db.execute(text("select name from person")).scalar_one() == "李"


def test_of_several_that_start_together_one_migrates_and_the_others_wait(engine):
    done, failed = [], []

    def start():
        try:
            done.append(migrate(engine))
        except Exception as why:  # noqa: BLE001 - whatever it was, the test must see it
            failed.append(why)

    threads = [threading.Thread(target=start) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert sorted(done, key=str) == sorted([None, head(), head()], key=str)


def test_tables_without_a_revision_are_not_touched(engine):
    metadata = MetaData()
    Table("person", metadata, Column("id", String(3), primary_key=True))
    metadata.create_all(engine)
    with pytest.raises(Conflict, match="table person"):
        migrate(engine)
    assert inspect(engine).get_table_names() == ["person"]


def test_a_database_of_a_newer_program_is_refused(engine):
    migrate(engine)
    with engine.begin() as db:
        db.execute(text("update alembic_version set version_num = '9999'"))
    with pytest.raises(Conflict, match="newer"):
        migrate(engine)


def test_contexts_share_no_table_name():
    names = [name for part in METADATA for name in part.tables]
    assert len(names) == len(set(names))


def test_a_difference_is_found(tmp_path):
    engine = open_database(f"sqlite:///{tmp_path / 'x.db'}")
    migrate(engine)
    with engine.begin() as db:
        db.execute(text("alter table person drop column disabled_ms"))
        db.execute(text("create table stray (id integer primary key)"))
    found = repr(differences(engine))
    assert "disabled_ms" in found
    assert "stray" in found
    engine.dispose()


def test_the_first_revision_can_be_taken_back(engine):
    migrate(engine)
    with engine.begin() as db:
        command.downgrade(_config(db), "base")
    assert inspect(engine).get_table_names() == ["alembic_version"]


def test_writing_a_revision_needs_an_empty_or_migrated_database(tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path / 'x.db'}")
    with engine.begin() as db:
        db.execute(text("create table person (id text)"))
    with pytest.raises(Conflict):
        revise(engine, "nothing")
    engine.dispose()
