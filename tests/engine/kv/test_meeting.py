"""How many pages to compute while others are loaded, and the rates that this goes by."""

from dataclasses import dataclass

import pytest

from kvtier_engine.kv.meeting import Gap, compute_run, pages_to_compute
from kvtier_engine.kv.rates import ComputeRate, LoadRate, PageRates, Rate


@pytest.mark.parametrize(
    ("coming", "ahead", "lost", "compute", "load", "pages"),
    [
        (10, 0, 0, None, 5.0, 0),  # nobody knows what computing takes
        (10, 0, 0, 5.0, None, 0),  # nor loading
        (10, 0, 0, 5.0, 0.0, 10),  # a disk that gives nothing
        (10, 0, 0, 5.0, 5.0, 5),  # as fast: half each
        (10, 0, 0, 1.0, 9.0, 1),
        (10, 0, 0, 1.0, 99.0, 0),  # a fast disk: less than a page
        (10, 10, 0, 5.0, 5.0, 10),  # it is busy with as much for others
        (10, 0, 4, 5.0, 5.0, 3),  # some have to be computed anyway: 6 s for 3 + 4, 7 s for 7
        (0, 5, 5, 5.0, 5.0, 0),
    ],
)
def test_both_end_at_the_same_time(coming, ahead, lost, compute, load, pages):
    assert pages_to_compute(coming, ahead, lost, PageRates(compute, load)) == pages


def test_a_gap_knows_what_is_there():
    gap = Gap(6, {}, {0, 1, 4})
    assert gap.skip(0) == 2
    assert gap.run(2) == 4
    assert gap.skip(4) == 5
    assert gap.run(5) == 6
    gap.there |= {2, 3, 5}
    assert gap.skip(0) == 6


@pytest.mark.parametrize(
    ("coming", "worth", "pages"),
    [
        ({2, 3}, 9, 2),  # up to the first that is coming, whatever it is worth
        ({0, 1, 2, 3}, 0, 0),
        ({0, 1, 2, 3}, 2, 2),
        ({0, 1, 2, 3, 4, 5, 6, 7}, 7, 4),  # half, and then it is thought about again
        ({0, 1}, 9, 4),
        (set(), 0, 4),
    ],
)
def test_lost_pages_are_computed_and_others_as_far_as_it_is_worth_it(coming, worth, pages):
    assert compute_run(0, 4, coming.__contains__, lambda: worth) == pages


def test_a_rate_forgets():
    rate = Rate()
    assert rate.per_s is None
    rate.add(10, 0.1)
    assert rate.per_s == pytest.approx(100)
    rate.add(0, 0)
    assert rate.per_s == pytest.approx(100)
    rate.add(10, 10.0)  # longer than it remembers
    assert rate.per_s == pytest.approx(1)


def test_small_steps_say_nothing_about_prefill():
    rate = ComputeRate(64, waits=True)
    rate.step(1, 1.0, has_drawn=True)
    assert rate.tokens_per_s is None
    rate.step(512, 1.0, has_drawn=False)
    assert rate.tokens_per_s == pytest.approx(512)


def test_steps_that_nobody_waits_for_count_up_to_one_that_is_waited_for():
    rate = ComputeRate(64, waits=False)
    rate.step(512, 0.001, has_drawn=False)
    assert rate.tokens_per_s is None
    rate.step(512, 1.023, has_drawn=True)
    assert rate.tokens_per_s == pytest.approx(1000)
    rate.step(512, 0.001, has_drawn=False)
    rate.step(1, 9.0, has_drawn=True)  # mixed with a small one: not counted
    assert rate.tokens_per_s == pytest.approx(1000)


@dataclass
class Disk:
    read_bytes: int = 0
    reads_busy_s: float = 0.0


def test_disks_add_up_and_one_that_hangs_gets_slow():
    disks = [Disk(), Disk()]
    rate = LoadRate(lambda: disks)
    rate.update()
    assert rate.bytes_per_s is None
    disks[0].read_bytes, disks[0].reads_busy_s = 100, 1.0
    rate.update()
    assert rate.bytes_per_s == pytest.approx(100)
    disks[1].read_bytes, disks[1].reads_busy_s = 300, 1.0
    rate.update()
    assert rate.bytes_per_s == pytest.approx(400)
    disks[1].reads_busy_s = 60.0
    rate.update()
    assert rate.bytes_per_s == pytest.approx(100)
    del disks[0]
    rate.update()
    assert rate.bytes_per_s == pytest.approx(5)
    disks[0] = Disk(10, 0.5)  # opened anew
    rate.update()
    assert rate.bytes_per_s is not None
    assert rate.bytes_per_s > 5


def test_no_disk_in_use_gives_nothing():
    disks = [Disk(100, 1.0)]
    rate = LoadRate(lambda: disks)
    assert rate.bytes_per_s == pytest.approx(100)
    disks.clear()
    rate.update()
    assert rate.bytes_per_s == 0.0
