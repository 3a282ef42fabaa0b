"""An engine over tiers without bytes, whose tiers are about to change."""

from __future__ import annotations

from typing import Any

from support.fake_control import FakeControl
from support.fake_engine import FakeEngine, Sizes, page_keys
from support.fake_tiers import reference_answer

LONG = list(range(20))  # five pages
OTHER = list(range(20, 44))  # six


def started(**sizes: Any) -> tuple[FakeEngine, FakeControl]:
    sizes = {"l1": 12, "l2": 24, "max_context_tokens": 32, **sizes}
    engine = FakeEngine(Sizes(**sizes))
    return engine, FakeControl(engine)


def tiers_of(engine: FakeEngine, prompt: list[int]) -> list[str]:
    """Where each of the prompt's pages is."""
    tiers = engine.manager.tiers
    assert tiers.host is not None
    on_disk = tiers.on_disk(page_keys(prompt))
    return [
        "1" * (tiers.pool.find(key) is not None)
        + "2" * (tiers.host.find(key) is not None)
        + "3" * there
        for key, there in zip(page_keys(prompt), on_disk, strict=True)
    ]


def check_answers(engine: FakeEngine, *prompts: list[int]) -> None:
    for prompt in prompts:
        engine.ask(prompt, 3)
        assert list(engine.answers.values())[-1] == reference_answer(prompt, 3)
