"""What the configuration says of L3 reaches the page store."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
from support.models import engine_config, small_llama

from kvtier_engine.config import L3Config, L3Directory
from kvtier_engine.core import disk
from kvtier_engine.core.disk import DiskOpener, DiskUnavailable
from kvtier_engine.kv.save import SaveRules
from kvtier_store import Eviction, StoreError


@pytest.mark.parametrize(
    ("name", "eviction"), [("lru", Eviction.LRU), ("keep_reused", Eviction.KEEP_REUSED)]
)
def test_options_of_l3(tmp_path, monkeypatch, name, eviction):
    opened = []

    class Store:
        @staticmethod
        def open(directories, *, page_bytes, namespace, options):
            opened.append(options)
            raise StoreError("enough")

    monkeypatch.setattr(disk, "Store", Store)
    directory = L3Directory(path=tmp_path / "l3", capacity_bytes=1 << 26)
    l3 = L3Config(
        directories=(directory,),
        reserve_bytes=7,
        eviction=name,
        admit_sightings=3,
        admit_chain_pages=9,
    )
    config = engine_config(small_llama(tmp_path / "model"))
    config = config.model_copy(update={"cache": config.cache.model_copy(update={"l3": l3})})
    with pytest.raises(DiskUnavailable, match="enough"):
        DiskOpener(config, b"n").open(0)
    assert opened[0].eviction is eviction
    assert opened[0].reserve_bytes == 7
    assert opened[0].admit_sightings_min == 3
    assert opened[0].admit_chain_pages_min == 9


class Disk:
    """As far as the rules ask it."""

    def stats(self):
        return SimpleNamespace(capacity_pages=100, disk_written_bytes_last_day=0)


def rules_for(folder, **fields):
    config = engine_config(small_llama(folder / "model"))
    l3 = L3Config(**fields)
    cache = config.cache.model_copy(update={"l3": l3})
    return DiskOpener(config.model_copy(update={"cache": cache}), b"n").rules(Disk(), 0)


def test_rules_of_writing(tmp_path):
    assert rules_for(tmp_path, admission="all") == SaveRules("on_evict")
    assert rules_for(tmp_path).admission is not None
    rules = rules_for(tmp_path, write="write_through", admission="auto")
    assert rules.write == "write_through"
    assert rules.admission is not None


def test_a_limit_counts_everything_that_a_page_takes_on_disk(tmp_path):
    """Of twenty-five pages a day one may be written at once: its blocks, a header, a record."""
    page_bytes = engine_config(small_llama(tmp_path / "model")).cache.page_bytes
    slot_bytes = -(-page_bytes // 4096) * 4096 + 4096 + 256
    for limit, expected in ((25 * slot_bytes, True), (25 * slot_bytes - 25, False)):
        rules = rules_for(tmp_path, admission="all", write_bytes_per_day=limit)
        assert rules.admission is not None
        assert rules.admission.admits(bytes(16), False, 0.0) is expected
        assert not rules.admission.admits(bytes(16), False, 0.0)


class TestSizes:
    """Of the next opening."""

    def opener(self, folder, directories=2, **fields):
        config = engine_config(small_llama(folder / "model"))
        for i in range(directories):
            (folder / str(i)).mkdir()
        l3 = L3Config(
            directories=tuple(
                L3Directory(path=folder / str(i), capacity_bytes=1 << 26)
                for i in range(directories)
            ),
            **fields,
        )
        cache = config.cache.model_copy(update={"l3": l3})
        return DiskOpener(config.model_copy(update={"cache": cache}), b"n")

    def test_each_directory_gets_an_equal_part(self, tmp_path):
        opener = self.opener(tmp_path)
        assert opener.capacities_for(1 << 25) == [1 << 24] * 2
        assert opener.capacities == [1 << 26] * 2
        opened = opener.open(0, [1 << 24] * 2)
        assert opener.capacities == [1 << 24] * 2
        assert opened.tier.stats().capacity_bytes == 1 << 25
        opened.tier.close()

    def test_what_the_file_system_has_not_is_refused(self, tmp_path):
        opener = self.opener(tmp_path, reserve_bytes=1 << 60)
        with pytest.raises(DiskUnavailable, match="has 0 beyond the reserve"):
            opener.capacities_for(1 << 25)

    def test_what_a_directory_holds_already_counts_as_room(self, tmp_path):
        opener = self.opener(tmp_path, directories=1)
        (tmp_path / "0" / "pages").write_bytes(bytes(1 << 22))
        free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
        with pytest.raises(DiskUnavailable, match="beyond the reserve"):
            opener.capacities_for(free * 2)
        opener.capacities_for(1 << 24)

    def test_directories_share_the_room_of_their_file_system(self, tmp_path):
        opener = self.opener(tmp_path, directories=2, reserve_bytes=0)
        free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
        with pytest.raises(DiskUnavailable, match=r"0, .*1 would hold"):
            opener.capacities_for(free * 3 // 2)

    def test_a_directory_that_is_not_there_yet_can_have_a_size(self, tmp_path):
        opener = self.opener(tmp_path, directories=1)
        (tmp_path / "0").rmdir()
        assert opener.capacities_for(1 << 25) == [1 << 25]

    def test_a_size_that_does_not_open_is_not_kept(self, tmp_path):
        opener = self.opener(tmp_path)
        with pytest.raises(DiskUnavailable, match="bytes at least"):
            opener.open(0, opener.capacities_for(2000))
        assert opener.capacities == [1 << 26] * 2
