"""Normalisation, activation and rotary embedding: torch's own rounding, row by row."""

import pytest
import torch

from kvtier_engine import _kernels

SIZES = [576, 64, 37]


def name_of(dtype):
    return str(dtype).removeprefix("torch.")


def rms_norm(x, weight, residual=None, epsilon=1e-5):
    out = torch.full_like(x, torch.nan)
    _kernels.rms_norm(
        x.data_ptr(),
        out.data_ptr(),
        weight.data_ptr(),
        *x.shape,
        epsilon,
        name_of(x.dtype),
        residual_addr=0 if residual is None else residual.data_ptr(),
    )
    return out


def reference_norm(x, weight, epsilon=1e-5):
    """Hugging Face's LlamaRMSNorm."""
    wide = x.float()
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + epsilon)
    return weight * wide.to(x.dtype)


def assert_close(actual, expected, *, bfloat_share=0.01):
    """float32: some roundings. bfloat16: equal but for elements that a last bit of the float32
    arithmetic before pushed over a rounding boundary, and those by one unit in the last place
    of either of two roundings."""
    if actual.dtype == torch.float32:
        torch.testing.assert_close(actual, expected, rtol=2e-6, atol=1e-7)
        return
    assert (actual != expected).float().mean() <= bfloat_share
    torch.testing.assert_close(actual, expected, rtol=2**-6, atol=1e-30)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", SIZES)
def test_rms_norm(isa, dtype, size):
    x, weight = torch.randn(40, size).to(dtype), torch.randn(size).to(dtype)
    assert_close(rms_norm(x, weight), reference_norm(x, weight))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", SIZES)
def test_rms_norm_adds_residual(isa, dtype, size):
    x, weight = torch.randn(40, size).to(dtype), torch.randn(size).to(dtype)
    residual = torch.randn(40, size).to(dtype)
    total = residual + x
    out = rms_norm(x, weight, residual)
    assert torch.equal(residual, total)
    assert_close(out, reference_norm(total, weight))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rms_norm_rows_are_alone(isa, dtype):
    x, weight = torch.randn(50, 576).to(dtype), torch.randn(576).to(dtype)
    whole = rms_norm(x, weight)
    for row in range(50):
        assert torch.equal(rms_norm(x[row : row + 1], weight)[0], whole[row])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", SIZES)
def test_silu_mul(isa, dtype, size):
    both = (4 * torch.randn(40, 2 * size)).to(dtype)
    both[0, :6] = torch.tensor([0.0, -0.0, 100.0, -100.0, 30.0, -30.0])
    gate, up = both[:, :size], both[:, size:]
    out = torch.full((40, size), torch.nan, dtype=dtype)
    _kernels.silu_mul(
        gate.data_ptr(),
        up.data_ptr(),
        out.data_ptr(),
        40,
        size,
        name_of(dtype),
        gate_stride=2 * size,
        up_stride=2 * size,
    )
    expected = torch.nn.functional.silu(gate) * up
    tiny = expected.abs() < 1e-30  # torch keeps e^-100, and we may not
    assert_close(out.masked_fill(tiny, 0), expected.masked_fill(tiny, 0))


def tables(positions, rotary_dim, dtype):
    """cos and sin, [positions, rotary_dim / 2], rounded as Hugging Face does."""
    frequency = 10000.0 ** -(torch.arange(0, rotary_dim, 2) / rotary_dim)
    angle = torch.arange(positions)[:, None] * frequency
    return angle.cos().to(dtype).float(), angle.sin().to(dtype).float()


def rotated(x, cos, sin):
    """Hugging Face's apply_rotary_pos_emb on [tokens, heads, head_dim]."""
    half = cos.shape[1]
    cos = torch.cat([cos, cos], -1)[:, None].to(x.dtype)
    sin = torch.cat([sin, sin], -1)[:, None].to(x.dtype)
    turned, kept = x[..., : 2 * half], x[..., 2 * half :]
    other = torch.cat([-turned[..., half:], turned[..., :half]], -1)
    return torch.cat([turned * cos + other * sin, kept], -1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("head_dim", "rotary_dim"), [(64, 64), (80, 80), (80, 20), (128, 64)])
def test_rope_write(isa, make_cache, as_heads, dtype, head_dim, rotary_dim):
    """Two sequences, one in mid-page; q, k and v lie in one buffer. Bits as torch's."""
    cache = make_cache(kv_heads=2, head_dim=head_dim, page_tokens=16, dtype=dtype)
    first, second = cache.take(45), cache.take(7)
    batch = cache.batch([(30, 45, first), (7, 7, second)])
    fused = torch.randn(37, 8, head_dim).to(dtype)
    query, key, value = fused[:, :4], fused[:, 4:6], fused[:, 6:]
    before = fused.clone()
    cos, sin = tables(45, rotary_dim, dtype)
    _kernels.rope_write(
        batch,
        cache.pool(),
        as_heads(query),
        as_heads(key),
        as_heads(value),
        cos_addr=cos.data_ptr(),
        sin_addr=sin.data_ptr(),
        rotary_dim=rotary_dim,
        positions=45,
        table_stride=cos.stride(0),
    )
    position = torch.cat([torch.arange(15, 45), torch.arange(7)])
    expected = rotated(before[:, :6], cos[position], sin[position])
    assert torch.equal(query, expected[:, :4])
    assert torch.equal(fused[:, 4:], before[:, 4:])
    assert torch.equal(cache.read(first, 0, 45)[15:], expected[:30, 4:])
    assert torch.equal(cache.read(second, 0, 7), expected[30:, 4:])
    assert torch.equal(cache.read(first, 1, 45)[15:], before[:30, 6:])
    assert torch.equal(cache.read(second, 1, 7), before[30:, 6:])
    written = 37 * 2 * 2 * head_dim
    assert int(cache.data.isfinite().sum()) == written, "wrote outside the batch's tokens"


def test_refuses_bad_arguments(make_cache, as_heads):
    x = torch.ones(2, 8)
    with pytest.raises(ValueError, match="weight's address is null"):
        _kernels.rms_norm(x.data_ptr(), x.data_ptr(), 0, 2, 8, 1e-5, "float32")
    with pytest.raises(ValueError, match="x: its row stride 4 is less than the row size 8"):
        _kernels.rms_norm(
            x.data_ptr(), x.data_ptr(), x.data_ptr(), 2, 8, 1e-5, "float32", x_stride=4
        )
    with pytest.raises(ValueError, match="gate is null"):
        _kernels.silu_mul(0, x.data_ptr(), x.data_ptr(), 2, 4, "float32")
    cache = make_cache()
    batch = cache.batch([(2, 20, cache.take(20))])
    heads = as_heads(torch.ones(2, 3, 64))
    table = torch.ones(19, 32)
    options = {"cos_addr": table.data_ptr(), "sin_addr": table.data_ptr(), "table_stride": 32}
    with pytest.raises(ValueError, match="20 tokens is longer than the tables' 19"):
        _kernels.rope_write(
            batch, cache.pool(), heads, heads, heads, rotary_dim=64, positions=19, **options
        )
    with pytest.raises(ValueError, match="rotary_dim must be even and 2 to head_dim, not 66"):
        _kernels.rope_write(
            batch, cache.pool(), heads, heads, heads, rotary_dim=66, positions=20, **options
        )
