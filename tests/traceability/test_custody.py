"""Lots followed both ways, against a slow and obvious oracle; grams that add up; recalls that find everything."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from traceability import TraceError
from traceability.custody import CyclicCustody, Genealogy
from traceability.demo import demo_chains
from traceability.epc_uris import canonical_name
from traceability.events import aggregation_event, association_event, object_event, parse_event
from traceability.events import transformation_event as transform
from traceability.recall import UnknownSeed, drill, recall_scope
from traceability.renaming import with_names

CRATES = ("urn:x:crate-1", "urn:x:crate-2")
NOW = 1_795_400_000_000


@st.composite
def histories(draw):
    """Random lives of a few things: born, packed, unpacked, turned into other things, some told in parts."""
    things, events, inside = ["urn:x:t0", "urn:x:t1"], [], {crate: set() for crate in CRATES}
    for number in range(draw(st.integers(1, 10))):
        when, kind = (
            1000 * (number + 1),
            draw(st.sampled_from(["make", "make", "pack", "unpack", "nest", "origin", "fix"])),
        )
        crate, thing = draw(st.sampled_from(CRATES)), draw(st.sampled_from(things))
        if kind in {"make", "origin"}:
            new = [f"urn:x:t{len(things) + n}" for n in range(draw(st.integers(1, 2)))]
            taken = draw(st.lists(st.sampled_from([*things, *CRATES]), min_size=1, max_size=3, unique=True))
            if kind == "make":
                name = draw(st.sampled_from([{}, {}, {"transformationID": "urn:x:open"}]))
                events.append(transform("assembling", when, took=taken, made=new, **name))
            else:
                events.append(object_event("ADD", "commissioning", when, epcs=new, ilmd={"tm:origin": taken}))
            things += new
        elif kind == "pack" and not any(thing in held for held in inside.values()):
            inside[crate].add(thing)
            events.append(aggregation_event("ADD", "packing", when, parent=crate, epcs=[thing]))
        elif kind == "fix" and not any(thing in held for held in inside.values()):
            inside[crate].add(thing)
            events.append(association_event("ADD", "installing", when, parent=crate, epcs=[thing]))
        elif kind == "unpack" and inside[crate]:
            out = draw(st.sampled_from(sorted(inside[crate])))
            inside[crate].discard(out)
            events.append(aggregation_event("DELETE", "unpacking", when, parent=crate, epcs=[out]))
        elif (
            kind == "nest"
            and not any(CRATES[0] in held for held in inside.values())
            and CRATES[1] not in inside[CRATES[0]]
        ):
            inside[CRATES[1]].add(CRATES[0])
            events.append(aggregation_event("ADD", "loading", when, parent=CRATES[1], epcs=[CRATES[0]]))
    return [parse_event(event) for event in events]


class Oracle:
    """Replays the whole history for every single question."""

    def __init__(self, events):
        self.events = events

    def contents(self, name, until):
        """Everything inside ``name`` after the first ``until`` events, at any depth."""
        held = {}
        for event in self.events[:until]:
            if event.kind in {"AggregationEvent", "AssociationEvent"}:
                for child in event.children:
                    held.setdefault(event.parent, {})[child] = event.action == "ADD"
        direct = {child for child, there in held.get(name, {}).items() if there}
        return direct | {deep for child in direct for deep in self.contents(child, until)}

    def made_from(self, thing):
        found = set()
        for number, event in enumerate(self.events):
            taken = set(event.inputs) or set((event.body.get("ilmd") or {}).get("tm:origin", ()))
            made = set(event.outputs) or (set(event.epcs) if event.action == "ADD" else set())
            name = event.body.get("transformationID")
            parts = [(number, event)]
            if name is not None:
                same = [(n, e) for n, e in enumerate(self.events) if e.body.get("transformationID") == name]
                parts, made = same, {o for _, e in same for o in e.outputs}
            if thing not in made:
                continue
            for at, part in parts:
                inputs = set(part.inputs) or taken
                found |= inputs | {c for i in inputs for c in self.contents(i, at)}
        return found - {thing}

    def back(self, thing):
        found, todo = set(), {thing}
        for number, event in enumerate(self.events):
            if event.kind in {"AggregationEvent", "AssociationEvent"} and event.action == "ADD":
                around = {c for c in CRATES if event.parent == c or event.parent in self.contents(c, number + 1)}
                if thing in around:
                    todo |= {c for child in event.children for c in {child} | self.contents(child, number + 1)}
        found |= todo - {thing}
        while todo:
            todo = {source for name in todo for source in self.made_from(name)} - found - {thing}
            found |= todo
        return found


@given(events=histories())
def test_ancestors_are_those_of_a_slow_and_obvious_search(events):
    genealogy, oracle = Genealogy(events), Oracle(events)
    for thing in {name for event in events for name in event.things}:
        assert set(genealogy.back(thing)) == oracle.back(thing)


@given(events=histories())
def test_forward_is_back_read_from_the_other_end(events):
    genealogy, oracle = Genealogy(events), Oracle(events)
    things = {name for event in events for name in event.things}
    for thing in things:
        products = {name for name in things if name not in CRATES and thing in oracle.back(name)}
        forward = set(genealogy.forward(thing))
        assert products <= forward
        for crate in forward & set(CRATES) - {thing}:
            assert thing in oracle.back(crate) or thing in CRATES
        assert forward - set(CRATES) == products


@given(events=histories())
def test_resolution_counts_the_first_units_a_search_by_hand_finds(events):
    genealogy, oracle = Genealogy(events), Oracle(events)
    for thing in {name for event in events for name in event.things} - set(CRATES):
        before = {thing} | oracle.back(thing)
        by_hand = {name for name in before if not oracle.made_from(name)}
        assert set(genealogy.resolution(thing).candidates) == by_hand


def spelled(event, pick):
    """The same event, each thing under one of the names that mean it."""

    def name(thing):
        if not thing.startswith("urn:x:t"):
            return thing
        serial = thing.removeprefix("urn:x:")
        return pick(
            (
                f"https://id.gs1.org/01/04012345111118/21/{serial}",
                f"urn:epc:id:sgtin:4012345.011111.{serial}",
                f"HTTPS://shop.example/x/01/04012345111118/10/LOT/21/{serial}?17=261231",
            )
        )

    return with_names(event, name)


@given(events=histories(), data=st.data())
def test_things_that_are_spelled_in_different_ways_are_the_same_things(events, data):
    def common(thing):
        return thing.replace("urn:x:t", "https://id.gs1.org/01/04012345111118/21/t")

    plain = Genealogy(events)
    mixed = Genealogy(
        [spelled(event, lambda names: data.draw(st.sampled_from(names))) for event in events], same=canonical_name
    )
    lot = {"https://id.gs1.org/01/04012345111118/10/LOT"}
    for thing in {name for event in events for name in event.things}:
        assert set(mixed.back(common(thing))) - lot == {common(name) for name in plain.back(thing)}
        assert set(mixed.forward(common(thing))) == {common(name) for name in plain.forward(thing)}


def test_the_demonstration_pork_comes_from_38_pigs_of_two_farms():
    chain = demo_chains(NOW)[0]
    genealogy = Genealogy(parse_event(event) for event in chain.events)
    found = genealogy.resolution(chain.subject)
    assert (len(found.candidates), len(found.places)) == (38, 2)
    assert chain.subject in genealogy.forward(found.candidates[0])


def test_a_crate_used_twice_does_not_join_two_lots():
    crate = CRATES[0]
    events = [
        aggregation_event("ADD", "packing", 1000, parent=crate, epcs=["urn:x:old"]),
        aggregation_event("DELETE", "unpacking", 2000, parent=crate),
        aggregation_event("ADD", "packing", 3000, parent=crate, epcs=["urn:x:new"]),
        transform("repackaging", 4000, took=[crate], made=["urn:x:box"]),
    ]
    genealogy = Genealogy(map(parse_event, events))
    assert set(genealogy.back("urn:x:box")) == {crate, "urn:x:new"}
    assert "urn:x:box" not in genealogy.forward("urn:x:old")
    assert set(genealogy.back(crate)) == {"urn:x:old", "urn:x:new"}


def test_a_replaced_ear_tag_is_the_same_animal():
    old, new = "urn:tianmai:ear:150015300000001", "urn:tianmai:ear:150015300000002"
    events = [
        association_event("ADD", "replacing", 1000, parent=new, epcs=[old]),
        transform("assembling", 2000, took=[new], made=["urn:x:half"]),
    ]
    assert old in Genealogy(map(parse_event, events)).back("urn:x:half")


@given(events=histories(), order=st.randoms(use_true_random=False))
def test_late_events_lead_to_the_same_links_as_timely_ones(events, order):
    shuffled = list(events)
    order.shuffle(shuffled)
    late = Genealogy()
    for event in shuffled:
        late.add(event)
    timely = Genealogy(events)
    for thing in {name for event in events for name in event.things}:
        assert set(late.back(thing)) == set(timely.back(thing))
        assert set(late.forward(thing)) == set(timely.forward(thing))


def test_a_serial_whose_link_names_its_lot_comes_from_that_lot():
    lot = "https://id.gs1.org/01/09520123456788/10/A"
    sold = object_event("OBSERVE", "retail_selling", 2000, epcs=[f"{lot}/21/7"])
    genealogy = Genealogy([parse_event(sold)])
    assert genealogy.back(f"{lot}/21/7") == (lot,)


def test_a_box_cannot_hold_itself():
    genealogy = Genealogy([parse_event(aggregation_event("ADD", "packing", 1, parent="urn:x:b", epcs=["urn:x:a"]))])
    with pytest.raises(CyclicCustody):
        genealogy.add(parse_event(aggregation_event("ADD", "packing", 2, parent="urn:x:a", epcs=["urn:x:b"])))
    assert genealogy.back("urn:x:a") == ()


@given(parts=st.lists(st.integers(1, 1000), min_size=1, max_size=6), lost=st.integers(0, 100))
def test_grams_add_up_exactly(parts, lost):
    whole, made = sum(parts) + lost, {f"urn:x:p{n}": (grams / 1000, "KGM") for n, grams in enumerate(parts)}
    events = [
        object_event("ADD", "commissioning", 1, lots={"urn:x:whole": (whole, "GRM")}),
        transform("assembling", 2, took_lots={"urn:x:whole": (sum(parts), "GRM")}, made_lots=made),
    ]
    genealogy = Genealogy(map(parse_event, events))
    assert genealogy.account("urn:x:whole").left_g == lost
    assert sum(genealogy.account(name).made_g for name in made) == sum(parts)


def test_more_taken_than_made_shows_as_less_than_nothing():
    events = [
        object_event("ADD", "commissioning", 1, lots={"urn:x:a": (100, "GRM")}),
        transform("assembling", 2, took_lots={"urn:x:a": (101, "GRM")}, made=["urn:x:b"]),
    ]
    assert Genealogy(map(parse_event, events)).account("urn:x:a").left_g == -1


class TestRecall:
    shop = "urn:x:shop"
    events = (
        object_event("ADD", "commissioning", 1, lots={"urn:x:feed": (1000, "GRM")}, place="urn:x:mill"),
        transform("assembling", 2, took_lots={"urn:x:feed": (500, "GRM"), "urn:x:bran": (500, "GRM")},
                  made=["urn:x:p1", "urn:x:p2"], place="urn:x:farm"),
        aggregation_event("ADD", "packing", 3, parent="urn:x:van", epcs=["urn:x:p1", "urn:x:p2"]),
        object_event("OBSERVE", "shipping", 4, epcs=["urn:x:van"], destinationList=[
            {"type": "possessing_party", "destination": shop}]),
        aggregation_event("DELETE", "unpacking", 5, parent="urn:x:van"),
        object_event("OBSERVE", "receiving", 6, epcs=["urn:x:p1", "urn:x:p2"], destinationList=[
            {"type": "possessing_party", "destination": shop}]),
        object_event("OBSERVE", "retail_selling", 7, epcs=["urn:x:p1"]),
    )  # fmt: skip

    def scope(self, *seeds):
        return recall_scope(Genealogy(map(parse_event, self.events)), seeds, known_ms=100)

    def test_it_tells_what_is_sold_and_who_has_the_rest(self):
        scope = self.scope("urn:x:feed")
        where = {each.thing: each.where for each in scope.affected}
        assert where["urn:x:p1"].state == "sold"
        assert where["urn:x:p2"].state == "on_hand"
        assert scope.holders[self.shop] == 1 + 1  # the pack, and the van that was shipped there
        assert {each.thing for each in scope.to_fetch} >= {"urn:x:p2"}
        assert scope.start_by_ms == 100 + 24 * 3_600_000

    def test_it_tells_how_diluted_the_lot_is_and_where_else_to_look(self):
        scope = self.scope("urn:x:p2")
        assert scope.step_back == ("urn:x:feed", "urn:x:bran")
        shares = {each.thing: each.share for each in self.scope("urn:x:feed").affected}
        assert shares["urn:x:p1"] == 0.5
        assert shares["urn:x:feed"] == 1.0

    def test_what_is_inside_a_container_is_where_the_container_is(self):
        genealogy = Genealogy(map(parse_event, self.events[:4]))
        where = genealogy.whereabouts("urn:x:p1")
        assert (where.state, where.holder, where.container) == ("in_transit", self.shop, "urn:x:van")

    def test_a_recall_of_something_unknown_or_of_no_class_is_refused(self):
        with pytest.raises(UnknownSeed):
            self.scope("urn:x:never-seen")
        with pytest.raises(TraceError):
            recall_scope(Genealogy(map(parse_event, self.events)), ["urn:x:feed"], known_ms=0, grade=4)

    def test_a_drill_times_its_answer(self):
        ticks = iter([10.0, 13.5])
        result = drill(
            Genealogy(map(parse_event, self.events)), ["urn:x:feed"], known_ms=0, clock_ms=lambda: next(ticks)
        )
        assert result.answered_in_ms == 3.5


def test_a_lot_in_ten_thousand_packs_is_found_at_once():
    pigs = [f"urn:tianmai:ear:1500153{n:08d}" for n in range(50)]
    packs = [f"urn:x:pack-{n}" for n in range(10_000)]
    genealogy = Genealogy([parse_event(transform("assembling", 1, took=pigs, made=packs))])
    start = time.perf_counter()
    scope = recall_scope(genealogy, [pigs[0]], known_ms=0)
    assert time.perf_counter() - start < 2
    assert len(scope.affected) == 10_001
    assert scope.affected[-1].share == pytest.approx(0.02)
