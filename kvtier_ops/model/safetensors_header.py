"""How many numbers the safetensors files of a folder hold, and how large, from their headers."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvtier_ops.errors import ModelError
from kvtier_ops.model.unreadable import unreadable

_HEADER_BYTES_MAX = 100 << 20  # the format's own limit
_INDEX = "model.safetensors.index.json"
_AGAIN = "download the model again"


@dataclass(frozen=True)
class StoredWeights:
    """What files say of the weights. `is_packed`: they are not plain numbers of one dtype."""

    elements: int
    bytes: int
    is_packed: bool = False


def has_weights(folder: Path) -> bool:
    """True if there are some, or if an index promises them."""
    return (folder / _INDEX).exists() or any(folder.glob("*.safetensors"))


def measure_weights(folder: Path) -> StoredWeights:
    """Elements and bytes of all tensors of all shards.

    Raises ModelError naming the file that is missing, cut off or damaged.
    """
    parts = [_measure(path) for path in shards(folder)]
    elements = sum(part.elements for part in parts)
    if elements == 0:
        raise ModelError(f"`{folder}` holds files of weights with nothing in them", _AGAIN)
    return StoredWeights(elements, sum(part.bytes for part in parts))


def shards(folder: Path) -> list[Path]:
    """The files of the index, or the single file. Raises ModelError if one is missing."""
    index = folder / _INDEX
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


def weights_against_index(folder: Path) -> tuple[str, int]:
    """What does not agree, in words, or nothing; and how many files were looked at.

    Raises ModelError for what `measure_weights` would.
    """
    files = shards(folder)
    index, wanted = folder / _INDEX, dict[str, set[str]]()
    if index.exists():
        for tensor, name in json.loads(index.read_bytes())["weight_map"].items():
            wanted.setdefault(name, set()).add(tensor)
    for path in files:
        header, begin = _header(path)
        header.pop("__metadata__", None)
        lost = sorted(wanted.get(path.name, set()) - set(header))
        if lost:
            more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
            return f"`{path.name}` has no tensor `{lost[0]:.60}`{more}", len(files)
        end = begin + max((_whole(each["data_offsets"][1]) for each in header.values()), default=0)
        if path.stat().st_size > end:
            return f"`{path.name}` is {path.stat().st_size - end:,} bytes too long", len(files)
    return "", len(files)


def _index(path: Path) -> list[str]:
    try:
        names = sorted(set(json.loads(path.read_bytes())["weight_map"].values()))
        if not all(isinstance(name, str) and Path(name).name == name for name in names):
            raise ValueError
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"`{path}` is not an index of safetensors files", _AGAIN) from error
    return names


def _measure(path: Path) -> StoredWeights:
    try:
        header, begin = _header(path)
        tensors = [entry for name, entry in header.items() if name != "__metadata__"]
        data = max((_whole(entry["data_offsets"][1]) for entry in tensors), default=0)
        elements = sum(math.prod(map(_whole, entry["shape"])) for entry in tensors)
        size, end = path.stat().st_size, begin + data
    except OSError as error:
        raise unreadable(path, error) from error
    except (LookupError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"`{path}` is damaged: its header makes no sense", _AGAIN) from error
    if size < end:
        what = f"`{path}` is cut off: {size:,} bytes are there, its header says {end:,}"
        raise ModelError(what, _AGAIN)
    return StoredWeights(elements, data)


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"not a whole number: {value!r:.40}")
    return value


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
