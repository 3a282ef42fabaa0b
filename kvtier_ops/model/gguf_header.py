"""The header of a GGUF file: metadata and tensor shapes, without the weights.

The gguf package reads the 50,000 strings of a vocabulary one by one, which takes seconds;
this skips them. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, v2 and v3.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass, field
from pathlib import Path

from kvtier_ops.errors import ModelError
from kvtier_ops.model.unreadable import unreadable

_MAGIC = b"GGUF"
_FIXED = {  # value type -> struct format
    0: "B", 1: "b", 2: "<H", 3: "<h", 4: "<I", 5: "<i",
    6: "<f", 7: "?", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
_STRING, _ARRAY = 8, 9
_INTEGERS = (4, 5, 10, 11)  # of 32 and 64 bits, without and with a sign
_LAYERS_MAX = 10_000
_ENTRIES_MAX = 1_000_000
_ITEMS_MAX = 100_000_000
_ARRAY_DEPTH_MAX = 4
_ALIGNMENT_DEFAULT = 32

Value = int | float | bool | str


@dataclass(frozen=True)
class Tensor:
    """One tensor's entry; `offset` is from the beginning of the data."""

    elements: int
    kind: int  # GGML's number of the quantization
    offset: int


@dataclass(frozen=True)
class GgufHeader:
    """`metadata` leaves arrays out; those of a number a layer are in `by_layer`.

    `end`: where the header ends, in bytes.
    """

    metadata: dict[str, Value] = field(default_factory=dict)
    by_layer: dict[str, tuple[int, ...]] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    end: int = 0


def read_gguf_header(path: Path) -> GgufHeader:
    """Raises ModelError if the file is not GGUF, is cut off, or is of another version."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            return _Cursor(view, path).header()
    except OSError as error:
        raise unreadable(path, error) from error
    except (struct.error, UnicodeDecodeError, IndexError, OverflowError, ValueError) as error:
        raise ModelError(
            f"`{path}` is damaged: its GGUF header is cut off or senseless",
            "download the model again",
        ) from error


def expected_bytes(path: Path) -> int:
    """How long the file must be for its last tensor to be whole. Raises ModelError."""
    from gguf.constants import GGML_QUANT_SIZES  # takes a moment: numpy

    header = read_gguf_header(path)
    alignment = int(header.metadata.get("general.alignment", _ALIGNMENT_DEFAULT))
    begin = -(-header.end // alignment) * alignment
    sizes = {int(kind): size for kind, size in GGML_QUANT_SIZES.items()}
    ends = [begin]
    for tensor in header.tensors.values():
        block_elements, block_bytes = sizes.get(tensor.kind, (1, 0))
        ends.append(begin + tensor.offset + tensor.elements // block_elements * block_bytes)
    return max(ends)


@dataclass
class _Cursor:
    view: mmap.mmap
    path: Path
    at: int = 0

    def header(self) -> GgufHeader:
        if self.view[:4] != _MAGIC:
            raise ModelError(f"`{self.path}` is not a GGUF file", "download the model again")
        self.at = 4
        version = self.fixed("<I")
        if version not in (2, 3):
            raise ModelError(
                f"`{self.path}` is GGUF of version {version}; kvtier reads versions 2 and 3",
                "download a newer file of the model",
            )
        tensor_count, entry_count = self.count(_ENTRIES_MAX), self.count(_ENTRIES_MAX)
        metadata: dict[str, Value] = {}
        by_layer: dict[str, tuple[int, ...]] = {}
        for _ in range(entry_count):
            name = self.text()
            value = self.value(int(self.fixed("<I")))
            if isinstance(value, tuple):
                by_layer[name] = value
            elif value is not None:
                metadata[name] = value
        tensors = dict(self.tensor() for _ in range(tensor_count))
        return GgufHeader(metadata, by_layer, tensors, self.at)

    def fixed(self, layout: str) -> int | float | bool:
        value: int | float | bool = struct.unpack_from(layout, self.view, self.at)[0]
        self.at += struct.calcsize(layout)
        return value

    def count(self, most: int) -> int:
        value = int(self.fixed("<Q"))
        if value > most:
            raise ValueError(f"count {value}")
        return value

    def text(self) -> str:
        length = self.count(len(self.view) - self.at)
        raw = self.view[self.at : self.at + length]
        self.at += length
        return raw.decode()

    def value(self, kind: int) -> Value | tuple[int, ...] | None:
        """The value; None for an array that is not of a number a layer, which is skipped."""
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY:
            return self.fixed(_layout(kind))
        begin = self.at
        self.skip_array()
        of, length = struct.unpack_from("<IQ", self.view, begin)
        if of not in _INTEGERS or length > _LAYERS_MAX:
            return None
        return struct.unpack_from(f"<{length}{_layout(of)[-1]}", self.view, begin + 12)

    def skip_array(self, depth: int = 0) -> None:
        kind, length = int(self.fixed("<I")), self.count(_ITEMS_MAX)
        if kind == _STRING:
            for _ in range(length):
                self.at += 8 + struct.unpack_from("<Q", self.view, self.at)[0]
        elif kind == _ARRAY and depth < _ARRAY_DEPTH_MAX:
            for _ in range(length):
                self.skip_array(depth + 1)
        else:
            self.at += length * struct.calcsize(_layout(kind))

    def tensor(self) -> tuple[str, Tensor]:
        name = self.text()
        dimensions = int(self.fixed("<I"))
        if dimensions > 8:
            raise ValueError(f"{dimensions} dimensions")
        elements = math.prod(int(self.fixed("<Q")) for _ in range(dimensions))
        return name, Tensor(elements, int(self.fixed("<I")), int(self.fixed("<Q")))


def _layout(kind: int) -> str:
    if kind not in _FIXED:
        raise ValueError(f"value type {kind}")
    return _FIXED[kind]
