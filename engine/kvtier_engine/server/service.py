"""What the endpoints work with."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from kvtier_engine.config import EngineConfig
from kvtier_engine.server.auth import Keys
from kvtier_engine.server.core_client import CoreClient
from kvtier_engine.server.errors import ModelNotFound
from kvtier_engine.server.lifecycle import Lifecycle
from kvtier_engine.server.metrics import Metrics
from kvtier_engine.server.text.tokenizer import Tokenizer


@dataclass
class Service:
    """One a server. `tokenizer` is there once the lifecycle's gate is open."""

    config: EngineConfig
    lifecycle: Lifecycle
    core: CoreClient
    metrics: Metrics
    started: int  # Unix time
    keys: Keys = field(default_factory=Keys)
    _tokenizer: Tokenizer | None = None
    _names: itertools.count[int] = field(default_factory=itertools.count)

    @property
    def tokenizer(self) -> Tokenizer:
        """Of the served model. Raises Unavailable unless the server is ready."""
        self.lifecycle.gate()
        assert self._tokenizer is not None, "ready without a tokenizer"
        return self._tokenizer

    def open(self, tokenizer: Tokenizer) -> None:
        """Makes the server ready."""
        self._tokenizer = tokenizer
        self.lifecycle.ready()

    def check_model(self, name: str | None) -> None:
        served = self.config.model.served_name
        if name is not None and name != served:
            raise ModelNotFound(
                f"the model `{name[:200]}` does not exist here; this server serves `{served}`",
                param="model",
            )

    def unique_name(self) -> str:
        """A name that no other request to the core has had."""
        return f"r{next(self._names)}"

    def close(self) -> None:
        if self._tokenizer is not None:
            self._tokenizer.close()
