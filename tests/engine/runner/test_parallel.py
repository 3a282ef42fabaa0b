"""Ranks together do what one does alone, and their parts of a page make up its page."""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch
from support.models import (
    Feeder,
    Leader,
    engine_config,
    led_ranks,
    make_runner,
    random_prompt,
    small_llama,
)

from kvtier_engine.model.errors import ModelError
from kvtier_engine.model.parallel import check_parallel
from kvtier_engine.model.spec import read_spec
from kvtier_engine.runner.distributed import RankGroup
from kvtier_engine.runner.runner import Runner
from kvtier_engine.runner.worker import serve_steps

TOKENS = 12


def answer(runner: Runner | Leader, prompt: list[int]) -> list[int]:
    return Feeder(runner).generate(0, prompt, TOKENS)


def answer_alone(runner: Runner, prompt: list[int]) -> tuple[list[int], torch.Tensor]:
    """The greedy answer of one rank, and its L1 afterwards."""
    return answer(runner, prompt), runner.cache.storage


@pytest.mark.parametrize("attention", ["native", "torch"])
@pytest.mark.parametrize("tied", [True, False])
def test_two_ranks_answer_as_one(tmp_path: Path, attention: str, tied: bool) -> None:
    folder = small_llama(tmp_path, tie_word_embeddings=tied, attention_bias=True, mlp_bias=True)
    prompt = random_prompt(150)
    alone, pages = answer_alone(make_runner(folder, attention=attention), prompt)

    def make(group: RankGroup) -> Runner:
        return make_runner(folder, attention=attention, group=group)

    together, parts = led_ranks(2, make, lambda leader: answer(leader, prompt))
    assert together == alone
    # What differs is only the order in which the ranks' sums are added up.
    torch.testing.assert_close(parts, pages, rtol=0, atol=1e-4)
    # The first layer's keys and values come before any such sum.
    assert torch.equal(parts[:, :, 0], pages[:, :, 0]) or attention == "torch"


def test_three_ranks_serve_the_quickstart_model(quickstart_model: Path) -> None:
    prompt = random_prompt(100, vocab=49_000)
    alone, pages = answer_alone(make_runner(quickstart_model), prompt)

    def make(group: RankGroup) -> Runner:
        return make_runner(quickstart_model, group=group)

    together, parts = led_ranks(3, make, lambda leader: answer(leader, prompt))
    assert together == alone
    torch.testing.assert_close(parts, pages, rtol=1e-3, atol=1e-3)


def test_a_rank_in_a_process_of_its_own(model: Path, tmp_path: Path) -> None:
    prompt = random_prompt(40)
    alone = answer(make_runner(model), prompt)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve_rank_one, args=(theirs, model, tmp_path), daemon=True)
    process.start()
    try:
        with RankGroup.join(0, 2, tmp_path, "cpu", timeout_s=120) as group:
            feeder = Feeder(Leader(make_runner(model, group=group), ours.send))
            assert feeder.generate(0, prompt, TOKENS) == alone
            ours.send(None)
            # It has said of every step, in order, that its offloads are complete.
            done = [ours.recv() for _ in range(feeder.number) if ours.poll(60)]
            assert done == list(range(1, feeder.number + 1))
            process.join(60)
    finally:
        process.kill()
        process.join(60)
    assert process.exitcode == 0


def serve_rank_one(pipe: Connection, folder: Path, rendezvous: Path) -> None:
    with RankGroup.join(1, 2, rendezvous, "cpu", timeout_s=120) as group:
        serve_steps(pipe.recv, pipe.send, make_runner(folder, group=group))


def test_heads_that_do_not_divide_are_refused(model: Path) -> None:
    with pytest.raises(ModelError, match="2 kv heads cannot be split over 3 ranks") as caught:
        check_parallel(read_spec(model), 3)
    assert "one of 1, 2" in caught.value.hint


def test_a_rank_that_never_comes_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="rank 1 did not meet the other 1 ranks"):
        RankGroup.join(1, 2, tmp_path, "cpu", timeout_s=0.5)


def test_another_geometry_is_refused(model: Path) -> None:
    config = engine_config(model)
    wrong = config.cache.geometry.model_copy(update={"layers": 4})
    changed = config.model_copy(
        update={"cache": config.cache.model_copy(update={"geometry": wrong})}
    )
    with pytest.raises(ModelError, match="but the plan was made for"):
        Runner(changed, read_spec(model), RankGroup())
