"""A profile and those that it extends -> one tree, in which every value keeps its place.

Sections are merged field by field; lists and single values of the extending file replace
those of its base. Relative paths start at the folder of the file in which they stand, so a
base means the same whoever extends it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kvtier_ops import paths
from kvtier_ops.errors import Problem, ProfileError
from kvtier_ops.profile.schema import VERSION
from kvtier_ops.profile.written import FieldPath, Written
from kvtier_ops.profile.yaml_source import Tree, parse_yaml, read_source
from kvtier_ops.text import printable

EXTENDS = "extends"
FILES_MAX = 8


@dataclass(frozen=True)
class Chain:
    """The merged tree, the names of the files from the profile to its last base, and
    whether all of them could be read."""

    tree: Tree
    files: tuple[str, ...]
    is_whole: bool


def read_chain(tree: Tree, path: Path) -> Chain:
    """Reads what `tree`, the text of `path`, extends, and merges it.

    Problems of all files end up in the problems of the merged tree; nothing is raised.
    """
    files, trees, is_whole = [os.path.realpath(path)], [tree], True
    while (written := trees[-1].root.pop(EXTENDS, "")) != "":
        last = trees[-1]
        try:
            base_path = _base_of(written, last, files)
            base = _read(base_path, last.value_place((EXTENDS,)))
        except ProfileError as error:
            last.problems += error.problems
            is_whole = False
            break
        _check_version(base)
        files.append(os.path.realpath(base_path))
        trees.append(base)
    merged = trees[-1]
    for extending in reversed(trees[:-1]):
        merged = _merge(merged, extending)
    return Chain(merged, tuple(each.name for each in trees), is_whole)


def _base_of(written: Any, tree: Tree, files: list[str]) -> Path:
    place = tree.value_place((EXTENDS,))
    if (EXTENDS,) in tree.broken:
        raise ProfileError([tree.broken.pop((EXTENDS,))])
    if not isinstance(written, Written):
        what = "has no value" if written is None else "must be the path of one profile"
        hint = "for example `extends: base.yaml`; a base may extend another"
        raise ProfileError([Problem(what, hint, EXTENDS, place)])
    try:
        path = paths.expand(written.source, written.folder)
    except ValueError as error:
        raise ProfileError([Problem(printable(str(error)), "", EXTENDS, place)]) from None
    real = os.path.realpath(path)
    if real in files:
        names = [printable(Path(file).name) for file in (*files[files.index(real) :], real)]
        what = f"a profile cannot extend itself: {' -> '.join(names)}"
        raise ProfileError([Problem(what, "remove one of these lines", EXTENDS, place)])
    if len(files) >= FILES_MAX:
        what = f"more than {FILES_MAX} profiles extend one another"
        raise ProfileError([Problem(what, "merge some of them", EXTENDS, place)])
    return path


def _read(path: Path, place: str) -> Tree:
    """The base, its problems at their own places; one of the whole file at `place`."""
    name = _shown(path, place)
    try:
        return parse_yaml(read_source(path, name), name, path.parent)
    except ProfileError as error:
        raise ProfileError(
            [
                replace(
                    problem, what=f"`{printable(name)}`: {problem.what}", field=EXTENDS, place=place
                )
                if problem.place == name
                else problem
                for problem in error.problems
            ]
        ) from None


def _shown(path: Path, place: str) -> str:
    """As the reader can open it from where he is: relative if the profile was named so."""
    near = os.path.relpath(path)
    return str(path) if place.startswith("/") or near.startswith("..") else near


def _check_version(base: Tree) -> None:
    """Of a base: the extending file's hides it from the schema."""
    if base.root.get("version", str(VERSION)) != str(VERSION):
        what = f"this kvtier reads profiles of version {VERSION}"
        base.problems.append(Problem(what, "", "version", base.value_place(("version",))))
        base.root["version"] = str(VERSION)


def _merge(base: Tree, extending: Tree) -> Tree:
    """`base` with what `extending` has in its place."""
    replaced: set[FieldPath] = set()

    def merge(below: Any, above: Any, path: FieldPath) -> Any:
        if isinstance(below, dict) and above is None:
            return below
        if not isinstance(below, dict) or not isinstance(above, dict):
            replaced.add(path)
            return above
        result = dict(below)
        for name, value in above.items():
            result[name] = merge(below[name], value, (*path, name)) if name in below else value
        return result

    root = merge(base.root, extending.root, ())
    base.forget(replaced)
    return Tree(
        name=extending.name,
        folder=extending.folder,
        root=root,
        keys={**base.keys, **extending.keys},
        values={**base.values, **extending.values},
        broken={**base.broken, **extending.broken},
        problems=[*extending.problems, *base.problems],
    )
