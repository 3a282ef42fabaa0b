"""Reads YAML into text leaves with the place of every field.

Scalars stay text: the schema decides what `8000`, `no` or `on` mean, so a model named `no`
stays `no` and a switch set to `on` is on. Explicit tags are refused; anchors and merge keys
work; size, depth and expansion are bounded, so no input takes more than a moment.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from kvtier_ops.errors import Problem, ProfileError

SOURCE_BYTES_MAX = 1 << 20
NODES_MAX = 10_000
DEPTH_MAX = 32

FieldPath = tuple[str | int, ...]
_TEXT_TAG = "tag:yaml.org,2002:str"
_EMPTY = ("", "null", "Null", "NULL")


@dataclass
class Tree:
    """A document: nested dicts and lists of text, and where each field stands."""

    name: str
    root: dict[str, Any] = field(default_factory=dict)
    keys: dict[FieldPath, str] = field(default_factory=dict)
    values: dict[FieldPath, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def key_place(self, path: FieldPath) -> str:
        """Where the field's name stands; of the nearest section around it if it is absent."""
        while path and path not in self.keys:
            path = path[:-1]
        return self.keys.get(path, self.name)

    def value_place(self, path: FieldPath) -> str:
        """Where the field's value stands; of the nearest section around it if it is absent."""
        if path in self.values:
            return self.values[path]
        return self.key_place(path)


def read_source(path: Path) -> str:
    """The file's text. Raises ProfileError for everything that keeps it from being text."""
    name = str(path)
    try:
        with path.open("rb") as file:
            raw = file.read(SOURCE_BYTES_MAX + 1)
    except IsADirectoryError:
        raise _problem(name, "this is a directory", "name the profile in it") from None
    except FileNotFoundError:
        raise _problem(name, "there is no such file", _neighbours(path)) from None
    except OSError as error:
        raise _problem(name, f"cannot be read: {error.strerror}", "") from error
    except ValueError:  # an embedded null byte in the name
        raise _problem(repr(name), "this is not a file name", "") from None
    if len(raw) > SOURCE_BYTES_MAX:
        raise _problem(name, "is larger than 1 MiB: this is not a profile", "")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - (raw.rfind(b"\n", 0, error.start) + 1) + 1
        what = f"byte 0x{raw[error.start]:02x} is not UTF-8"
        raise _problem(f"{name}:{line}:{column}", what, "save the file as UTF-8") from None


def _neighbours(path: Path) -> str:
    try:
        names = sorted(item.name for item in path.parent.glob("*.yaml"))
    except OSError:
        names = []
    return f"in that folder: {', '.join(names[:6])}" if names else ""


def parse_yaml(text: str, name: str) -> Tree:
    """Text -> Tree. Problems of single fields are in `Tree.problems`.

    Raises ProfileError where the text is not YAML at all.
    """
    tree = Tree(name)
    node = _compose(text, name)
    if node is None:
        raise _problem(name, "the profile is empty", "its first line is `version: 1`")
    if not isinstance(node, MappingNode):
        what = f"a profile is a mapping of sections, not {_kind(node)}"
        raise _problem(_place(name, node), what, "its first line is `version: 1`")
    root = _Reader(tree).read(node, ())
    assert isinstance(root, dict)
    tree.root = root
    return tree


def _compose(text: str, name: str) -> Node | None:
    try:
        node: Node | None = yaml.compose(text, Loader=yaml.BaseLoader)
        return node
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        place = f"{name}:{before.count(chr(10)) + 1}:{error.position - before.rfind(chr(10))}"
        raise _problem(place, f"character U+{error.character:04X} is not allowed", "") from None
    except yaml.MarkedYAMLError as error:
        raise _syntax_problem(error, text, name) from None
    except RecursionError:
        raise _problem(name, f"is nested deeper than {DEPTH_MAX} levels", "") from None


def _syntax_problem(error: yaml.MarkedYAMLError, text: str, name: str) -> ProfileError:
    mark = error.problem_mark or error.context_mark
    place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
    line = text.splitlines()[mark.line] if mark and mark.line < len(text.splitlines()) else ""
    if mark and "\t" in line[: mark.column + 1]:
        return _problem(place, "a tab stands here", "YAML is indented with spaces; replace the tab")
    what = error.problem or error.context or "this is not YAML"
    hint = ""
    if "mapping values are not allowed" in what:
        hint = "is the line indented rightly? a value that holds `: ` needs quotes"
    elif "undefined alias" in what:
        hint = "`*name` refers to `&name` further up; a value that begins with `*` needs quotes"
    elif "another document" in what:
        hint = "a profile is one document: remove the `---` in the middle"
    return _problem(place, what, hint)


@dataclass
class _Reader:
    tree: Tree
    nodes: int = 0

    def read(self, node: Node, path: FieldPath) -> Any:
        """The value of `node`; records places and problems by the way."""
        self.nodes += 1
        if self.nodes > NODES_MAX or len(path) > DEPTH_MAX:
            what = f"holds more than {NODES_MAX} values or {DEPTH_MAX} levels"
            raise _problem(_place(self.tree.name, node), what, "")
        self.tree.values[path] = _place(self.tree.name, node)
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            return [self.read(item, (*path, i)) for i, item in enumerate(node.value)]
        assert isinstance(node, ScalarNode)
        if node.tag not in (_TEXT_TAG, "!"):
            self._report(
                path, node, f"tags such as `{node.tag}` are not used", "write the value alone"
            )
        if node.style is None and node.value in _EMPTY:
            return None
        return node.value

    def _mapping(self, node: MappingNode, path: FieldPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in self._pairs(node, path, 0):
            if key.value in result:
                continue
            field_path = (*path, key.value)
            self.tree.keys[field_path] = _place(self.tree.name, key)
            result[key.value] = self.read(value, field_path)
        return result

    def _pairs(
        self, node: MappingNode, path: FieldPath, depth: int
    ) -> Iterator[tuple[ScalarNode, Node]]:
        """Own fields first, then those that `<<` merges in; reports what stands twice."""
        merged: list[Node] = []
        seen: dict[str, ScalarNode] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                self._report(path, key, "a field's name is text", "")
            elif key.value == "<<":
                merged += value.value if isinstance(value, SequenceNode) else [value]
            elif key.value in seen:
                first = seen[key.value].start_mark.line + 1
                what = f"stands here for the second time; the first is on line {first}"
                self._report((*path, key.value), key, what, "keep one of the two")
            else:
                seen[key.value] = key
                yield key, value
        for item in merged:
            self.nodes += 1
            if not isinstance(item, MappingNode) or depth > DEPTH_MAX or self.nodes > NODES_MAX:
                self._report(path, item, "`<<` takes an anchor of a mapping, such as `*base`", "")
            else:
                yield from self._pairs(item, path, depth + 1)

    def _report(self, path: FieldPath, node: Node, what: str, hint: str) -> None:
        place = _place(self.tree.name, node)
        self.tree.problems.append(Problem(what, hint, dotted(path), place))


def dotted(path: FieldPath) -> str:
    """('tiers', 'l3', 'directories', 0) -> `tiers.l3.directories[0]`; long names are cut."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            shown = "".join(c if c.isprintable() else "?" for c in part)
            text += ("." if text else "") + (shown if len(shown) <= 40 else shown[:37] + "...")
    return text


def _place(name: str, node: Node) -> str:
    return f"{name}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"


def _kind(node: Node) -> str:
    return "a list" if isinstance(node, SequenceNode) else "a single value"


def _problem(place: str, what: str, hint: str) -> ProfileError:
    return ProfileError([Problem(what, hint, place=place)])
