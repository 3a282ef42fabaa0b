"""LightLLM's `python -m lightllm.server.api_server` (lightllm/server/api_cli.py)."""

from __future__ import annotations

from kvtier_ops.profile.importing.draft import Draft
from kvtier_ops.profile.importing.flags import (
    Dialect,
    Flag,
    as_int,
    choice,
    fraction,
    gibibytes,
    model,
    page,
    switch,
    text,
    whole,
)

MODULES = ("lightllm.server.api_server", "lightllm.server.api_start")
_GIB = "LightLLM multiplies it by 1024^3: these are GiB, not GB"
_DISK_PAGES = (
    "the guide wants larger pages with a disk; here pages of a chain lie in a row on disk, and "
    "small ones find more"
)


def _directory(draft: Draft, flag: str, value: str) -> None:
    draft.keep(flag, "tiers.l3.directories", [value])
    draft.remark(
        flag,
        "a page store takes its directory for itself: give each instance and each node its own; "
        "what LightLLM wrote there is not read",
    )


def _backend(draft: Draft, flag: str, value: str) -> None:
    draft.drop(flag, "`engine.attention: auto` takes the quickest kernel that the device has")


def _page(draft: Draft, flag: str, value: str) -> None:
    page(draft, flag, value)
    size = as_int(value)
    if size is not None and size > 128:
        draft.remark(flag, _DISK_PAGES)


def _chunk(draft: Draft, flag: str, value: str) -> None:
    whole("engine.max_step_tokens")(draft, flag, value)


def _dtype(draft: Draft, flag: str, value: str) -> None:
    names = {"fp16": "float16", "float16": "float16", "half": "float16", "bf16": "bfloat16",
             "bfloat16": "bfloat16", "fp32": "float32", "float32": "float32"}  # fmt: skip
    choice("model.dtype", names, "not a type of weights here")(draft, flag, value)


def address(draft: Draft, flag: str, value: str) -> None:
    """May be known to the shell alone: then it has a default, and the environment may tell."""
    if value.startswith("${") and value.endswith("}") and ":-" not in value:
        name = value[2:-1]
        if name.isdecimal():
            draft.drop(flag, "only the shell knows its value: set `cluster.master_address`")
            return
        why = f"set `{name}` in the environment of kvtier, on every node"
        draft.change(flag, "cluster.master_address", f"${{{name}:-127.0.0.1}}", why)
    else:
        draft.keep(flag, "cluster.master_address", value)


address.may_be_open = True  # type: ignore[attr-defined]

_AUTO_ATTENTION = Flag(_backend, 0)
_FLAGS = {
    "model-dir": Flag(model),
    "model-name": Flag(text("model.served_name")),
    "tokenizer-mode": Flag(
        choice("model.tokenizer_mode", {"auto": "auto", "fast": "fast"},
               "tokenizers written in Python are not run: kvtier reads tokenizer.json")
    ),
    "data-type": Flag(_dtype),
    "host": Flag(text("server.host")),
    "port": Flag(whole("server.port")),
    "log-level": Flag(
        choice("server.log_level",
               {name: name for name in ("debug", "info", "warning", "error")}, "no such level here")
    ),
    "tp": Flag(whole("engine.tensor_parallel", "over all nodes")),
    "nnodes": Flag(whole("cluster.nodes")),
    "node-rank": Flag(whole("cluster.node_rank")),
    "nccl-host": Flag(address),
    "nccl-port": Flag(whole("cluster.master_port")),
    "mem-fraction": Flag(fraction("engine.gpu_memory_fraction")),
    "max-total-token-num": Flag(whole("tiers.l1.max_tokens")),
    "max-req-input-len": Flag(whole("engine.max_prompt_tokens")),
    "max-req-total-len": Flag(whole("engine.max_context_tokens")),
    "graph-max-batch-size": Flag(whole("engine.graph_max_batch", "not used by the bundled engine")),
    "running-max-req-size": Flag(whole("engine.max_running")),
    "chunked-prefill-size": Flag(_chunk),
    "batch-max-tokens": Flag(_chunk),
    "enable-fa3": _AUTO_ATTENTION,
    "enable-flashinfer-prefill": _AUTO_ATTENTION,
    "enable-flashinfer-decode": _AUTO_ATTENTION,
    "llm-prefill-att-backend": Flag(_backend),
    "llm-decode-att-backend": Flag(_backend),
    "disable-dynamic-prompt-cache": switch("tiers.prefix_reuse", False),
    "enable-cpu-cache": Flag(lambda draft, flag, _: None, 0),
    "cpu-cache-storage-size": Flag(gibibytes("tiers.l2.size", _GIB)),
    "cpu-cache-token-page-size": Flag(_page),
    "enable-disk-cache": Flag(lambda draft, flag, _: None, 0),
    "disk-cache-storage-size": Flag(gibibytes("tiers.l3.size", _GIB)),
    "disk-cache-dir": Flag(_directory),
}  # fmt: skip

_NONE = "no counterpart in kvtier"
_SWITCHES = frozenset(
    (
        "trust-remote-code", "disable-log-stats", "disable-shm-warning", "use-reward-model",
        "return-all-prompt-logprobs", "use-tgi-api", "health-monitor", "enable-monitor-auth",
        "disable-cudagraph", "enable-prefill-cudagraph", "disable-chunked-prefill", "diverse-mode",
        "token-healing-mode", "enable-multimodal", "enable-multimodal-audio",
        "enable-tpsp-mix-mode", "enable-ep-moe", "enable-return-routed-experts",
        "use-config-server-to-init-nccl", "auto-set-max-req-total-len", "use-dynamic-prompt-cache",
    )
)  # fmt: skip
_VALUES = (
    "run-mode", "httpserver-workers", "zmq-mode", "pd-master-ip", "pd-master-port", "load-way",
    "eos-id", "tool-call-parser", "reasoning-parser", "chat-template", "dp", "log-stats-interval",
    "long-truncation-mode", "metric-gateway", "job-name", "grouping-key", "push-interval",
    "graph-split-batch-size", "graph-grow-step-size", "graph-max-len-in-batch", "quant-type",
    "quant-cfg", "vit-quant-type", "sampling-backend", "penalty-counter-mode", "mtp-mode",
    "mtp-step", "mtp-draft-model-dir", "cache-capacity", "visual-infer-batch-size",
    "visual-gpu-ids",
    "visual-tp", "visual-dp", "output-constraint-mode", "first-token-constraint-mode",
    "router-token-ratio", "router-max-wait-tokens", "router-max-new-token-len",
    "multinode-httpmanager-port", "multinode-router-gloo-port", "config-server-host",
    "config-server-port", "llm-kv-type", "kv-quant-calibration-config-path",
)  # fmt: skip
DIALECT = Dialect(
    name="LightLLM",
    flags=_FLAGS,
    useless={name: _NONE for name in (*_SWITCHES, *_VALUES)},
    aliases={"model": "model-dir", "tensor-parallel-size": "tp"},
    switches=_SWITCHES,
)


def finish(draft: Draft, flags: set[str]) -> None:
    """A tier whose switch is not there is not on, whatever its size says."""
    for tier, needed, names in (
        ("L2", "enable-cpu-cache", ("tiers.l2.size",)),
        ("L3", "enable-disk-cache", ("tiers.l3.size", "tiers.l3.directories")),
    ):
        for name in names:
            if needed not in flags and name in draft.fields:
                off = draft.fields.pop(name).flag
                draft.drop(off, f"{tier} was off: there is no `--{needed}`")
    if "enable-disk-cache" in flags and "tiers.l3.directories" not in draft.fields:
        why = "names no directory: LightLLM takes a temporary one, which a reboot empties"
        draft.drop("--enable-disk-cache", f"{why}; set `tiers.l3.directories`")
        draft.fields.pop("tiers.l3.size", None)
    if "enable-cpu-cache" not in flags:
        draft.fields.pop("tiers.page_tokens", None)
        why = "kvtier gives L2 a part of the memory that is left; `tiers.l2.size: 0GiB`: none"
        draft.remark("no --enable_cpu_cache", why)


ENVIRONMENT_FIELDS = {"LOADWORKER": "model.load_workers"}
ENVIRONMENT_PREFIX = "LIGHTLLM_"
