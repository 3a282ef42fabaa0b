"""What another user sees, asked by that user in this very process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@contextmanager
def as_nobody() -> Iterator[None]:
    """Real and effective user, as `access` asks for the real one. Skips where we are not root."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
