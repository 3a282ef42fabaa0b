"""Servers with a FakeCore behind them, and tokenizers to talk with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fake_core import Script
from support.server_thread import Running, make_tokenizer, running_server

from kvtier_engine.server.text.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tokenizer(tmp_path_factory.mktemp("tiny-model"))


@pytest.fixture(scope="session")
def tokenizer(tiny_model: Path) -> Iterator[Tokenizer]:
    tokenizer = Tokenizer.load(tiny_model)
    yield tokenizer
    tokenizer.close()


@pytest.fixture(scope="module")
def shared_server(tiny_model: Path) -> Iterator[Running]:
    with running_server(tiny_model) as running:
        yield running


@pytest.fixture
def server(shared_server: Running) -> Iterator[Running]:
    """A ready server whose core echoes the prompt; the core's memory is empty."""
    shared_server.core.script, shared_server.core.choose = Script(), None
    shared_server.core.received.clear()
    yield shared_server
    shared_server.wait_idle()
