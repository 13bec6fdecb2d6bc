"""What the spool has called durable stays readable, whatever happens to the disk."""

import errno
import json
import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.__main__ import main
from edge.spool import Kind, Spool, SpoolError, SpoolSettings
from edge.spool.disk import RealDisk
from edge.spool.faults import FaultyDisk, PowerCut
from edge.spool.tool import messages
from edge.thinning import PackThinner
from edge.wire import Pack, Reading, decode_pack, encode_pack

SMALL = SpoolSettings(cap_bytes=10**9, segment_bytes=2048)


def content(spool):
    return {item.seq: (item.kind, item.payload) for item in messages(spool)}


def payload_of(number):
    return random.Random(number).randbytes(20 + number % 150)


def fill(spool, count, *, per_group=3):
    for number in range(1, count + 1):
        kind = Kind.EVENT if number % 5 == 0 else Kind.DATA
        spool.put(kind, payload_of(number), count=1 + number % 7, note={"place": number})
        if number % per_group == 0:
            spool.commit()


steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from([Kind.DATA, Kind.EVENT, Kind.RECORD]), st.binary(max_size=300)),
        st.tuples(st.just("commit")),
        st.tuples(st.just("settle"), st.integers(0, 60)),
        st.tuples(st.just("reopen")),
    ),
    max_size=60,
)


@given(steps=steps)
def test_a_spool_is_a_queue_that_survives_reopening_and_forgets_only_below_the_watermark(steps):
    disk = FaultyDisk()
    spool, model, pending, mark = Spool(disk, SMALL), {}, {}, 0
    for step in steps:
        if step[0] == "put":
            pending[spool.put(step[1], step[2])] = (step[1], step[2])
        elif step[0] == "commit":
            spool.commit()
            model, pending = {**model, **pending}, {}
        elif step[0] == "settle":
            mark = max(mark, min(step[1], max(model, default=0)))
            spool.settle(spool.epoch, mark)
        else:
            spool.close()  # commits what is open
            model, pending = {**model, **pending}, {}
            epoch, spool = spool.epoch, Spool(disk, SMALL)
            assert spool.epoch == epoch or not model
        assert content(spool) == {seq: kept for seq, kept in model.items() if seq > mark}
        assert not spool.take_gaps()


def run_until_the_cut(fuel):
    """Write and settle until the power goes; returns the disk and what had been reported durable or settled."""
    disk, durable, mark = FaultyDisk(fuel=fuel), {}, 0
    spool = None
    try:
        spool = Spool(disk, SMALL)
        for number in range(1, 40):
            kind = Kind.EVENT if number % 5 == 0 else Kind.DATA
            spool.put(kind, payload_of(number), note={kind.name: number})
            if number % 3 == 0:
                spool.commit()
                durable = {n: payload_of(n) for n in range(1, number + 1)}
            if number % 12 == 0:
                mark = number - 6  # said by the cloud, whether or not the spool comes to note it
                spool.settle(spool.epoch, mark)
    except PowerCut:
        return disk, durable, mark, True
    return disk, durable, mark, False


def test_every_cut_point_leaves_every_durable_record_readable_and_no_number_used_twice():
    fuel, cut = 0, True
    while cut:
        disk, durable, mark, cut = run_until_the_cut(fuel)
        fuel += 1
        for seed in range(6):
            survivor = Spool(disk.after_cut(seed), SMALL)
            found = {seq: payload for seq, (_, payload) in content(survivor).items()}
            for seq, payload in durable.items():
                assert seq <= mark or found.get(seq) == payload, f"fuel {fuel} seed {seed} lost {seq}"
            for seq, payload in found.items():
                assert payload == payload_of(seq), f"fuel {fuel} seed {seed} changed {seq}"
            fresh = survivor.put(Kind.DATA, b"new")
            assert fresh > max([*durable, *found, 0])
            if durable:
                assert survivor.notes["DATA"] >= max(seq for seq in durable if seq % 5)
            survivor.commit()
            assert content(survivor)[fresh] == (Kind.DATA, b"new")
    assert fuel > 40


def test_a_second_cut_during_recovery_loses_nothing_either():
    for fuel in range(20, 60, 3):
        disk, durable, mark, _ = run_until_the_cut(fuel)
        again = disk.after_cut(fuel)
        again.fuel = fuel % 4
        try:
            Spool(again, SMALL).commit()
        except PowerCut:
            again.fuel = None
        found = content(Spool(again.after_cut(1), SMALL))
        assert all(seq <= mark or seq in found for seq in durable)


def test_a_flipped_bit_costs_only_its_record_at_every_offset():
    original = FaultyDisk()
    spool = Spool(original, SpoolSettings(segment_bytes=700))
    fill(spool, 12)
    spool.close()
    whole = content(Spool(original, SMALL))
    assert len(whole) == 12
    name = min(n for n in original.names() if n.startswith("d-"))
    for offset in range(original.size(name)):
        disk = original.after_cut(0)
        disk.flip(name, offset, 1 << offset % 8)
        damaged = Spool(disk, SMALL)
        found = content(damaged)
        lost = set(whole) - set(found)
        assert len(lost) <= 1, f"offset {offset} cost {lost}"
        assert all(whole[seq] == found[seq] for seq in found)
        assert damaged.put(Kind.DATA, b"") > 12
        damaged.put(Kind.DATA, b"later")
        damaged.commit()
        content(damaged)
        reported = {n for gap in damaged.take_gaps() for n in range(gap.first, gap.last + 1)}
        assert lost <= reported


@given(length=st.integers(0, 2000), seed=st.integers(0, 100))
@settings(max_examples=60)
def test_a_truncated_file_keeps_its_head_and_reports_the_rest(length, seed):
    disk = FaultyDisk()
    spool = Spool(disk, SpoolSettings(segment_bytes=4096))
    fill(spool, 15)
    spool.close()
    whole = content(Spool(disk, SMALL))
    name = next(n for n in disk.names() if n.startswith("d-"))
    disk.truncate(name, min(length, disk.size(name)))
    found = content(Spool(disk, SMALL))
    data = [seq for seq in sorted(whole) if whole[seq][0] is Kind.DATA]
    kept = [seq for seq in data if seq in found]
    assert kept == data[: len(kept)]
    assert {seq for seq in whole if whole[seq][0] is Kind.EVENT} <= set(found)


@pytest.mark.parametrize("damage", ["lost", "garbled", "one slot"])
def test_a_damaged_watermark_only_means_sending_again(damage):
    disk = FaultyDisk()
    spool = Spool(disk, SMALL)
    fill(spool, 30)
    for mark in (5, 9):
        spool.settle(spool.epoch, mark)
        spool.save_mark()
    before = content(spool)
    spool.close()
    if damage == "lost":
        disk.remove("watermark")
    else:
        for offset in range(128 if damage == "garbled" else 64):
            disk.flip("watermark", offset, 0xFF)
    again = Spool(disk, SMALL)
    assert again.watermark in {0, 5, 9}
    assert before.items() <= content(again).items()
    assert again.epoch == spool.epoch


def test_the_oldest_data_go_when_the_cap_is_reached_and_each_loss_is_reported_once():
    disk = FaultyDisk()
    spool = Spool(disk, SpoolSettings(cap_bytes=20_000, segment_bytes=2048))
    sent = {}
    for number in range(1, 400):
        kind = Kind.EVENT if number % 20 == 0 else Kind.DATA
        sent[spool.put(kind, payload_of(number), count=3)] = kind
        spool.commit()
    gaps = spool.take_gaps()
    found = set(content(spool))
    lost = {n for gap in gaps for n in range(gap.first, gap.last + 1)}
    assert spool.stat().bytes_used <= 20_000
    assert lost
    assert lost | found == set(sent)
    assert not lost & found
    assert {n for n, kind in sent.items() if kind is Kind.EVENT} <= found, "events have their own tenth"
    assert sum(gap.count for gap in gaps) == 3 * len(lost) == spool.stat().lost_readings
    spool.put(Kind.EVENT, b"told", note=spool.gap_note())
    spool.close()
    again = Spool(disk, SMALL)
    content(again)
    assert not again.take_gaps()
    assert again.stat().lost_readings == 3 * len(lost)


def packs_of(count, *, per_pack=20):
    """Packs of two series in turn: one slow (water temperature), one that matters (oxygen)."""
    for nth in range(count):
        at = 1_800_000_000_000 + nth * per_pack * 1000
        names = (
            "pond1/water_temperature",
            "pond1/water_temperature",
            "pond1/water_temperature",
            "pond1/dissolved_oxygen",
        )
        yield Pack(
            "pond-1", tuple(Reading(names[n % 4], at + n * 1000, 20 + nth % 7 / 10, "Cel") for n in range(per_pack))
        )


def readings_in(spool):
    return [
        (reading.name, reading.time_ms)
        for item in messages(spool)
        if item.kind is Kind.DATA
        for reading in decode_pack(item.payload).readings
    ]


@pytest.mark.parametrize("restarts", [False, True])
def test_a_full_spool_is_thinned_before_anything_is_dropped_and_every_reading_is_there_or_counted(restarts):
    disk, asked = FaultyDisk(), SpoolSettings(cap_bytes=40_000, segment_bytes=4096)
    spool = Spool(disk, asked, PackThinner(10, {"water_temperature"}))
    sent, reported = set(), 0
    for nth, pack in enumerate(packs_of(330)):
        spool.put(Kind.DATA, encode_pack(pack), count=len(pack.readings))
        sent |= {(reading.name, reading.time_ms) for reading in pack.readings}
        spool.commit()
        if restarts and nth % 50 == 49:
            gaps = spool.take_gaps()
            reported += sum(gap.count for gap in gaps)
            spool.put(Kind.EVENT, b"gaps", note=spool.gap_note())
            spool.close()
            spool = Spool(disk, asked, PackThinner(10, {"water_temperature"}))
    gaps = spool.take_gaps()
    found = readings_in(spool)
    lost = sent - set(found)
    assert spool.stat().bytes_used <= 40_000
    reported += sum(gap.count for gap in gaps)
    if restarts:  # a half thinned segment is begun anew: some readings are kept twice, none is lost uncounted
        assert reported >= len(lost)
    else:
        assert reported == len(lost)
        assert {gap.reason for gap in gaps} == {"thinned"}
        assert {name for name, _ in lost} == {"pond1/water_temperature"}, "what matters is kept whole"
        assert len(found) == len(set(found))


def test_what_cannot_be_made_thinner_is_dropped_and_never_copied_about():
    disk = FaultyDisk()
    spool = Spool(disk, SpoolSettings(cap_bytes=40_000, segment_bytes=4096), PackThinner(10, {"air_temperature"}))
    for pack in packs_of(330):
        spool.put(Kind.DATA, encode_pack(pack), count=len(pack.readings))
        spool.commit()
    gaps = spool.take_gaps()
    found = readings_in(spool)
    assert {gap.reason for gap in gaps} == {"cap"}
    assert len(found) == len(set(found))
    assert sum(gap.count for gap in gaps) + len(found) == 330 * 20


def test_looking_into_a_spool_drops_nothing_whatever_cap_it_was_written_under(tmp_path, capsys):
    spool = Spool(tmp_path / "spool", SpoolSettings(cap_bytes=10**12, segment_bytes=2048))
    for _ in range(8):
        spool.put(Kind.DATA, bytes(1000))
        spool.commit()
    spool.close()
    files = sorted((tmp_path / "spool").glob("d-*.seg"))
    for path in files[:3]:
        os.truncate(path, 250 * 1024 * 1024)  # takes no space: a hole
    assert main(["spool", "stat", str(tmp_path / "spool")]) == 0
    assert json.loads(capsys.readouterr().out)["bytes_used"] > 700_000_000
    assert sorted((tmp_path / "spool").glob("d-*.seg")) == files


def test_old_segments_go_by_age():
    disk, day = FaultyDisk(), 86_400_000
    spool = Spool(disk, SpoolSettings(cap_days=2, segment_bytes=1024))
    for number in range(40):
        spool.put(Kind.DATA, bytes(200))
        spool.commit(1_800_000_000_000 + number * day // 4)
    gaps = spool.take_gaps()
    assert gaps
    assert {gap.reason for gap in gaps} == {"age"}
    assert min(content(spool)) > 20


def test_a_full_disk_gives_up_old_data_and_keeps_taking_new():
    disk = FaultyDisk(capacity=10_000)
    spool = Spool(disk, SpoolSettings(cap_bytes=10**9, segment_bytes=2048))
    for number in range(1, 200):
        spool.put(Kind.EVENT if number % 50 == 0 else Kind.DATA, payload_of(number))
        spool.commit()
    found = set(content(spool))
    assert {50, 100, 150, 199} <= found
    assert {gap.reason for gap in spool.take_gaps()} == {"disk_full"}


def test_a_disk_that_refuses_everything_is_named_and_nothing_is_forgotten_until_it_recovers():
    disk = FaultyDisk()
    spool = Spool(disk, SMALL)
    fill(spool, 9)
    disk.fault = errno.EROFS
    spool.put(Kind.DATA, b"kept in memory")
    spool.put(Kind.EVENT, b"alarm")
    for _ in range(3):
        with pytest.raises(SpoolError) as caught:
            spool.commit()
        assert caught.value.code == "disk_error"
    assert len(content(spool)) == 9, "what is not durable is not sent"
    disk.fault = 0
    spool.commit()
    assert [payload for _, payload in content(spool).values()][-2:] == [b"kept in memory", b"alarm"]
    assert not spool.take_gaps()
    assert set(content(Spool(disk.after_cut(0), SMALL))) == set(range(1, 12))


def test_memory_is_bounded_while_the_disk_refuses():
    disk = FaultyDisk()
    spool = Spool(disk, SpoolSettings(segment_bytes=2048, pending_bytes=1000))
    disk.fault = errno.EIO
    for _ in range(50):
        spool.put(Kind.DATA, bytes(100), count=2)
        with pytest.raises(SpoolError):
            spool.commit()
    disk.fault = 0
    spool.commit()
    assert len(content(spool)) == 10
    assert sum(gap.count for gap in spool.take_gaps()) == 80


def test_a_restored_copy_sends_what_it_holds_under_numbers_the_cloud_has_not_seen():
    spool = Spool(FaultyDisk(), SMALL)
    fill(spool, 200)
    spool.settle(spool.epoch, 100)
    spool.commit()
    held = [kept for _, kept in sorted(content(spool).items())]
    assert spool.settle(spool.epoch, 1000), "the cloud has heard more from us than we remember"
    found = content(spool)
    assert [kept for _, kept in sorted(found.items())] == held
    assert min(found) > 1000
    assert spool.put(Kind.DATA, b"x") == max(found) + 1
    assert not spool.settle("deadbeef", 2000)


def test_one_directory_is_for_one_process(tmp_path):
    spool = Spool(tmp_path / "spool")
    with pytest.raises(SpoolError, match="another process"):
        Spool(tmp_path / "spool")
    spool.close()
    Spool(tmp_path / "spool").close()


def test_the_real_disk_keeps_a_spool_over_restarts(tmp_path):
    spool = Spool(tmp_path, SpoolSettings(segment_bytes=4096))
    fill(spool, 100)
    spool.close()
    again = Spool(tmp_path, SpoolSettings(segment_bytes=4096))
    assert len(content(again)) == 100
    assert again.epoch == spool.epoch
    again.settle(again.epoch, 100)
    assert again.settled
    assert again.stat().segments <= 2
    again.close()
    assert isinstance(again._disk, RealDisk)
