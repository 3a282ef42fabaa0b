"""Logprobs in the shapes of the two APIs."""

from __future__ import annotations

from collections.abc import Sequence

from kvtier_engine.server.answer import TokenEntry
from kvtier_engine.server.api.responses import (
    ChatLogprobs,
    ChatTokenLogprob,
    CompletionLogprobs,
    TopLogprob,
)
from kvtier_engine.server.text.vocabulary import Vocabulary

LOGPROB_MIN = -9999.0  # stands for minus infinity, which JSON does not have


def _finite(logprob: float) -> float:
    return max(logprob, LOGPROB_MIN)


def chat_logprobs(vocabulary: Vocabulary, entries: Sequence[TokenEntry]) -> ChatLogprobs:
    return ChatLogprobs([_chat_token(vocabulary, entry) for entry in entries])


def _chat_token(vocabulary: Vocabulary, entry: TokenEntry) -> ChatTokenLogprob:
    def bytes_of(token_id: int) -> list[int]:
        return list(vocabulary.bytes_of(token_id))

    drawn = entry.logprob
    return ChatTokenLogprob(
        vocabulary.text_of(drawn.token_id),
        _finite(drawn.logprob),
        bytes_of(drawn.token_id),
        [
            TopLogprob(vocabulary.text_of(token_id), _finite(logprob), bytes_of(token_id))
            for token_id, logprob in drawn.top
        ],
    )


def completion_logprobs(
    vocabulary: Vocabulary, entries: Sequence[TokenEntry], top: int
) -> CompletionLogprobs:
    """`top`: as many likely tokens as the client asked for, and the drawn one if it is not
    among them, as OpenAI does."""
    return CompletionLogprobs(
        tokens=[vocabulary.text_of(entry.logprob.token_id) for entry in entries],
        token_logprobs=[_finite(entry.logprob.logprob) for entry in entries],
        top_logprobs=[_top(vocabulary, entry, top) for entry in entries],
        text_offset=[entry.start for entry in entries],
    )


def _top(vocabulary: Vocabulary, entry: TokenEntry, top: int) -> dict[str, float]:
    drawn = entry.logprob
    likely = {
        vocabulary.text_of(token_id): _finite(logprob) for token_id, logprob in drawn.top[:top]
    }
    likely.setdefault(vocabulary.text_of(drawn.token_id), _finite(drawn.logprob))
    return likely
