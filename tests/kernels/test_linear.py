"""Linear layers: right, and each row the same bits whatever is beside it."""

import pytest
import torch

from kvtier_engine import _kernels

SHAPES = [(1, 576, 576), (2, 33, 17), (5, 1, 1), (13, 100, 1537), (16, 96, 2100), (150, 70, 64)]


def tensors(m, n, k, dtype):
    """x, weight and bias such that outputs are of size 1."""
    x = torch.randn(m, k).to(dtype)
    weight = (torch.randn(n, k) * k**-0.5).to(dtype)
    return x, weight, torch.randn(n).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("m", "n", "k"), SHAPES)
def test_agrees_with_float64(isa, linear, dtype, m, n, k):
    """The products of bfloat16 are exact in float32, so both dtypes round in the sum only:
    some 2^-24 for each of k steps, mostly cancelling."""
    x, weight, bias = tensors(m, n, k, dtype)
    expected = x.double() @ weight.double().T
    assert (linear(weight, x).double() - expected).abs().max() <= 2e-5
    assert (linear(weight, x, bias).double() - expected - bias.double()).abs().max() <= 2e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_output_is_rounded_once(isa, linear, dtype):
    x, weight, bias = tensors(20, 50, 96, dtype)
    wide = linear(weight, x, bias)
    assert torch.equal(linear(weight, x, bias, out_dtype=torch.bfloat16), wide.bfloat16())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("k", [576, 1091])
def test_rows_do_not_depend_on_m(isa, linear, dtype, k):
    """k past the depth that is summed at a time, and odd, among them."""
    x, weight, _ = tensors(512, 75, k, dtype)
    whole = linear(weight, x)
    for m in range(1, 71):
        assert torch.equal(linear(weight, x[:m]), whole[:m]), f"m = {m}"
    assert torch.equal(linear(weight, x[300:301]), whole[300:301])


def test_rows_do_not_depend_on_threads(isa, linear):
    x, weight, _ = tensors(70, 1000, 576, torch.bfloat16)
    _kernels.set_num_threads(1)
    one = linear(weight, x)
    for threads in (2, 3):
        _kernels.set_num_threads(threads)
        assert torch.equal(linear(weight, x), one)
        assert torch.equal(linear(weight, x[:1]), one[:1])


def test_strides(linear):
    """Rows inside wider ones, of the weight, x and the output; nothing outside is touched."""
    x, weight, _ = tensors(30, 40, 64, torch.float32)
    wide_x, wide_weight = torch.full((30, 70), torch.nan), torch.full((40, 66), torch.nan)
    wide_x[:, :64], wide_weight[:, :64] = x, weight
    assert torch.equal(linear(wide_weight[:, :64], wide_x[:, :64]), linear(weight, x))
    packed = _kernels.PackedWeight(weight.data_ptr(), 40, 64, "float32")
    out = torch.zeros(30, 50)
    _kernels.linear(packed, x.data_ptr(), 30, 64, out.data_ptr(), 50, "float32")
    assert torch.equal(out[:, :40], linear(weight, x))
    assert not out[:, 40:].any()


def test_nan_and_infinity_pass(isa, linear):
    """Only into the rows and columns that they belong to."""
    x, weight, _ = tensors(20, 40, 64, torch.bfloat16)
    x[3, 5], x[7, 1] = torch.nan, torch.inf
    out = linear(weight, x, out_dtype=torch.bfloat16)
    assert out[3].isnan().all()
    assert out[7].isinf().all()
    rest = [row for row in range(20) if row not in (3, 7)]
    assert out[rest].isfinite().all()


def test_empty_batch(linear):
    assert linear(torch.ones(4, 8), torch.ones(0, 8)).shape == (0, 4)


def test_packed_weight_states_its_shape():
    weight = torch.ones(33, 5, dtype=torch.bfloat16)
    packed = _kernels.PackedWeight(weight.data_ptr(), 33, 5, "bfloat16")
    assert (packed.n, packed.k, packed.dtype) == (33, 5, "bfloat16")
    assert packed.nbytes >= weight.nbytes


def test_refuses_bad_arguments():
    weight = torch.ones(4, 8)
    with pytest.raises(ValueError, match="a dtype is `float32` or `bfloat16`, not `float16`"):
        _kernels.PackedWeight(weight.data_ptr(), 4, 8, "float16")
    with pytest.raises(ValueError, match="address is null"):
        _kernels.PackedWeight(0, 4, 8, "float32")
    with pytest.raises(ValueError, match="at least 1 x 1, not 4 x 0"):
        _kernels.PackedWeight(weight.data_ptr(), 4, 0, "float32")
    with pytest.raises(ValueError, match="row stride 7 is less than its 8 columns"):
        _kernels.PackedWeight(weight.data_ptr(), 4, 8, "float32", row_stride=7)
    packed = _kernels.PackedWeight(weight.data_ptr(), 4, 8, "float32")
    address = weight.data_ptr()
    with pytest.raises(ValueError, match="address of x is null"):
        _kernels.linear(packed, 0, 2, 8, address, 4, "float32")
    with pytest.raises(ValueError, match="row stride of out, 3, is less than n, 4"):
        _kernels.linear(packed, address, 2, 8, address, 3, "float32")
    with pytest.raises(ValueError, match="m is negative"):
        _kernels.linear(packed, address, -1, 8, address, 4, "float32")
