"""KvShape: bytes of tokens and sequences; copies between ranks; groups of layers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvtier_ops.model.kv_shape import KvKind, KvLayers, KvShape, grouped

full = st.builds(
    KvLayers,
    st.just(KvKind.FULL),
    st.integers(1, 100),
    st.sampled_from([1, 2, 4, 8, 64]),
    st.integers(1, 256),
    st.integers(1, 256),
)
sliding = st.builds(
    KvLayers,
    st.just(KvKind.SLIDING),
    st.integers(1, 100),
    st.sampled_from([1, 2, 4, 8, 64]),
    st.integers(1, 256),
    st.integers(1, 256),
    st.integers(1, 8192),
)
latent = st.builds(KvLayers, st.just(KvKind.LATENT), st.integers(1, 99), st.just(1), st.just(576))
state = st.builds(
    KvLayers, st.just(KvKind.STATE), st.integers(1, 100), state_numbers=st.integers(1, 9999)
)
shapes = st.builds(
    KvShape,
    st.lists(full | sliding | latent | state, min_size=1, max_size=5).map(tuple),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([None, 4]),
)
ranks_of_a_node = st.sampled_from([1, 2, 4, 8, 16])


@given(shapes)
def test_one_rank_has_one_copy(shape: KvShape) -> None:
    assert shape.device_token_bytes(1) == shape.token_bytes


@given(full | sliding, ranks_of_a_node)
def test_heads_are_copied_only_when_there_are_more_ranks(group: KvLayers, ranks: int) -> None:
    """Each rank holds at least one head: all ranks together what `max(heads, ranks)` heads take."""
    shape = KvShape((group,), 2)
    held = max(group.heads, ranks) * group.layers * (group.key_dim + group.value_dim)
    assert shape.device_token_bytes(ranks) == 2 * held


@given(latent, ranks_of_a_node)
def test_every_rank_keeps_the_latent(group: KvLayers, ranks: int) -> None:
    shape = KvShape((group,), 2)
    assert shape.device_token_bytes(ranks) == ranks * shape.token_bytes


@given(shapes, ranks_of_a_node)
def test_more_ranks_never_keep_less(shape: KvShape, ranks: int) -> None:
    assert shape.device_token_bytes(2 * ranks) >= shape.device_token_bytes(ranks)


@given(shapes, st.integers(0, 20_000))
def test_sequences(shape: KvShape, tokens: int) -> None:
    """No token takes more than a page gives it; states do not grow; windows end the growth."""
    size = shape.sequence_bytes(tokens)
    assert shape.sequence_bytes(0) == shape.state_bytes
    assert size <= tokens * shape.token_bytes + shape.state_bytes
    endless = shape.item_bytes * sum(
        group.token_numbers
        for group in shape.groups
        if group.window_tokens is None or group.window_tokens > tokens
    )
    assert shape.sequence_bytes(tokens + 1) - size == endless


@given(shapes)
def test_states_have_numbers_of_their_own(shape: KvShape) -> None:
    numbers = sum(group.layers * group.state_numbers for group in shape.groups)
    assert shape.state_bytes == numbers * (shape.state_item_bytes or shape.item_bytes)


@given(st.lists(full | sliding | latent | state, max_size=8))
def test_groups_lose_nothing(layers: list[KvLayers]) -> None:
    found = grouped(layers)
    assert sum(group.layers for group in found) == sum(layer.layers for layer in layers)
    assert sum(group.token_numbers for group in found) == sum(g.token_numbers for g in layers)
    assert len(found) == len(set(layers))


def test_only_equal_layers_fit_the_pages_of_the_engine() -> None:
    same = KvLayers(KvKind.FULL, 2, 4, 64, 64)
    geometry = KvShape((same,), 2).geometry
    assert geometry is not None
    assert (geometry.layers, geometry.kv_heads, geometry.head_dim) == (2, 4, 64)
    for other in (
        KvLayers(KvKind.FULL, 2, 4, 64, 32),
        KvLayers(KvKind.LATENT, 2, 1, 576),
        KvLayers(KvKind.SLIDING, 2, 4, 64, 64, 128),
    ):
        assert KvShape((other,), 2).geometry is None
        assert KvShape((same, other), 2).geometry is None
