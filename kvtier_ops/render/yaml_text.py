"""Data as YAML text that every reader of YAML 1.1 and 1.2 takes for the same."""

from __future__ import annotations

import re
from typing import Any

import yaml

# YAML 1.1 reads these as numbers of base 60, and some readers `y` and `n` as switches.
_AMBIGUOUS = re.compile(r"[-+]?[0-9][0-9_:.]*|[yYnN]|0[oO]?[0-7]+")


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as blocks; no anchors, which some readers refuse."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None
    if "\n" in text and not re.search(r"[ \t]\n|\t|\r|[^\n\x20-\x7e]", text):
        style = "|"
    elif _AMBIGUOUS.fullmatch(text):
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _text)


def as_yaml(*documents: Any) -> str:
    return yaml.dump_all(
        documents,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=10**6,
        explicit_start=len(documents) > 1,
    )
