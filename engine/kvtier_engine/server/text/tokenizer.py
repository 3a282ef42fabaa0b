"""The model's tokenizer and chat template, without torch.

transformers' AutoTokenizer imports torch (its table of models does), whatever USE_TORCH
says; PreTrainedTokenizerFast, which reads tokenizer.json as it is, does not.
`Tokenizer.encode` of the tokenizers package holds the GIL, `encode_batch` does not: with
batches of one, a long prompt in a thread leaves the event loop free.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from kvtier_engine.server.errors import BadRequest
from kvtier_engine.server.text.vocabulary import Vocabulary

log = logging.getLogger(__name__)

T = TypeVar("T")

SENTENCE_CHARS_MAX = 300  # of a template's own error, which may quote the whole chat

_RESERVED = frozenset(
    {"conversation", "messages", "tools", "documents", "chat_template", "tokenize"}
    | {"add_generation_prompt", "continue_final_message", "return_dict", "tokenizer_kwargs"}
    | {"padding", "truncation", "max_length", "return_tensors", "sanitize_control_tokens"}
    | {"return_assistant_tokens_mask"}
)


def preload() -> None:
    """Imports transformers, which takes most of a second, while the core loads the model."""
    from transformers import PreTrainedTokenizerFast  # noqa: F401


class TokenizerError(Exception):
    """The model's tokenizer cannot be used; the message is a sentence for the operator."""


class Chat(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation to render. `kwargs` are the template's own variables."""

    messages: list[dict[str, Any]]
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    kwargs: dict[str, Any] = {}


class Tokenizer:
    """Thread-safe after construction. The methods that can take long have async twins
    (`a...`), which run in threads of the tokenizer's own."""

    def __init__(self, tokenizer: Any) -> None:
        """`tokenizer`: a transformers PreTrainedTokenizerFast."""
        self._tokenizer = tokenizer
        self._backend = tokenizer.backend_tokenizer
        self._backend.no_truncation()
        self._backend.no_padding()
        self.vocabulary = Vocabulary(self._backend)
        self.shrinks_text = self._backend.normalizer is not None
        workers = min(4, os.cpu_count() or 1)
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="tokenizer")

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """Reads tokenizer.json and the chat template in `folder`. Raises TokenizerError."""
        if not (folder / "tokenizer.json").is_file():
            raise TokenizerError(
                f"`{folder}` has no tokenizer.json; write one with "
                f"`AutoTokenizer.from_pretrained(folder).save_pretrained(folder)` of transformers"
            )
        from transformers import PreTrainedTokenizerFast

        try:
            return cls(PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True))
        except Exception as error:
            raise TokenizerError(f"the tokenizer in `{folder}` cannot be read: {error}") from error

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def encode(self, text: str, *, special: bool) -> list[int]:
        """Token ids of `text`; `special` adds what the model wants around it (mostly BOS)."""
        ids: list[int] = self._backend.encode_batch_fast([text], add_special_tokens=special)[0].ids
        return ids

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of `token_ids`, special tokens included."""
        text: str = self._backend.decode_batch([list(token_ids)], skip_special_tokens=False)[0]
        return text

    def render(self, chat: Chat) -> str:
        """The conversation as the model's chat template writes it. Raises BadRequest."""
        if self._tokenizer.chat_template is None:
            raise BadRequest("this model has no chat template: use /v1/completions")
        reserved = _RESERVED.intersection(chat.kwargs)
        if reserved:
            raise BadRequest(
                f"`chat_template_kwargs` cannot set `{min(reserved)}`", param="chat_template_kwargs"
            )
        try:
            text: str = self._tokenizer.apply_chat_template(
                chat.messages,
                tokenize=False,
                add_generation_prompt=chat.add_generation_prompt,
                continue_final_message=chat.continue_final_message,
                **chat.kwargs,
            )
        except Exception as error:  # a template is foreign code, and what it gets is the client's
            log.debug("chat template failed", exc_info=True)
            reason = str(error)[:SENTENCE_CHARS_MAX]
            raise BadRequest(
                f"the model's chat template refused the messages: {reason}",
                param="messages",
            ) from error
        return text

    async def aencode(self, text: str, *, special: bool) -> list[int]:
        return await self._run(lambda: self.encode(text, special=special))

    async def adecode(self, token_ids: Sequence[int]) -> str:
        return await self._run(lambda: self.decode(token_ids))

    async def atexts(self, token_ids: Sequence[int]) -> list[str]:
        """Each token's own text."""
        text_of = self.vocabulary.text_of
        return await self._run(lambda: [text_of(token_id) for token_id in token_ids])

    async def arender(self, chat: Chat) -> str:
        return await self._run(lambda: self.render(chat))

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)
