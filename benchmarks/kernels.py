"""The CPU kernels against torch's own, side by side in one run.

    python benchmarks/kernels.py [--threads 2] [--repeats 5] [--cpu-time]

Shapes are those of the quickstart model in bfloat16. Ours and torch's take turns, and medians
are printed; linear layers are all 30 layers' in a row, so that weights come from memory as
they do in a model. Floors are measured too: reading the weights at the speed of a sum over a
large array, and computing at the speed of a large float32 matrix product. With --cpu-time one
thread's processor time is taken instead, for a machine that others use as well.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from harness import describe_machine

from kvtier_engine import _kernels

LAYERS = 30
HEADS, KV_HEADS, HEAD_DIM = 9, 3, 64
# Output and input features: q, k and v as one; attention's output; gate and up as one; down.
LINEARS = ((960, 576), (576, 576), (3072, 576), (576, 1536))
PAGE_TOKENS = 64
DTYPE, DTYPE_NAME = torch.bfloat16, "bfloat16"


@dataclass(frozen=True)
class Case:
    """One line of a table: the same work done by us and by torch."""

    name: str
    ours: Callable[[], object]
    torch: Callable[[], object]
    flops: float
    read_bytes: float


clock = time.perf_counter


def seconds(run: Callable[[], object]) -> float:
    start = clock()
    run()
    return clock() - start


def compare(case: Case, repeats: int) -> None:
    """Prints medians of `repeats` runs each, taken in turns after one run to warm up."""
    case.ours()
    case.torch()
    pairs = [(seconds(case.ours), seconds(case.torch)) for _ in range(repeats)]
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(
        f"| {case.name} | {ours * 1e3:.2f} | {theirs * 1e3:.2f} | {theirs / ours:.1f} "
        f"| {case.flops / ours / 1e9:.0f} | {case.read_bytes / ours / 1e9:.1f} |",
        flush=True,
    )


def linear_case(m: int, weights: list[torch.Tensor]) -> Case:
    packed = [
        _kernels.PackedWeight(weight.data_ptr(), weight.shape[0], weight.shape[1], DTYPE_NAME)
        for weight in weights
    ]
    inputs = {k: torch.randn(m, k).to(DTYPE) for _, k in LINEARS}
    outputs = {n: torch.empty(m, n, dtype=DTYPE) for n, _ in LINEARS}

    def ours() -> None:
        for weight in packed:
            x, out = inputs[weight.k], outputs[weight.n]
            _kernels.linear(weight, x.data_ptr(), m, weight.k, out.data_ptr(), weight.n, DTYPE_NAME)

    def theirs() -> None:
        for weight in weights:
            torch.nn.functional.linear(inputs[weight.shape[1]], weight)

    elements = sum(weight.numel() for weight in weights)
    return Case(f"linears, {m} rows", ours, theirs, 2.0 * m * elements, 2.0 * elements)


def attention_case(sequences: int, tokens: int, context: int) -> Case:
    """`sequences` prompts of `context` tokens, the last `tokens` of each being queries."""
    pages = -(-context // PAGE_TOKENS)
    shape = (sequences * pages, KV_HEADS, LAYERS if context * sequences < 4000 else 4)
    data = torch.randn(*shape, 2, PAGE_TOKENS, HEAD_DIM).to(DTYPE)
    layer = data[:, :, 1]
    pool = _kernels.PagePool(
        addr=layer.data_ptr(),
        dtype=DTYPE_NAME,
        pages=shape[0],
        kv_heads=KV_HEADS,
        page_tokens=PAGE_TOKENS,
        head_dim=HEAD_DIM,
        page_stride=layer.stride(0),
        head_stride=layer.stride(1),
        kv_stride=layer.stride(2),
        token_stride=layer.stride(3),
    )
    starts = torch.arange(0, (sequences + 1) * tokens, tokens, dtype=torch.int32)
    contexts = torch.full((sequences,), context, dtype=torch.int32)
    tables = torch.randperm(shape[0]).to(torch.int32)
    batch = _kernels.Batch(
        query_starts_addr=starts.data_ptr(),
        contexts_addr=contexts.data_ptr(),
        page_tables_addr=tables.data_ptr(),
        sequences=sequences,
        table_stride=pages,
        page_tokens=PAGE_TOKENS,
    )
    query = torch.randn(sequences * tokens, HEADS, HEAD_DIM).to(DTYPE)
    out = torch.empty_like(query)
    q = _kernels.Heads(query.data_ptr(), HEADS, HEADS * HEAD_DIM, HEAD_DIM)
    o = _kernels.Heads(out.data_ptr(), HEADS, HEADS * HEAD_DIM, HEAD_DIM)

    memory = (data, query, out)  # the kernel knows addresses only: ours() keeps them alive

    # torch is given keys and values already gathered, which our kernel does without.
    wide = query.view(sequences, tokens, HEADS, HEAD_DIM).transpose(1, 2).contiguous()
    key = torch.randn(sequences, KV_HEADS, context, HEAD_DIM).to(DTYPE)
    value = torch.randn(sequences, KV_HEADS, context, HEAD_DIM).to(DTYPE)
    scale = HEAD_DIM**-0.5

    def ours() -> None:
        assert all(tensor.is_contiguous() for tensor in memory)
        _kernels.attention(batch, pool, q, o, scale=scale)

    def theirs() -> None:
        torch.nn.functional.scaled_dot_product_attention(
            wide, key, value, is_causal=tokens == context, scale=scale, enable_gqa=True
        )

    pairs = sequences * (tokens * (context - tokens) + tokens * (tokens + 1) / 2)
    kv_bytes = 2.0 * sequences * context * KV_HEADS * HEAD_DIM * 2
    what = "prompt" if tokens == context else "decode"
    name = f"attention, {what}, {sequences} x {context} tokens, 1 layer"
    return Case(name, ours, theirs, 4.0 * HEAD_DIM * HEADS * pairs, kv_bytes)


def print_floors(repeats: int) -> None:
    large = torch.ones(1 << 28)
    square = torch.randn(2048, 2048)
    read = statistics.median(seconds(large.sum) for _ in range(repeats))
    product = statistics.median(seconds(lambda: square @ square) for _ in range(repeats))
    print(
        f"Floors: {large.nbytes / read / 1e9:.1f} GB/s (torch.sum over 1 GiB), "
        f"{2 * 2048**3 / product / 1e9:.0f} GFLOP/s (torch, float32, 2048 x 2048)\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=_kernels.num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cpu-time", action="store_true")
    options = parser.parse_args()
    if options.cpu_time:
        global clock
        clock = time.thread_time
        options.threads = 1
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    _kernels.set_num_threads(options.threads)
    command = f"python benchmarks/kernels.py --threads {options.threads}"
    command += " --cpu-time" if options.cpu_time else ""
    print(f"{describe_machine(command)}; {_kernels.isa()} kernels\n")
    print_floors(options.repeats)
    print("| case | kvtier ms | torch ms | ratio | kvtier GFLOP/s | kvtier GB/s |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    weights = [(torch.randn(n, k) * k**-0.5).to(DTYPE) for _ in range(LAYERS) for n, k in LINEARS]
    for m in (1, 4, 8, 16, 64, 512):
        compare(linear_case(m, weights), options.repeats)
    for sequences, tokens, context in (
        (1, 512, 512),
        (1, 2048, 2048),
        (1, 6000, 6000),
        (1, 1, 1024),
        (1, 1, 6000),
        (16, 1, 1024),
    ):
        compare(attention_case(sequences, tokens, context), options.repeats)


if __name__ == "__main__":
    main()
