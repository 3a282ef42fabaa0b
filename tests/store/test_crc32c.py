"""The checksum of everything on disk, against a library that others use."""

from __future__ import annotations

import random

import google_crc32c
import pytest

from kvtier_store import crc32c

MEMORY = random.Random(1).randbytes(1 << 20)
# Of stretches that are summed up side by side: three of 256 bytes, three of 4,096.
STEPS = [8, 3 * 256, 3 * 4096, 2 * 3 * 4096]


def agree(begin: int, length: int) -> None:
    part = memoryview(MEMORY)[begin : begin + length]
    assert crc32c(part) == google_crc32c.value(bytes(part)), f"{length} bytes from {begin} on"


def test_short_lengths_at_every_alignment():
    for begin in range(16):
        for length in range(70):
            agree(begin, length)


@pytest.mark.parametrize("step", STEPS)
def test_lengths_beside_those_where_the_way_to_sum_changes(step):
    for begin in range(8):
        for length in range(max(0, step - 9), step + 10):
            agree(begin, length)


def test_any_length_at_any_place():
    chance = random.Random(2)
    for _ in range(300):
        begin = chance.randrange(len(MEMORY))
        agree(begin, chance.randrange(len(MEMORY) - begin))


def test_pieces_add_up_to_the_whole():
    chance = random.Random(3)
    whole = google_crc32c.value(MEMORY)
    for _ in range(20):
        cuts = sorted(chance.randrange(len(MEMORY)) for _ in range(5))
        sum_so_far = 0
        for begin, end in zip([0, *cuts], [*cuts, len(MEMORY)], strict=True):
            sum_so_far = crc32c(memoryview(MEMORY)[begin:end], sum_so_far)
        assert sum_so_far == whole, cuts
