"""pydantic's errors -> sentences with a place, in the order of the files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydantic_core import ErrorDetails

from kvtier_ops.errors import Problem
from kvtier_ops.profile.walk import example_of, model_at, nearest_field
from kvtier_ops.profile.written import FieldPath, Written, at, leaves
from kvtier_ops.profile.yaml_source import Tree, dotted, visible
from kvtier_ops.text import printable
from kvtier_ops.units import Respelled


def explain(details: ErrorDetails, tree: Tree) -> Problem | None:
    """None: its cause is among the tree's own problems already."""
    path: FieldPath = tuple(details["loc"])
    kind, context = details["type"], details.get("ctx", {})
    if any(broken[: len(path)] == path for broken in tree.broken):
        return None
    if kind == "extra_forbidden":
        what, hint = "there is no such field", nearest_field(path)
        return Problem(what, hint, dotted(path), tree.key_place(path))
    if kind == "missing":
        where = tree.key_place(path[:-1])
        hint = f"write `{path[-1]}: 1` on the first line" if len(path) == 1 else ""
        return Problem("is missing", hint, dotted(path), where)
    value = details["input"]
    if path[-1:] == ("[key]",):  # pydantic's name for the key before it
        path = path[:-1]
        return Problem(str(context.get("error")), "", dotted(path), tree.key_place(path))
    place = tree.value_place(path)
    if value is None:
        return Problem("has no value", "write one, or remove the line", dotted(path), place)
    what, hint = _sentence(kind, context, value, details["msg"])
    if kind == "model_type":
        hint = _missing_space(path, value)
    for _, leaf in leaves(at(tree.root, path)):
        if leaf.variables:
            is_told = isinstance(context.get("error"), Respelled)
            what = _without_value("" if is_told else what, leaf)
    return Problem(printable(what), hint or example_of(path), dotted(path), place)


def _sentence(kind: str, context: dict[str, Any], value: Any, message: str) -> tuple[str, str]:
    """What is wrong, and a hint if there is a better one than the field's example."""
    text = value.source if isinstance(value, Written) else value
    shown = f"`{visible(text)}`" if isinstance(text, str) else _name_of(value)
    match kind:
        case "value_error":
            return str(context["error"]), ""
        case "not_single":
            return f"must be a single value, not {shown}", ""
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
        case "too_long":
            return f"has {context['actual_length']} items; at most {context['max_length']} do", ""
    return message, ""


def _missing_space(path: FieldPath, value: Any) -> str:
    """`size:4GiB`, which to YAML is a single value."""
    model = model_at(path)
    name, colon, rest = str(value).partition(":")
    if isinstance(value, Written) and colon and model and name in model.model_fields:
        return f"a space is missing: write `{name}: {visible(rest.split()[0] if rest else '')}`"
    return "its fields follow on lines of their own, indented further"


def _without_value(what: str, leaf: Written) -> str:
    """The sentence with what was written in the place of what the environment made of it,
    which may be a secret; if pieces of that would be left, or there is no sentence, one that
    knows none."""
    shown = visible(leaf.source)
    value = rf"(?<![0-9A-Za-z]){re.escape(leaf)}(?![0-9])"
    said = re.sub(value, lambda match: shown, what) if leaf else what
    rest = set(re.findall(r"\d+|[A-Za-z]+", said.replace(shown, " ")))
    is_cut = len(leaf) > 8 and leaf[:8] in said
    if not what or is_cut or rest & set(re.findall(r"\d+|[A-Za-z]+", leaf)):
        return f"what `{shown}` stands for is not allowed here"
    return said if shown in said else f"`{shown}`: {said}"


def _name_of(value: Any) -> str:
    return "a section" if isinstance(value, dict) else "a list"


def in_order(problems: Sequence[Problem], files: Sequence[str]) -> list[Problem]:
    """By file, in the order of `files`, then by line and column; overrides last."""

    def position(problem: Problem) -> tuple[int, int, int]:
        name, *numbers = problem.place.rsplit(":", 2)
        if len(numbers) == 2 and name in files and all(map(str.isdecimal, numbers)):
            return (files.index(name), int(numbers[0]), int(numbers[1]))
        return (files.index(problem.place) if problem.place in files else len(files), 0, 0)

    return sorted(problems, key=position)
