"""Torch tensors to the kernels' addresses, and a page pool to attend over."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
import torch

from kvtier_engine import _kernels

ISAS = ("portable", "avx2", "avx512", "avx512_bf16")


@pytest.fixture(autouse=True)
def _default_settings() -> Iterator[None]:
    """Each test starts with the best instruction set and the default number of threads."""
    threads = _kernels.num_threads()
    torch.manual_seed(0)
    yield
    _kernels.force_isa("")
    _kernels.set_num_threads(threads)


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> str:
    """Every instruction set in turn, those that this processor has."""
    name = str(request.param)
    if name not in _kernels.supported_isas():
        pytest.skip(f"this processor has no {name}")
    _kernels.force_isa(name)
    return name


def dtype_name(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def run_linear(
    weight: torch.Tensor,
    x: torch.Tensor,
    bias: torch.Tensor | None = None,
    out_dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    n, k = weight.shape
    packed = _kernels.PackedWeight(
        weight.data_ptr(), n, k, dtype_name(weight), row_stride=weight.stride(0)
    )
    out = torch.full((x.shape[0], n), torch.nan, dtype=out_dtype)
    _kernels.linear(
        packed,
        x.data_ptr(),
        x.shape[0],
        x.stride(0),
        out.data_ptr(),
        out.stride(0),
        dtype_name(out),
        0 if bias is None else bias.data_ptr(),
    )
    return out


def heads_of(tensor: torch.Tensor) -> _kernels.Heads:
    """A [tokens, heads, head_dim] tensor with any strides but the last."""
    assert tensor.stride(2) == 1
    return _kernels.Heads(tensor.data_ptr(), tensor.shape[1], tensor.stride(0), tensor.stride(1))


@dataclass
class Cache:
    """A page pool of two layers in the design's layout, pages handed out in a random order.

    Free pages hold NaN, so that a kernel that reads past a context is seen."""

    kv_heads: int = 3
    head_dim: int = 64
    page_tokens: int = 32
    pages: int = 64
    dtype: torch.dtype = torch.float32
    layer: int = 1
    data: torch.Tensor = field(init=False)
    free: list[int] = field(init=False)

    def __post_init__(self) -> None:
        shape = (self.pages, self.kv_heads, 2, 2, self.page_tokens, self.head_dim)
        self.data = torch.full(shape, torch.nan, dtype=self.dtype)
        self.free = torch.randperm(self.pages).tolist()

    def take(self, tokens: int) -> list[int]:
        """Pages for `tokens` tokens."""
        return [self.free.pop() for _ in range(-(-tokens // self.page_tokens))]

    def pool(self) -> _kernels.PagePool:
        view = self.data[:, :, self.layer]
        return _kernels.PagePool(
            addr=view.data_ptr(),
            dtype=dtype_name(self.data),
            pages=self.pages,
            kv_heads=self.kv_heads,
            page_tokens=self.page_tokens,
            head_dim=self.head_dim,
            page_stride=view.stride(0),
            head_stride=view.stride(1),
            kv_stride=view.stride(2),
            token_stride=view.stride(3),
        )

    def write(self, pages: list[int], key: torch.Tensor, value: torch.Tensor) -> None:
        """[tokens, kv_heads, head_dim] each, from position 0."""
        for position in range(key.shape[0]):
            page, token = pages[position // self.page_tokens], position % self.page_tokens
            self.data[page, :, self.layer, 0, token] = key[position].to(self.dtype)
            self.data[page, :, self.layer, 1, token] = value[position].to(self.dtype)

    def read(self, pages: list[int], which: int, tokens: int) -> torch.Tensor:
        """K (0) or V (1) of the first `tokens` positions, [tokens, kv_heads, head_dim]."""
        return torch.stack(
            [
                self.data[pages[p // self.page_tokens], :, self.layer, which, p % self.page_tokens]
                for p in range(tokens)
            ]
        )

    def batch(self, parts: list[tuple[int, int, list[int]]]) -> _kernels.Batch:
        """Each part is a sequence: query tokens, context tokens, its pages."""
        starts = torch.tensor([0] + [part[0] for part in parts]).cumsum(0).to(torch.int32)
        contexts = torch.tensor([part[1] for part in parts], dtype=torch.int32)
        width = max(len(part[2]) for part in parts)
        tables = torch.full((len(parts), width), -7, dtype=torch.int32)
        for row, part in zip(tables, parts, strict=True):
            row[: len(part[2])] = torch.tensor(part[2], dtype=torch.int32)
        return _kernels.Batch(
            query_starts_addr=starts.data_ptr(),
            contexts_addr=contexts.data_ptr(),
            page_tables_addr=tables.data_ptr(),
            sequences=len(parts),
            table_stride=width,
            page_tokens=self.page_tokens,
        )

    def attend(
        self,
        query: torch.Tensor,
        parts: list[tuple[int, int, list[int]]],
        *,
        window: int = 0,
        softcap: float = 0.0,
    ) -> torch.Tensor:
        """query is [tokens, heads, head_dim], as is what comes back."""
        out = torch.full_like(query, torch.nan)
        _kernels.attention(
            self.batch(parts),
            self.pool(),
            heads_of(query),
            heads_of(out),
            scale=self.head_dim**-0.5,
            window=window,
            softcap=softcap,
        )
        return out


@pytest.fixture
def linear() -> Callable[..., torch.Tensor]:
    return run_linear


@pytest.fixture
def make_cache() -> type[Cache]:
    return Cache


@pytest.fixture
def as_heads() -> Callable[[torch.Tensor], _kernels.Heads]:
    return heads_of
