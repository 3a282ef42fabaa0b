"""Changes to logits before the draw: penalties, logit_bias, min_tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from kvtier_engine.runner.sequence_state import SequenceState


def adjust(logits: torch.Tensor, states: Sequence[SequenceState], eos_ids: tuple[int, ...]) -> None:
    """Changes `logits` [N, vocab] float32 in place as the rows' parameters say.

    First the penalties over each sequence's own tokens, then logit_bias, then the tokens
    that would end an answer shorter than min_tokens become impossible. Only the entries
    concerned are touched.
    """
    _penalize(logits, states)
    _bias(logits, states)
    _forbid(logits, states, eos_ids)


def is_adjusted(state: SequenceState) -> bool:
    """True if `adjust` may change the row of `state`."""
    params = state.params
    too_short = state.answered < params.min_tokens
    return state.tokens is not None or bool(params.logit_bias) or too_short


def _penalize(logits: torch.Tensor, states: Sequence[SequenceState]) -> None:
    rows = [
        (row, state, state.tokens) for row, state in enumerate(states) if state.tokens is not None
    ]
    if not rows:
        return
    sizes = [len(tokens.ids) for _, _, tokens in rows]
    numbers = np.array(
        [
            (p.repetition_penalty, p.presence_penalty, p.frequency_penalty)
            for p in (state.params for _, state, _ in rows)
        ],
        dtype=np.float32,
    )
    device = logits.device
    row_of = torch.from_numpy(np.repeat([row for row, _, _ in rows], sizes)).to(device)
    ids = torch.from_numpy(np.concatenate([tokens.ids for _, _, tokens in rows])).to(device)
    count = torch.from_numpy(np.concatenate([tokens.counts for _, _, tokens in rows])).to(device)
    repetition, presence, frequency = (
        torch.from_numpy(np.repeat(column, sizes)).to(device) for column in numbers.T
    )
    values = logits[row_of, ids]
    values = torch.where(values > 0, values / repetition, values * repetition)
    values -= frequency * count + presence * (count > 0)
    logits[row_of, ids] = values


def _bias(logits: torch.Tensor, states: Sequence[SequenceState]) -> None:
    entries = [
        (row, token, bias)
        for row, state in enumerate(states)
        for token, bias in state.params.logit_bias.items()
    ]
    if not entries:
        return
    row_of, ids, biases = zip(*entries, strict=True)
    logits[list(row_of), list(ids)] += torch.tensor(biases, device=logits.device)


def _forbid(
    logits: torch.Tensor, states: Sequence[SequenceState], eos_ids: tuple[int, ...]
) -> None:
    entries = [
        (row, token)
        for row, state in enumerate(states)
        if state.answered < state.params.min_tokens
        for token in (
            *state.params.stop_token_ids,
            *(() if state.params.ignore_eos else eos_ids),
        )
    ]
    if entries:
        row_of, ids = zip(*entries, strict=True)
        logits[list(row_of), list(ids)] = float("-inf")
