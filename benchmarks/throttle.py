"""Slower disks than there are: limits for directories, obeyed by processes run below throttle.c."""

from __future__ import annotations

import mmap
import struct
import subprocess
from pathlib import Path

_LIMIT = struct.Struct("=240sQQ")
_LIMITS_MAX = 8
SOURCE = Path(__file__).with_name("throttle.c")


class Throttle:
    """Limits in `folder`. A process obeys them that is started with `environment`."""

    def __init__(self, folder: Path) -> None:
        self._library = folder / "throttle.so"
        flags = ["-shared", "-fPIC", "-O2", "-Wall", "-Werror"]
        subprocess.run(["cc", *flags, SOURCE, "-o", self._library, "-ldl"], check=True)
        self._file = folder / "limits"
        self._file.write_bytes(bytes(_LIMIT.size * _LIMITS_MAX))
        with self._file.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)

    @property
    def environment(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self._library), "KVTIER_THROTTLE": str(self._file)}

    def set(self, number: int, directory: Path, bytes_per_s: float) -> None:
        """Limit `number` (below 8) from now on; 0 bytes/s: none."""
        record = _LIMIT.pack(str(directory.resolve()).encode(), int(bytes_per_s), 0)
        self._memory[number * _LIMIT.size : (number + 1) * _LIMIT.size] = record
