"""What each token stands for, as bytes.

The decoders of decoder-only language models give a token the same bytes whatever stands
beside it, the very first token of a text excepted (Llama 2's drops a space there, which
is wrong for the answer that continues a prompt). So text can be put together token by
token, from bytes, without decoding anything twice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from tokenizers import Tokenizer

Piece = Callable[[str], str | bytes]

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class UnknownDecoder(ValueError):
    """The tokenizer's decoder is none of those that give tokens bytes of their own."""


class Vocabulary:
    """The bytes of every token. Ids are below `size`; ids without a token have no bytes."""

    def __init__(self, backend: Tokenizer) -> None:
        self._backend = backend
        self._steps = _steps(backend)
        self._bytes: dict[int, bytes] = {}
        tokens = backend.get_vocab(with_added_tokens=True)
        self.size = max(tokens.values(), default=-1) + 1
        self.longest_chars = max(map(len, tokens), default=1)
        added = backend.get_added_tokens_decoder()
        self._special = frozenset(token_id for token_id, token in added.items() if token.special)

    def is_special(self, token_id: int) -> bool:
        """Whether `skip_special_tokens` hides the token."""
        return token_id in self._special

    def bytes_of(self, token_id: int) -> bytes:
        known = self._bytes.get(token_id)
        if known is None:
            known = self._bytes[token_id] = self._compute(token_id)
        return known

    def text_of(self, token_id: int) -> str:
        """The token alone as text; U+FFFD where it is part of a character."""
        return self.bytes_of(token_id).decode("utf-8", "replace")

    def _compute(self, token_id: int) -> bytes:
        piece: str | bytes | None = self._backend.id_to_token(token_id)
        if piece is None:
            return b""
        for step in self._steps:
            if isinstance(piece, bytes):
                return piece
            piece = step(piece)
        return piece if isinstance(piece, bytes) else piece.encode("utf-8")


def _steps(backend: Tokenizer) -> list[Piece]:
    if backend.decoder is None:
        raise UnknownDecoder("the tokenizer has no decoder: tokens cannot be joined to text")
    return _steps_of(json.loads(backend.decoder.__getstate__()))


def _steps_of(decoder: dict[str, Any]) -> list[Piece]:
    """The per-token part of a decoder, given as tokenizer.json describes it."""
    match decoder:
        case {"type": "Sequence", "decoders": decoders}:
            return [step for part in decoders for step in _steps_of(part)]
        case {"type": "ByteLevel"}:
            return [_byte_level]
        case {"type": "ByteFallback"}:
            return [_byte_fallback]
        case {"type": "Replace", "pattern": {"String": old}, "content": new}:
            return [lambda token: token.replace(old, new)]
        case {"type": "Metaspace", "replacement": mark}:
            return [lambda token: token.replace(mark, " ")]
        case {"type": "Fuse"} | {"type": "Strip"}:  # join tokens; trim the text's first space
            return []
    raise UnknownDecoder(f"the tokenizer's decoder `{decoder.get('type')}` is not supported")


def _printable_bytes() -> dict[str, int]:
    """Byte-level BPE's alphabet: printable Latin-1 bytes are themselves, the other 68 are
    the characters from U+0100 on, in order."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (byte for byte in range(256) if byte not in printable)
    alphabet = {chr(byte): byte for byte in printable}
    alphabet.update((chr(0x100 + place), byte) for place, byte in enumerate(others))
    return alphabet


_BYTES = _printable_bytes()


def _byte_level(token: str) -> str | bytes:
    """Added tokens may hold characters outside the alphabet: those stand for themselves."""
    try:
        return bytes([_BYTES[char] for char in token])
    except KeyError:
        return token.encode("utf-8")


def _byte_fallback(token: str) -> str | bytes:
    match = _BYTE_TOKEN.fullmatch(token)
    return bytes([int(match[1], 16)]) if match else token
