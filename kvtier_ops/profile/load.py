"""Reads a profile: file and `--set` overrides -> Profile, or every problem at once."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from kvtier_ops.errors import Problem, ProfileError
from kvtier_ops.profile.schema import Profile
from kvtier_ops.profile.yaml_source import FieldPath, Tree, dotted, parse_yaml, read_source


@dataclass(frozen=True)
class ProfileFile:
    """A valid profile, and where each of its fields was written."""

    path: Path
    profile: Profile
    tree: Tree

    def place_of(self, field: str) -> str:
        """`tiers.l2.size` -> `quickstart.yaml:12:11`; the file alone for a default."""
        return self.tree.value_place(tuple(field.split(".")))


def load_profile(path: Path, overrides: Sequence[str] = ()) -> ProfileFile:
    """Reads and validates. `overrides` are `tiers.l2.size=4GiB`, later ones win.

    Raises ProfileError with all problems, each with file, line and column.
    """
    tree = parse_yaml(read_source(path), str(path))
    for override in overrides:
        _apply(tree, override)
    root = _without_empty_sections(tree.root)
    try:
        profile = Profile.model_validate(root, context={"base": path.absolute().parent})
    except ValidationError as error:
        found = [_problem(details, tree) for details in error.errors(include_url=False)]
        raise ProfileError(_in_order(tree.problems + found)) from None
    if tree.problems:
        raise ProfileError(tree.problems)
    return ProfileFile(path, profile, tree)


def _apply(tree: Tree, override: str) -> None:
    """Writes one `field=value` into the tree; the value is YAML, as in the file."""
    name, equals, text = override.partition("=")
    place = f"--set {name}"
    path: FieldPath = tuple(name.strip().split("."))
    if not equals or not all(path):
        what = "an override is a field, `=` and a value"
        raise ProfileError(
            [Problem(what, "such as `--set tiers.l2.size=4GiB`", place=f"--set {override}")]
        )
    if not text.strip():
        raise ProfileError([Problem("the value is missing", "", place=place)])
    value_tree = parse_yaml(f"value: {text}\n", place)
    tree.problems += value_tree.problems
    section: Any = tree.root
    for depth, part in enumerate(path[:-1], 1):
        if section.get(part) is None:
            section[part] = {}
            tree.keys.setdefault(path[:depth], place)
        section = section[part]
        if not isinstance(section, dict):
            return  # validation reports what stands in the section's place
    section[path[-1]] = value_tree.root["value"]
    tree.keys[path] = tree.values[path] = place


def _without_empty_sections(root: dict[str, Any]) -> dict[str, Any]:
    """`l2:` with nothing below it is a section with its defaults."""

    def clean(value: Any, model: type[BaseModel]) -> Any:
        if value is None:
            return {}
        if not isinstance(value, dict):
            return value
        return {
            name: clean(item, section) if (section := _section(model, name)) else item
            for name, item in value.items()
        }

    result = clean(root, Profile)
    assert isinstance(result, dict)
    return result


def _section(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    """The section that the field `name` of `model` holds, if it holds one."""
    field = model.model_fields.get(name)
    kind = field.annotation if field else None
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _item_section(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    """The section that each item of the list `name` is, if they are."""
    field = model.model_fields.get(name)
    for kind in get_args(field.annotation) if field else ():
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _problem(details: ErrorDetails, tree: Tree) -> Problem:
    """pydantic's error -> a sentence with its place."""
    path: FieldPath = tuple(details["loc"])
    kind, context = details["type"], details.get("ctx", {})
    if kind == "extra_forbidden":
        what, hint = "there is no such field", _nearest_field(path)
        return Problem(what, hint, dotted(path), tree.key_place(path))
    if kind == "missing":
        where = tree.key_place(path[:-1])
        hint = f"write `{path[-1]}: 1` on the first line" if len(path) == 1 else ""
        return Problem("is missing", hint, dotted(path), where)
    value = details["input"]
    place = tree.value_place(path)
    if value is None:
        return Problem("has no value", "write one, or remove the line", dotted(path), place)
    what, hint = _sentence(kind, context, value, details["msg"])
    return Problem(what, hint or _example(path), dotted(path), place)


def _sentence(kind: str, context: dict[str, Any], value: Any, message: str) -> tuple[str, str]:
    """What is wrong, and a hint if there is a better one than the field's example."""
    shown = f"`{_shorten(value)}`" if isinstance(value, str) else "a list or a section"
    match kind:
        case "value_error":
            return str(context["error"]), ""
        case "not_single":
            return f"must be a single value, not {_name_of(value)}", ""
        case "model_type":
            return f"must be a section with fields of its own, not {shown}", ""
        case "tuple_type":
            return f"must be a list, not {shown}", ""
        case "int_parsing" | "int_from_float" | "int_type" | "int_parsing_size":
            return f"must be a whole number, not {shown}", ""
        case "float_parsing" | "float_type" | "finite_number":
            return f"must be a number, not {shown}", ""
        case "bool_parsing" | "bool_type":
            return f"must be `true` or `false`, not {shown}", ""
        case "greater_than_equal":
            return f"must be at least {context['ge']}, not {shown}", ""
        case "greater_than":
            return f"must be above {context['gt']:g}, not {shown}", ""
        case "less_than_equal":
            return f"must be at most {context['le']}, not {shown}", ""
        case "multiple_of":
            return f"must be a multiple of {context['multiple_of']}, not {shown}", ""
        case "literal_error":
            return f"must be one of {context['expected'].replace(chr(39), '`')}, not {shown}", ""
    return message, ""


def _name_of(value: Any) -> str:
    return "a section" if isinstance(value, dict) else "a list"


def _shorten(text: str) -> str:
    shown = "".join(c if c.isprintable() else "?" for c in text)
    return shown if len(shown) <= 40 else shown[:37] + "..."


def _nearest_field(path: FieldPath) -> str:
    """A field of the same section with a like name, or one of another section, or all."""
    model: type[BaseModel] | None = Profile
    for part in path[:-1]:
        if isinstance(part, str):
            model = (_section(model, part) or _item_section(model, part)) if model else None
    name = str(path[-1])
    if model is None:
        return ""
    here = difflib.get_close_matches(name, model.model_fields, 1, 0.6)
    if here:
        return f"did you mean `{here[0]}`?"
    elsewhere = [field for field in all_fields() if field.rpartition(".")[2] == name]
    if elsewhere:
        return f"it belongs in `{elsewhere[0].rpartition('.')[0] or 'the top level'}`"
    return f"the fields here are {', '.join(model.model_fields)}"


def all_fields(model: type[BaseModel] = Profile, prefix: str = "") -> list[str]:
    """Dotted names of every field, sections included, in the order of the schema."""
    names = []
    for name in model.model_fields:
        names.append(prefix + name)
        section = _section(model, name)
        names += all_fields(section, f"{prefix}{name}.") if section else []
    return names


def _example(path: FieldPath) -> str:
    """`for example ...`, from the schema, or the nearest of a fixed set of values."""
    model: type[BaseModel] = Profile
    for part in path[:-1]:
        section = _section(model, str(part))
        if section is None:
            break
        model = section
    names = [part for part in path if isinstance(part, str)]
    field = model.model_fields.get(names[-1]) if names else None
    if field is None or not field.examples:
        return ""
    example = field.examples[0]
    shown = _flow(example)
    choices = [str(choice) for choice in get_args(field.annotation) if isinstance(choice, str)]
    if choices:
        return ""
    return f"for example `{names[-1]}: {shown.lower() if isinstance(example, bool) else shown}`"


def _flow(value: Any) -> str:
    """As one writes it in YAML, on one line."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name}: {_flow(item)}' for name, item in value.items())}}}"
    return f"[{', '.join(map(_flow, value))}]" if isinstance(value, list) else str(value)


def _in_order(problems: list[Problem]) -> list[Problem]:
    """By line and column of the file; overrides last."""

    def position(problem: Problem) -> tuple[int, int, int]:
        parts = problem.place.rsplit(":", 2)
        if len(parts) == 3 and parts[1].isdigit() and parts[2].isdigit():
            return (0, int(parts[1]), int(parts[2]))
        return (1, 0, 0)

    return sorted(problems, key=position)
