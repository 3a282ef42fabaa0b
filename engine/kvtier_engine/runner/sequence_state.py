"""What the sampler remembers of a sequence: its parameters, its seed, its tokens."""

from __future__ import annotations

import secrets

import numpy as np
from numpy.typing import NDArray

from kvtier_engine.messages import SamplingParams
from kvtier_engine.runner.step import NewSequence

_SEED_BITS = 64


class TokenCounts:
    """The distinct tokens of a sequence and how often each is in the answer so far."""

    def __init__(self, prompt_ids: list[int]) -> None:
        self._ids = np.unique(np.array(prompt_ids, dtype=np.int64))
        self._counts = np.zeros(len(self._ids), dtype=np.int64)
        self._places = {int(token): place for place, token in enumerate(self._ids)}

    def add(self, token_id: int) -> None:
        """The answer has grown by `token_id`."""
        place = self._places.get(token_id)
        if place is None:
            place = self._places[token_id] = len(self._places)
            if place == len(self._ids):
                self._ids, self._counts = _grown(self._ids), _grown(self._counts)
            self._ids[place] = token_id
        self._counts[place] += 1

    @property
    def ids(self) -> NDArray[np.int64]:
        """Distinct tokens of prompt and answer."""
        return self._ids[: len(self._places)]

    @property
    def counts(self) -> NDArray[np.int64]:
        """How often each of `ids` is in the answer."""
        return self._counts[: len(self._places)]


class SequenceState:
    """One sequence, from the step that first computes it to the one that drops it."""

    def __init__(self, new: NewSequence) -> None:
        params = new.params
        self.params = params
        seed = secrets.randbits(_SEED_BITS) if params.seed is None else params.seed
        self.seed = seed % (1 << _SEED_BITS)
        self.answered = 0
        self.tokens = TokenCounts(new.prompt_ids) if has_penalties(params) else None

    def add(self, token_id: int) -> None:
        """`token_id` was drawn."""
        self.answered += 1
        if self.tokens is not None:
            self.tokens.add(token_id)


def has_penalties(params: SamplingParams) -> bool:
    return (
        params.repetition_penalty != 1.0
        or params.presence_penalty != 0.0
        or params.frequency_penalty != 0.0
    )


def _grown(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """`values` with as many zeros again, and some, behind them."""
    return np.concatenate((values, np.zeros(len(values) + 16, dtype=np.int64)))
