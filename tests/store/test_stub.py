"""The typed stub names just what the native module has."""

from __future__ import annotations

import ast
import enum
from pathlib import Path

import pytest

from kvtier_store import _native

STUB = Path(__file__).resolve().parents[2] / "kvtier_store" / "_native.pyi"
TREE = ast.parse(STUB.read_text())
CLASSES = {node.name: node for node in TREE.body if isinstance(node, ast.ClassDef)}


def names(body: list[ast.stmt]) -> set[str]:
    """What a module or a class of the stub defines."""
    found = set()
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return {name for name in found if not name.startswith("_")}


def public(thing: object) -> set[str]:
    members = vars(thing)
    if isinstance(thing, type) and issubclass(thing, enum.Enum):
        return set(thing.__members__)
    return {name for name in members if not name.startswith("_")}


def test_the_module_has_what_the_stub_says():
    assert names(TREE.body) == public(_native)


@pytest.mark.parametrize("name", CLASSES)
def test_each_class_has_what_the_stub_says(name):
    kind = getattr(_native, name)
    if issubclass(kind, Exception):
        return
    assert names(CLASSES[name].body) == public(kind)
