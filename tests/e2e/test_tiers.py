"""Greedy answers in fp32 are the same wherever the prompt's KV comes from, and the counters
say that it came from there."""

from __future__ import annotations

import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.engine_process import (
    EngineProcess,
    arena_memory,
    engine_config,
    running_engine,
    start_engine,
)

from kvtier_store import DirectorySpec, Store

PROMPT_TOKENS = 640  # ten pages; nine can be reused, the last is computed for its logits
REUSABLE = 576
TIERS = ("l1", "l2", "l3")


def prompt(seed: int, tokens: int = PROMPT_TOKENS) -> list[int]:
    return random.Random(seed).choices(range(1000, 40000), k=tokens)


def small_tiers(model: Path, run_dir: Path, disk: Path, **changes: Any) -> Any:
    return engine_config(
        model,
        run_dir,
        cache__l1__pages=16,
        cache__l2__pages=32,
        cache__l3__directories=[{"path": str(disk), "capacity_bytes": 1 << 30}],
        scheduler__max_context_tokens=1000,
        **changes,
    )


def ask(engine: EngineProcess, seed: int) -> tuple[str, dict[str, float]]:
    """The answer's text, and the prompt tokens that each tier saved."""
    before = {tier: engine.metric("hit_tokens_total", tier=tier) for tier in TIERS}
    answer = engine.complete(prompt(seed))
    engine.wait_idle()
    hits = {tier: engine.metric("hit_tokens_total", tier=tier) - before[tier] for tier in TIERS}
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == sum(hits.values())
    return answer["choices"][0]["text"], hits


def forget_in_l1(engine: EngineProcess) -> None:
    engine.complete(prompt(1000, 960), tokens=1)
    engine.wait_idle()


def forget_in_l2(engine: EngineProcess) -> None:
    for seed in range(1001, 1004):
        engine.complete(prompt(seed, 960), tokens=1)
    engine.wait_idle()


def test_every_tier_gives_the_cold_answer(quickstart_model, run_dir, tmp_path):
    config = small_tiers(quickstart_model, run_dir, tmp_path / "l3")
    with arena_memory() as memory:
        with running_engine(config, memory) as engine:
            cold, hits = ask(engine, 1)
            assert hits == {"l1": 0, "l2": 0, "l3": 0}
            assert engine.metric("saved_pages_total") == 0  # L2 has room
            assert ask(engine, 1) == (cold, {"l1": REUSABLE, "l2": 0, "l3": 0})
            forget_in_l1(engine)
            warm, hits = ask(engine, 1)
            assert warm == cold
            assert hits["l2"] >= REUSABLE - 64  # its first page may have stayed in L1
            assert hits["l1"] + hits["l2"] == REUSABLE
            forget_in_l2(engine)
            assert engine.metric("saved_pages_total") > 0
            assert engine.metric("unsaved_pages_total") == 0
            assert ask(engine, 1) == (cold, {"l1": 0, "l2": 0, "l3": REUSABLE})
            assert engine.metric("l3_read_bytes_total") > 0
        with running_engine(config, memory) as engine:  # the launcher's memory is still there
            assert engine.metric("adopted_pages_total", tier="l2") > 0
            assert ask(engine, 1) == (cold, {"l1": 0, "l2": REUSABLE, "l3": 0})
    with running_engine(config) as engine:  # nothing but the disk is left
        assert engine.metric("recovered_pages_total", tier="l3") > 0
        assert ask(engine, 1) == (cold, {"l1": 0, "l2": 0, "l3": REUSABLE})


def test_the_cold_answer_is_that_of_transformers(quickstart_model, run_dir):
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(quickstart_model, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(quickstart_model)
    ids = tokenizer("A page table maps virtual pages to")["input_ids"]
    config = engine_config(quickstart_model, run_dir)
    expected = model.generate(
        torch.tensor([ids]), max_new_tokens=32, do_sample=False, eos_token_id=None
    )
    with running_engine(config) as engine:
        answer = engine.complete(ids, tokens=32)
    assert answer["choices"][0]["text"] == tokenizer.decode(expected[0, len(ids) :])


def test_a_shared_middle_is_never_shared(quickstart_model, run_dir):
    middle = prompt(7, 256)
    with running_engine(engine_config(quickstart_model, run_dir)) as engine:
        engine.complete(prompt(8, 64) + middle)
        answer = engine.complete(prompt(9, 64) + middle)
        assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


def kill_while_serving(engine: EngineProcess) -> None:
    body = {"model": "smollm2-135m", "prompt": prompt(3), "max_tokens": 300, "stream": True}
    with engine.client.stream("POST", "/v1/completions", json=body) as stream:
        next(stream.iter_lines())  # it is in the middle of an answer
        engine.kill()
        stream.close()
    engine.client.close()


def test_kill_9_while_serving_then_warm(quickstart_model, run_dir, tmp_path):
    config = small_tiers(
        quickstart_model, run_dir, tmp_path / "l3", cache__l3__write="write_through"
    )
    engine = start_engine(config)
    cold, _ = ask(engine, 2)
    kill_while_serving(engine)
    with running_engine(config) as engine:
        assert ask(engine, 2) == (cold, {"l1": 0, "l2": 0, "l3": REUSABLE})


def test_kill_9_loses_nothing_that_l2_held_and_the_next_stop_saves_it(
    quickstart_model, run_dir, tmp_path
):
    config = small_tiers(quickstart_model, run_dir, tmp_path / "l3")
    with arena_memory() as memory:
        engine = start_engine(config, memory)
        cold, _ = ask(engine, 2)
        assert engine.metric("saved_pages_total") == 0
        kill_while_serving(engine)
        with running_engine(config, memory) as engine:
            assert engine.metric("adopted_pages_total", tier="l2") >= 10
    with running_engine(config) as engine:
        assert ask(engine, 2) == (cold, {"l1": 0, "l2": 0, "l3": REUSABLE})


CPUS = sorted(os.sched_getaffinity(0))
PLACES = [
    {"cpus": [CPUS[0]], "memory_nodes": [0], "interleave": False},
    {"cpus": [CPUS[-1]], "memory_nodes": [0], "interleave": True},
    {"cpus": [CPUS[0]], "memory_nodes": [0], "interleave": False},
]


def where(pid: int) -> tuple[list[int], str]:
    """CPUs and memory policy of a process, as the kernel has them."""
    maps = Path(f"/proc/{pid}/numa_maps").read_text()
    heap = next(line for line in maps.splitlines() if line.endswith("heap") or " heap " in line)
    return sorted(os.sched_getaffinity(pid)), heap.split()[1]


def test_other_ranks_serve_from_the_cache_that_one_rank_filled(quickstart_model, run_dir, tmp_path):
    config = small_tiers(quickstart_model, run_dir, tmp_path / "l3")
    with running_engine(config) as engine:
        cold, _ = ask(engine, 4)
    three = small_tiers(
        quickstart_model,
        run_dir / "tp3",
        tmp_path / "l3",
        parallel={"tensor_parallel": 3, "threads_per_rank": 1, "placements": PLACES},
    )
    with running_engine(three) as engine:
        assert ask(engine, 4) == (cold, {"l1": 0, "l2": 0, "l3": REUSABLE})
        assert [where(pid) for pid in engine.ranks()] == [
            ([place["cpus"][0]], "interleave:0" if place["interleave"] else "prefer:0")
            for place in PLACES
        ]
        warm, _ = ask(engine, 5)  # filled by three ranks
    with running_engine(config) as engine:
        assert ask(engine, 5) == (warm, {"l1": 0, "l2": 0, "l3": REUSABLE})


def test_preempted_answers_are_the_answers_of_a_quiet_engine(quickstart_model, run_dir):
    """Four answers outgrow L1 (16 pages; 6 each in the end): the youngest go to L2 and back.
    In bf16, where a kernel that depended on the batch would be seen."""
    config = engine_config(
        quickstart_model,
        run_dir,
        model__dtype="bfloat16",
        cache__l1__pages=16,
        cache__l2__pages=64,
        scheduler__max_context_tokens=1000,
    )
    prompts = [prompt(seed, 250) for seed in range(20, 24)]
    with running_engine(config) as engine:
        alone = [engine.complete(p, tokens=80)["choices"][0]["text"] for p in prompts]
        assert engine.metric("preemptions_total") == 0
    with running_engine(config) as engine:
        with ThreadPoolExecutor(len(prompts)) as pool:
            answers = pool.map(lambda p: engine.complete(p, tokens=80), prompts)
        together = [answer["choices"][0]["text"] for answer in answers]
        assert engine.metric("preemptions_total") > 0
        assert engine.metric("restored_pages_total") > 0
    assert together == alone


@pytest.mark.parametrize("trouble", ["is a file", "is in use", "is for another model"])
def test_an_engine_without_its_disk_serves_all_the_same(
    quickstart_model, run_dir, tmp_path, trouble
):
    disk = tmp_path / "l3"
    config = small_tiers(quickstart_model, run_dir, disk)
    holder = None
    if trouble == "is a file":
        disk.write_text("not a directory")
    else:
        holder = open_store(disk, config.cache.page_bytes, b"another model!!!")
    if holder and trouble == "is for another model":
        holder.close()
    with running_engine(config) as engine:
        assert engine.metric("tier_up", tier="l3") == 0
        assert engine.metric("tier_up", tier="l2") == 1
        cold, _ = ask(engine, 6)
        assert ask(engine, 6) == (cold, {"l1": REUSABLE, "l2": 0, "l3": 0})
    assert "L3 is out of use" in engine.log.read_text()


def open_store(folder: Path, page_bytes: int, namespace: bytes) -> Store:
    directory = DirectorySpec(str(folder), 1 << 28)
    return Store.open([directory], page_bytes=page_bytes, namespace=namespace)
