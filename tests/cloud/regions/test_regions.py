from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.problems import Invalid, NotFound
from cloud.regions import Level, Region, Regions
from cloud.regions.tree import FIRST, LAST, Succession, closure, level_of, normal_code

DAYS = ["2020-01-01", "2021-01-01", "2022-01-01", "2023-01-01"]


@pytest.fixture
def regions(engine, clock):
    made = Regions(engine, clock)
    made.prepare()
    return made


def rows(*lines, header="code,name_zh,parent_code"):
    names = header.split(",")
    return [dict(zip(names, line.split(","), strict=True)) for line in lines]


def test_the_starter_list_holds_the_four_reference_districts(regions):
    assert [child.name_zh for child in regions.children("500000")] == ["南岸区", "合川区", "荣昌区", "云阳县"]
    assert [one.name_zh for one in regions.path("500153103")] == ["重庆市", "荣昌区", "仁义镇"]
    assert regions.covers("500000", "500153103")
    assert regions.covers("500153", "500153")
    assert not regions.covers("500153", "500235103")
    assert not regions.covers("500153", "500000")
    assert [root.code for root in regions.roots()] == ["500000"]


def test_preparing_twice_keeps_what_was_imported(regions):
    regions.import_rows("list", rows("500153103001,村,500153103"))
    regions.prepare()
    assert regions.get("500153103001").level is Level.VILLAGE
    assert regions.covers("500000", "500153103001")


def test_an_unknown_region_covers_nothing_and_lies_nowhere(regions):
    assert not regions.known("999999")
    assert not regions.covers("999999", "999999")
    with pytest.raises(NotFound):
        regions.get("999999")


def test_a_code_that_ended_belongs_to_its_heir_and_its_old_office_holds_nothing(regions):
    regions.import_rows(
        "changes",
        rows(
            "2025,新设,,,500157,两江新区",
            "2025,撤销,500112,渝北区,500157,两江新区",
            header="year,type,old_code,old_name,new_code,new_name",
        ),
    )
    long_ago, lately = date(2020, 5, 1), date(2026, 5, 1)
    assert regions.covers("500112", "500112", long_ago)
    assert not regions.covers("500157", "500112", long_ago)
    assert regions.covers("500157", "500112", lately)
    assert not regions.covers("500112", "500112", lately)
    assert regions.covers("500000", "500112", lately)
    # The source knows the year only: within it both hold.
    assert regions.covers("500112", "500112", date(2025, 6, 1))
    assert regions.covers("500157", "500157", date(2025, 6, 1))


def test_a_new_list_ends_what_it_no_longer_names_and_follows_a_town_by_its_name(regions):
    regions.import_rows("list", rows("500117,合川区,500000", "500153,荣昌区,500000"), date(2025, 1, 1))
    regions.import_rows("list", rows("500117101,钱塘镇,500117", "500117102,沙鱼镇,500117"), date(2025, 1, 1))
    regions.import_rows("list", rows("500153200,仁义镇,500153", "500153201,新镇,500153"), date(2026, 1, 1))
    assert regions.get("500153103").valid_to == "2026-01-01"
    assert regions.covers("500153200", "500153103", date(2026, 6, 1))
    assert not regions.covers("500153200", "500153103", date(2025, 6, 1))
    assert regions.covers("500153", "500153110", date(2026, 6, 1))  # vanished without an heir: its county keeps it
    assert regions.known("500117101")


def test_a_list_speaks_only_for_the_parents_it_names(regions):
    before = {child.code for child in regions.children("500235")}
    regions.import_rows("list", rows("500153103,仁义镇,500153"))
    assert {child.code for child in regions.children("500153")} == {"500153103"}
    assert {child.code for child in regions.children("500235")} == before


def test_a_renamed_region_keeps_its_code_and_both_names_with_their_days(regions):
    regions.import_rows("list", rows("500153103,新名镇,500153"), date(2026, 3, 1))
    assert regions.get("500153103", date(2026, 2, 28)).name_zh == "仁义镇"
    assert regions.get("500153103", date(2026, 3, 1)).name_zh == "新名镇"
    assert regions.covers("500153103", "500153103", date(2026, 2, 1))


def test_a_list_older_than_one_already_taken_is_refused(regions):
    regions.import_rows("list", rows("500153103,仁义镇,500153"), date(2026, 1, 1))
    with pytest.raises(Invalid, match="2026-01-01"):
        regions.import_rows("list", rows("500153104,河包镇,500153"), date(2025, 1, 1))


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("50015,荣昌,500000", "line 2.*50015"),
        ("500153X,荣昌,500000", "500153X"),
        ("500153103,,500153", "no name"),
        ("500199,某区,500198", "parent 500198"),
        ("500199,某区,", "no parent_code"),
    ],
)
def test_a_bad_row_refuses_the_whole_file_and_says_where(regions, bad, says):
    before = regions.children("500153")
    with pytest.raises(Invalid, match=says):
        regions.import_rows("list", [*rows("500153103,仁义镇,500153"), *rows(bad)][::-1], source="towns.csv")
    assert regions.children("500153") == before


@pytest.mark.parametrize(
    ("content", "says"),
    [("a,b\n1,2\n", "columns"), ("code,name_zh,parent_code\n", "no rows"), ("\xff\xfe", "CSV|columns"), (None, "read")],
)
def test_a_file_that_is_no_list_is_refused_by_name(regions, tmp_path, content, says):
    path = tmp_path / "towns.csv"
    if content is not None:
        path.write_text(content, "latin-1")
    with pytest.raises(Invalid, match=f"towns.csv.*({says})"):
        regions.import_file(path)


def test_codes_are_brought_to_their_shortest_form_and_know_their_level():
    assert normal_code("500153000000") == "500153"
    assert normal_code(" 500153103000 ") == "500153103"
    assert [level_of(code) for code in ("500000", "500153", "500153103", "500153103201")] == [
        Level.CITY,
        Level.DISTRICT,
        Level.TOWNSHIP,
        Level.VILLAGE,
    ]
    assert level_of("500153103G07") is Level.GRID
    assert level_of("500153103G07M02") is Level.MICRO_GRID


def test_a_region_inside_itself_is_refused():
    loop = [Region("500001", "a", Level.DISTRICT, "500002"), Region("500002", "b", Level.DISTRICT, "500001")]
    with pytest.raises(Invalid, match="inside itself"):
        list(closure(loop, []))


@st.composite
def trees(draw):
    """A random tree with spans, some ended, some with heirs."""
    size = draw(st.integers(1, 12))
    regions, ended = [], []
    for n in range(size):
        parent = None if n == 0 else f"{draw(st.integers(0, n - 1)):06d}"
        end = draw(st.sampled_from([LAST, LAST, *DAYS[1:]]))
        regions.append(Region(f"{n:06d}", str(n), Level.DISTRICT, parent, FIRST, end))
        if end != LAST:
            ended.append((n, end))
    steps = []
    for n, end in ended:
        if n + 1 < size and draw(st.booleans()):
            # Heirs are younger siblings' branches only where that makes no ring: to the root's own span.
            steps.append(Succession(f"{n:06d}", "000000", end) if n and regions[0].valid_to == LAST else None)
    return regions, [step for step in steps if step]


def by_hand(regions, steps, ancestor, code, day, seen=()):
    """Whether `code` belongs to `ancestor` on a day, by walking."""
    assert code not in seen
    span = {region.code: region for region in regions}[code]
    if span.valid_from <= day < span.valid_to:
        if code == ancestor:
            return True
        return span.parent is not None and by_hand(regions, steps, ancestor, span.parent, day, (*seen, code))
    heirs = [step.new for step in steps if step.old == code] or ([span.parent] if span.parent else [])
    return any(by_hand(regions, steps, ancestor, heir, day, (*seen, code)) for heir in heirs)


@given(tree=trees(), day=st.sampled_from(DAYS))
def test_the_closure_agrees_with_walking_the_tree_by_hand(tree, day):
    regions, steps = tree
    edges = {(e.ancestor, e.descendant) for e in closure(regions, steps) if e.valid_from <= day < e.valid_to}
    codes = [region.code for region in regions]
    assert edges == {(a, d) for a in codes for d in codes if by_hand(regions, steps, a, d, day)}


def test_real_lists_and_changes_of_chongqing_import_in_order(engine, clock, shared_data):
    folder = shared_data / "admin"
    if not folder.is_dir():
        pytest.skip(f"no administrative lists: {folder} does not exist")
    regions = Regions(engine, clock)
    regions.prepare()
    regions.import_file(folder / "chongqing_districts.csv", date(2023, 12, 31))
    regions.import_file(folder / "chongqing_towns.csv", date(2023, 12, 31))
    regions.import_file(folder / "chongqing_code_changes.csv")
    regions.import_file(folder / "chongqing_districts_2026.csv", date(2026, 2, 1))
    done = regions.import_file(folder / "chongqing_towns_2026.csv", date(2026, 2, 1))
    assert done.opened > 0
    assert len(regions.children("500000")) == 37
    assert len(regions.children("500000", date(2024, 6, 1))) == 38
    assert regions.covers("500157", "500112131")  # Longxing town went into the new area
    assert regions.covers("500109", "500112143")  # Dasheng town went to Beibei
    assert not regions.covers("500157", "500112143")
    assert regions.covers("500153", "500226")  # Rongchang was a county with another code


def test_a_register_that_never_declared_itself_complete_only_says_yes_or_nothing(regions):
    assert regions.county_known("500153", date(2026, 11, 1)) is True
    assert regions.county_known("500112", date(2026, 11, 1)) is None
    assert regions.county_known("500000", date(2026, 11, 1)) is None  # the city is no county
    assert regions.county_known("510104", date(2026, 11, 1)) is None


def test_only_on_the_days_for_which_a_list_was_declared_complete_a_county_is_said_not_to_exist(regions):
    listed = rows("500153,荣昌区,500000", "500157,两江新区,500000")
    regions.import_rows("list", listed, date(2026, 9, 11), complete=(date(2025, 12, 1), date(2026, 12, 31)))
    said = {day: regions.county_known("500112", day) for day in map(date.fromisoformat, COUNTY_DAYS)}
    assert list(said.values()) == [None, False, False, False, None]
    assert regions.county_known("500157", date(2026, 9, 11)) is True
    assert regions.county_known("510104", date(2026, 9, 11)) is None


COUNTY_DAYS = ("2025-11-30", "2025-12-01", "2026-09-11", "2026-12-31", "2027-01-01")


def test_a_list_without_a_declaration_is_complete_on_its_own_day_alone(regions):
    regions.import_rows("list", rows("500153,荣昌区,500000"), date(2026, 9, 11))
    assert regions.county_known("500112", date(2026, 9, 11)) is False
    assert regions.county_known("500112", date(2026, 9, 10)) is None
    assert regions.county_known("500112", date(2026, 9, 12)) is None


def test_completeness_must_hold_the_day_of_the_list_and_changes_cannot_declare_it(regions):
    with pytest.raises(Invalid):
        regions.import_rows("list", rows("500153,荣昌区,500000"), date(2026, 9, 11), complete=(date(2026, 9, 12), None))
    changes = rows("2015,x,500226,荣昌县,500153,荣昌区", header="year,type,old_code,old_name,new_code,new_name")
    with pytest.raises(Invalid):
        regions.import_rows("changes", changes, complete=(date(2015, 1, 1), None))


def test_a_county_that_was_renamed_is_known_by_each_code_in_its_time(regions):
    header = "year,type,old_code,old_name,new_code,new_name"
    regions.import_rows("changes", rows("2015,renamed,500226,荣昌县,500153,荣昌区", header=header))
    regions.import_rows("list", rows("500153,荣昌区,500000"), date(2026, 9, 11), complete=(date(1998, 1, 1), None))
    at = {
        (code, year): regions.county_known(code, date(year, 6, 1))
        for code in ("500226", "500153")
        for year in (2010, 2020)
    }
    assert at == {("500226", 2010): True, ("500226", 2020): False, ("500153", 2010): False, ("500153", 2020): True}


def test_the_public_list_and_changes_know_todays_counties_and_yesterdays(regions, shared_data):
    folder = shared_data / "admin"
    regions.import_file(folder / "chongqing_code_changes.csv")
    regions.import_file(
        folder / "chongqing_districts_2026.csv", date(2026, 9, 11), complete=(date(2000, 1, 1), date(2026, 12, 31))
    )
    day = date(2026, 10, 1)
    assert [regions.county_known(code, day) for code in ("500153", "500157", "500112", "500199")] == [
        True,
        True,
        False,
        False,
    ]
    assert regions.county_known("500112", date(2020, 6, 1)) is True
