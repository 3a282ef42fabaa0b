"""Llama: attention and a gated mlp, each behind a norm, each added to the residual stream."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from kvtier_engine.attention.base import AttentionBackend
from kvtier_engine.model.layers import (
    ColumnLinear,
    Embedding,
    GatedMlp,
    LmHead,
    Norm,
    Piece,
    Place,
    RowLinear,
)
from kvtier_engine.model.parallel import check_parallel, rank_heads, share
from kvtier_engine.model.spec import ModelSpec
from kvtier_engine.model.weights import Part


class Llama:
    """LlamaForCausalLM, or one rank's share of it: see model.base.CausalModel."""

    def __init__(self, spec: ModelSpec, place: Place) -> None:
        check_parallel(spec, place.ranks.size)
        self.attention_shape = rank_heads(spec, place.ranks.size)
        self.embedding = Embedding("model.embed_tokens", spec.vocab, spec.hidden, place)
        self.layers = [Layer(index, spec, place) for index in range(spec.layers)]
        self.norm = Norm("model.norm", spec.hidden, spec.norm_eps, place)
        self.lm_head = LmHead("lm_head", self.embedding, spec.tie_embeddings, place)
        self.unused_tensors = ("lm_head.weight",) if spec.tie_embeddings else ()

    def parts(self) -> Iterator[Part]:
        yield from self.embedding.parts()
        for layer in self.layers:
            yield from layer.parts()
        yield from self.norm.parts()
        yield from self.lm_head.parts()

    def prepare(self) -> None:
        for layer in self.layers:
            layer.prepare()
        self.lm_head.prepare()

    def forward(
        self, token_ids: torch.Tensor, rows: torch.Tensor, attention: AttentionBackend
    ) -> torch.Tensor | None:
        stream = self.embedding(token_ids)
        delta: torch.Tensor | None = None
        for layer in self.layers:
            delta = layer.forward(stream, delta, attention)
        assert delta is not None, "a model without layers"
        return self.lm_head(self.norm.add(stream[rows], delta[rows]))


class Layer:
    """One decoder layer. A rank owns a range of kv heads and the query heads of their groups."""

    def __init__(self, index: int, spec: ModelSpec, place: Place) -> None:
        name = f"model.layers.{index}"
        self.index = index
        self.attention_norm = Norm(f"{name}.input_layernorm", spec.hidden, spec.norm_eps, place)
        self.qkv = ColumnLinear(
            (
                _heads(f"{name}.self_attn.q_proj", spec.heads, spec.head_dim, place),
                _heads(f"{name}.self_attn.k_proj", spec.kv_heads, spec.head_dim, place),
                _heads(f"{name}.self_attn.v_proj", spec.kv_heads, spec.head_dim, place),
            ),
            spec.hidden,
            spec.attention_bias,
            place,
        )
        output = _heads(f"{name}.self_attn.o_proj", spec.heads, spec.head_dim, place)
        self.output = RowLinear(output, spec.hidden, spec.attention_bias, place)
        self.mlp_norm = Norm(f"{name}.post_attention_layernorm", spec.hidden, spec.norm_eps, place)
        self.mlp = GatedMlp(f"{name}.mlp", spec.hidden, spec.ffn, spec.mlp_bias, place)

    def parts(self) -> Iterator[Part]:
        for layer in (self.attention_norm, self.qkv, self.output, self.mlp_norm, self.mlp):
            yield from layer.parts()

    def prepare(self) -> None:
        for layer in (self.qkv, self.output, self.mlp):
            layer.prepare()

    def forward(
        self, stream: torch.Tensor, delta: torch.Tensor | None, attention: AttentionBackend
    ) -> torch.Tensor:
        """`stream` [T, hidden] is the residual stream but for `delta`, what the layer before
        computed: each addition is done in place, by the norm that follows it. Returns this
        layer's delta."""
        norm = self.attention_norm
        normed = norm(stream) if delta is None else norm.add(stream, delta)
        attended = attention.attend(self.index, self.qkv(normed))
        normed = self.mlp_norm.add(stream, self.output(attended))
        return self.mlp(normed)


def _heads(name: str, heads: int, head_dim: int, place: Place) -> Piece:
    """The part of a projection to or from `heads` heads that is this rank's."""
    own = share(heads, place.ranks.rank, place.ranks.size)
    return Piece(name, heads * head_dim, range(own.start * head_dim, own.stop * head_dim))
