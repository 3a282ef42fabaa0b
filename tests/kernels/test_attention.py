"""Attention over pages: right, and the same bits however it was chunked and batched."""

import pytest
import torch

from kvtier_engine import _kernels

# float32 against float64: a few roundings of values of size 1, over some hundred keys.
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 8e-3}


def reference(query, key, value, *, window=0, softcap=0.0):
    """In float64: query [tokens, heads, d] are the last rows of key's [context, kv_heads, d]."""
    tokens, heads, head_dim = query.shape
    context, kv_heads = key.shape[:2]
    query, key, value = query.double(), key.double(), value.double()
    key = key.repeat_interleave(heads // kv_heads, dim=1)
    value = value.repeat_interleave(heads // kv_heads, dim=1)
    scores = torch.einsum("qhd,khd->hqk", query, key) * head_dim**-0.5
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    row = torch.arange(context - tokens, context)[:, None]
    column = torch.arange(context)[None, :]
    hidden = column > row
    if window:
        hidden |= column <= row - window
    weights = scores.masked_fill(hidden, -torch.inf).softmax(-1)
    return torch.einsum("hqk,khd->qhd", weights, value)


def prompt(cache, context, heads):
    """Random q, k, v of `context` tokens, k and v written to pages of the cache."""
    query = torch.randn(context, heads, cache.head_dim).to(cache.dtype)
    key = torch.randn(context, cache.kv_heads, cache.head_dim).to(cache.dtype)
    value = torch.randn(context, cache.kv_heads, cache.head_dim).to(cache.dtype)
    pages = cache.take(context)
    cache.write(pages, key, value)
    return query, key, value, pages


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("tokens", "context"), [(1, 1), (1, 64), (3, 65), (1, 700), (40, 130), (129, 129), (70, 600)]
)
def test_agrees_with_reference(isa, make_cache, dtype, tokens, context):
    cache = make_cache(dtype=dtype)
    query, key, value, pages = prompt(cache, context, heads=9)
    out = cache.attend(query[context - tokens :], [(tokens, context, pages)])
    expected = reference(query[context - tokens :], key, value)
    assert (out.double() - expected).abs().max() <= TOLERANCE[dtype]


@pytest.mark.parametrize("head_dim", [32, 48, 80, 112, 128, 256])
@pytest.mark.parametrize(("heads", "kv_heads"), [(2, 2), (8, 1), (40, 2)])
@pytest.mark.parametrize("tokens", [1, 33])
def test_shapes(isa, make_cache, head_dim, heads, kv_heads, tokens):
    cache = make_cache(kv_heads=kv_heads, head_dim=head_dim, page_tokens=24, pages=8)
    query, key, value, pages = prompt(cache, 90, heads)
    out = cache.attend(query[90 - tokens :], [(tokens, 90, pages)])
    expected = reference(query[90 - tokens :], key, value)
    assert (out.double() - expected).abs().max() <= TOLERANCE[torch.float32]


@pytest.mark.parametrize("options", [{"window": 1}, {"window": 100}, {"softcap": 2.0}])
@pytest.mark.parametrize("tokens", [1, 650])
def test_window_and_softcap(isa, make_cache, options, tokens):
    cache = make_cache()
    query, key, value, pages = prompt(cache, 650, heads=9)
    out = cache.attend(query[650 - tokens :], [(tokens, 650, pages)], **options)
    expected = reference(query[650 - tokens :], key, value, **options)
    assert (out.double() - expected).abs().max() <= TOLERANCE[torch.float32]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("window", [0, 200])
def test_rows_do_not_depend_on_chunks(isa, make_cache, dtype, window):
    """Whole, token by token, and in uneven chunks; a page table longer than needed."""
    cache = make_cache(dtype=dtype)
    query, _, _, pages = prompt(cache, 700, heads=9)
    whole = cache.attend(query, [(700, 700, pages)], window=window)
    ends = [1, 2, 5, 12, 64, 65, 128, 300, 301, 511, 513, 640, 700]
    begin = 0
    for end in ends:
        part = cache.attend(query[begin:end], [(end - begin, end, pages)], window=window)
        assert torch.equal(part, whole[begin:end]), f"rows {begin} to {end}"
        begin = end
    for row in (0, 1, 63, 64, 511, 512, 699):
        alone = cache.attend(query[row : row + 1], [(1, row + 1, pages)], window=window)
        assert torch.equal(alone[0], whole[row]), f"row {row}"


def test_rows_do_not_depend_on_batch_or_threads(isa, make_cache):
    cache = make_cache()
    prompts = [prompt(cache, context, heads=9) for context in (600, 1, 77, 130)]
    tokens = [1, 1, 77, 20]
    parts = [(t, q.shape[0], pages) for t, (q, _, _, pages) in zip(tokens, prompts, strict=True)]
    rows = [q[-t:] for t, (q, _, _, _) in zip(tokens, prompts, strict=True)]
    alone = torch.cat([cache.attend(r, [p]) for r, p in zip(rows, parts, strict=True)])
    for threads in (1, 2, 3):
        _kernels.set_num_threads(threads)
        together = cache.attend(torch.cat(rows), parts)
        assert torch.equal(together, alone), f"{threads} threads"


def test_page_size_does_not_matter(make_cache):
    answers = []
    for page_tokens in (1, 16, 48, 64, 100, 256):
        torch.manual_seed(1)
        cache = make_cache(page_tokens=page_tokens, pages=600)
        torch.manual_seed(2)
        query, key, value, _ = prompt(make_cache(), 300, heads=9)
        pages = cache.take(300)
        cache.write(pages, key, value)
        answers.append(cache.attend(query, [(300, 300, pages)]))
    for answer in answers[1:]:
        assert torch.equal(answer, answers[0])


def test_query_and_out_may_be_strided_and_the_same(make_cache, as_heads):
    cache = make_cache()
    query, _, _, pages = prompt(cache, 100, heads=9)
    plain = cache.attend(query, [(100, 100, pages)])
    wide = torch.zeros(100, 15, 64)
    wide[:, 2:11] = query
    inside = as_heads(wide[:, 2:11])
    batch = cache.batch([(100, 100, pages)])
    _kernels.attention(batch, cache.pool(), inside, inside, scale=64**-0.5)
    assert torch.equal(wide[:, 2:11], plain)
    assert not wide[:, :2].any()
    assert not wide[:, 11:].any()


def test_refuses_bad_arguments(make_cache, as_heads):
    cache = make_cache()
    query, _, _, pages = prompt(cache, 40, heads=9)
    with pytest.raises(ValueError, match="less than its 41 query tokens"):
        cache.batch([(41, 40, pages)])
    with pytest.raises(ValueError, match="has 1 entries, and its context needs 2"):
        cache.batch([(1, 40, pages[:1])])
    with pytest.raises(ValueError, match="the pool has 64"):
        cache.attend(query, [(40, 40, [3, 64])])
    with pytest.raises(ValueError, match="page 1 of sequence 0 is -7"):
        cache.batch([(40, 40, [3, -7])])
    with pytest.raises(ValueError, match="9 heads cannot share 2 kv heads"):
        make_cache(kv_heads=2).attend(query, [(40, 40, pages)])
    with pytest.raises(ValueError, match="head_dim must be a multiple of 16"):
        make_cache(head_dim=40).pool()
    batch = cache.batch([(40, 40, pages)])
    heads = as_heads(query)
    with pytest.raises(ValueError, match="address of out is null"):
        _kernels.attention(batch, cache.pool(), heads, _kernels.Heads(0, 9, 576, 64), scale=1.0)
    with pytest.raises(ValueError, match="scale must be greater than 0"):
        _kernels.attention(batch, cache.pool(), heads, heads, scale=0.0)
