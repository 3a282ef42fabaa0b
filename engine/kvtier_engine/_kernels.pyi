"""The CPU kernels of the bundled engine. Built from csrc/kernels.

Knows rows, heads and pages; nothing of models or torch. Memory crosses this border as
integer addresses with strides in elements; a dtype is "float32" or "bfloat16". All calls
release the GIL and may be made from any thread (one runs at a time). They run on threads of
their own, which sleep while there is nothing to do.

Batch-invariant: a row's result has the same bits whatever rows are beside it, however a
prompt was chunked, and whatever the number of threads. It may differ in its last bits
between instruction sets. Bad arguments raise ValueError with a sentence; addresses cannot
be checked beyond null: the caller answers for the memory they name.
"""

from collections.abc import Sequence

def set_num_threads(threads: int) -> None:
    """How many threads (1 to 256) later calls use, the caller's included. The default is the
    number of processors that this process may run on. A forked child gets threads of its own."""

def num_threads() -> int: ...
def isa() -> str:
    """The instruction set in use: "portable", "avx2", "avx512" or "avx512_bf16"."""

def supported_isas() -> list[str]:
    """Those that this processor can run, slowest first."""

def force_isa(name: str) -> None:
    """Uses `name` from now on, or the best supported one for "" (not "avx512_bf16", which no
    processor has proven yet). For tests: results differ in their last bits, so never between
    two steps of one model."""

def copy_pages(
    to_addr: int,
    to_stride: int,
    from_addr: int,
    from_stride: int,
    page_bytes: int,
    pairs: Sequence[tuple[int, int]],
) -> None:
    """For every (target, source): copies page `source` of the one memory to page `target` of the
    other. Strides are bytes; no target may be named twice, and the memories may not overlap."""

class PackedWeight:
    """A copy of a row-major [n, k] weight (torch's Linear layout) in the kernels' order; the
    original is not needed afterwards. Packed once, at load time."""

    def __init__(self, weight_addr: int, n: int, k: int, dtype: str, row_stride: int = 0) -> None:
        """`row_stride` 0 means k."""
    @property
    def n(self) -> int: ...
    @property
    def k(self) -> int: ...
    @property
    def dtype(self) -> str: ...
    @property
    def nbytes(self) -> int: ...

def linear(
    weight: PackedWeight,
    x_addr: int,
    m: int,
    x_stride: int,
    out_addr: int,
    out_stride: int,
    out_dtype: str,
    bias_addr: int = 0,
) -> None:
    """out [m, n] = x [m, k] * weight^T + bias [n], summed in float32 and rounded once.

    x and bias have the weight's dtype; out has its own, so that logits can be float32."""

class PagePool:
    """One layer of the page pool (L1): `addr` is that of the layer's K of kv head 0 in page 0.

    K of (page, kv head, token) is `page * page_stride + kv_head * head_stride + token *
    token_stride` elements on from there, V `kv_stride` further. head_dim is a multiple of 16
    from 32 to 256. Made once per layer."""

    def __init__(
        self,
        *,
        addr: int,
        dtype: str,
        pages: int,
        kv_heads: int,
        page_tokens: int,
        head_dim: int,
        page_stride: int,
        head_stride: int,
        kv_stride: int,
        token_stride: int,
    ) -> None: ...

class Batch:
    """The sequences of one model step. Made once per step; copies the arrays.

    Sequence s has query rows [query_starts[s], query_starts[s + 1]), which are the last of
    its contexts[s] tokens; position p of it is in page page_tables[s][p // page_tokens].
    All arrays are int32: query_starts [sequences + 1], contexts [sequences], page_tables
    [sequences][table_stride] (entries past a context are not read)."""

    def __init__(
        self,
        *,
        query_starts_addr: int,
        contexts_addr: int,
        page_tables_addr: int,
        sequences: int,
        table_stride: int,
        page_tokens: int,
    ) -> None: ...
    @property
    def tokens(self) -> int:
        """Query rows in all."""

class Heads:
    """Element i of (row, head) is at `row * token_stride + head * head_stride + i`."""

    def __init__(self, addr: int, heads: int, token_stride: int, head_stride: int) -> None: ...

def rope_write(
    batch: Batch,
    pool: PagePool,
    query: Heads,
    key: Heads,
    value: Heads,
    *,
    cos_addr: int,
    sin_addr: int,
    rotary_dim: int,
    positions: int,
    table_stride: int,
) -> None:
    """Rotates `query` in place, and writes rotated keys and the values to the batch's pages.

    Rotation pairs element i with i + rotary_dim / 2 (Hugging Face's rotate_half). The tables
    are float32, [positions][rotary_dim / 2] with rows `table_stride` apart. Queries, keys
    and values have the pool's dtype; in bfloat16 every product is rounded, as torch does (for
    Hugging Face's very bits the tables hold values rounded to bfloat16)."""

def attention(
    batch: Batch,
    pool: PagePool,
    query: Heads,
    out: Heads,
    *,
    scale: float,
    window: int = 0,
    softcap: float = 0.0,
) -> None:
    """Causal attention of the batch's rows over the pages; keys are there already.

    query and out have the pool's dtype and may be the same memory. Consecutive query heads
    share a kv head. `window`: how many keys a query sees, itself included (0: all). `softcap`:
    scores become softcap * tanh(score / softcap) (0: as they are). Softmax is in float32."""

def rms_norm(
    x_addr: int,
    out_addr: int,
    weight_addr: int,
    rows: int,
    size: int,
    epsilon: float,
    dtype: str,
    *,
    x_stride: int = 0,
    out_stride: int = 0,
    residual_addr: int = 0,
    residual_stride: int = 0,
) -> None:
    """out = weight * cast(x / rms(x)), in float32 up to the cast, as Hugging Face's Llama.

    With a residual: residual += x first, in place, and its rows are normalised. A stride of 0
    means `size`. out may be x."""

def silu_mul(
    gate_addr: int,
    up_addr: int,
    out_addr: int,
    rows: int,
    size: int,
    dtype: str,
    *,
    gate_stride: int = 0,
    up_stride: int = 0,
    out_stride: int = 0,
) -> None:
    """out = silu(gate) * up; in bfloat16 silu is rounded first. A stride of 0 means `size`;
    out may be gate or up."""
