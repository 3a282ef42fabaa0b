"""What a sequence gets from its logits, parameters and own tokens, whoever is beside it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kvtier_engine.messages import SamplingParams
from kvtier_engine.runner.sampler import Sampler
from kvtier_engine.runner.step import Chunk, NewSequence, Sampled

VOCAB = 300
EOS = 7


class Sequences:
    """A sampler and the sequences that it draws for; each knows its length."""

    def __init__(self, *params: SamplingParams, prompt: list[int] | None = None) -> None:
        self.sampler = Sampler((EOS,))
        self.lengths = [len(prompt or [1, 2, 3])] * len(params)
        for number, own in enumerate(params):
            self.sampler.add(NewSequence(number, prompt or [1, 2, 3], own))

    def draw(self, logits: torch.Tensor, rows: list[int] | None = None) -> list[Sampled]:
        rows = list(range(len(self.lengths))) if rows is None else rows
        chunks = [Chunk(row, self.lengths[row] - 1, [0], [], True) for row in rows]
        for row in rows:
            self.lengths[row] += 1
        return self.sampler.sample(logits.clone(), chunks)


def greedy(**settings: Any) -> SamplingParams:
    return SamplingParams(max_tokens=99, temperature=0.0, **settings)


def peaked(*tokens: int) -> torch.Tensor:
    """[1, VOCAB]: the first of `tokens` is the most likely, then the second, ..."""
    logits = torch.zeros(1, VOCAB)
    for place, token in enumerate(tokens):
        logits[0, token] = 10.0 - place
    return logits


def tokens_of(params: SamplingParams, logits: torch.Tensor, steps: int, **kw: Any) -> list[int]:
    sequences = Sequences(params, **kw)
    return [sequences.draw(logits)[0].token_id for _ in range(steps)]


def test_greedy_takes_the_most_likely() -> None:
    assert tokens_of(greedy(), peaked(9, 8), 3) == [9, 9, 9]


def test_frequency_penalty_counts_the_answer() -> None:
    assert tokens_of(greedy(frequency_penalty=0.6), peaked(9, 8), 4) == [9, 9, 8, 9]


def test_presence_penalty_counts_once_and_not_the_prompt() -> None:
    found = tokens_of(greedy(presence_penalty=1.5), peaked(9, 8, 5), 4, prompt=[9, 9])
    assert found == [9, 8, 9, 9]


def test_repetition_penalty_sees_the_prompt() -> None:
    found = tokens_of(greedy(repetition_penalty=2.0), peaked(9, 8, 6), 4, prompt=[9])
    assert found == [8, 6, 9, 9]


def test_repetition_penalty_lowers_negative_logits() -> None:
    logits = torch.full((1, VOCAB), -5.0)
    logits[0, 9], logits[0, 8] = -1.0, -1.5
    assert tokens_of(greedy(repetition_penalty=2.0), logits, 2, prompt=[9]) == [8, 9]


def test_logit_bias() -> None:
    found = tokens_of(greedy(logit_bias={9: -100.0, 5: 9.0}), peaked(9, 8, 5), 1)
    assert found == [5]


def test_min_tokens_forbids_what_would_end_the_answer() -> None:
    params = greedy(min_tokens=2, stop_token_ids=(9,))
    assert tokens_of(params, peaked(EOS, 9, 5), 3) == [5, 5, EOS]
    assert tokens_of(greedy(min_tokens=2, ignore_eos=True), peaked(EOS, 9), 1) == [EOS]


def test_logprobs_are_of_the_unchanged_distribution() -> None:
    logits = peaked(9, 8, 5)
    params = greedy(logprobs=2, logit_bias={9: -100.0}, frequency_penalty=1.0)
    [sampled] = Sequences(params).draw(logits)
    want = logits[0].log_softmax(0)
    assert sampled.token_id == 8
    assert sampled.logprob is not None
    assert sampled.logprob.token_id == 8
    assert sampled.logprob.logprob == pytest.approx(want[8].item())
    assert [token for token, _ in sampled.logprob.top] == [9, 8]
    assert sampled.logprob.top[0][1] == pytest.approx(want[9].item())


def test_logprobs_only_where_asked() -> None:
    sequences = Sequences(greedy(), greedy(logprobs=0), greedy(logprobs=3))
    found = [sampled.logprob for sampled in sequences.draw(peaked(9).repeat(3, 1))]
    assert found[0] is None
    assert found[1] is not None
    assert found[1].top == []
    assert found[2] is not None
    assert len(found[2].top) == 3


def test_seeds() -> None:
    logits = torch.randn(1, VOCAB, generator=torch.Generator().manual_seed(1))
    seeded = [tokens_of(SamplingParams(max_tokens=9, seed=5), logits, 20) for _ in range(2)]
    unseeded = [tokens_of(SamplingParams(max_tokens=9), logits, 20) for _ in range(2)]
    assert seeded[0] == seeded[1]
    assert len(set(seeded[0])) > 10
    assert unseeded[0] != unseeded[1]


def test_a_dropped_sequence_is_forgotten() -> None:
    sequences = Sequences(greedy())
    sequences.sampler.drop(0)
    sequences.sampler.drop(0)
    with pytest.raises(KeyError):
        sequences.draw(peaked(9))


params = st.builds(
    SamplingParams,
    max_tokens=st.just(99),
    temperature=st.sampled_from([0.0, 1e-9, 0.7, 1.0]),
    top_p=st.sampled_from([1.0, 0.9]),
    top_k=st.sampled_from([0, 3, 50]),
    min_p=st.sampled_from([0.0, 0.05]),
    repetition_penalty=st.sampled_from([1.0, 1.3]),
    presence_penalty=st.sampled_from([0.0, 0.5]),
    frequency_penalty=st.sampled_from([0.0, -0.5]),
    seed=st.integers(0, 9),
    min_tokens=st.sampled_from([0, 2]),
    logprobs=st.sampled_from([None, 0, 4]),
    logit_bias=st.sampled_from([{}, {3: 5.0, 4: -100.0}]),
)


@settings(deadline=None, max_examples=40)
@given(rows=st.lists(params, min_size=2, max_size=4), data=st.data())
def test_a_sequence_does_not_notice_its_neighbours(
    rows: list[SamplingParams], data: st.DataObject
) -> None:
    """In whatever batches the sequences are computed, each gets what it gets alone."""
    logits = torch.randn(len(rows), 3, VOCAB, generator=torch.Generator().manual_seed(0)) * 3
    alone = []
    for row, own in enumerate(rows):
        single = Sequences(own)
        alone.append([single.draw(logits[row, step][None])[0] for step in range(3)])
    together = Sequences(*rows)
    found: list[list[Sampled]] = [[] for _ in rows]
    while unfinished := [row for row in range(len(rows)) if len(found[row]) < 3]:
        batch = data.draw(st.lists(st.sampled_from(unfinished), min_size=1, unique=True))
        chosen = torch.stack([logits[row, len(found[row])] for row in batch])
        for row, sampled in zip(batch, together.draw(chosen, batch), strict=True):
            found[row].append(sampled)
    for own, mixed in zip(alone, found, strict=True):
        assert [s.token_id for s in own] == [s.token_id for s in mixed]
        assert [s.logprob for s in own] == [s.logprob for s in mixed]
