"""What only a CUDA device can show; scripts/gpu_check.sh runs it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from support.models import Feeder, Leader, led_ranks, make_runner, random_prompt

from kvtier_engine.attention.base import AttentionParts, AttentionShape
from kvtier_engine.attention.cache import PagedCache
from kvtier_engine.attention.rope import rope_table
from kvtier_engine.attention.select import make_attention
from kvtier_engine.model.spec import RopeSpec
from kvtier_engine.runner.batch import build_batch
from kvtier_engine.runner.distributed import RankGroup
from kvtier_engine.runner.runner import Runner
from kvtier_engine.runner.step import Chunk

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]

SHAPE = AttentionShape(heads=8, kv_heads=2, head_dim=64)
LAYERS, PAGES, PAGE_TOKENS = 3, 64, 16


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_near_the_cpu_in_float32(model: Path, dtype: str) -> None:
    prompt = random_prompt(300)
    [want] = Feeder(make_runner(model)).logits([prompt], cuts=[])
    [found] = Feeder(make_runner(model, device="cuda", dtype=dtype)).logits([prompt], cuts=[100])
    assert (found.argmax(1) == want.argmax(1)).float().mean() > 0.9
    assert (found - want).abs().mean() < 0.1


@pytest.mark.skipif(find_spec("flashinfer") is None, reason="flashinfer is not installed")
def test_flashinfer_agrees_with_torch() -> None:
    device = torch.device("cuda")
    chunks = [
        Chunk(0, 0, [0] * 40, [9, 3, 50], False),
        Chunk(1, 70, [0], [1, 2, 4, 8, 16], True),
        Chunk(2, 16, [0] * 33, [7, 60, 11, 12], False),
    ]
    generator = torch.Generator("cuda").manual_seed(0)
    shape = (PAGES, SHAPE.kv_heads, LAYERS, 2, PAGE_TOKENS, SHAPE.head_dim)
    storage = torch.randn(shape, generator=generator, device=device).bfloat16()
    rope = rope_table(RopeSpec(theta=1e4), SHAPE.head_dim, 128).to(device)
    batch = build_batch(chunks, PAGE_TOKENS, device)
    rows = len(batch.token_ids)
    qkv = torch.randn(rows, SHAPE.qkv_width, generator=generator, device=device).bfloat16()
    found = []
    for name in ("torch", "flashinfer"):
        cache = PagedCache(storage.clone())
        attention = make_attention(name, AttentionParts(SHAPE, cache, rope))  # type: ignore[arg-type]
        attention.begin(batch)
        found.append((attention.attend(1, qkv.clone()), cache.storage))
    torch.testing.assert_close(found[1][0], found[0][0], rtol=2e-2, atol=2e-2)
    assert torch.equal(found[1][1], found[0][1])


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="two CUDA devices are needed")
def test_two_devices_answer_as_one(model: Path) -> None:
    prompt = random_prompt(150)
    alone = Feeder(make_runner(model, device="cuda")).generate(0, prompt, 12)

    def make(group: RankGroup) -> Runner:
        return make_runner(model, group=group, device="cuda")

    def answer(leader: Leader) -> list[int]:
        return Feeder(leader).generate(0, prompt, 12)

    assert led_ranks(2, make, answer, device="cuda")[0] == alone
