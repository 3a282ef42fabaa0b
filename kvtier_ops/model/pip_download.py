"""Fetches one wheel through pip, so that its index, mirror, proxy and certificate settings hold."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from kvtier_ops.errors import PullFailed
from kvtier_ops.paths import abbreviate

_POLL_S = 0.1
_TERMINATE_S = 5.0

# What pip says -> what happened, and the way out. The first that matches counts.
_CAUSES: tuple[tuple[str, str, str], ...] = (
    (
        r"No space left on device",
        "the disk is full",
        "free some space, or set XDG_CACHE_HOME to a folder on another disk",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|SSLError|SSLCertVerificationError",
        "the package index's certificate is not trusted",
        "point PIP_CERT to your company's certificates",
    ),
    (
        r"ProxyError",
        "the proxy does not answer",
        "check HTTPS_PROXY and `pip config list`",
    ),
    (
        r"NewConnectionError|NameResolutionError|name resolution|Max retries|timed out"
        r"|Connection refused|Network is unreachable|ConnectTimeout|connection broken",
        "the package index cannot be reached",
        "check the network, or set PIP_INDEX_URL to a mirror (see `pip config list`)",
    ),
    (
        r"\b40[13]\b",
        "the package index refuses access",
        "check the user and password in PIP_INDEX_URL or `pip config list`",
    ),
    (
        r"No matching distribution|Could not find a version|\b404\b",
        "the package index does not have it",
        "add an index that has it: PIP_EXTRA_INDEX_URL=https://pypi.org/simple",
    ),
)


def download_wheel(
    requirement: str, folder: Path, expected_bytes: int, progress: Callable[[int, int], None]
) -> Path:
    """The wheel of `requirement` in `folder`, which is empty before.

    Raises PullFailed with pip's reason. An exception while pip runs, such as
    KeyboardInterrupt, ends pip before it goes on.
    """
    if importlib.util.find_spec("pip") is None:
        raise PullFailed(
            f"this Python ({sys.executable}) has no pip to fetch `{requirement}` with",
            f"`{sys.executable} -m ensurepip` installs it",
        )
    scratch = folder / "scratch"
    scratch.mkdir()
    report = folder / "pip.log"
    status = _run_pip(requirement, folder, report, lambda: progress(_bytes(folder), expected_bytes))
    wheels = sorted(folder.glob("*.whl"))
    if status != 0 or len(wheels) != 1:
        raise _failure(requirement, status, report.read_text(errors="replace"))
    progress(expected_bytes, expected_bytes)
    return wheels[0]


def _run_pip(requirement: str, folder: Path, report: Path, poll: Callable[[], None]) -> int:
    """pip's exit status. It works in a process group of its own: Ctrl-C reaches only us."""
    command = [
        *(sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:"),
        *("--no-input", "--no-color", "--disable-pip-version-check", "--progress-bar", "off"),
        *("--dest", str(folder), requirement),
    ]
    environment = {**os.environ, "TMPDIR": str(folder / "scratch")}
    with report.open("wb") as log:
        pip = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            process_group=0,
        )
    try:
        while True:
            try:
                return pip.wait(_POLL_S)
            except subprocess.TimeoutExpired:
                poll()
    finally:
        _end(pip)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Stops it if it still runs, kindly first."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(_TERMINATE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _bytes(folder: Path) -> int:
    """Bytes of all wheels, whole or in part, below `folder`."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total


def _failure(requirement: str, status: int, report: str) -> PullFailed:
    for pattern, what, hint in _CAUSES:
        if re.search(pattern, report):
            return PullFailed(f"cannot fetch `{requirement}`: {what}", hint)
    errors = [line for line in report.splitlines() if line.startswith("ERROR:")]
    said = errors[-1].removeprefix("ERROR: ") if errors else f"pip ended with status {status}"
    command = f"{abbreviate(Path(sys.executable))} -m pip download --no-deps {requirement}"
    return PullFailed(f"cannot fetch `{requirement}`: {said}", f"`{command}` shows more")
