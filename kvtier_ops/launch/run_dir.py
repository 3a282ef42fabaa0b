"""The private folder of one running profile, and the lock that keeps a second one out."""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kvtier_ops.errors import AlreadyRunning, HostError
from kvtier_ops.instance import has_long_name, instance_name, run_dir_of
from kvtier_ops.instances.leftovers import CONFIG_FILE, LOCK_FILE, clean_run_dir, remove_files
from kvtier_ops.instances.state import HOST_FILE
from kvtier_ops.tune.uninterrupted import uninterrupted

# systemd-logind's: a folder for each user who is logged in, a file for each who lingers.
_LOGINS, _LINGERING = Path("/run/user"), Path("/var/lib/systemd/linger")


@dataclass(frozen=True)
class RunDir:
    """A run folder whose lock this process holds until it ends."""

    path: Path
    lock_fd: int
    cleaned: str = ""  # a sentence about what a killed launcher had left here

    @property
    def config_path(self) -> Path:
        return self.path / CONFIG_FILE

    def write_config(self, text: str) -> Path:
        self._write(CONFIG_FILE, text)
        return self.config_path

    def write_host(self, text: str) -> None:
        """For whoever plans for this profile while it is served."""
        self._write(HOST_FILE, text)

    def _write(self, name: str, text: str) -> None:
        """Only its owner can read it. Raises OSError."""
        fd = os.open(self.path / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "w") as file:
            os.fchmod(fd, 0o600)
            file.write(text)

    def address(self) -> tuple[str, int] | None:
        """Where the engine listens; None while it does not, or has not said so yet."""
        try:
            said = json.loads((self.path / "address").read_bytes())
            return str(said["host"]), int(said["port"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def close(self) -> None:
        """Removes the run's files and frees the lock. The folder may have gone: that of a login
        goes with its user's last session."""
        with uninterrupted():
            with suppress(FileNotFoundError):
                remove_files(self.path)
            os.close(self.lock_fd)


def open_run_dir(profile: Path) -> RunDir:
    """Makes the folder (0700) and takes its lock.

    Raises AlreadyRunning if another launcher serves this profile, HostError if the folder
    cannot be made or belongs to somebody else.
    """
    path = run_dir_of(profile)
    if has_long_name(path):
        hint = "set XDG_RUNTIME_DIR to a folder with a short name: `mkdir -m 700 /tmp/kv` makes one"
        raise HostError(f"`{path}` is too long a name for the engine's sockets", hint)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise HostError(f"`{path}` belongs to somebody else", "set XDG_RUNTIME_DIR")
        path.chmod(0o700)
        fd = _lock(path / LOCK_FILE, profile)
    except OSError as error:
        hint = "set XDG_RUNTIME_DIR to a folder that you may write to"
        raise HostError(f"cannot use `{error.filename or path}`: {error.strerror}", hint) from error
    try:
        return RunDir(path, fd, clean_run_dir(path))
    except BaseException:
        os.close(fd)
        raise


def already_running(profile: Path, pid: int | str) -> AlreadyRunning:
    return AlreadyRunning(
        f"`{profile}` is already being served, by `kvtier launch` with pid {pid}",
        f"`kvtier stop {instance_name(profile)}` stops it (`kill` one of another version), or "
        "copy the profile and change port and directories",
    )


def logout_warning(path: Path) -> str:
    """What a detached launch has to know of its folder; empty: nothing."""
    uid = os.getuid()
    login = _LOGINS / str(uid)
    if not path.is_relative_to(login):
        return ""
    with suppress(KeyError):
        if (_LINGERING / pwd.getpwuid(uid).pw_name).exists():
            return ""
    return (
        f"warning: when you log out, systemd removes `{login}`: this instance serves on, but "
        "`kvtier ps` and `kvtier stop` find it no more, and it cannot start its engine again\n"
        "hint: `loginctl enable-linger`, or give every kvtier command another XDG_RUNTIME_DIR"
    )


def _lock(path: Path, profile: Path) -> int:
    """The kernel frees it when this process ends, however it ends."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.read(fd, 32).decode(errors="replace").strip() or "unknown"
        os.close(fd)
        raise already_running(profile, pid) from None
    os.ftruncate(fd, 0)
    os.write(fd, f"{os.getpid()}\n".encode())
    return fd
