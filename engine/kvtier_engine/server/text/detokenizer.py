"""Tokens to text, one token at a time."""

from __future__ import annotations

import codecs

from kvtier_engine.server.text.vocabulary import Vocabulary


class Detokenizer:
    """Text of a growing answer. What it has given out never changes: bytes that may still
    become a character are kept back, and become U+FFFD only when they no longer can.
    """

    def __init__(self, vocabulary: Vocabulary, *, skip_special: bool) -> None:
        self._vocabulary = vocabulary
        self._skip_special = skip_special
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        """The text that this token completes; often its own, sometimes none."""
        if self._skip_special and self._vocabulary.is_special(token_id):
            return ""
        return self._utf8.decode(self._vocabulary.bytes_of(token_id))

    def flush(self) -> str:
        """The rest, when no token follows: U+FFFD for an unfinished character."""
        return self._utf8.decode(b"", final=True)
