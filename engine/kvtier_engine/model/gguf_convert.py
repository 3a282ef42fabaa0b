"""Reads a GGUF file with transformers and writes a Hugging Face folder."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import gguf
import torch
import transformers
import transformers.modeling_gguf_pytorch_utils as gguf_reader
from transformers.utils import logging as transformers_logging

from kvtier_engine.model.errors import ModelError
from kvtier_engine.model.gguf import Progress

# Dequantizing and writing the tensors, told apart only for the progress display.
_STAGES = 2


def write_folder(path: Path, folder: Path, progress: Progress) -> None:
    """Writes bf16 safetensors, configuration, tokenizer and chat template of the GGUF file
    `path` into `folder`, which exists and is empty. Raises ModelError, OSError."""
    with quiet_transformers(), _bar_as(progress), _remembering():
        try:
            model = transformers.AutoModelForCausalLM.from_pretrained(
                path.parent,
                gguf_file=path.name,
                quantization_config=transformers.GgufConfig(dequantize=True),
                dtype=torch.bfloat16,
            )
            tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        except Exception as error:
            # transformers and gguf raise anything here, bare KeyErrors among them.
            raise ModelError(
                f"{path} cannot be read: {type(error).__name__}: {error}",
                "the file is damaged, or of a kind that transformers does not read: download "
                "it again, or use the model's Hugging Face folder",
            ) from error
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    for file in folder.iterdir():
        file.chmod(0o644)
    progress(_STAGES, _STAGES)


@contextmanager
def _remembering() -> Iterator[None]:
    """transformers parses the file's header three times and makes gguf's table of names once
    for each module of the model; once each takes two thirds off the whole conversion."""
    with (
        patch.object(gguf, "GGUFReader", cache(gguf.GGUFReader)),
        patch.object(gguf, "get_tensor_name_map", cache(gguf.get_tensor_name_map)),
    ):
        yield


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keeps transformers from writing to the terminal; puts everything back."""
    verbosity = transformers_logging.get_verbosity()
    had_bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if had_bars:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextmanager
def _bar_as(progress: Progress) -> Iterator[None]:
    """The reader's progress bar over the tensors becomes ours."""

    class Bar:
        """Takes the place of tqdm around the loop that dequantizes."""

        def __init__(self, items: Any, *_: Any, **__: Any) -> None:
            self.items = list(items)

        def __iter__(self) -> Iterator[Any]:
            for done, item in enumerate(self.items):
                progress(done, _STAGES * len(self.items))
                yield item

    with patch.object(gguf_reader, "tqdm", Bar):
        yield
