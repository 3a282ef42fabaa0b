"""Pages zeroed, truncated, bit-flipped and swapped on disk, while the engine is down and
while it runs: each is a miss with a counter, and the answer stays right."""

from __future__ import annotations

from pathlib import Path

from support.engine_process import EngineProcess, engine_config, running_engine
from support.store_files import find_slots, flip_one_bit, keys_of, swap, truncate, zero

from kvtier_engine.config import EngineConfig
from kvtier_engine.model.fingerprint import model_fingerprint

PAGE = 64
PROMPTS = {
    name: [1000 + seed * 1000 + token % 997 for token in range(5 * PAGE)]
    for seed, name in enumerate(["zeroed", "flipped", "swapped", "other", "truncated"])
}
BAD_PAGE = 2  # of five, the last of which is computed anyway


def config_for(model: Path, run_dir: Path, disk: Path) -> EngineConfig:
    return engine_config(
        model,
        run_dir,
        cache__l1__pages=12,
        cache__l2__pages=24,
        cache__l3__directories=[{"path": str(disk), "capacity_bytes": 1 << 30}],
        cache__l3__write="write_through",  # what is damaged has to be there
        scheduler__max_context_tokens=700,
    )


def ask(engine: EngineProcess, prompt: list[int]) -> tuple[str, int]:
    answer = engine.complete(prompt, tokens=8)
    engine.wait_idle()
    return answer["choices"][0]["text"], answer["usage"]["prompt_tokens_details"]["cached_tokens"]


def forget_in_memory(engine: EngineProcess) -> None:
    """Prompts of other tokens push everything out of L1 and L2."""
    for seed in range(3):
        engine.complete([20000 + seed * 1000 + token for token in range(640)], tokens=1)
    engine.wait_idle()


def damage(config: EngineConfig, model: Path) -> None:
    """Breaks page BAD_PAGE of each prompt. (Truncation also takes every page behind it.)"""
    [directory] = config.cache.l3.directories
    slots = find_slots(directory.path, config.cache.page_bytes)
    fingerprint = model_fingerprint(model)
    keys = {name: keys_of(config, fingerprint, prompt) for name, prompt in PROMPTS.items()}
    zero(slots[keys["zeroed"][BAD_PAGE]])
    flip_one_bit(slots[keys["flipped"][BAD_PAGE]])
    swap(slots[keys["swapped"][BAD_PAGE]], slots[keys["other"][BAD_PAGE]])
    truncate(slots[keys["truncated"][BAD_PAGE]])


def check_answers(engine: EngineProcess, cold: dict[str, str]) -> None:
    """Every answer is the cold one, from what was left on disk; every damage was counted."""
    before = corrupt_pages(engine)
    most = 0
    for name, prompt in PROMPTS.items():
        text, cached = ask(engine, prompt)
        assert text == cold[name], name
        assert cached <= 3 * PAGE, f"{name} was served from a damaged page"
        most = max(most, cached)
    assert most == 3 * PAGE, "a bad page is computed in its place, and those behind it are used"
    assert corrupt_pages(engine) - before >= len(PROMPTS)


def corrupt_pages(engine: EngineProcess) -> float:
    return engine.metric("corrupt_pages_total", tier="l3")


def test_damage_is_a_miss_and_never_an_answer(quickstart_model, run_dir, tmp_path):
    config = config_for(quickstart_model, run_dir, tmp_path / "l3")
    with running_engine(config) as engine:
        cold = {name: ask(engine, prompt)[0] for name, prompt in PROMPTS.items()}
        forget_in_memory(engine)
        text, cached = ask(engine, PROMPTS["other"])
        assert (text, cached) == (cold["other"], 4 * PAGE)  # L3 works when nothing is wrong
        forget_in_memory(engine)
        damage(config, quickstart_model)
        check_answers(engine, cold)
    damage(config, quickstart_model)  # what was computed again had been saved again
    with running_engine(config) as engine:
        check_answers(engine, cold)
