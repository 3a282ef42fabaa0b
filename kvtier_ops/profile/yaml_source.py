"""Reads YAML into text leaves with the place of every field.

Scalars stay text: the schema decides what `8000`, `no` or `on` mean, so a model named `no`
stays `no` and a switch set to `on` is on. `${NAME}` is replaced in values. Explicit tags are
refused; anchors and merge keys work; size, depth and expansion are bounded, so no input takes
more than a moment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from kvtier_ops.errors import Problem, ProfileError
from kvtier_ops.profile.secrets import MASK
from kvtier_ops.profile.written import FieldPath, Written, read_written
from kvtier_ops.text import shortened

SOURCE_BYTES_MAX = 128 << 10
NODES_MAX = 4_000
DEPTH_MAX = 32

_TAGS = ("!", *(f"tag:yaml.org,2002:{kind}" for kind in ("str", "map", "seq")))
_EMPTY = ("", "null", "Null", "NULL")  # `~` is a path: the home folder


@dataclass
class Tree:
    """A document: nested dicts and lists of Written, and where each field stands.

    `folder` is where its relative paths start. `broken` are single values without a meaning,
    and why: no problem where another value takes their place.
    """

    name: str
    folder: Path
    root: dict[str, Any] = field(default_factory=dict)
    keys: dict[FieldPath, str] = field(default_factory=dict)
    values: dict[FieldPath, str] = field(default_factory=dict)
    broken: dict[FieldPath, Problem] = field(default_factory=dict)
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

    def all_problems(self) -> list[Problem]:
        return [*self.problems, *self.broken.values()]

    def forget(self, paths: set[FieldPath]) -> None:
        """Drops the places of these fields and of all that is in them."""

        def is_gone(path: FieldPath) -> bool:
            return any(path[:depth] in paths for depth in range(len(path) + 1))

        self.keys = {path: place for path, place in self.keys.items() if not is_gone(path)}
        self.values = {path: place for path, place in self.values.items() if not is_gone(path)}
        self.broken = {path: why for path, why in self.broken.items() if not is_gone(path)}


def read_source(path: Path, name: str) -> str:
    """The file's text. Raises ProfileError for everything that keeps it from being text;
    `name` is what its errors call the file."""
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
        raise _problem(name, "is larger than 128 KiB: this is not a profile", "")
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


def parse_yaml(text: str, name: str, folder: Path) -> Tree:
    """Text -> Tree. Problems of single fields are in `Tree.problems`.

    Raises ProfileError where the text is not YAML at all.
    """
    tree = Tree(name, folder)
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


class _BoundedLoader(yaml.BaseLoader):
    """Stops at what no profile has, before the text has been read to its end."""

    _nodes = 0
    _depth = 0

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        self._nodes += 1
        self._depth += 1
        if self._nodes > 2 * NODES_MAX or self._depth > 2 * DEPTH_MAX:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            what = f"holds more than {NODES_MAX} values, or is nested deeper than {DEPTH_MAX}"
            raise yaml.MarkedYAMLError(problem=f"{what} levels", problem_mark=mark)
        node: Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _compose(text: str, name: str) -> Node | None:
    try:
        node: Node | None = yaml.compose(text, Loader=_BoundedLoader)
        return node
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        place = f"{name}:{before.count(chr(10)) + 1}:{error.position - before.rfind(chr(10))}"
        raise _problem(place, f"character U+{error.character:04X} is not allowed", "") from None
    except yaml.MarkedYAMLError as error:
        raise _syntax_problem(error, text, name) from None


def _syntax_problem(error: yaml.MarkedYAMLError, text: str, name: str) -> ProfileError:
    what = error.problem or error.context or "this is not YAML"
    mark = error.problem_mark or error.context_mark
    if "end>" in what or "end of stream" in what:  # where it begins is of more use than where not
        mark = error.context_mark or mark
        is_text = "scalar" in (error.context or "")
        what = f"a {'quote' if is_text else 'bracket'} is never closed"
    place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
    lines = text.splitlines()[: mark.line + 1] if mark else []
    line = lines[-1] if mark and len(lines) == mark.line + 1 else ""
    if mark and "\t" in line[: mark.column + 1]:
        return _problem(place, "a tab stands here", "YAML is indented with spaces; replace the tab")
    if what.startswith("but ") and error.context:
        what = f"{error.context}, {what}"
    return _problem(place, what, _syntax_hint(what, line, lines[-2] if lines[1:] else ""))


def _syntax_hint(what: str, line: str, line_above: str) -> str:
    if "${" in line and re.search(r"[\[{].*\$\{", line) and what.startswith("expected ','"):
        return 'between `{` and `}`, and in `[...]`, `${NAME}` needs quotes: `"${NAME}"`'
    if "mapping values are not allowed" in what:
        if re.match(r"\s*\w+:[^\s/]", line_above):
            return "a space is missing after the `:` of the line above"
        return "is the line indented rightly? a value that holds `: ` needs quotes"
    if "undefined alias" in what:
        return "`*name` refers to `&name` further up; a value that begins with `*` needs quotes"
    if "another document" in what or "but found '<document start>'" in what:
        return "a profile is one document: remove the `---` in the middle"
    if "could not find expected ':'" in what:
        return "a field is a name, `:`, a space and a value: `size: 4GiB`"
    if "cannot start any token" in what:
        return "a value that begins with this character needs quotes"
    if "found duplicate anchor" in what:
        return "each `&name` stands once"
    return ""


@dataclass
class _Reader:
    tree: Tree
    nodes: int = 0

    def read(self, node: Node, path: FieldPath) -> Any:
        """The value of `node`; records places and problems by the way."""
        self._count(1, node, len(path))
        self.tree.values[path] = _place(self.tree.name, node)
        if node.tag not in _TAGS:
            what = f"tags such as `{visible(node.tag)}` are not used"
            self._report(path, node, what, "write the value alone")
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            return [self.read(item, (*path, i)) for i, item in enumerate(node.value)]
        assert isinstance(node, ScalarNode)
        if node.style is None and node.value in _EMPTY:
            return None
        return self._scalar(node, path)

    def _scalar(self, node: ScalarNode, path: FieldPath) -> Written:
        try:
            if node.value == MASK:
                raise ValueError(
                    f"`{MASK}` hides a value where a profile is shown: write the value itself, or "
                    "`${NAME}` for that of a variable"
                )
            return read_written(node.value, self.tree.folder)
        except ValueError as error:
            place = _place(self.tree.name, node)
            self.tree.broken[path] = Problem(str(error), "", dotted(path), place)
            return Written("", node.value, self.tree.folder, ())

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
            elif "${" in key.value:
                what = "a field's name is written out: `${...}` is for values"
                self._report((*path, key.value), key, what, "")
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
            if not isinstance(item, MappingNode):
                self._report(path, item, "`<<` takes an anchor of a mapping, such as `*base`", "")
                continue
            self._count(1 + len(item.value), item, depth)
            yield from self._pairs(item, path, depth + 1)

    def _count(self, nodes: int, node: Node, depth: int) -> None:
        self.nodes += nodes
        if self.nodes > NODES_MAX or depth > DEPTH_MAX:
            what = f"holds more than {NODES_MAX} values or {DEPTH_MAX} levels"
            raise _problem(_place(self.tree.name, node), what, "")

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
            text += ("." if text else "") + visible(part)
    return text


def visible(text: str) -> str:
    """At most 40 characters, each of which can be seen."""
    return shortened(text, 40)


def _place(name: str, node: Node) -> str:
    return f"{name}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"


def _kind(node: Node) -> str:
    return "a list" if isinstance(node, SequenceNode) else "a single value"


def _problem(place: str, what: str, hint: str) -> ProfileError:
    return ProfileError([Problem(what, hint, place=place)])
