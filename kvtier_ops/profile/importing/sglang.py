"""SGLang's `python -m sglang.launch_server` (sglang/srt/server_args.py)."""

from __future__ import annotations

from kvtier_ops.profile.importing.draft import Draft
from kvtier_ops.profile.importing.flags import (
    Dialect,
    Flag,
    as_float,
    choice,
    fraction,
    model,
    page,
    switch,
    text,
    whole,
)
from kvtier_ops.profile.importing.lightllm import address
from kvtier_ops.profile.importing.vllm import key

MODULES = ("sglang.launch_server",)
_DTYPES = {"bfloat16": "bfloat16", "float16": "float16", "half": "float16", "float32": "float32",
           "float": "float32"}  # fmt: skip
_KV = {"auto": "auto", "bf16": "bfloat16", "bfloat16": "bfloat16", "fp8_e4m3": "float8",
       "fp8_e5m2": "float8"}  # fmt: skip
_ATTENTION = "`engine.attention: auto` takes the quickest kernel that the device has"
_BACKENDS = {"flashinfer": "flashinfer", "torch_native": "torch"}
_RANKS = "hicache size"
ADMIN_VARIABLE = "KVTIER_ADMIN_KEY"  # where `kvtier cache` looks for it as well


def _admin_key(draft: Draft, flag: str, value: str) -> None:
    why = f"read from the environment: `export {ADMIN_VARIABLE}=...` before `kvtier launch`"
    shown = f"{flag.split()[0].partition('=')[0]} ********"
    draft.change(shown, "server.admin_key.env", ADMIN_VARIABLE, why)


def _write(draft: Draft, flag: str, value: str) -> None:
    choice("tiers.l3.write", _WRITE, "no such policy here")(draft, flag, value)
    if value == "write_through_selective":
        draft.change(flag, "tiers.l3.admit_sightings", 2, "what is used for the second time")


def _hicache_size(draft: Draft, flag: str, value: str) -> None:
    number = as_float(value)
    if number is None or number < 0:
        draft.drop(flag, f"`{value[:40]}` is not a size")
    elif number:
        # GB (10^9) for each rank: `finish` multiplies, when the ranks are known.
        draft.change(flag, "tiers.l2.size", f"{int(number * 1000)}MB", _RANKS)


def _ratio(draft: Draft, flag: str, value: str) -> None:
    draft.drop(flag, "host memory as a multiple of GPU memory: set `tiers.l2.size`; `kvtier plan` "
               "says how large L1 is")  # fmt: skip


def _storage(draft: Draft, flag: str, value: str) -> None:
    if value == "file":
        draft.remark(flag, "L3: its folder is SGLANG_HICACHE_FILE_BACKEND_STORAGE_DIR")
    else:
        draft.drop(flag, f"kvtier's L3 is a page store in local folders, not `{value[:40]}`")


def _dist(draft: Draft, flag: str, value: str) -> None:
    """`10.0.0.1:5000`."""
    host, colon, port = value.rpartition(":")
    if not colon or not port.isdecimal():
        draft.drop(flag, f"`{value[:40]}` is not an address and a port")
        return
    address(draft, flag, host)
    draft.keep(flag, "cluster.master_port", int(port[:9]))


_WRITE = {
    "write_through": "write_through",
    "write_through_selective": "write_through",
    "write_back": "on_evict",
}
_FLAGS = {
    "model-path": Flag(model),
    "served-model-name": Flag(text("model.served_name")),
    "dtype": Flag(choice("model.dtype", _DTYPES, "`auto` is the model's own; here bfloat16")),
    "tokenizer-mode": Flag(
        choice("model.tokenizer_mode", {"auto": "auto"}, "kvtier reads tokenizer.json alone")
    ),
    "tp-size": Flag(whole("engine.tensor_parallel", "over all nodes")),
    "nnodes": Flag(whole("cluster.nodes")),
    "node-rank": Flag(whole("cluster.node_rank")),
    "dist-init-addr": Flag(_dist),
    "mem-fraction-static": Flag(fraction("engine.gpu_memory_fraction")),
    "context-length": Flag(whole("engine.max_context_tokens")),
    "max-running-requests": Flag(whole("engine.max_running")),
    "max-queued-requests": Flag(whole("engine.max_queued")),
    "max-total-tokens": Flag(whole("tiers.l1.max_tokens")),
    "chunked-prefill-size": Flag(whole("engine.max_step_tokens")),
    "max-prefill-tokens": Flag(
        lambda draft, flag, _: draft.drop(flag, "`engine.max_step_tokens` bounds a step: it comes "
                                          "from --chunked-prefill-size")
    ),
    "page-size": Flag(page),
    "kv-cache-dtype": Flag(choice("tiers.kv_dtype", _KV, "no such type of KV in kvtier")),
    "disable-radix-cache": switch("tiers.prefix_reuse", False),
    "enable-hierarchical-cache": Flag(lambda draft, flag, _: None, 0),
    "hicache-size": Flag(_hicache_size),
    "hicache-ratio": Flag(_ratio),
    "hicache-write-policy": Flag(_write),
    "hicache-storage-backend": Flag(_storage),
    "cuda-graph-max-bs": Flag(whole("engine.graph_max_batch", "not used by the bundled engine")),
    "attention-backend": Flag(
        choice("engine.attention", _BACKENDS, _ATTENTION)
    ),
    "host": Flag(text("server.host")),
    "port": Flag(whole("server.port")),
    "log-level": Flag(
        choice("server.log_level", {n: n for n in ("debug", "info", "warning", "error")},
               "no such level here")
    ),
    "api-key": Flag(key),
    "admin-api-key": Flag(_admin_key),
}  # fmt: skip
_SWITCHES = frozenset(
    (
        "trust-remote-code", "disable-cuda-graph", "enable-torch-compile", "enable-dp-attention",
        "enable-metrics", "enable-cache-report", "log-requests", "skip-tokenizer-init",
        "enable-p2p-check", "enable-mixed-chunk", "disable-overlap-schedule", "enable-ep-moe",
        "enable-deepep-moe", "disable-custom-all-reduce", "is-embedding", "enable-lora",
        "skip-server-warmup", "show-time-cost", "enable-memory-saver",
        "disable-shared-experts-fusion",
        "enable-nccl-nvls", "enable-multimodal", "enable-symm-mem", "disable-cuda-graph-padding",
    )
)  # fmt: skip
_VALUES = (
    "tokenizer-path", "load-format", "quantization", "dp-size", "pp-size", "ep-size", "random-seed",
    "schedule-policy", "schedule-conservativeness", "watchdog-timeout", "download-dir",
    "chat-template", "tool-call-parser", "reasoning-parser", "lora-paths", "sampling-backend",
    "grammar-backend", "speculative-algorithm", "speculative-draft-model-path",
    "speculative-num-steps", "speculative-eagle-topk", "speculative-num-draft-tokens",
    "hicache-io-backend", "hicache-mem-layout", "hicache-storage-prefetch-policy",
    "hicache-storage-backend-extra-config", "disaggregation-mode", "load-balance-method",
    "cuda-graph-bs", "stream-interval", "json-model-override-args", "device", "revision",
    "moe-a2a-backend", "moe-runner-backend", "decode-log-interval", "nccl-port", "base-gpu-id",
    "prefill-attention-backend", "decode-attention-backend", "max-lora-rank",
)  # fmt: skip
DIALECT = Dialect(
    name="SGLang",
    flags=_FLAGS,
    useless={name: "no counterpart in kvtier" for name in (*_SWITCHES, *_VALUES)},
    aliases={"model": "model-path", "tp": "tp-size", "tensor-parallel-size": "tp-size",
             "dp": "dp-size", "ep": "ep-size", "data-parallel-size": "dp-size",
             "nccl-init-addr": "dist-init-addr", "pipeline-parallel-size": "pp-size"},
    switches=_SWITCHES,
)  # fmt: skip


def finish(draft: Draft, flags: set[str]) -> None:
    """`--hicache-size` is for each rank of a node: L2 is for all of them together. The default of
    the port differs."""
    if "port" not in flags:
        draft.change("no --port", "server.port", 30000, "SGLang's default; kvtier's is 8000")
    if "served-model-name" not in flags:
        draft.remark("no --served-model-name", "in the API a model has the name of its folder")
    entry = draft.fields.get("tiers.l2.size")
    if entry is not None:  # the first line of it is not yet what it will be
        draft.changed = [line for line in draft.changed if _RANKS not in line.what]
        if "enable-hierarchical-cache" not in flags:
            del draft.fields["tiers.l2.size"]
            draft.drop(entry.flag, "L2 was off: there is no `--enable-hierarchical-cache`")
            return
        here = draft.ranks_here
        total = here * int(str(entry.value).removesuffix("MB"))
        shown = f"{total // 1000}GB" if total % 1000 == 0 else f"{total}MB"
        why = f"SGLang's is in GB for each of {here} ranks; L2 is for all of a node"
        draft.change(entry.flag, "tiers.l2.size", shown, why)


ENVIRONMENT_FIELDS: dict[str, str] = {}
ENVIRONMENT_PREFIX = "SGLANG_"


def storage_folder(draft: Draft, environment: dict[str, str]) -> None:
    """Of the storage backend `file`, which keeps a file for each page."""
    name = "SGLANG_HICACHE_FILE_BACKEND_STORAGE_DIR"
    folder = environment.pop(name, "")
    if folder:
        draft.keep(f"{name}={folder}", "tiers.l3.directories", [folder])
