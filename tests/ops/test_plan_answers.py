"""What follows from the sizes: how many sequences fit, when a disk pays, what it is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ops.builders import GIB, caught, disk, make_host
from ops.test_plan import DISK, MODEL, ids, profile

from kvtier_ops.errors import BadInput
from kvtier_ops.host import DirectoryFacts, Drive, DriveKind
from kvtier_ops.plan import Plan, make_plan
from kvtier_ops.plan.load import parse_load
from kvtier_ops.plan.measured import Measured, MeasuredRate
from kvtier_ops.plan.target import Target, options, parse_target, render_target
from kvtier_ops.plan.types import Source

TOKEN = 23_040  # bytes of KV
DEVICE = {
    "model": "/m",
    "dtype": "bfloat16",
    "device": "cpu",
    "tensor_parallel": 1,
    "threads": 4,
}


def measured(*, prefill: float = 0, read: float = 0, **other: Any) -> Measured:
    """By an earlier run on the same device and directory, but for what `other` says."""
    day = "2026-11-28"
    on = {**DEVICE, "directories": [str(DISK)], **other}
    return Measured(
        prefill=MeasuredRate(prefill, day, on) if prefill else None,
        l3_read=MeasuredRate(read, day, on) if read else None,
    )


def on(kind: DriveKind, *, count: int = 1, layers: tuple[str, ...] = ()) -> DirectoryFacts:
    drives = tuple(Drive(f"d{n}", kind, 1000 * 10**9) for n in range(count))
    return disk(DISK, drive_kind=kind, drives=drives, layers=layers)


def plan(found: DirectoryFacts | None = None, **sections: Any) -> Plan:
    host = make_host(directories={DISK: found or on(DriveKind.NVME)})
    sections = {"l1": "1GiB", "l2": "2GiB", "l3": "50GiB", **sections}
    load = sections.pop("load", None)
    measured = sections.pop("measured", None)
    return make_plan(profile(**sections), host, MODEL, measured, load)


def test_sequences_are_of_whole_pages() -> None:
    """46,603 tokens of L1 are 728 pages of 64: 45 sequences of 1,024 tokens, 16 pages each."""
    made = plan()
    rows = {row.tokens: row for row in made.answers.conversations}
    assert list(rows) == [1024, 8192]
    assert made.l1.pages == 728
    assert (rows[1024].l1, rows[8192].l1) == (45, 5)
    assert rows[8192].l3 == made.l3.pages // 128
    odd = plan(tiers={"page_tokens": 1000}, engine={"max_context_tokens": 1500})
    [row] = [row for row in odd.answers.conversations if row.tokens == 1500]
    assert row.l1 == odd.l1.pages // 2


def test_a_disk_pays_where_it_reads_more_than_the_device_computes() -> None:
    """B* = KV bytes of a token x prefill tokens/s, which falls with the context."""
    made = plan(measured=measured(read=15e6))
    short, long = made.answers.break_even
    rates = made.answers.rates
    slowdown = 4 * 9 * 64 * 30 / (2 * 134_515_008)
    assert rates.context_slowdown == pytest.approx(slowdown)
    prefill = rates.prefill_tokens_per_s.value
    assert prefill == pytest.approx(4 * 64e9 / (2 * 134_515_008))
    assert short.bytes_per_s == pytest.approx(prefill / (1 + slowdown * 512) * TOKEN)
    assert long.bytes_per_s == pytest.approx(prefill / (1 + slowdown * 4096) * TOKEN)
    assert (short.pays, long.pays) == (False, True)
    read = rates.disk_read_bytes_per_s
    assert read is not None
    assert (read.source, read.reason) == (
        Source.MEASURED,
        "an earlier run of this profile, 2026-11-28",
    )
    assert "KVT-P017" not in ids(made)


def test_a_measured_rate_has_its_contexts_in_it() -> None:
    made = plan(measured=measured(prefill=900))
    assert made.answers.rates.prefill_tokens_per_s.source is Source.MEASURED
    assert {round(row.bytes_per_s) for row in made.answers.break_even} == {900 * TOKEN}


@pytest.mark.parametrize(
    "other",
    [
        {"model": "/other"},
        {"dtype": "float32"},
        {"device": "cuda"},
        {"tensor_parallel": 2},
        {"threads": 1},
    ],
)
def test_what_was_measured_on_something_else_does_not_count(other: dict[str, Any]) -> None:
    rates = plan(measured=measured(prefill=900, read=15e6, **other)).answers.rates
    assert rates.prefill_tokens_per_s.source is Source.ASSUMED
    assert rates.disk_read_bytes_per_s is not None
    assert rates.disk_read_bytes_per_s.source is Source.MEASURED


def test_another_disk_does_not_count() -> None:
    rates = plan(measured=measured(prefill=900, read=15e6, directories=["/other"])).answers.rates
    assert rates.prefill_tokens_per_s.source is Source.MEASURED
    assert rates.disk_read_bytes_per_s is not None
    assert rates.disk_read_bytes_per_s.source is Source.ASSUMED


def test_threads_that_compute() -> None:
    """One thread of a rank computes at a quarter of the rate of four."""
    one = plan(engine={"threads": 1}).answers.rates.prefill_tokens_per_s
    assert one.value == pytest.approx(64e9 / (2 * 134_515_008))


def test_a_disk_that_never_pays_has_a_warning() -> None:
    made = plan(measured=measured(prefill=100_000, read=1e6))
    assert not any(row.pays for row in made.answers.break_even)
    assert "KVT-P017" in ids(made)


@pytest.mark.parametrize(
    ("found", "read"),
    [
        (on(DriveKind.NVME), 5e9),
        (on(DriveKind.SSD), 0.5e9),
        (on(DriveKind.HDD), 0.15e9),
        (on(DriveKind.NVME, count=4, layers=("raid0",)), 20e9),
        (on(DriveKind.NVME, count=4, layers=("lvm",)), 5e9),
    ],
)
def test_what_was_not_measured_goes_by_its_kind_and_says_so(
    found: DirectoryFacts, read: float
) -> None:
    figure = plan(found).answers.rates.disk_read_bytes_per_s
    assert figure is not None
    assert (figure.value, figure.source) == (read, Source.ASSUMED)


@pytest.mark.parametrize(
    ("level", "read", "write", "drives_bytes"),
    [
        ("raid0", 20e9, 8e9, 4e12),
        ("raid10", 20e9, 4e9, 2e12),
        ("raid1", 5e9, 2e9, 1e12),
        ("raid5", 5e9, 2e9, 3e12),
        ("raid6", 5e9, 2e9, 2e12),
    ],
)
def test_drives_that_keep_copies(
    level: str, read: float, write: float, drives_bytes: float
) -> None:
    answers = plan(on(DriveKind.NVME, count=4, layers=(level,))).answers
    assert answers.rates.disk_read_bytes_per_s is not None
    assert answers.rates.disk_write_bytes_per_s is not None
    assert answers.wear is not None
    assert answers.rates.disk_read_bytes_per_s.value == read
    assert answers.rates.disk_write_bytes_per_s.value == write
    assert answers.wear.drive_bytes == drives_bytes


def test_two_file_systems_on_one_drive_read_no_faster() -> None:
    paths = [Path("/disk/a"), Path("/disk/b")]
    drive = (Drive("d0", DriveKind.NVME, 1000 * 10**9),)
    host = make_host(
        directories={
            path: disk(path, device_id=n, drive_kind=DriveKind.NVME, drives=drive)
            for n, path in enumerate(paths)
        }
    )
    answers = make_plan(profile(l3="50GiB", directories=[*map(str, paths)]), host, MODEL).answers
    assert answers.rates.disk_read_bytes_per_s is not None
    assert answers.rates.disk_read_bytes_per_s.value == 5e9
    assert answers.wear is not None
    assert answers.wear.drive_bytes == 10**12


def test_two_directories_on_one_drive_read_no_faster() -> None:
    paths = [Path("/disk/a"), Path("/disk/b")]
    host = make_host(directories={path: replace(on(DriveKind.NVME), path=path) for path in paths})
    made = make_plan(profile(l3="50GiB", directories=[str(path) for path in paths]), host, MODEL)
    figure = made.answers.rates.disk_read_bytes_per_s
    assert figure is not None
    assert figure.value == 5e9
    assert made.answers.wear is not None
    assert made.answers.wear.drive_bytes == 1000 * 10**9


def test_wear_of_a_load() -> None:
    """10 requests/s of 1,000 tokens are 19.9 TB a day: 19.9 times a drive of 1 TB."""
    made = plan(load=parse_load("10 requests/s x 1000 tokens"))
    wear = made.answers.wear
    assert wear is not None
    assert wear.bytes_per_day == 10_000 * TOKEN * 86400
    assert wear.drive_writes_per_day == pytest.approx(19.906, abs=0.001)
    assert "KVT-P018" in ids(made)
    hint = next(w.hint for w in made.warnings if w.id == "KVT-P018")
    assert hint == "set `tiers.l3.write_bytes_per_day: 1000GB`"


def test_a_limit_of_writes_limits_the_wear() -> None:
    l3 = {"size": "50GiB", "directories": [str(DISK)], "write_bytes_per_day": "1TB"}
    made = plan(tiers={"l3": l3}, load=parse_load("10 requests/s x 1000 tokens"))
    assert made.answers.wear is not None
    assert made.answers.wear.bytes_per_day == 10**12
    assert "KVT-P018" not in ids(made)


def test_without_a_load_the_wear_is_a_bound_and_no_warning() -> None:
    made = plan(measured=measured(prefill=1e6))
    assert made.answers.wear is not None
    assert made.answers.wear.is_bound
    assert made.answers.wear.drive_writes_per_day > 1
    assert "KVT-P018" not in ids(made)


def test_no_disk_no_answers_of_it() -> None:
    made = make_plan(profile(l1="1GiB"), make_host(), MODEL)
    assert made.answers.break_even == ()
    assert made.answers.wear is None
    assert made.answers.rates.disk_read_bytes_per_s is None


@pytest.mark.parametrize(
    ("text", "tokens_per_s"),
    [
        ("2 requests/s x 12000 tokens", 24_000),
        ("50_000 requests/day x 8k tokens", 50_000 * 8192 / 86400),
        ("1.5 req per minute of 1,000", 25),
        ("3600/h x 10", 10),
    ],
)
def test_loads(text: str, tokens_per_s: float) -> None:
    assert parse_load(text).tokens_per_s == pytest.approx(tokens_per_s)


NO_LOADS = ("", "2", "1,5 requests/s x 1000", "2 requests", "x/s x y", "0/s x 5", "-1/s x 5")


@pytest.mark.parametrize("text", [*NO_LOADS, "9" * 30, "9" * 5000 + "/s x 5"])
def test_what_is_no_load(text: str) -> None:
    with pytest.raises(BadInput):
        parse_load(text)


@given(st.text(max_size=40))
def test_any_text_is_a_load_or_a_sentence(text: str) -> None:
    error = caught(BadInput, lambda: parse_load(text))
    assert error is None or str(error)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("200 users x 32k tokens", Target(200, 32768, 20, False)),
        ("1,000 users x 4096 tokens, 64 active", Target(1000, 4096, 64, True)),
        ("5 conversations of 1.5k", Target(5, 1536, 1, False)),
        ("1 user x 1M tokens", Target(1, 1 << 20, 1, False)),
        ("1,000,000 users x 1,024 tokens, 1_000 active", Target(10**6, 1024, 1000, True)),
    ],
)
def test_targets(text: str, expected: Target) -> None:
    assert parse_target(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1,5 users x 5",
        f"9 users x {'9' * 400}",
        "200 users",
        "0 users x 5 tokens",
        "5 users x 5, 6 active",
        "9" * 40 + " users x 5",
        "9" * 5000 + " users x 8k",
    ],
)
def test_what_is_no_target(text: str) -> None:
    with pytest.raises(BadInput):
        parse_target(text)


@given(st.text(max_size=40))
def test_any_text_is_a_target_or_a_sentence(text: str) -> None:
    error = caught(BadInput, lambda: parse_target(text))
    assert error is None or str(error)


def test_a_target_cheapest_first() -> None:
    made = plan(l1="auto", l2="auto", l3="auto", measured=measured(prefill=900))
    target = Target(100, 8192, 4, True)
    found = options(made, target)
    assert [option.dollars for option in found] == sorted(option.dollars for option in found)
    by_name = {option.name: option for option in found}
    disk_first = by_name["all on disk (L3)"]
    memory, device = by_name["all in host memory (L2)"], by_name["all in device memory (L1)"]
    assert found[0] is disk_first
    pages = 100 * 128
    assert disk_first.l1_bytes == 4 * 128 * made.page_bytes
    assert disk_first.l3_bytes >= pages * made.page_bytes
    assert memory.l2_bytes >= pages * made.page_bytes
    assert (memory.l3_bytes, device.l2_bytes) == (0, 0)
    assert (disk_first.lacks, disk_first.pays) == ("", True)
    assert "host memory" in memory.lacks  # 18 GiB, of 8
    text = render_target(made, target, 80)
    assert text.count("<- the cheapest that does it here") == 1
    assert all(len(line) <= 80 for line in text.splitlines())


def test_the_sizes_of_a_target_are_enough() -> None:
    """The plan of what a target says holds what the target asks for."""
    made = plan(l1="auto", l2="auto", l3="auto", measured=measured(prefill=900))
    target = Target(40, 6000, 4, True)
    text = render_target(made, target, 80).split("all on disk")[1].split("\n\n")[0]
    sizes = dict(line.split()[:2] for line in text.splitlines() if line.startswith("  tiers."))
    again = plan(l1=sizes["tiers.l1.size"], l2=sizes["tiers.l2.size"], l3=sizes["tiers.l3.size"])
    each = -(-6000 // 64)
    assert again.l1.pages >= 4 * each
    assert again.l2.pages >= 8 * each
    assert again.l3.pages >= 40 * each


def test_the_sizes_of_a_target_are_enough_for_every_directory() -> None:
    """L3 is split equally: each directory has its own rounding."""
    paths = [Path(f"/disk/{n}") for n in range(3)]
    on_each = {path: disk(path, device_id=n) for n, path in enumerate(paths)}
    host = make_host(directories=on_each, memory_available_bytes=64 * GIB)
    directories = [*map(str, paths)]
    made = make_plan(profile(l3="auto", directories=directories), host, MODEL)
    for users in range(30, 45):
        option = options(made, Target(users, 6000, 1, True))[0]
        size = f"{option.l3_bytes}B"
        again = make_plan(profile(l3=size, directories=directories), host, MODEL)
        assert again.l3.pages >= users * -(-6000 // 64)


def test_unequal_disks_hold_as_much_as_the_smallest_of_them() -> None:
    paths = [Path("/disk/a"), Path("/disk/b")]
    free = (11 * GIB, 90 * GIB)
    on_each = {path: disk(path, device_id=n, free_bytes=free[n]) for n, path in enumerate(paths)}
    host = make_host(directories=on_each, memory_available_bytes=64 * GIB)
    made = make_plan(profile(l3="auto", directories=[*map(str, paths)]), host, MODEL)
    [option] = [o for o in options(made, Target(150, 8192, 1, True)) if o.l3_bytes]
    assert option.l3_bytes > 20 * GIB
    assert "of disk" in option.lacks


def test_nothing_does_it() -> None:
    made = make_plan(profile(l1="auto", l2="auto"), make_host(), MODEL)
    text = render_target(made, Target(10**6, 8192, 10**5, False), 80)
    assert "Nothing here does it" in text
    assert "this host lacks" in text


def test_conversations_longer_than_the_model_takes() -> None:
    with pytest.raises(BadInput, match="longer than the 8,192"):
        options(plan(), Target(1, 9000, 1, False))


def test_a_larger_l2_takes_longer_to_start() -> None:
    small, large = plan(l2="2GiB").answers.arena_s, plan(l2="4GiB").answers.arena_s
    assert large.value == pytest.approx(2 * small.value, rel=0.01)
    assert small.source is Source.ASSUMED
    assert small.value == pytest.approx(2 * GIB / (4 * 1.5e9), rel=0.01)  # by 4 threads
