"""Where the pieces of a bundle come from. Each source gives named texts; one that cannot be had
says why, and the others are collected all the same."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from kvtier_ops.instance import log_path_of, run_dir_of, state_dir_of
from kvtier_ops.paths import xdg_home
from kvtier_ops.profile.load import ProfileFile

LOG_BYTES_MAX = 1 << 20  # of one file, from its end
LOGS_MAX = 4  # of an instance, the latest
INSTANCES_MAX = 3  # without a profile, the latest
TEXT_BYTES_MAX = 8 << 20
COMMAND_S_MAX = 10.0
KERNEL_LINES_MAX = 1000
# Of requests, as `server.request_trace` has them: never in a bundle, wherever they were written.
_TRACE_LINE = re.compile(r'^\{.*"(?:hash_ids|input_length)"\s*:', re.MULTILINE)
# Names of logs that the launcher keeps.
_LOG_NAME = re.compile(r"(?:engine|launch|launcher|kvtier)\.(?:log|jsonl)(?:\.\d+)?")
_KERNEL_LINE = re.compile(
    r"oom|out of memory|killed process|hugetlb|huge ?page|nvme|i/o error|blk_update|buffer i/o|"
    r"ext4-fs|xfs|btrfs|segfault|traps:|nvrm|xid|mce:|hardware error|edac|page allocation failure|"
    r"kvtier|numa|memory cgroup",
    re.IGNORECASE,
)
_PACKAGES = (
    "kvtier", "torch", "transformers", "safetensors", "tokenizers", "fastapi", "uvicorn", "pyzmq",
    "msgspec", "pydantic", "typer", "rich", "psutil", "prometheus-client", "numpy", "gguf",
    "flashinfer-python", "nvidia-ml-py", "triton",
)  # fmt: skip
# Variables that explain how an engine runs; of the others the names alone are told.
_TOLD = re.compile(
    r"(?:KVTIER|CUDA|NVIDIA|NCCL|OMP|MKL|OPENBLAS|GLOO|TORCH|PYTORCH|TRITON|HF|TRANSFORMERS|XDG|"
    r"PYTHON|PIP|LD|MALLOC|LC|SLURM|KUBERNETES|LOCAL|WORLD|RANK|MASTER)(?:_.*)?|PATH|LANG|TERM|"
    r"COLUMNS|NO_COLOR|VIRTUAL_ENV|https?_proxy|HTTPS?_PROXY|no_proxy|NO_PROXY"
)


@dataclass(frozen=True)
class Piece:
    """One file of the bundle, before it is cleaned. `numbers`: as in Redactor.clean."""

    name: str
    text: str
    what: str
    numbers: bool = True


@dataclass(frozen=True)
class Subject:
    """What is reported on. `file` is None without a profile, or where it cannot be read."""

    path: Path | None = None
    file: ProfileFile | None = None


Source = Callable[[Subject], Iterator[Piece]]


def versions(subject: Subject) -> Iterator[Piece]:
    found = {
        each.metadata["Name"].lower(): each.version
        for each in distributions()
        if each.metadata["Name"]
    }
    said = {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "executable": sys.executable,
        "kernel": platform.release(),
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()),
        "system": _release(),
        "packages": {name: found[name] for name in _PACKAGES if name in found},
    }
    with contextlib.suppress(OSError):
        said["nvidia_driver"] = Path("/proc/driver/nvidia/version").read_text().splitlines()[0]
    yield Piece("versions.json", _json(said), "kvtier, Python, torch and the system")


def _release() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        return ""


def environment(subject: Subject) -> Iterator[Piece]:
    lines = [
        f"{name}={value}" if _TOLD.fullmatch(name) else f"{name} (its value is left out)"
        for name, value in sorted(os.environ.items())
    ]
    yield Piece("environment.txt", "\n".join(lines) + "\n", "names of variables, and some values")


def host(subject: Subject) -> Iterator[Piece]:
    """As `kvtier host record`, but of the file systems those of L3 alone: one on a network that
    does not answer would be waited for."""
    from kvtier_ops.host import probe
    from kvtier_ops.host.record import host_as_text

    directories = subject.file.profile.tiers.l3.directories if subject.file else ()
    text = host_as_text(probe(directories=directories))
    yield Piece("host.json", text, "`kvtier host record`", numbers=False)


def limits(subject: Subject) -> Iterator[Piece]:
    """What the kernel grants this process."""
    names = ("limits", "cgroup", "status", "mountinfo")
    parts = []
    for name in names:
        with contextlib.suppress(OSError):
            parts.append(f"/proc/self/{name}\n{Path(f'/proc/self/{name}').read_text()}")
    with contextlib.suppress(OSError):
        parts.append(f"/proc/meminfo\n{Path('/proc/meminfo').read_text()}")
    yield Piece("limits.txt", "\n".join(parts), "limits, control groups, mounts and memory")


def profile_text(subject: Subject) -> Iterator[Piece]:
    if subject.path is None:
        return
    yield Piece("profile.yaml", _read(subject.path), "the profile as it was written")


def profile_resolved(subject: Subject) -> Iterator[Piece]:
    """Also what it extends is in there."""
    if subject.file is None:
        return
    from kvtier_ops.plan.json_output import plan_as_json
    from kvtier_ops.plan.resolve import resolve
    from kvtier_ops.prepare import prepare
    from kvtier_ops.profile.render import profile_as_yaml

    whole = profile_as_yaml(subject.file.profile, subject.file.tree)
    yield Piece("profile-whole.yaml", whole, "every field of the profile")
    plan = prepare(subject.file).plan
    resolved = profile_as_yaml(resolve(subject.file.profile, plan), subject.file.tree)
    yield Piece("profile-resolved.yaml", resolved, "the profile with the plan's sizes")
    yield Piece("plan.json", _json(plan_as_json(plan)), "`kvtier plan --json`", numbers=False)


def findings(subject: Subject) -> Iterator[Piece]:
    from kvtier_ops.doctor import report
    from kvtier_ops.doctor.examine import examine

    text = _json(report.as_json(examine(subject.file)))
    yield Piece("doctor.json", text, "`kvtier doctor --json`", numbers=False)


def kernel_log(subject: Subject) -> Iterator[Piece]:
    """Lines of memory, disks, GPUs and crashes. Raises OSError where they may not be read."""
    done = subprocess.run(
        ["dmesg", "--ctime"], capture_output=True, timeout=COMMAND_S_MAX, check=False
    )
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()
        raise OSError(0, said or f"dmesg ended with {done.returncode}")
    lines = [
        line
        for line in done.stdout.decode(errors="replace").splitlines()
        if _KERNEL_LINE.search(line)
    ]
    text = "\n".join(lines[-KERNEL_LINES_MAX:]) + "\n"
    yield Piece("dmesg.txt", text, "the kernel's lines on memory, disks, GPUs and crashes")


def logs(subject: Subject) -> Iterator[Piece]:
    """The end of each of the latest logs; without a profile, those of the latest instances."""
    if subject.path is not None:
        folders = [log_path_of(subject.path).parent]
    else:
        root = xdg_home("XDG_STATE_HOME") / "kvtier" / "log"
        folders = sorted(filter(Path.is_dir, root.glob("*")), key=_age)[:INSTANCES_MAX]
    for folder in folders:
        files = [each for each in folder.glob("*") if _LOG_NAME.fullmatch(each.name)]
        files = [each for each in files if each.is_file() and not each.is_symlink()]
        for path in sorted(files, key=_age)[:LOGS_MAX]:
            text = _tail(path)
            if _TRACE_LINE.search(text):
                continue
            what = f"the end of the log, at most {LOG_BYTES_MAX >> 20} MiB"
            yield Piece(f"logs/{folder.name}/{path.name}", text, what)


def _age(path: Path) -> float:
    return -path.stat().st_mtime


def instance(subject: Subject) -> Iterator[Piece]:
    """What the launcher and the engine have left in their folders, and their processes."""
    if subject.path is None:
        return
    run_dir, state_dir = run_dir_of(subject.path), state_dir_of(subject.path)
    listed = {str(folder): _listing(folder) for folder in (run_dir, state_dir)}
    said = {"folders": listed, "processes": _processes(run_dir)}
    yield Piece("instance/processes.json", _json(said), "the run's folders and processes")
    for path in (
        run_dir / "config.json",
        run_dir / "host.json",
        run_dir / "state.json",
        run_dir / "address",
        state_dir / "rates.json",
    ):
        if path.is_file():
            yield Piece(f"instance/{path.name}", _read(path), f"`{path}`", numbers=False)


def _listing(folder: Path) -> list[dict[str, Any]]:
    found = []
    for path in sorted(folder.glob("*")) if folder.is_dir() else ():
        with contextlib.suppress(OSError):
            status = path.lstat()
            found.append(
                {"name": path.name, "bytes": status.st_size, "mode": f"{status.st_mode:o}"}
            )
    return found


def _processes(run_dir: Path) -> list[dict[str, Any]]:
    """The launcher that holds the lock, and what it has started."""
    import psutil

    try:
        launcher = psutil.Process(int((run_dir / "lock").read_text().strip()))
        family = [launcher, *launcher.children(recursive=True)]
    except (OSError, ValueError, psutil.Error):
        return []
    found = []
    for process in family:
        with contextlib.suppress(psutil.Error):
            command = process.cmdline()
            if process is launcher and not any("kvtier" in word for word in command):
                return []  # the number is another process's by now
            found.append(
                {
                    "pid": process.pid,
                    "status": process.status(),
                    "command": " ".join(command),
                    "threads": process.num_threads(),
                    "resident_bytes": process.memory_info().rss,
                    "started": process.create_time(),
                }
            )
    return found


def measurements(subject: Subject) -> Iterator[Piece]:
    """What `kvtier bench` has kept, and what `kvtier tune` has changed."""
    home = xdg_home("XDG_STATE_HOME") / "kvtier"
    for folder, what in (("measured", "kept by `kvtier bench`"), ("tune", "changes of the host")):
        for path in sorted((home / folder).glob("*.json")):
            yield Piece(f"{folder}/{path.name}", _read(path), what, numbers=False)


SOURCES: tuple[tuple[str, Source], ...] = (
    ("versions", versions),
    ("environment", environment),
    ("host", host),
    ("limits", limits),
    ("profile", profile_text),
    ("plan", profile_resolved),
    ("doctor", findings),
    ("kernel log", kernel_log),
    ("logs", logs),
    ("instance", instance),
    ("measurements", measurements),
)


def live(url: str) -> Source:
    """What a running engine says of itself. Raises KvtierError where none answers."""

    def source(subject: Subject) -> Iterator[Piece]:
        from kvtier_ops.doctor import report
        from kvtier_ops.doctor.live.ask import ask_admin, ask_ready, fetch
        from kvtier_ops.doctor.live.examine import examine_live

        address = url.rstrip("/")
        _, ready = ask_ready(address)
        yield Piece("live/ready.json", _json(ready), "`GET /ready`")
        _, body = fetch(address, "/metrics")
        yield Piece("live/metrics.txt", body.decode(errors="replace"), "`GET /metrics`", False)
        admin, why_not = ask_admin(address)
        text = _json(admin or {"left_out": why_not})
        yield Piece("live/cache.json", text, "`GET /admin/cache`", numbers=False)
        profile = subject.file.profile if subject.file else None
        said = report.as_json(examine_live(address, profile, 0))
        yield Piece("live/doctor.json", _json(said), "`kvtier doctor --live`", numbers=False)

    return source


def _json(said: Any) -> str:
    return json.dumps(said, indent=2, default=str) + "\n"


def _read(path: Path) -> str:
    """Raises OSError; of a file that is too large, the beginning."""
    with path.open("rb") as file:
        return file.read(TEXT_BYTES_MAX).decode(errors="replace")


def _tail(path: Path) -> str:
    """The end, from a line's beginning: half a secret would not be known for one."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - LOG_BYTES_MAX))
        raw = file.read(LOG_BYTES_MAX)
    if size > LOG_BYTES_MAX:
        raw = raw.partition(b"\n")[2]
    return raw.decode(errors="replace")
