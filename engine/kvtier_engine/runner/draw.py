"""Drawing tokens from logits: a whole batch at once, each row as if it were alone.

A row's kept tokens are those whose logit reaches the row's threshold; equal logits are
kept or dropped together, so that no order of equals can matter. The draw walks the kept
tokens in the order of their ids until the sum of probabilities passes a number in [0, 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from kvtier_engine.runner.sequence_state import SequenceState

# A nucleus rarely holds more tokens than this; a row whose nucleus does is sorted whole.
_NUCLEUS_GUESS = 1024


@dataclass(frozen=True, slots=True)
class Draws:
    """How each of N rows is drawn; tensors are on the logits' device."""

    temperature: torch.Tensor  # [N] float32, above 0
    min_p: torch.Tensor  # [N] float32; 0: off
    top_p: torch.Tensor  # [N] float32; 1: off
    top_k: torch.Tensor  # [N] int64; 0: off
    uniform: torch.Tensor  # [N] float64 in [0, 1)
    # Rows that top_k bounds, and rows that top_p alone does: on the host, so that the device
    # is not asked what there is to do.
    bounded: list[int]
    nucleus: list[int]
    top_k_max: int


def uniform(seed: int, position: int) -> float:
    """The number in [0, 1) that belongs to (seed, position): nothing else decides it."""
    bits = int(np.random.Philox(key=seed, counter=position).random_raw())
    return (bits >> 11) * 2.0**-53


def make_draws(
    states: Sequence[SequenceState], positions: Sequence[int], device: torch.device
) -> Draws:
    """Collects the parameters of `states`, each about to draw the token at its position."""
    params = [state.params for state in states]
    rows = range(len(params))
    numbers = [
        uniform(state.seed, position) for state, position in zip(states, positions, strict=True)
    ]
    narrow = torch.tensor([[p.temperature, p.min_p, p.top_p] for p in params]).to(device)
    top_k = [max(p.top_k, 0) for p in params]
    return Draws(
        temperature=narrow[:, 0],
        min_p=narrow[:, 1],
        top_p=narrow[:, 2],
        top_k=torch.tensor(top_k, device=device),
        uniform=torch.tensor(numbers, dtype=torch.float64, device=device),
        bounded=[row for row in rows if top_k[row]],
        nucleus=[row for row in rows if not top_k[row] and params[row].top_p < 1.0],
        top_k_max=max(top_k),
    )


def draw(logits: torch.Tensor, draws: Draws) -> torch.Tensor:
    """[N] int64 token ids. `logits` [N, vocab] float32 is overwritten.

    The restrictions apply in the order temperature, min_p, top_k, top_p; the nucleus of
    top_p is taken from what the others left.
    """
    logits.div_(draws.temperature[:, None])
    highest = logits.amax(dim=1)
    threshold = highest + draws.min_p.log()  # min_p 0: -inf
    if draws.bounded:
        threshold[draws.bounded] = _bounded_threshold(logits, threshold, draws)
    if draws.nucleus:
        threshold[draws.nucleus] = _nucleus_threshold(logits, threshold, draws)
    weights = (logits - highest[:, None]).exp_().mul_(logits >= threshold[:, None])
    sums = weights.cumsum(1, dtype=torch.float64)
    # Rounding must not carry the target to the total, where no token is left to take it.
    below = torch.nextafter(sums[:, -1], sums.new_zeros(()))
    target = torch.minimum(draws.uniform * sums[:, -1], below)
    return torch.searchsorted(sums, target[:, None], right=True)[:, 0]


def _bounded_threshold(logits: torch.Tensor, threshold: torch.Tensor, draws: Draws) -> torch.Tensor:
    """The thresholds of the rows with top_k, which top_p may raise further. No row is sorted."""
    rows = draws.bounded
    vocab = logits.shape[1]
    best = _highest(logits[rows], min(draws.top_k_max, vocab))
    is_within = torch.arange(best.shape[1], device=best.device) < draws.top_k[rows, None]
    is_left = is_within & (best >= threshold[rows, None])
    weights = _weights(best).masked_fill_(~is_left, 0.0)
    return _cut(best, weights, weights.sum(1), draws.top_p[rows])


def _nucleus_threshold(logits: torch.Tensor, threshold: torch.Tensor, draws: Draws) -> torch.Tensor:
    """The thresholds of the rows with top_p and no top_k."""
    rows = draws.nucleus
    own, low, top_p = logits[rows], threshold[rows, None], draws.top_p[rows]
    highest = own.amax(dim=1, keepdim=True)
    total = (own - highest).exp_().mul_(own >= low).sum(1, dtype=torch.float64)
    best = _highest(own, min(_NUCLEUS_GUESS, own.shape[1]))
    weights = _weights(best).masked_fill_(best < low, 0.0)
    if bool((weights.sum(1) < top_p * total).any()) and best.shape[1] < own.shape[1]:
        best = _highest(own, own.shape[1])
        weights = _weights(best).masked_fill_(best < low, 0.0)
    return _cut(best, weights, total, top_p)


def _highest(logits: torch.Tensor, count: int) -> torch.Tensor:
    """[N, count]: each row's highest logits, best first."""
    if logits.device.type != "cpu":
        return logits.topk(count, dim=1).values
    # numpy sorts with vector instructions: a tenth of topk's time, a thirtieth of sort's.
    values = logits.numpy()
    if count < values.shape[1]:
        values = np.partition(values, values.shape[1] - count, axis=1)[:, -count:]
    return torch.from_numpy(np.sort(values, axis=1)[:, ::-1].copy())


def _weights(best: torch.Tensor) -> torch.Tensor:
    """[N, K] float64, proportional to the probabilities of the logits `best`, best first."""
    return (best - best[:, :1]).double().exp_()


def _cut(
    best: torch.Tensor, weights: torch.Tensor, total: torch.Tensor, top_p: torch.Tensor
) -> torch.Tensor:
    """The lowest logit [N] of each row's smallest head whose weights reach top_p * total."""
    before = weights.cumsum(1) - weights
    is_kept = (weights > 0.0) & (before < (top_p * total)[:, None])
    last = (is_kept.sum(1) - 1).clamp_(min=0)
    return best.gather(1, last[:, None])[:, 0]
