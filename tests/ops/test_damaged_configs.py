"""Whatever stands in a config.json, kvtier reads it or says what is wrong with it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ops.builders import caught
from ops.published import NAMES, config_of, read, text_of

from kvtier_ops.errors import ModelError

WRONG = [0, -1, 1 << 80, 1.5, True, "", "x", [], [0], {}, {"x": {}}, None, float("nan"), [[["x"]]]]
# Read for every model; some families spell them in another way, see `_spelled`.
COUNTS = ("num_hidden_layers", "num_attention_heads", "hidden_size", "vocab_size")
_SPELLINGS = {
    "num_hidden_layers": ("n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("n_head", "n_heads"),
    "hidden_size": ("n_embd", "d_model"),
    "vocab_size": ("padded_vocab_size",),
}


def _spelled(config: dict[str, Any], name: str) -> str:
    return next((each for each in (*_SPELLINGS[name], name) if each in config), name)


@pytest.mark.parametrize("name", NAMES)
def test_errors_name_file_and_field(home: Path, name: str) -> None:
    for field in COUNTS:
        for wrong in (0, -1, 1 << 80, 1.5, True, "x", [4], {}):
            config = config_of(name)
            spelled = _spelled(text_of(config), field)
            text_of(config)[spelled] = wrong
            with pytest.raises(ModelError) as error:
                read(home / "m", config)
            [problem] = error.value.problems
            assert f"{spelled}`" in problem.what
            assert str(home / "m" / "config.json") in problem.what
            assert problem.hint


@pytest.mark.parametrize("name", NAMES)
def test_a_list_for_other_layers(home: Path, name: str) -> None:
    """Too short, too long, of other things; where a family has none, it counts all the same."""
    config = config_of(name)
    text = text_of(config)
    layers = text.get(_spelled(text, "num_hidden_layers"), 0)
    for wrong in (["full_attention"] * (layers + 1), ["full_attention"], ["x"] * layers, "x", [1]):
        text["layer_types"] = wrong
        with pytest.raises(ModelError, match=r"layer_types|layers_block_type"):
            read(home / "m", config)


def _places(config: dict[str, Any]) -> list[tuple[dict[str, Any], str]]:
    found = [(config, name) for name in config]
    for value in config.values():
        if isinstance(value, dict):
            found += _places(value)
    return found


values = st.sampled_from(WRONG) | st.integers(-5, 600) | st.lists(st.integers(-1, 100), max_size=9)


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(NAMES), st.data())
def test_mutations_are_read_or_refused(home: Path, name: str, data: st.DataObject) -> None:
    config = copy.deepcopy(config_of(name))
    for _ in range(data.draw(st.integers(1, 3))):
        inside, field = data.draw(st.sampled_from(_places(config)))
        if data.draw(st.booleans()):
            del inside[field]
            if not inside:
                break
        else:
            inside[field] = copy.deepcopy(data.draw(values))
        if not config:
            break
    error = caught(ModelError, lambda: _check(read(home / "m", config)))
    assert error is None or (str(error) and error.problems[0].hint)  # type: ignore[attr-defined]


def _check(facts: Any) -> None:
    """What is read makes sense: nothing is empty, and no part is larger than the whole."""
    assert facts.kv.token_bytes > 0
    assert facts.kv.sequence_bytes(1000) > 0
    assert facts.kv.device_token_bytes(4) >= facts.kv.token_bytes
    assert 0 < facts.active_parameters <= facts.parameters
    assert facts.weight_bytes > 0
