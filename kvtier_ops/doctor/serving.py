"""Checks of the model's files and of the address to listen on."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

from kvtier_ops.doctor.check import Check, Context, Outcome, Severity
from kvtier_ops.errors import ModelError
from kvtier_ops.model.gguf_header import expected_bytes
from kvtier_ops.model.safetensors_header import has_weights

_TOKENIZERS = ("tokenizer.json", "tokenizer.model")


def model_files(context: Context) -> Iterator[Outcome]:
    """Configuration, every shard of the weights, and a tokenizer."""
    required = "config.json, all weights and a tokenizer"
    refusal = context.refusal
    if isinstance(refusal, ModelError):
        for problem in refusal.problems:
            yield Outcome(False, required, problem.what, problem.hint)
    elif context.prepared:
        path = context.prepared.model.path
        missing = _missing(path)
        yield Outcome(
            ok=not missing,
            required=required,
            current=missing or f"complete (`{path}`)",
            fix="download the model again",
        )


def _missing(path: Path) -> str:
    """What read_model can do without: weights, the tokenizer, or the end of a GGUF file."""
    if path.is_dir():
        if not has_weights(path):
            return f"`{path}` holds no weights (*.safetensors)"
        has_tokenizer = any((path / name).is_file() for name in _TOKENIZERS)
        return "" if has_tokenizer else f"`{path}` has no tokenizer ({' or '.join(_TOKENIZERS)})"
    if path.suffix == ".json":
        return f"`{path}` is a configuration without weights: it can be planned for"
    size, wanted = path.stat().st_size, expected_bytes(path)
    return "" if size >= wanted else f"`{path}` is cut off: {size:,} of {wanted:,} bytes"


def chat_template(context: Context) -> Iterator[Outcome]:
    """Without one, /v1/chat/completions cannot turn messages into a prompt."""
    if context.prepared is None or not context.prepared.model.path.is_dir():
        return
    folder = context.prepared.model.path
    has_template = (folder / "chat_template.jinja").exists() or _config_has_template(folder)
    yield Outcome(
        ok=has_template,
        required="in tokenizer_config.json or chat_template.jinja, for /v1/chat/completions",
        current="there" if has_template else "none: this is a base model, or files are missing",
        fix="use /v1/completions, or add the model's chat_template.jinja",
    )


def _config_has_template(folder: Path) -> bool:
    try:
        values = json.loads((folder / "tokenizer_config.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(values, dict) and bool(values.get("chat_template"))


def port_free(context: Context) -> Iterator[Outcome]:
    """Binds the address for a moment, as the server will."""
    if context.profile is None:
        return
    host, port = context.profile.server.host, context.profile.server.port
    fix = (
        f"`ss -ltnp 'sport = :{port}'` shows who uses it; stop that, or set another `server.port`"
        " (0: any free one)"
    )
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            error = ""
    except OSError as problem:
        error = (problem.strerror or str(problem)).lower()
    yield Outcome(not error, "can be listened on", error or "free", fix, f"{host}:{port}")


def secrets(context: Context) -> Iterator[Outcome]:
    """Reads every key, as the server will; says nothing of what it reads."""
    if context.profile is None:
        return
    server = context.profile.server
    sources = [(f"`server.api_keys` {key.name}", key.source) for key in server.api_keys]
    sources.append(("`server.admin_key`", server.admin_key.source))
    for subject, source in sources:
        if source is None:
            continue
        try:
            source.read()
            error = ""
        except ValueError as problem:
            error = str(problem)
        fix = "set the variable or write the file, with one key and nothing else"
        yield Outcome(not error, "can be read", error or "there", fix, subject)


CHECKS = (
    Check("KVT-D401", "model", "files of the model", Severity.FAILURE, model_files),
    Check("KVT-D402", "model", "chat template", Severity.WARNING, chat_template),
    Check("KVT-D501", "server", "address", Severity.FAILURE, port_free),
    Check("KVT-D502", "server", "key", Severity.FAILURE, secrets),
)
