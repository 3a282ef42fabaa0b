"""The memory of L2. The launcher owns it, so that it outlives any one engine."""

from __future__ import annotations

import os

from kvtier_engine.config import Hugepages
from kvtier_ops.errors import HostError

_HUGEPAGE_FLAGS = {
    "2MiB": os.MFD_HUGETLB | os.MFD_HUGE_2MB,
    "1GiB": os.MFD_HUGETLB | os.MFD_HUGE_1GB,
}


def create_arena(hugepages: Hugepages) -> int:
    """A memfd of no size yet, for the engine to format. Raises HostError."""
    try:
        return os.memfd_create("kvtier-l2", os.MFD_CLOEXEC | _HUGEPAGE_FLAGS.get(hugepages, 0))
    except OSError as error:
        raise HostError(
            f"the kernel gives no memory for L2: {error.strerror}",
            "set `tiers.l2.hugepages: transparent`" if hugepages in _HUGEPAGE_FLAGS else "",
        ) from error
