"""vLLM's `vllm serve MODEL`, and LMCache beside it (vllm/engine/arg_utils.py)."""

from __future__ import annotations

import json
from typing import Any

from kvtier_ops.profile.importing.draft import Draft
from kvtier_ops.profile.importing.flags import (
    Dialect,
    Flag,
    as_float,
    choice,
    fraction,
    model,
    page,
    size_text,
    switch,
    text,
    whole,
)
from kvtier_ops.profile.importing.lightllm import address

MODULES = ("vllm.entrypoints.openai.api_server", "vllm.entrypoints.api_server")
KEY_VARIABLE = "KVTIER_API_KEY"
_DTYPES = {"bfloat16": "bfloat16", "float16": "float16", "half": "float16", "float32": "float32",
           "float": "float32"}  # fmt: skip
_KV = {"auto": "auto", "bfloat16": "bfloat16", "fp8": "float8", "fp8_e4m3": "float8",
       "fp8_e5m2": "float8"}  # fmt: skip
_UNITS = {"k": 1e3, "m": 1e6, "g": 1e9, "K": 1024, "M": 1 << 20, "G": 1 << 30}


def key(draft: Draft, flag: str, value: str) -> None:
    """A secret: neither the profile nor the report has it."""
    draft.secret = KEY_VARIABLE
    draft.remark(
        f"{flag.split()[0].partition('=')[0]} ********",
        f"`server.api_keys` reads it from the environment: `export {KEY_VARIABLE}=...` before "
        "`kvtier launch`; a key on a command line is seen by every user of the host",
    )


def _length(draft: Draft, flag: str, value: str) -> None:
    """`32768`, `32k` (1,000), `32K` (1,024)."""
    unit = _UNITS.get(value[-1:], 0)
    number = as_float(value[:-1] if unit else value)
    if number is None or number <= 0:
        draft.drop(flag, f"`{value[:40]}` is not a number of tokens")
    else:
        draft.keep(flag, "engine.max_context_tokens", int(number * (unit or 1)))


def _per_rank(draft: Draft, flag: str, value: str) -> None:
    number = as_float(value)
    if number is None or number < 0:
        draft.drop(flag, f"`{value[:40]}` is not a size")
        return
    draft.change(flag, "tiers.l2.size", size_text(number), "host memory for KV, in GiB")


def _swap(draft: Draft, flag: str, value: str) -> None:
    draft.drop(flag, "swap space for preempted requests: in kvtier they go to L2; see `tiers.l2`")


def _weights_offload(draft: Draft, flag: str, value: str) -> None:
    draft.drop(flag, "keeps weights in host memory; kvtier keeps KV there: see `tiers.l2.size`")


def _transfer(draft: Draft, flag: str, value: str) -> None:
    """`--kv-transfer-config '{"kv_connector": "OffloadingConnector", ...}'`; its value may hold a
    key, and is not shown."""
    flag = "--kv-transfer-config"
    try:
        said = json.loads(value)
    except (ValueError, RecursionError):
        draft.drop(flag, "its value is not JSON")
        return
    name = said.get("kv_connector") if isinstance(said, dict) else None
    if not isinstance(name, str):
        draft.drop(flag, "names no `kv_connector`")
    elif name.startswith("LMCache"):
        what = "LMCache's tiers are kvtier's own: L2 in host memory, L3 on disk"
        draft.remark(flag, what)
    elif name.startswith("Offloading"):
        _offloading(draft, flag, said)
    else:
        draft.drop(flag, f"kvtier has no connector like `{name[:40]}`")


def _offloading(draft: Draft, flag: str, said: dict[str, Any]) -> None:
    extra = said.get("kv_connector_extra_config")
    size = extra.get("cpu_bytes_to_use") if isinstance(extra, dict) else None
    if isinstance(size, int) and not isinstance(size, bool) and 0 < size < 1 << 60:
        draft.change(flag, "tiers.l2.size", f"{size}B", "what the connector keeps in host memory")
    else:
        draft.remark(flag, "the connector's host memory is L2: `auto`, unless you give it a size")
    tiers = extra.get("secondary_tiers") if isinstance(extra, dict) else None
    for tier in tiers if isinstance(tiers, list) else ():
        folder = tier.get("root_dir") if isinstance(tier, dict) else None
        if isinstance(folder, str) and folder:
            draft.keep(flag, "tiers.l3.directories", [folder])
            gib = tier.get("max_disk_gib")
            if isinstance(gib, int | float) and 0 < gib < 1 << 30:
                draft.keep(flag, "tiers.l3.size", size_text(float(gib)))


def _flags() -> dict[str, Flag]:
    return {
        "model": Flag(model),
        "served-model-name": Flag(text("model.served_name")),
        "dtype": Flag(
            choice("model.dtype", _DTYPES, "`auto` is the model's own; here bfloat16")
        ),
        "tokenizer-mode": Flag(
            choice("model.tokenizer_mode", {"auto": "auto"}, "kvtier reads tokenizer.json alone")
        ),
        "max-parallel-loading-workers": Flag(whole("model.load_workers")),
        "tensor-parallel-size": Flag(whole("engine.tensor_parallel")),
        "gpu-memory-utilization": Flag(fraction("engine.gpu_memory_fraction")),
        "max-model-len": Flag(_length),
        "max-num-seqs": Flag(whole("engine.max_running")),
        "max-num-batched-tokens": Flag(whole("engine.max_step_tokens")),
        "max-cudagraph-capture-size": Flag(
            whole("engine.graph_max_batch", "not used by the bundled engine")
        ),
        "block-size": Flag(page),
        "kv-cache-dtype": Flag(
            choice("tiers.kv_dtype", _KV, "no such type of KV in kvtier")
        ),
        "enable-prefix-caching": switch("tiers.prefix_reuse", True),
        "no-enable-prefix-caching": switch("tiers.prefix_reuse", False),
        "kv-offloading-size": Flag(_per_rank),
        "swap-space": Flag(_swap),
        "cpu-offload-gb": Flag(_weights_offload),
        "kv-transfer-config": Flag(_transfer),
        "attention-backend": Flag(
            choice("engine.attention", {"flashinfer": "flashinfer", "torch_sdpa": "torch"},
                   "`engine.attention: auto` takes the quickest kernel that the device has")
        ),
        "host": Flag(text("server.host")),
        "port": Flag(whole("server.port")),
        "uvicorn-log-level": Flag(
            choice("server.log_level",
                   {name: name for name in ("debug", "info", "warning", "error")},
                   "no such level here")
        ),
        "api-key": Flag(key),
        "nnodes": Flag(whole("cluster.nodes")),
        "node-rank": Flag(whole("cluster.node_rank")),
        "master-addr": Flag(address),
        "master-port": Flag(whole("cluster.master_port")),
    }  # fmt: skip


_SWITCHES = frozenset(
    (
        "trust-remote-code", "enforce-eager", "disable-log-stats", "disable-log-requests",
        "enable-log-requests", "enable-chunked-prefill", "no-enable-chunked-prefill",
        "enable-expert-parallel", "enable-auto-tool-choice", "enable-lora", "headless",
        "disable-custom-all-reduce", "disable-uvicorn-access-log", "enable-reasoning",
        "async-scheduling", "no-async-scheduling", "disable-frontend-multiprocessing",
        "enable-sleep-mode", "use-v2-block-manager", "enable-server-load-tracking",
        "disable-hybrid-kv-cache-manager", "no-disable-hybrid-kv-cache-manager",
        "disable-cascade-attn", "enable-prompt-tokens-details", "calculate-kv-scales",
    )
)  # fmt: skip
_VALUES = (
    "tokenizer", "revision", "tokenizer-revision", "quantization", "load-format", "download-dir",
    "pipeline-parallel-size", "data-parallel-size", "data-parallel-address", "seed",
    "distributed-executor-backend", "compilation-config", "cudagraph-capture-sizes",
    "max-seq-len-to-capture", "speculative-config", "chat-template", "tool-call-parser",
    "reasoning-parser", "limit-mm-per-prompt", "mm-processor-kwargs", "rope-scaling",
    "rope-theta", "hf-overrides", "generation-config", "override-generation-config",
    "kv-events-config", "kv-cache-memory-bytes", "num-gpu-blocks-override", "scheduling-policy",
    "lora-modules", "max-loras", "max-lora-rank", "ssl-keyfile", "ssl-certfile", "root-path",
    "allowed-origins", "otlp-traces-endpoint", "config", "kv-offloading-backend", "max-log-len",
    "prefix-caching-hash-algo", "guided-decoding-backend", "task", "runner", "uds",
    "api-server-count", "max-logprobs", "hf-token", "additional-config", "device",
)  # fmt: skip
DIALECT = Dialect(
    name="vLLM",
    flags=_flags(),
    useless={name: "no counterpart in kvtier" for name in (*_SWITCHES, *_VALUES)},
    aliases={"tp": "tensor-parallel-size", "pp": "pipeline-parallel-size", "q": "quantization",
             "dp": "data-parallel-size", "O": "compilation-config", "O0": "compilation-config",
             "O1": "compilation-config", "O2": "compilation-config", "O3": "compilation-config",
             "n": "nnodes", "r": "node-rank", "cuda-graph-sizes": "cudagraph-capture-sizes"},
    switches=_SWITCHES,
)  # fmt: skip


def finish(draft: Draft, flags: set[str]) -> None:
    """vLLM's block is a unit of attention, ours also one of transfers; some defaults differ."""
    if "host" not in flags:
        why = "vLLM listens on every address; kvtier on 127.0.0.1, unless `server.host` says more"
        draft.remark("no --host", why)
    if "served-model-name" not in flags:
        draft.remark("no --served-model-name", "in the API a model has the name of its folder")
    entry = draft.fields.get("tiers.page_tokens")
    if entry is not None and isinstance(entry.value, int) and entry.value < 32:
        draft.remark(
            entry.flag,
            "a page is also what is moved and written: 32 to 64 tokens find as much, and move "
            "faster",
        )


ENVIRONMENT_FIELDS: dict[str, str] = {}
ENVIRONMENT_PREFIX = "VLLM_"


def lmcache(draft: Draft, environment: dict[str, str]) -> None:
    """LMCACHE_* variables: sizes are in GiB for each rank, chunks in tokens."""
    names = {"LMCACHE_MAX_LOCAL_CPU_SIZE": "tiers.l2.size", "LMCACHE_MAX_LOCAL_DISK_SIZE":
             "tiers.l3.size"}  # fmt: skip
    for name, field in names.items():
        value = environment.pop(name, None)
        number = as_float(value) if value is not None else None
        if value is not None and (number is None or number < 0):
            draft.drop(f"{name}={value}", "is not a size")
        elif number is not None and number:
            ranks = draft.ranks_here
            why = f"LMCache's is in GiB for each of {ranks} ranks; here it is for all of a node"
            draft.change(f"{name}={value}", field, size_text(number * ranks), why)
    disk = environment.pop("LMCACHE_LOCAL_DISK", "")
    if disk.startswith("file://"):
        draft.keep(f"LMCACHE_LOCAL_DISK={disk}", "tiers.l3.directories",
                   [disk.removeprefix("file://")])  # fmt: skip
    elif disk:
        draft.drop(f"LMCACHE_LOCAL_DISK={disk}", "is not `file://` and a folder")
    chunk = environment.pop("LMCACHE_CHUNK_SIZE", "")
    if chunk:
        page(draft, f"LMCACHE_CHUNK_SIZE={chunk}", chunk)
