"""Pages are copied whole, to where they belong, and nothing beside them."""

import pytest
import torch

from kvtier_engine import _kernels


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("page_bytes", [1, 4096, 1_500_001, 3 << 20])
def test_copies(threads: int, page_bytes: int) -> None:
    _kernels.set_num_threads(threads)
    source = torch.randint(0, 255, (5, page_bytes + 7), dtype=torch.uint8)
    target = torch.full((6, page_bytes + 3), 255, dtype=torch.uint8)
    pairs = [(0, 4), (5, 0), (2, 4)]
    _kernels.copy_pages(
        target.data_ptr(),
        target.stride(0),
        source.data_ptr(),
        source.stride(0),
        page_bytes,
        pairs,
    )
    expected = torch.full_like(target, 255)
    for to, from_ in pairs:
        expected[to, :page_bytes] = source[from_, :page_bytes]
    assert torch.equal(target, expected)


def test_nothing_to_copy_is_no_mistake() -> None:
    _kernels.copy_pages(0, 0, 0, 0, 4096, [])
