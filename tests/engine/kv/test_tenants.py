"""Generations of tenants, and the file that keeps them."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from kvtier_engine.kv.keys import root_key
from kvtier_engine.kv.tenants import FILE, Tenants, TenantsError

SPACE = bytes(range(16))


def test_roots_are_those_of_a_cache_without_tenants_until_one_is_cleared(tmp_path: Path) -> None:
    tenants = Tenants(SPACE, tmp_path)
    assert tenants.root("", "") == root_key(SPACE)
    assert tenants.root("", "s") == root_key(SPACE, "s")
    assert tenants.root("a", "s") == root_key(SPACE, "s", "a")
    assert not list(tmp_path.iterdir())


def test_clearing_is_remembered_and_private(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    assert [Tenants(SPACE, folder).clear("a") for _ in range(3)] == [1, 2, 3]
    again = Tenants(SPACE, folder)
    assert (again.generation("a"), again.generation("b")) == (3, 0)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / FILE).stat().st_mode) == 0o600
    assert [path.name for path in folder.iterdir()] == [FILE]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"version": 2, "first": 0, "generations": {}}',
        '{"version": 1, "first": 0}',
        '{"version": 1, "first": 0, "generations": {"a": -1}}',
        '{"version": 1, "first": 0, "generations": {"a": true}}',
        '{"version": 1, "first": 1e99, "generations": {}}',
        '{"version": 1, "first": 0, "generations": {"a": 99999999999999999999}}',
    ],
)
def test_a_damaged_file_makes_the_cache_cold_and_keeps_it_so(tmp_path: Path, text: str) -> None:
    """What it said is not known, so that whatever was cleared must be taken for cleared."""
    (tmp_path / FILE).write_text(text)
    tenants = Tenants(SPACE, tmp_path)
    roots = [tenants.root("a", ""), tenants.root("", "")]
    assert not {root_key(SPACE, "", name, n) for name in ("", "a") for n in (0, 1, 2)} & set(roots)
    again = Tenants(SPACE, tmp_path)
    assert [again.root("a", ""), again.root("", "")] == roots
    assert again.clear("a") == tenants.generation("a") + 1
    assert again.root("", "") == roots[1]


def test_a_write_that_fails_changes_nothing(tmp_path: Path, monkeypatch) -> None:
    tenants = Tenants(SPACE, tmp_path)
    tenants.clear("a")

    def fail(fd: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(TenantsError, match="No space left"):
        tenants.clear("a")
    assert tenants.generation("a") == 1
    assert json.loads((tmp_path / FILE).read_text())["generations"] == {"a": 1}
