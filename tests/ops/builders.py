"""Small things that many tests of kvtier_ops need: models, profiles, hosts."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kvtier_ops.host import DirectoryFacts, FileSystem, Host

GIB = 1 << 30

LLAMA_CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_size": 64,
    "intermediate_size": 128,
    "vocab_size": 256,
    "max_position_embeddings": 2048,
}


def write_safetensors(path: Path, tensors: dict[str, list[int]], *, data_bytes: int = -1) -> None:
    """A file with these shapes in bf16 and zeros for data; `data_bytes` cuts it off."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, shape in tensors.items():
        size = 2
        for count in shape:
            size *= count
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    data = b"\0" * (at if data_bytes < 0 else data_bytes)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def make_model(folder: Path, **changes: Any) -> Path:
    """A Hugging Face folder of a tiny Llama with 1,000 parameters; None removes a field."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        name: value for name, value in {**LLAMA_CONFIG, **changes}.items() if value is not None
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text('{"chat_template": "x"}')
    write_safetensors(folder / "model.safetensors", {"a": [20, 40], "b": [200]})
    return folder


def make_host(**changes: Any) -> Host:
    """8 GiB, 4 CPUs, and a disk of 100 GiB behind every directory asked for."""
    values: dict[str, Any] = {
        "memory_total_bytes": 10 * GIB,
        "memory_available_bytes": 8 * GIB,
        "cgroup_limit_bytes": None,
        "cgroup_used_bytes": 0,
        "cpus": 4,
        "cpu_quota": None,
    }
    directories = {path: disk(path) for path in changes.pop("disks", ())}
    return Host(**{**values, "directories": directories, **changes})


def disk(
    path: Path, *, used_bytes: int = 0, exists: bool = False, **changes: Any
) -> DirectoryFacts:
    """100 GiB free on an ext4; `changes` are of the file system."""
    values: dict[str, Any] = {
        "mount_point": Path("/"),
        "kind": "ext4",
        "device": "/dev/sda",
        "device_id": 1,
        "total_bytes": 200 * GIB,
        "free_bytes": 100 * GIB,
    }
    return DirectoryFacts(path, exists, used_bytes, FileSystem(**{**values, **changes}))


def write_gguf(path: Path, metadata: dict[str, Any], tensors: dict[str, list[int]]) -> Path:
    """A GGUF v3 header; arrays are lists of text or of numbers."""

    def text(value: str) -> bytes:
        raw = value.encode()
        return struct.pack("<Q", len(raw)) + raw

    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    for name, value in metadata.items():
        out += text(name)
        if isinstance(value, str):
            out += struct.pack("<I", 8) + text(value)
        elif isinstance(value, list) and value and isinstance(value[0], int):
            out += struct.pack(f"<IIQ{len(value)}I", 9, 4, len(value), *value)
        elif isinstance(value, list):
            out += struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(text, value))
        elif isinstance(value, float):
            out += struct.pack("<If", 6, value)
        else:
            out += struct.pack("<II", 4, value)
    for name, shape in tensors.items():
        out += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, 0)
    path.write_bytes(out)
    return path


def caught(kind: type[Exception], call: Callable[[], object]) -> Exception | None:
    """The exception of this kind that `call` raises; others pass. None: it raises none."""
    try:
        call()
    except kind as error:
        return error
    return None
