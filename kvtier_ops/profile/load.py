"""Reads a profile: file, what it extends and `--set` -> Profile, or every problem at once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from kvtier_ops.errors import Problem, ProfileError
from kvtier_ops.profile.explain import explain, in_order
from kvtier_ops.profile.extends import EXTENDS, Chain, read_chain
from kvtier_ops.profile.schema import Profile
from kvtier_ops.profile.walk import all_fields, section_of
from kvtier_ops.profile.written import FieldPath
from kvtier_ops.profile.yaml_source import Tree, dotted, parse_yaml, read_source

__all__ = ["ProfileFile", "all_fields", "load_profile", "load_text"]

PROBLEMS_MAX = 100  # of the schema that are told in full


@dataclass(frozen=True)
class ProfileFile:
    """A valid profile, and where each of its fields was written."""

    path: Path
    profile: Profile
    tree: Tree

    def place_of(self, field: str) -> str:
        """`tiers.l2.size` -> `quickstart.yaml:12:11`; the file alone for a default."""
        return self.tree.value_place(path_of(field))


def path_of(field: str) -> FieldPath:
    """`tiers.l3.directories[0]` -> ('tiers', 'l3', 'directories', 0)."""
    parts = re.findall(r"\[(\d{1,6})\]|([^.\[\]]+)", field)
    return tuple(name or int(index) for index, name in parts)


def load_profile(path: Path, overrides: Sequence[str] = ()) -> ProfileFile:
    """Reads and validates. `overrides` are `tiers.l2.size=4GiB`, later ones win.

    Raises ProfileError with all problems, each with file, line and column.
    """
    return load_text(read_source(path, str(path)), path, overrides)


def load_text(text: str, path: Path, overrides: Sequence[str] = ()) -> ProfileFile:
    """`load_profile` of a file that would be at `path` and hold `text`."""
    folder = path.absolute().parent
    chain = read_chain(parse_yaml(text, str(path), folder), path)
    tree = chain.tree
    for override in overrides:
        _apply(tree, override)
    root = _without_empty_sections(tree.root)
    try:
        profile = Profile.model_validate(root, context={"base": folder})
    except ValidationError as error:
        raise ProfileError(_problems(error, chain)) from None
    if problems := tree.all_problems():
        raise ProfileError(in_order(problems, chain.files))
    return ProfileFile(path, profile, tree)


def _problems(error: ValidationError, chain: Chain) -> list[Problem]:
    found: list[Problem] = []
    left = 0
    for details in error.errors(include_url=False):
        if not chain.is_whole and details["type"] == "missing":
            continue  # a base that is not there may have it
        if len(found) >= PROBLEMS_MAX:
            left += 1
        elif (problem := explain(details, chain.tree)) is not None:
            found.append(problem)
    last = [Problem(f"has {left} more mistakes", place=chain.tree.name)] if left else []
    return in_order([*chain.tree.all_problems(), *found], chain.files) + last


def _apply(tree: Tree, override: str) -> None:
    """Writes one `field=value` into the tree; the value is YAML, as in the file."""
    name, equals, text = override.partition("=")
    path: FieldPath = tuple(name.strip().split("."))
    place = f"--set {dotted(path)}"
    if not equals or not all(path):
        what = "an override is a field, `=` and a value"
        hint = "such as `--set tiers.l2.size=4GiB`"
        tree.problems.append(Problem(what, hint, place=f"--set {dotted((override,))}"))
        return
    if path == (EXTENDS,):
        what = "is read before anything else: write it into the profile"
        tree.problems.append(Problem(what, "", place=place))
        return
    try:
        value_tree = _parse_value(text, tree.folder, place)
    except ProfileError as error:
        tree.problems += error.problems
        return
    value = value_tree.root["value"]
    section: Any = tree.root
    for depth, part in enumerate(path[:-1], 1):
        if section.get(part) is None:
            section[part] = {}
            tree.keys.setdefault(path[:depth], place)
        section = section[part]
        if not isinstance(section, dict):
            what = f"`{dotted(path[:depth])}` is not a section: its value is set as a whole"
            tree.problems.append(Problem(what, "", place=place))
            return
    tree.forget({path})
    tree.broken.update({(*path, *at[1:]): why for at, why in value_tree.broken.items()})
    tree.problems += value_tree.problems
    section[path[-1]] = value
    tree.keys[path] = tree.values[path] = place


def _parse_value(text: str, folder: Path, place: str) -> Tree:
    """The value in `value`. Its problems stand at `place`: the command line has no columns."""
    if not text.strip():
        raise ProfileError([Problem("the value is missing", 'an empty text is `""`', place=place)])
    try:
        tree = parse_yaml(f"value: {text}\n", place, folder)
    except ProfileError as error:
        raise ProfileError([replace(each, place=place) for each in error.problems]) from None
    if set(tree.root) != {"value"}:
        raise ProfileError([Problem("this is more than one value", "", place=place)])
    tree.problems = [replace(each, field="", place=place) for each in tree.problems]
    tree.broken = {path: replace(why, field="", place=place) for path, why in tree.broken.items()}
    return tree


def _without_empty_sections(root: dict[str, Any]) -> dict[str, Any]:
    """`l2:` with nothing below it is a section with its defaults."""

    def clean(value: Any, model: type[BaseModel]) -> Any:
        if value is None:
            return {}
        if not isinstance(value, dict):
            return value
        return {
            name: clean(item, section) if (section := section_of(model, name)) else item
            for name, item in value.items()
        }

    result = clean(root, Profile)
    assert isinstance(result, dict)
    return result
