"""From a validated request and its prompts to a Job: limits, defaults, ids in range."""

from __future__ import annotations

from kvtier_engine.messages import SamplingParams
from kvtier_engine.server.answer import TextOptions
from kvtier_engine.server.api.cache_hints import CacheUse
from kvtier_engine.server.api.fields import GenerationFields
from kvtier_engine.server.errors import BadRequest, ContextTooLong
from kvtier_engine.server.generation import Job
from kvtier_engine.server.service import Service
from kvtier_engine.server.text.tokenizer import Tokenizer

COMPLETION_TOKENS = 16  # OpenAI's default max_tokens of /v1/completions


def plan(
    service: Service,
    fields: GenerationFields,
    prompts: list[list[int]],
    *,
    cache: CacheUse,
    logprobs: int | None,
    default_tokens: int | None,
) -> Job:
    """Raises BadRequest. `default_tokens`: max_tokens when the client gave none, cut to what
    the context leaves; None: all of that."""
    limit = service.config.scheduler.max_context_tokens
    vocabulary = service.tokenizer.vocabulary
    for prompt in prompts:
        check_prompt(prompt, vocabulary.size)
        check_prompt_length(service, len(prompt))
    check_ids("stop_token_ids", fields.stop_token_ids, vocabulary.size)
    check_ids("logit_bias", fields.logit_bias, vocabulary.size)
    max_tokens = _max_tokens(fields.tokens_asked, max(map(len, prompts)), limit, default_tokens)
    if fields.min_tokens > max_tokens:
        raise BadRequest(
            f"`min_tokens` is {fields.min_tokens} and the answer can have {max_tokens} tokens "
            "at most: lower it or raise `max_tokens`",
            param="min_tokens",
        )
    return Job(
        prompts=prompts,
        n=fields.n,
        params=_params(fields, max_tokens, logprobs),
        text=TextOptions(
            stop=tuple(fields.stop),
            include_stop=fields.include_stop_str_in_output,
            skip_special=fields.skip_special_tokens,
            min_tokens=fields.min_tokens,
            stop_token_ids=frozenset(fields.stop_token_ids),
        ),
        cache=cache,
    )


def check_prompt(prompt: list[int], vocabulary_size: int) -> None:
    if not prompt:
        raise BadRequest("the prompt is empty: give at least one token", param="prompt")
    check_ids("prompt", prompt, vocabulary_size)


def check_prompt_length(service: Service, tokens: int) -> None:
    """The limit of prompts alone, where the operator has set one."""
    limit = service.config.scheduler.max_prompt_tokens
    if limit is not None and tokens > limit:
        raise ContextTooLong(
            f"the prompt has {tokens} tokens; the limit is {limit} for a prompt here: shorten it",
            param="prompt",
        )


def check_text_length(service: Service, tokenizer: Tokenizer, text: str) -> None:
    """Refuses a text that cannot fit before time is spent on tokenizing it: no token has
    more characters than the longest. A normalizer could shorten the text, so then not."""
    if tokenizer.shrinks_text:
        return
    limit = service.config.scheduler.max_context_tokens
    tokens_min = len(text) // tokenizer.vocabulary.longest_chars
    if tokens_min > limit:
        raise ContextTooLong(
            f"the prompt has {len(text)} characters, which are {tokens_min} tokens at the very "
            f"least; the limit is {limit} tokens with the answer: shorten the prompt",
            param="prompt",
        )


def check_ids(field: str, token_ids: list[int] | dict[int, float], size: int) -> None:
    if not token_ids:
        return
    low, high = min(token_ids), max(token_ids)
    if low < 0 or high >= size:
        wrong = low if low < 0 else high
        raise BadRequest(
            f"`{field}` has the token id {wrong}; ids of this model are 0 to {size - 1}",
            param=field,
        )


def _max_tokens(asked: int | None, prompt_tokens: int, limit: int, default: int | None) -> int:
    room = limit - prompt_tokens
    if room < 1:
        raise ContextTooLong(
            f"the prompt has {prompt_tokens} tokens; the limit is {limit} for prompt and answer "
            "together: shorten the prompt",
            param="prompt",
        )
    if asked is None:
        return room if default is None else min(default, room)
    if asked > room:
        raise ContextTooLong(
            f"the prompt has {prompt_tokens} tokens and `max_tokens` is {asked}: "
            f"{prompt_tokens + asked} together, the limit is {limit}; shorten the prompt or set "
            f"`max_tokens` to {room} or less",
            param="max_tokens",
        )
    return asked


def _params(fields: GenerationFields, max_tokens: int, logprobs: int | None) -> SamplingParams:
    return SamplingParams(
        max_tokens=max_tokens,
        temperature=fields.temperature,
        top_p=fields.top_p,
        top_k=max(fields.top_k, 0),
        min_p=fields.min_p,
        repetition_penalty=fields.repetition_penalty,
        presence_penalty=fields.presence_penalty,
        frequency_penalty=fields.frequency_penalty,
        seed=fields.seed,
        stop_token_ids=tuple(fields.stop_token_ids),
        ignore_eos=fields.ignore_eos,
        min_tokens=fields.min_tokens,
        logprobs=logprobs,
        logit_bias=dict(fields.logit_bias),
    )
