"""Raw slots: fio with O_DIRECT on one file, in turns like those of the store.

Its buffers are as many as requests in flight, and lie on huge pages as those of the store do.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pagestore.turn import Turn

HEADER_BYTES = 4096


@dataclass(frozen=True)
class Job:
    """One kind of request on a file of slots; psync's requests in flight are processes."""

    file: Path
    rw: str  # write, randread
    page_bytes: int
    count: int  # slots
    depth: int = 1
    engine: str = "io_uring"
    first: int = 0  # slot at which a sequential job begins
    slots: int = 0  # of the file, for a random one
    seconds: float | None = None  # go on for so long instead of `count`
    fallocate: str = "none"
    huge: bool = True  # buffers on huge pages; else shared memory on plain ones

    @property
    def slot_bytes(self) -> int:
        return self.page_bytes + HEADER_BYTES


def available() -> bool:
    return shutil.which("fio") is not None


def lay_out(file: Path, page_bytes: int, slots: int) -> None:
    """A file of slots, allocated and written once."""
    run(Job(file, "write", page_bytes, slots, depth=4, fallocate="native"))
    blocks = file.stat().st_blocks * 512
    assert blocks >= slots * (page_bytes + HEADER_BYTES), f"{file} has only {blocks} bytes"


def run(job: Job) -> Turn:
    return run_beside(job)[0]


def run_beside(*jobs: Job) -> list[Turn]:
    """Runs jobs beside one another; a turn for each."""
    folder = jobs[0].file.parent
    report = folder / "fio.json"
    memory = _HUGE if jobs[0].huge else _PLAIN
    command = ["fio", "--output-format=json", f"--output={report}", *_COMMON, *memory]
    for number, job in enumerate(jobs):
        command += _arguments(job, f"job{number}", folder)
    try:
        subprocess.run(
            command, check=True, cwd=folder, stdout=subprocess.DEVNULL, env=os.environ | _MALLOC
        )
        results = json.loads(report.read_text())["jobs"]
        return [_turn(job, f"job{number}", results) for number, job in enumerate(jobs)]
    finally:
        for left in [report, *folder.glob("job*.log")]:
            left.unlink(missing_ok=True)


_COMMON = (
    "--direct=1",
    "--scramble_buffers=0",
    "--randrepeat=0",
    "--norandommap=1",
    "--end_fsync=1",
)

# Large blocks of malloc are given huge pages by glibc, when asked; the alignment makes them large.
_HUGE = ("--iomem=malloc", "--iomem_align=4m")
_PLAIN = ("--iomem=mmapshared",)
_MALLOC = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


def _arguments(job: Job, name: str, folder: Path) -> list[str]:
    processes = job.depth if job.engine == "psync" else 1
    region = job.slots if job.rw.startswith("rand") else job.count
    arguments = [
        f"--name={name}",
        f"--filename={job.file}",
        f"--rw={job.rw}",
        f"--bs={job.slot_bytes}",
        f"--ioengine={job.engine}",
        f"--iodepth={1 if job.engine == 'psync' else job.depth}",
        f"--numjobs={processes}",
        f"--offset={job.first * job.slot_bytes}",
        f"--size={region * job.slot_bytes}",
        f"--io_size={job.count // processes * job.slot_bytes}",
        f"--fallocate={job.fallocate}",
        f"--write_lat_log={folder / name}",
    ]
    if job.seconds:
        arguments += ["--time_based=1", f"--runtime={round(job.seconds * 1e3)}ms"]
    return arguments


def _turn(job: Job, name: str, results: list[dict[str, Any]]) -> Turn:
    """fio reports processor time as percents of each process's life."""
    mine = [each for each in results if each["jobname"] == name]
    side = "read" if "read" in job.rw else "write"
    requests = sum(each[side]["total_ios"] for each in mine)
    shares = [(each["usr_cpu"] + each["sys_cpu"]) / 100 * each["job_runtime"] for each in mine]
    seconds = max(each[side]["runtime"] for each in mine) / 1e3
    turn = Turn(requests * job.page_bytes, seconds, sum(shares) / 1e3)
    for log in job.file.parent.glob(f"{name}_lat.*.log"):
        turn.latencies_s += [int(line.split(",")[1]) / 1e9 for line in log.open()]
    return turn
