"""How many numbers the safetensors files of a folder hold, from their headers alone."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from kvtier_ops.errors import ModelError

_HEADER_BYTES_MAX = 100 << 20  # the format's own limit
_AGAIN = "download the model again"


def count_parameters(folder: Path) -> int:
    """Elements of all tensors of all shards.

    Raises ModelError naming the file that is missing, cut off or damaged.
    """
    return sum(_elements(path) for path in shards(folder))


def shards(folder: Path) -> list[Path]:
    """The files of the index, or the single file. Raises ModelError if one is missing."""
    index = folder / "model.safetensors.index.json"
    if index.exists():
        names = _index(index)
    else:
        names = sorted(path.name for path in folder.glob("*.safetensors"))
    if not names:
        hint = "kvtier reads *.safetensors; convert other formats, or download the safetensors"
        raise ModelError(f"`{folder}` holds no weights", hint)
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        shown = ", ".join(missing[:3]) + (" and more" if len(missing) > 3 else "")
        what = f"`{folder}` lacks {len(missing)} of {len(names)} files of weights: {shown}"
        raise ModelError(what, _AGAIN)
    return [folder / name for name in names]


def _index(path: Path) -> list[str]:
    try:
        names = sorted(set(json.loads(path.read_bytes())["weight_map"].values()))
        if not all(isinstance(name, str) and Path(name).name == name for name in names):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"`{path}` is not an index of safetensors files", _AGAIN) from error
    return names


def _elements(path: Path) -> int:
    try:
        header, begin = _header(path)
        tensors = [entry for name, entry in header.items() if name != "__metadata__"]
        end = begin + max((entry["data_offsets"][1] for entry in tensors), default=0)
        elements = sum(int(math.prod(entry["shape"])) for entry in tensors)
        size = path.stat().st_size
    except OSError as error:
        raise ModelError(f"`{path}` cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ModelError(f"`{path}` is damaged: its header makes no sense", _AGAIN) from error
    if size < end:
        what = f"`{path}` is cut off: {size:,} bytes are there, its header says {end:,}"
        raise ModelError(what, _AGAIN)
    return elements


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """The JSON header and where the data begins."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _HEADER_BYTES_MAX:
            raise ValueError(length)
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("not an object")
    return header, 8 + length
