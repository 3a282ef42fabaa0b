"""What the configuration says of L3 reaches the page store."""

from __future__ import annotations

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
