"""What the configuration says of L3 reaches the page store."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from support.models import engine_config, small_llama

from kvtier_engine.config import L3Config, L3Directory
from kvtier_engine.core import tiers
from kvtier_store import Eviction


@pytest.mark.parametrize(
    ("name", "eviction"), [("lru", Eviction.LRU), ("keep_reused", Eviction.KEEP_REUSED)]
)
def test_options_of_l3(tmp_path, monkeypatch, name, eviction):
    opened = []

    class Store:
        @staticmethod
        def open(directories, *, page_bytes, namespace, options):
            opened.append(options)
            raise tiers.StoreError("enough")

    monkeypatch.setattr(tiers, "Store", Store)
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
    assert tiers.open_disk(config, b"n") is None
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
    return tiers.save_rules(config.model_copy(update={"cache": cache}), Disk())


def test_rules_of_writing(tmp_path):
    assert rules_for(tmp_path) == tiers.SaveRules("on_evict")
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
