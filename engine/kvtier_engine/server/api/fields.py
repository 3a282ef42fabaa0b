"""The fields that chat and text completions share. Names, defaults and ranges are OpenAI's
and, beyond it, vLLM's."""

from __future__ import annotations

import logging
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from kvtier_engine.server.api.unsupported import refuse_unsupported

log = logging.getLogger(__name__)

STOP_STRINGS_MAX = 16
STOP_CHARS_MAX = 1024
STOP_IDS_MAX = 128
ANSWERS_MAX = 128  # of `n`
LOGPROBS_MAX = 20
LOGIT_BIAS_MAX = 1024
SALT_CHARS_MAX = 256
SESSION_CHARS_MAX = 256
SEED_BITS = 63
TOKEN_ID = "^[0-9]{1,10}$"


class WireModel(BaseModel):
    """Strict: no type is turned into another. A field that is null counts as not given."""

    model_config = ConfigDict(
        strict=True, allow_inf_nan=False, frozen=True, protected_namespaces=()
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_not_given(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {name: value for name, value in data.items() if value is not None}


class RequestModel(WireModel):
    """Base of every request. A field that is not known is left out of account, unless
    ignoring it would change the answer."""

    model_config = ConfigDict(extra="allow")

    model: str | None = Field(default=None, description="The served model; none: that one.")

    @model_validator(mode="after")
    def _known_fields_only(self) -> RequestModel:
        extra = self.model_extra or {}
        refuse_unsupported(extra)
        if extra and log.isEnabledFor(logging.DEBUG):
            log.debug("ignored unknown fields: %s", ", ".join(sorted(extra))[:200])
        return self


def _stop_strings(value: Any) -> Any:
    strings = [value] if isinstance(value, str) else value
    if not isinstance(strings, list) or not all(isinstance(each, str) for each in strings):
        raise ValueError("must be a string or an array of strings")
    if len(strings) > STOP_STRINGS_MAX:
        raise ValueError(f"has {len(strings)} strings; at most {STOP_STRINGS_MAX} are allowed")
    if "" in strings:
        raise ValueError("cannot contain an empty string: it would stop every answer at once")
    longest = max(map(len, strings), default=0)
    if longest > STOP_CHARS_MAX:
        raise ValueError(f"has a string of {longest} characters; at most {STOP_CHARS_MAX} may be")
    return strings


def _token_id_keys(value: Any) -> Any:
    """JSON has no integer keys: `{"50256": -100}`."""
    if not isinstance(value, dict):
        raise ValueError("must be an object from token id to bias")
    if len(value) > LOGIT_BIAS_MAX:
        raise ValueError(f"has {len(value)} tokens; at most {LOGIT_BIAS_MAX} are allowed")
    for key in value:
        if re.match(TOKEN_ID, key) is None:
            raise ValueError(f"has the key `{key[:40]}`, which is not a token id")
    return {int(key): bias for key, bias in value.items()}


TokenId = Annotated[int, Field(ge=0)]


class StreamOptions(WireModel):
    include_usage: bool = Field(default=False, description="A last chunk that has the usage.")
    continuous_usage_stats: bool = Field(default=False, description="Usage in every chunk.")


class KvCacheFields(WireModel):
    """Hints on what becomes of the request's pages; the answer does not depend on them."""

    model_config = ConfigDict(extra="forbid")

    no_store: bool = Field(default=False, description="Keep nothing that this request computes.")
    session: str | None = Field(
        default=None,
        min_length=1,
        max_length=SESSION_CHARS_MAX,
        description="Conversation that this request is a turn of.",
    )
    end_of_session: bool = Field(
        default=False, description="Drop what `session` alone has used when this request ends."
    )
    ttl_s: float | None = Field(
        default=None, gt=0, description="Drop the request's pages so long after their last use."
    )
    priority: Literal["low", "normal", "high"] = Field(
        default="normal", description="Low ones leave L1 and L2 first, high ones last."
    )
    pin: bool = Field(default=False, description="Keep the prompt's pages in L2 and L3.")


_StopString = Annotated[str, Field(min_length=1, max_length=STOP_CHARS_MAX)]
_StopStrings = Annotated[list[_StopString], Field(max_length=STOP_STRINGS_MAX)]
StopStringsField = Annotated[
    list[str],
    BeforeValidator(_stop_strings, json_schema_input_type=_StopString | _StopStrings),
]
_TokenIdKey = Annotated[str, Field(pattern=TOKEN_ID)]
_Bias = Annotated[float, Field(ge=-100, le=100)]
LogitBias = Annotated[
    dict[int, _Bias],
    BeforeValidator(_token_id_keys, json_schema_input_type=dict[_TokenIdKey, _Bias]),
]


class GenerationFields(RequestModel):
    """How to draw an answer, when to stop it, how to return it."""

    n: int = Field(default=1, ge=1, le=ANSWERS_MAX, description="Answers to each prompt.")
    max_tokens: int | None = Field(default=None, ge=1, description="Tokens of an answer, at most.")
    min_tokens: int = Field(default=0, ge=0, description="No end before so many tokens.")
    temperature: float = Field(default=1.0, ge=0, le=2, description="0: the likeliest token.")
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=-1, le=1 << 31, description="0 or -1: off.")
    min_p: float = Field(default=0.0, ge=0, le=1)
    repetition_penalty: float = Field(default=1.0, ge=0.01, le=100)
    presence_penalty: float = Field(default=0.0, ge=-2, le=2)
    frequency_penalty: float = Field(default=0.0, ge=-2, le=2)
    logit_bias: LogitBias = Field(default={})
    seed: int | None = Field(default=None, ge=-(1 << SEED_BITS), lt=1 << SEED_BITS)
    stop: StopStringsField = Field(default=[], description="The answer ends before any of these.")
    stop_token_ids: list[TokenId] = Field(default=[], max_length=STOP_IDS_MAX)
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    skip_special_tokens: bool = Field(default=True, description="Hide special tokens in the text.")
    stream: bool = False
    stream_options: StreamOptions | None = None
    return_token_ids: bool = Field(default=False, description="Also give prompt and answer ids.")
    cache_salt: str | None = Field(
        default=None,
        min_length=1,
        max_length=SALT_CHARS_MAX,
        description="Requests share cached pages only with requests of the same salt.",
    )
    kv_cache: KvCacheFields | None = Field(default=None, description="Hints for the cache.")
    user: str | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> GenerationFields:
        if self.stream_options is not None and not self.stream:
            raise ValueError("`stream_options` is allowed only with `stream: true`")
        return self

    @property
    def tokens_asked(self) -> int | None:
        """The longest answer that the client wants; None: it did not say."""
        return self.max_tokens
