"""One answer as it grows: tokens from the core in, text and logprobs for the client out."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import msgspec

from kvtier_engine.messages import FinishReason, Output, TokenLogprob
from kvtier_engine.server.text.detokenizer import Detokenizer
from kvtier_engine.server.text.stops import StopStrings
from kvtier_engine.server.text.vocabulary import Vocabulary


class TextOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What of the tokens is shown, and which text ends the answer."""

    stop: tuple[str, ...] = ()
    include_stop: bool = False
    skip_special: bool = True
    min_tokens: int = 0  # stop strings count only in the text of later tokens
    stop_token_ids: frozenset[int] = frozenset()  # those that the client gave


class TokenEntry(NamedTuple):
    """A token with its logprobs; its text begins at `start` in the answer, in characters."""

    start: int
    logprob: TokenLogprob


class Delta(msgspec.Struct):
    """What is new in an answer. `finish` comes once, in the last delta."""

    text: str = ""
    token_ids: list[int] = []
    logprobs: list[TokenEntry] = []
    finish: FinishReason | None = None
    stop_reason: int | str | None = None  # the client's stop string or id that was hit

    def extend(self, later: Delta) -> None:
        """Appends what came after this delta."""
        self.text += later.text
        self.token_ids.extend(later.token_ids)
        self.logprobs.extend(later.logprobs)
        self.finish, self.stop_reason = later.finish, later.stop_reason


class Answer:
    """Turns Outputs into Deltas, up to exactly one with `finish`.

    A logprob entry is given out with the text that its token begins, so that entries and
    text agree also where a stop string holds text back or cuts it.
    """

    def __init__(self, vocabulary: Vocabulary, options: TextOptions) -> None:
        self._options = options
        self._detokenizer = Detokenizer(vocabulary, skip_special=options.skip_special)
        self._stops = StopStrings(options.stop, include=options.include_stop)
        self._entries: deque[TokenEntry] = deque()
        self._decoded = 0  # characters of text that the tokens so far have given
        self._shown = 0  # characters that have been given out
        self.tokens = 0  # tokens computed for this answer, the one that ended it included
        self.finish: FinishReason | None = None

    def feed(self, output: Output) -> Delta:
        """Takes one Output. After a stop string the core does not know of the end: the
        caller must abort the request if `finish` is set and `output.finish` is not."""
        assert self.finish is None, "output for a finished answer"
        delta = Delta()
        for place, token_id in enumerate(output.token_ids):
            self.tokens += 1
            delta.token_ids.append(token_id)
            if self._ends_unseen(output, place):
                break
            delta.text += self._push(token_id, output.logprobs, place)
            if self._stops.matched is not None:
                self._end(delta, FinishReason.STOP, self._stops.matched)
                return delta
        if output.finish is None:
            self._show(delta)
        else:
            delta.text += self._stops.flush() + self._detokenizer.flush()
            self._end(delta, output.finish, self._client_stop(output))
        return delta

    def _ends_unseen(self, output: Output, place: int) -> bool:
        """Whether the token only ends the answer and is no part of its text."""
        is_last = place == len(output.token_ids) - 1
        return is_last and output.stop_token is not None and not self._options.include_stop

    def _push(self, token_id: int, logprobs: list[TokenLogprob] | None, place: int) -> str:
        if logprobs is not None:
            self._entries.append(TokenEntry(self._decoded, logprobs[place]))
        piece = self._detokenizer.push(token_id)
        self._decoded += len(piece)
        if self.tokens <= self._options.min_tokens:
            return piece
        return self._stops.push(piece)

    def _client_stop(self, output: Output) -> int | None:
        return output.stop_token if output.stop_token in self._options.stop_token_ids else None

    def _end(self, delta: Delta, finish: FinishReason, stop_reason: int | str | None) -> None:
        self._show(delta)
        if (
            self._stops.matched is None
        ):  # tokens without text of their own, such as hidden special ones
            delta.logprobs.extend(self._entries)
        self._entries.clear()
        self.finish = delta.finish = finish
        delta.stop_reason = stop_reason

    def _show(self, delta: Delta) -> None:
        self._shown += len(delta.text)
        while self._entries and self._entries[0].start < self._shown:
            delta.logprobs.append(self._entries.popleft())
