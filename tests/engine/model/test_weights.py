"""Weights arrive whole, in the right place, or a sentence says what is wrong with them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.models import make_runner

from kvtier_engine.model.errors import ModelError
from kvtier_engine.model.weights import Part, load_weights

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "copy"))


def change(folder: Path, edit: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(folder / WEIGHTS)
    edit(tensors)
    save_file(tensors, folder / WEIGHTS)


def shard(folder: Path, files: int) -> list[Path]:
    """Splits the weights into numbered files with an index, as the Hub does."""
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    where = {name: number % files for number, name in enumerate(sorted(tensors))}
    paths = [folder / f"model-{n + 1:05}-of-{files:05}.safetensors" for n in range(files)]
    for number, path in enumerate(paths):
        save_file({n: t for n, t in tensors.items() if where[n] == number}, path)
    index = {"weight_map": {name: paths[number].name for name, number in where.items()}}
    (folder / INDEX).write_text(json.dumps(index))
    return paths


def logits(folder: Path) -> torch.Tensor:
    from support.models import Feeder

    return Feeder(make_runner(folder)).logits([list(range(20))], cuts=[])[0]


def test_shards_are_as_good_as_one_file(folder: Path) -> None:
    want = logits(folder)
    shard(folder, 3)
    # A file that the index does not name is not read.
    (folder / "other.safetensors").write_bytes(b"not this one")
    assert torch.equal(logits(folder), want)


def test_rectangles_and_progress(original: Path) -> None:
    name = "model.layers.1.self_attn.q_proj.weight"
    into = torch.empty(10, 7, dtype=torch.bfloat16)
    told: list[tuple[int, int]] = []
    load_weights(
        original,
        [Part(name, (192, 96), into, rows=range(3, 13), columns=range(5, 12))],
        ignore=set(load_file(original / WEIGHTS)),
        workers=2,
        progress=lambda done, total: told.append((done, total)),
    )
    want = load_file(original / WEIGHTS)[name][3:13, 5:12]
    assert torch.equal(into, want.bfloat16())
    assert told == [(140, 140)]


def test_missing_and_unexpected_tensors_are_named(folder: Path) -> None:
    def edit(tensors: dict[str, torch.Tensor]) -> None:
        del tensors["model.norm.weight"]
        del tensors["model.layers.2.mlp.up_proj.weight"]
        tensors["model.layers.9.weight"] = torch.zeros(1)
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.zeros(1)

    change(folder, edit)
    with pytest.raises(ModelError) as caught:
        make_runner(folder)
    said = str(caught.value)
    assert "2 missing: model.layers.2.mlp.up_proj.weight, model.norm.weight" in said
    assert "1 unexpected: model.layers.9.weight" in said
    assert "rotary_emb" not in said


@pytest.mark.parametrize("shape", [(515, 95), (514, 96), (516, 96)])
def test_a_tensor_of_another_shape(folder: Path, shape: tuple[int, int]) -> None:
    change(folder, lambda tensors: tensors.update({"lm_head.weight": torch.zeros(shape)}))
    with pytest.raises(ModelError, match=r"lm_head\.weight has shape .*asks for \(515, 96\)"):
        make_runner(folder)


@pytest.mark.parametrize("keep", [0, 5, 100, 0.5, 0.999])
def test_a_file_cut_short(folder: Path, keep: float) -> None:
    size = (folder / WEIGHTS).stat().st_size
    os.truncate(folder / WEIGHTS, int(keep if keep >= 1 else keep * size))
    with pytest.raises(ModelError, match=r"model\.safetensors is damaged or cut short"):
        make_runner(folder)


def test_a_shard_that_is_not_there(folder: Path) -> None:
    shard(folder, 3)[1].unlink()
    with pytest.raises(ModelError, match=r"00002-of-00003\.safetensors is missing"):
        make_runner(folder)


@pytest.mark.parametrize("content", ["", "{}", '{"weight_map": 3}', '{"weight_map": []}'])
def test_a_damaged_index(folder: Path, content: str) -> None:
    shard(folder, 2)
    (folder / INDEX).write_text(content)
    with pytest.raises(ModelError, match=r"index\.json is damaged"):
        make_runner(folder)


def test_no_weights(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"holds no \*\.safetensors file") as caught:
        make_runner(folder)
    assert "convert" in caught.value.hint
