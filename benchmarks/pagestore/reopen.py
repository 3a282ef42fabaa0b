"""How long a full store takes to open cold, and what its index costs; beside a file a page."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from harness import ROOT, drop_page_cache, median, table

from pagestore.client import Client, key
from pagestore.scope import Scope

PAGE_BYTES = 512  # small: only how many there are matters here
WRITERS = 16
IN_FLIGHT = 128
HEADER_BYTES = 4096  # of a page's file; what lies behind it does not matter here
FOLDERS = 256

HEADER = ("pages", "how", "cold s", "bytes of memory a page")


def run(scope: Scope) -> str:
    if not drop_page_cache():
        return "Left out: dropping the page cache takes root."
    with tempfile.TemporaryDirectory(dir=scope.folder) as folder:
        rows = [_journal(Path(folder) / "store", scope)]
    with tempfile.TemporaryDirectory(dir=scope.folder) as folder:
        rows += _files(Path(folder), scope)
    return table(HEADER, rows)


def _journal(folder: Path, scope: Scope) -> list[str]:
    client = Client(folder, PAGE_BYTES, scope.reopen_pages, write_depth=WRITERS)
    client.huge = False  # none is as small as these pages
    client.put(scope.reopen_pages, IN_FLIGHT)
    client.close()
    runs = [_open_elsewhere(folder, scope.reopen_pages) for _ in range(scope.rounds)]
    seconds = median([each["seconds"] for each in runs])
    grown = median([each["grown_bytes"] for each in runs])
    return [
        f"{scope.reopen_pages:,}",
        f"kvtier: reads its journal ({scope.rounds} times)",
        f"{seconds:.2f}",
        f"{grown / scope.reopen_pages:.0f}",
    ]


def _open_elsewhere(folder: Path, pages: int) -> dict[str, float]:
    """In a process of its own, so that memory is that of this store alone."""
    drop_page_cache()
    code = f"from pagestore.reopen import open_here; open_here({str(folder)!r}, {pages})"
    paths = os.pathsep.join([str(ROOT / "benchmarks"), *sys.path])
    answer = subprocess.check_output(
        [sys.executable, "-P", "-c", code], env=os.environ | {"PYTHONPATH": paths}, text=True
    )
    return json.loads(answer)


def open_here(folder: str, pages: int) -> None:
    process = psutil.Process()
    before, start = process.memory_info().rss, time.perf_counter()
    client = Client(Path(folder), PAGE_BYTES, pages)
    seconds = time.perf_counter() - start
    grown = process.memory_info().rss - before
    stats = client.store.stats()
    assert stats.recovered_pages == pages, f"{stats.recovered_pages} of {pages} pages are back"
    assert all(client.store.contains([key(0), key(pages - 1)]))
    client.close()
    print(json.dumps({"seconds": seconds, "grown_bytes": grown}))


def _files(folder: Path, scope: Scope) -> list[list[str]]:
    """Opens each file and reads its header, as a store without a journal has to."""
    count = scope.reopen_files
    content = bytes(HEADER_BYTES)
    for number in range(FOLDERS):
        (folder / f"{number:02x}").mkdir()
    paths = [str(folder / f"{i % FOLDERS:02x}" / key(i).hex()) for i in range(count)]
    for path in paths:
        with open(path, "wb") as file:
            file.write(content)
    drop_page_cache()
    start = time.perf_counter()
    read = 0
    for entry in os.scandir(folder):
        for file in os.scandir(entry):
            descriptor = os.open(file.path, os.O_RDONLY)
            read += len(os.read(descriptor, HEADER_BYTES))
            os.close(descriptor)
    seconds = time.perf_counter() - start
    assert read == count * HEADER_BYTES
    scaled = seconds * scope.reopen_pages / count
    return [
        [f"{count:,}", "a file for each page: opens it, reads its header", f"{seconds:.2f}", ""],
        [f"{scope.reopen_pages:,}", "the same, scaled", f"{scaled:.1f}", ""],
    ]
