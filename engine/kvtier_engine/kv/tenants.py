"""Where each tenant's chains start, and how all of a tenant's pages are cleared at once.

A key does not tell whose page it is, and pages of earlier runs were seen by nobody who could
say. So a tenant is cleared by a new root: its generation goes into it, no request can find the
old pages any more, and they leave their tiers as the least recently used. Generations outlive
the engine, or what was cleared would be back after a restart.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
from pathlib import Path

from kvtier_engine.kv.keys import root_key

log = logging.getLogger(__name__)

FILE = "tenants.json"
_VERSION = 1
_GENERATION_MAX = 1 << 62


class TenantsError(Exception):
    """A tenant cannot be cleared; the message says why."""


class Tenants:
    """The generations of this run, and their file in `folder`; without one none can change."""

    def __init__(self, namespace: bytes, folder: Path | None = None) -> None:
        self._namespace = namespace
        self._folder = folder
        self._first = 0  # generation of tenants that were never cleared
        self._generations: dict[str, int] = {}
        if folder is not None:
            self._load(folder / FILE)

    def root(self, tenant: str, salt: str) -> bytes:
        return root_key(self._namespace, salt, tenant, self.generation(tenant))

    def generation(self, tenant: str) -> int:
        return self._generations.get(tenant, self._first)

    def clear(self, tenant: str) -> int:
        """No page of the tenant's is found any more, now and after a restart. Returns the new
        generation. Raises TenantsError, and then nothing has changed."""
        if self._folder is None:
            raise TenantsError("the engine has no `state_dir` in which to remember it")
        generation = self.generation(tenant) + 1
        self._save(self._folder, {**self._generations, tenant: generation})
        self._generations[tenant] = generation
        return generation

    def _load(self, path: Path) -> None:
        try:
            said = json.loads(path.read_bytes())
            first, generations = said["first"], said["generations"]
            known = [first, *generations.values()]
            if said["version"] != _VERSION or not all(map(_is_generation, known)):
                raise ValueError("not what this version writes")
            self._first, self._generations = first, dict(generations)
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            # What was cleared must stay so: nobody finds anything from before.
            log.error("`%s` cannot be used (%s): the cache starts cold", path, error)
            self._first, self._generations = secrets.randbelow(_GENERATION_MAX), {}
            try:
                self._save(path.parent, {})
            except TenantsError as problem:
                log.error("%s", problem)

    def _save(self, folder: Path, generations: dict[str, int]) -> None:
        """On disk, whole or not at all, when this returns."""
        text = json.dumps(
            {"version": _VERSION, "first": self._first, "generations": generations}, indent=2
        )
        draft, path = folder / f"{FILE}.new", folder / FILE
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(draft, "w", opener=_private) as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
            parent = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(parent)
            finally:
                os.close(parent)
        except OSError as error:
            raise TenantsError(f"cannot write `{path}`: {error.strerror}") from error


def _is_generation(value: object) -> bool:
    return type(value) is int and 0 <= value <= 2 * _GENERATION_MAX


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
