"""From one job (prompts times n answers) to requests for the core, and back to deltas."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

from kvtier_engine.messages import FinishReason, Generate, Output, SamplingParams
from kvtier_engine.server.answer import Answer, Delta, TextOptions
from kvtier_engine.server.api.cache_hints import CacheUse
from kvtier_engine.server.api.fields import SEED_BITS
from kvtier_engine.server.api.responses import KvCacheOutcome, Usage
from kvtier_engine.server.core_client import Exchange
from kvtier_engine.server.errors import InternalError
from kvtier_engine.server.metrics import GenerationClock
from kvtier_engine.server.text.vocabulary import Vocabulary


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What one HTTP request wants computed. Answer `p * n + c` is choice c of prompt p."""

    prompts: list[list[int]]
    n: int
    params: SamplingParams
    text: TextOptions
    cache: CacheUse = CacheUse()

    @property
    def answers(self) -> int:
        return len(self.prompts) * self.n

    @property
    def prompt_tokens(self) -> int:
        return sum(map(len, self.prompts))

    def requests(self, name: str) -> list[Generate]:
        """One request an answer: `<name>-<index>`. A seeded choice c draws with seed + c."""
        return [
            Generate(
                request_id=f"{name}-{index}",
                prompt_ids=self.prompts[index // self.n],
                params=self._params(index % self.n),
                salt=self.cache.salt,
                tenant=self.cache.tenant,
                hints=self.cache.hints,
            )
            for index in range(self.answers)
        ]

    def _params(self, choice: int) -> SamplingParams:
        if self.params.seed is None:
            return self.params
        seed = (self.params.seed + choice) % (1 << SEED_BITS)
        return msgspec.structs.replace(self.params, seed=seed)


class Generation:
    """A job at work. `deltas` ends when every answer has."""

    def __init__(
        self, job: Job, exchange: Exchange, vocabulary: Vocabulary, clock: GenerationClock
    ) -> None:
        self._job = job
        self._exchange = exchange
        self._clock = clock
        self._answers = [Answer(vocabulary, job.text) for _ in range(job.answers)]
        self._indices: dict[str, int] = {}
        self._cached = [0] * job.answers
        self._pin_refused: str | None = None

    def start(self, name: str) -> None:
        """Sends the job to the core. `name` must be unique in the life of the server."""
        requests = self._job.requests(name)
        self._indices = {request.request_id: index for index, request in enumerate(requests)}
        self._exchange.send(requests)

    async def deltas(self) -> AsyncIterator[dict[int, Delta]]:
        """What came since the last time, by answer. Raises ApiError when the core failed."""
        while any(answer.finish is None for answer in self._answers):
            news: dict[int, Delta] = {}
            for output in await self._exchange.receive():
                index = self._indices[output.request_id]
                if self._answers[index].finish is not None:
                    continue  # on its way when the stop string was found
                delta = self._feed(index, output)
                if index in news:
                    news[index].extend(delta)
                else:
                    news[index] = delta
            if news:
                yield news

    def usage(self) -> Usage:
        """Tokens so far. A prompt counts once, and as cached what its first answer found."""
        usage = Usage.of(
            self._job.prompt_tokens,
            sum(answer.tokens for answer in self._answers),
            sum(self._cached[:: self._job.n]),
        )
        hints = self._job.cache.hints
        if hints is not None and hints.pin:
            usage.kv_cache = KvCacheOutcome(self._pin_refused is None, self._pin_refused)
        return usage

    def _feed(self, index: int, output: Output) -> Delta:
        if output.finish is FinishReason.FAILED:
            raise InternalError(output.error or "the engine failed to compute this answer")
        if output.cached is not None:
            self._cached[index] = output.cached.total
            self._pin_refused = self._pin_refused or output.pin_refused
        answer = self._answers[index]
        before = answer.tokens
        delta = answer.feed(output)
        self._clock.tokens(index, answer.tokens - before)
        if answer.finish is not None and output.finish is None:
            self._exchange.abort(output.request_id)
        return delta
