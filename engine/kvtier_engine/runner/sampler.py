"""Sampler: from logits to the next token of each sequence."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from kvtier_engine.messages import TokenLogprob
from kvtier_engine.runner.draw import draw, make_draws
from kvtier_engine.runner.penalties import adjust, is_adjusted
from kvtier_engine.runner.sequence_state import SequenceState
from kvtier_engine.runner.step import Chunk, NewSequence, Sampled

# A temperature below this takes the most likely token: dividing by less would overflow.
_TEMPERATURE_MIN = 1e-5


class Sampler:
    """Draws the tokens of all sequences of one step. Lives on rank 0.

    What a sequence gets depends on its logits, parameters, seed, position and own tokens;
    never on what else is in the batch.
    """

    def __init__(self, eos_ids: tuple[int, ...]) -> None:
        self._eos_ids = eos_ids
        self._states: dict[int, SequenceState] = {}

    def add(self, new: NewSequence) -> None:
        """Remembers a sequence until `drop`."""
        self._states[new.sequence_id] = SequenceState(new)

    def drop(self, sequence_id: int) -> None:
        """Forgets a sequence; one that is not known is none of our business."""
        self._states.pop(sequence_id, None)

    def sample(self, logits: torch.Tensor, chunks: Sequence[Chunk]) -> list[Sampled]:
        """One Sampled a chunk. `logits` [len(chunks), vocab] float32, those of each chunk's
        last token, may be overwritten."""
        states = [self._states[chunk.sequence_id] for chunk in chunks]
        logprobs = _Logprobs(logits, states)
        adjusted = [row for row, state in enumerate(states) if is_adjusted(state)]
        if adjusted:
            adjust(logits, states, self._eos_ids)
        positions = [chunk.start + len(chunk.token_ids) for chunk in chunks]
        token_ids = _choose(logits, states, positions)
        for state, token_id in zip(states, token_ids, strict=True):
            state.add(token_id)
        found = logprobs.of(token_ids)
        return [
            Sampled(chunk.sequence_id, token_id, found.get(row))
            for row, (chunk, token_id) in enumerate(zip(chunks, token_ids, strict=True))
        ]


def _choose(
    logits: torch.Tensor, states: Sequence[SequenceState], positions: Sequence[int]
) -> list[int]:
    """The token of each row: the most likely one, or a draw."""
    drawn = [row for row, s in enumerate(states) if s.params.temperature >= _TEMPERATURE_MIN]
    if not drawn:
        return most_likely(logits)
    draws = make_draws(
        [states[row] for row in drawn], [positions[row] for row in drawn], logits.device
    )
    if len(drawn) == len(states):
        all_drawn: list[int] = draw(logits, draws).tolist()
        return all_drawn
    chosen = most_likely(logits)
    for row, token_id in zip(drawn, draw(logits[drawn], draws).tolist(), strict=True):
        chosen[row] = token_id
    return chosen


def most_likely(logits: torch.Tensor) -> list[int]:
    """The highest logit's token of each row; of equals, the lowest token id."""
    # On the CPU numpy takes a thirtieth of torch's time for this.
    on_cpu = logits.device.type == "cpu"
    found: list[int] = (logits.numpy().argmax(1) if on_cpu else logits.argmax(1)).tolist()
    return found


class _Logprobs:
    """Log-probabilities of the rows that ask for them, taken before anything changes the logits."""

    def __init__(self, logits: torch.Tensor, states: Sequence[SequenceState]) -> None:
        self.counts = {
            row: state.params.logprobs
            for row, state in enumerate(states)
            if state.params.logprobs is not None
        }
        if not self.counts:
            return
        self.values = logits[list(self.counts)].log_softmax(dim=1)
        width = min(max(self.counts.values()), logits.shape[1])
        top = self.values.topk(width, dim=1)
        self.top_values, self.top_ids = top.values.tolist(), top.indices.tolist()

    def of(self, token_ids: Sequence[int]) -> dict[int, TokenLogprob]:
        """By row, for the tokens that were chosen."""
        if not self.counts:
            return {}
        chosen = [token_ids[row] for row in self.counts]
        own = self.values[range(len(chosen)), chosen].tolist()
        return {
            row: TokenLogprob(
                token_ids[row],
                own[place],
                list(zip(self.top_ids[place][:count], self.top_values[place][:count], strict=True)),
            )
            for place, (row, count) in enumerate(self.counts.items())
        }
