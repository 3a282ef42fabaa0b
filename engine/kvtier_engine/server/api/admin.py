"""The bodies of /admin/cache. Unknown fields are refused: an operator's typo must not pass."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field, model_validator

from kvtier_engine.config import TENANT_PATTERN
from kvtier_engine.server.api.fields import SALT_CHARS_MAX, SESSION_CHARS_MAX, TokenId, WireModel
from kvtier_engine.server.api.requests import Messages

SIZE_BYTES_MAX = 1 << 62


class WhoseFields(WireModel):
    """Whose pages."""

    model_config = ConfigDict(extra="forbid")

    tenant: str | None = Field(
        default=None,
        pattern=TENANT_PATTERN,
        description="Name of an API key; none: requests without a key, and keys that share.",
    )
    salt: str | None = Field(
        default=None, min_length=1, max_length=SALT_CHARS_MAX, description="Their `cache_salt`."
    )


class PrefixRequest(WhoseFields):
    """The beginning of a prompt: text, a conversation, or token ids."""

    prompt: str | None = Field(default=None, min_length=1)
    messages: Messages | None = None
    token_ids: list[TokenId] | None = Field(default=None, min_length=1)
    add_generation_prompt: bool = Field(
        default=True, description="As in a chat request, with `messages` alone."
    )
    add_special_tokens: bool | None = Field(
        default=None, description="Default: true for a prompt, false for messages."
    )
    chat_template_kwargs: dict[str, Any] = Field(default={})

    @model_validator(mode="after")
    def _has_at_most_one(self) -> PrefixRequest:
        if sum(each is not None for each in (self.prompt, self.messages, self.token_ids)) > 1:
            raise ValueError("give one of `prompt`, `messages` and `token_ids`")
        return self

    @property
    def is_given(self) -> bool:
        return any(each is not None for each in (self.prompt, self.messages, self.token_ids))


class PrefixOnlyRequest(PrefixRequest):
    @model_validator(mode="after")
    def _has_one(self) -> PrefixOnlyRequest:
        if not self.is_given:
            raise ValueError("give one of `prompt`, `messages` and `token_ids`")
        return self


class WarmRequest(PrefixOnlyRequest):
    tier: Literal["l1", "l2"] = Field(default="l2", description="How far up.")


class UnpinRequest(PrefixRequest):
    all: bool = Field(default=False, description="Unpin everything, whoever's it is.")

    @model_validator(mode="after")
    def _one_or_all(self) -> UnpinRequest:
        if self.all == self.is_given:
            raise ValueError("give one of `prompt`, `messages` and `token_ids`, or `all: true`")
        return self


class EndSessionRequest(WhoseFields):
    session: str = Field(min_length=1, max_length=SESSION_CHARS_MAX)


class ClearRequest(WireModel):
    model_config = ConfigDict(extra="forbid")

    tier: Literal["l1", "l2", "l3", "all"] = Field(description="`all` with a tenant.")
    tenant: str | None = Field(
        default=None,
        pattern=f"^$|{TENANT_PATTERN}",
        description="Make this tenant's pages unreachable; empty: of requests without a key.",
    )

    @model_validator(mode="after")
    def _tenants_go_whole(self) -> ClearRequest:
        if self.tenant is not None and self.tier != "all":
            raise ValueError("a tenant is cleared from all tiers at once: `tier` must be `all`")
        return self


class TierRequest(WireModel):
    model_config = ConfigDict(extra="forbid")

    tier: Literal["l2", "l3"]


class AttachRequest(TierRequest):
    size_bytes: int | None = Field(
        default=None, gt=0, le=SIZE_BYTES_MAX, description="None: the size that the tier had last."
    )


class ResizeRequest(WireModel):
    model_config = ConfigDict(extra="forbid")

    tier: Literal["l1", "l2", "l3"]
    size_bytes: int = Field(
        gt=0, le=SIZE_BYTES_MAX, description="Rounded down to whole pages; of L3, on disk."
    )
