"""Collects, cleans, lists and writes a bundle."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import tarfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvtier_ops.bundle.redact import Redactor, secrets_here, secrets_of
from kvtier_ops.bundle.sources import SOURCES, Piece, Source, Subject, live
from kvtier_ops.errors import BadInput, HostError, KvtierError
from kvtier_ops.interrupt import raise_if_stopped
from kvtier_ops.profile.load import load_profile

Progress = Callable[[str, int, int], None]

MANIFEST = "manifest.json"
MANIFEST_VERSION = 1
SECRET_BYTES_MAX = 1 << 16  # of a file that is said to hold one
REMOVED = (
    "values of the keys that the profile names, wherever they stand, also encoded",
    "values of environment variables whose names look like those of secrets",
    "what stands after a name that looks like that of a secret",
    "Authorization headers, tokens of known forms, passwords in URLs, private keys",
)
NEVER_IN = ("request traces, prompts and answers", "pages of the cache", "the model")
KEPT = ("names of users, hosts, folders, tenants and API keys, where they stand in paths and logs",)


@dataclass(frozen=True)
class Item:
    """A file of the bundle, as it goes in. `cleaned`: how many secrets were replaced."""

    name: str
    data: bytes
    what: str
    cleaned: int


@dataclass(frozen=True)
class Bundle:
    """`missing`: source -> why it could not be had."""

    folder: str
    items: tuple[Item, ...]
    missing: dict[str, str]
    manifest: bytes


def make_bundle(
    path: Path | None, overrides: Sequence[str], url: str, progress: Progress
) -> Bundle:
    """Of a profile, if one is named, and of a running engine at `url`. What cannot be had is
    noted; raises BadInput for a profile that is not there."""
    if path is not None and not path.is_file():
        raise BadInput("there is no such file", "name the profile, or none", place=str(path))
    subject, missing = _subject(path, overrides)
    redactor = Redactor(_secrets(subject))
    missing = {name: redactor.clean(why) for name, why in missing.items()}
    sources = [*SOURCES, *([("live engine", live(url))] if url else [])]
    items: list[Item] = []
    for done, (name, source) in enumerate(sources, 1):
        try:
            _take(source, subject, redactor, items)
        except KvtierError as error:
            missing[name] = redactor.clean(error.render())
        except Exception as error:  # the report is of what does not work: no fault may stop it
            raise_if_stopped()
            missing[name] = redactor.clean(f"{type(error).__name__}: {error}")
        progress("collect", done, len(sources))
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    kept = []
    for item in items:
        if redactor.finds(item.data):
            missing[item.name] = "a secret was left in it, so it is left out"
        else:
            kept.append(item)
    return Bundle(f"kvtier-bundle-{stamp}", tuple(kept), missing, _manifest(kept, missing))


def _subject(path: Path | None, overrides: Sequence[str]) -> tuple[Subject, dict[str, str]]:
    if path is None:
        return Subject(), {}
    try:
        return Subject(path, load_profile(path, overrides)), {}
    except KvtierError as error:
        return Subject(path), {"profile, read": error.render()}


def _secrets(subject: Subject) -> list[str]:
    """All that can be known: of the environment, and what the profile says where to find."""
    found = secrets_here()
    if subject.file is None:
        return found + _secrets_of_text(subject.path)
    profile = subject.file.profile
    found += secrets_of(profile.engine.environment)
    server = profile.server
    sources = [key.source for key in server.api_keys]
    for source in (*sources, server.admin_key.source, profile.cluster.secret.source):
        if source is not None:
            found += _secret_at(source.env, source.file)
    return found


# As a profile names a secret's place, also within one that is no YAML, or wrong elsewhere.
_PLACE = re.compile(r"\b(env|file)[\"']?:[ \t]*([\"']?)([^\s\"',}#]+)\2")


def _secrets_of_text(path: Path | None) -> list[str]:
    """Of a profile that cannot be read as one: whatever it calls a place of a secret."""
    if path is None:
        return []
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return []
    found = []
    for kind, _, name in _PLACE.findall(text):
        is_file = kind == "file"
        place = Path(os.path.abspath(path.parent / os.path.expanduser(name))) if is_file else None
        found += _secret_at(None if is_file else name, place)
    return found


def _secret_at(env: str | None, file: Path | None) -> list[str]:
    """Whatever is there, also if the server would not take it for a key."""
    if env:
        return [os.environ.get(env, "").strip()]
    if file is None or not file.is_file():
        return []
    try:
        with file.open("rb") as opened:
            return [opened.read(SECRET_BYTES_MAX).decode(errors="replace").strip()]
    except OSError:
        return []


def _take(source: Source, subject: Subject, redactor: Redactor, items: list[Item]) -> None:
    """Adds what a source gives, as far as it comes."""
    for piece in source(subject):
        items.append(_cleaned(piece, redactor))


def _cleaned(piece: Piece, redactor: Redactor) -> Item:
    before = redactor.count
    text = redactor.clean(piece.text, numbers=piece.numbers)
    data = text.encode(errors="replace")
    return Item(piece.name, data, piece.what, redactor.count - before)


def _manifest(items: Sequence[Item], missing: dict[str, str]) -> bytes:
    said: dict[str, Any] = {
        "version": MANIFEST_VERSION,
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "removed": REMOVED,
        "never_in": NEVER_IN,
        "kept": KEPT,
        "files": [
            {
                "name": item.name,
                "bytes": len(item.data),
                "what": item.what,
                "secrets_removed": item.cleaned,
            }
            for item in items
        ],
        "missing": missing,
    }
    return (json.dumps(said, indent=2) + "\n").encode()


def write_bundle(bundle: Bundle, path: Path, *, force: bool) -> None:
    """All of it or nothing, for its owner alone. Raises BadInput if it exists, HostError."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            os.fchmod(fd, 0o600)
            file.write(_archive(bundle))
            file.flush()
            os.fsync(fd)
        if force:
            os.replace(scratch, path)
        else:
            _appear(scratch, path)
    except FileExistsError:
        raise BadInput(f"`{path}` exists", "`--force` overwrites it") from None
    except OSError as error:
        hint = "name a file in a folder that you may write to, with `-o FILE`"
        raise HostError(f"`{path}` cannot be written: {error.strerror}", hint) from error
    finally:
        with contextlib.suppress(OSError):
            scratch.unlink()


def _appear(scratch: Path, path: Path) -> None:
    """Under its name, if that is free. Raises OSError."""
    try:
        os.link(scratch, path)
    except FileExistsError:
        raise
    except OSError:  # FAT, exFAT and some shared folders have no links
        if os.path.lexists(path):
            raise FileExistsError(path) from None
        os.rename(scratch, path)


def _archive(bundle: Bundle) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        files = [(MANIFEST, bundle.manifest), *((item.name, item.data) for item in bundle.items)]
        for name, data in files:
            info = tarfile.TarInfo(f"{bundle.folder}/{name}")
            info.size, info.mode, info.mtime = len(data), 0o600, int(time.time())
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()
