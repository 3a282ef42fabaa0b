"""The requests of the endpoints."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field, model_validator

from kvtier_engine.server.api.fields import LOGPROBS_MAX, GenerationFields, RequestModel, TokenId
from kvtier_engine.server.api.messages import CHAT_SCHEMA, plain_messages

Prompt = str | list[int]  # text, or token ids


def _prompts(value: Any) -> list[Prompt]:
    """One prompt or many, each text or token ids, as a list of prompts."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not value:
        raise ValueError(_PROMPT_FORMS)
    if _are_ids(value):
        return [value]
    if all(isinstance(each, str) for each in value):
        return value
    if all(isinstance(each, list) and _are_ids(each) for each in value):
        return value
    raise ValueError(_PROMPT_FORMS)


def _are_ids(value: list[Any]) -> bool:
    return all(type(each) is int for each in value)


_PROMPT_FORMS = (
    "must be a string, an array of strings, an array of token ids, or an array of arrays of "
    "token ids, and not empty"
)

T = TypeVar("T")
_Many = Annotated[list[T], Field(min_length=1)]
_Text = Annotated[str, Field(min_length=1)]
_Ids = _Many[TokenId]
Prompts = Annotated[
    list[Any],
    BeforeValidator(_prompts, json_schema_input_type=_Text | _Many[_Text] | _Ids | _Many[_Ids]),
]


class CompletionRequest(GenerationFields):
    prompt: Prompts = Field(description="Text or token ids, one prompt or many.")
    logprobs: int | None = Field(default=None, ge=0, le=LOGPROBS_MAX)
    echo: bool = Field(default=False, description="Give the prompt back before the answer.")
    best_of: int | None = Field(default=None, ge=1)
    add_special_tokens: bool = Field(default=True, description="Begin a text prompt with BOS.")

    @model_validator(mode="after")
    def _completion_fits_together(self) -> CompletionRequest:
        if self.best_of is not None and self.best_of != self.n:
            raise ValueError("`best_of` must be equal to `n`: ranking answers is not supported")
        if self.echo and self.logprobs is not None:
            raise ValueError(
                "`echo` with `logprobs` is not supported: logprobs of prompts are not kept"
            )
        return self


Messages = Annotated[
    list[dict[str, Any]],
    BeforeValidator(plain_messages, json_schema_input_type=Any),
    Field(json_schema_extra=CHAT_SCHEMA),
]


class _ChatFields(RequestModel):
    """What makes a prompt of a conversation."""

    messages: Messages
    add_generation_prompt: bool = Field(
        default=True, description="End the prompt where the assistant's answer begins."
    )
    continue_final_message: bool = Field(
        default=False, description="Continue the last message instead of answering it."
    )
    add_special_tokens: bool = Field(
        default=False, description="Add BOS before the template's text, which mostly has it."
    )
    chat_template_kwargs: dict[str, Any] = Field(
        default={}, description="Variables for the chat template."
    )

    @model_validator(mode="after")
    def _one_ending(self) -> _ChatFields:
        if self.continue_final_message and self.add_generation_prompt:
            raise ValueError("`continue_final_message: true` needs `add_generation_prompt: false`")
        return self


class ChatRequest(GenerationFields, _ChatFields):
    max_completion_tokens: int | None = Field(
        default=None, ge=1, description="OpenAI's newer name of `max_tokens`; goes before it."
    )
    logprobs: bool = False
    top_logprobs: int = Field(default=0, ge=0, le=LOGPROBS_MAX)
    reasoning_effort: str | None = Field(default=None, description="Given to the chat template.")

    @model_validator(mode="after")
    def _chat_fits_together(self) -> ChatRequest:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("`top_logprobs` needs `logprobs: true`")
        return self

    @property
    def tokens_asked(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens


class TokenizeRequest(RequestModel):
    """Either a `prompt`, or `messages` with the fields of a chat."""

    prompt: str | None = None
    messages: Messages | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    add_special_tokens: bool | None = Field(
        default=None, description="Default: true for a prompt, false for messages."
    )
    chat_template_kwargs: dict[str, Any] = Field(default={})
    return_token_strs: bool = Field(default=False, description="Also give each token's text.")

    @model_validator(mode="after")
    def _one_of_both(self) -> TokenizeRequest:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either `prompt` or `messages`")
        return self


class DetokenizeRequest(RequestModel):
    tokens: list[TokenId]
