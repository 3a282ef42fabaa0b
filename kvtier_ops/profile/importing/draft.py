"""What becomes of each flag: fields of a profile, and a report of what was changed or left out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from kvtier_ops.errors import ProfileError
from kvtier_ops.profile.draft import quoted
from kvtier_ops.profile.load import load_text
from kvtier_ops.profile.walk import all_fields
from kvtier_ops.text import printable

_TRIES_MAX = 200  # fields that the loader may refuse, one after the other
Value = str | int | float | bool | list[str] | dict[str, str]


@dataclass(frozen=True)
class Line:
    """One line of the report. `flag`: as it was written; `what`: what became of it, and why."""

    flag: str
    what: str


@dataclass(frozen=True)
class _Entry:
    value: Value
    flag: str
    note: str


@dataclass
class Draft:
    """A profile in the making. A later flag wins over an earlier one, as in the engines."""

    fields: dict[str, _Entry] = field(default_factory=dict)
    kept: list[Line] = field(default_factory=list)
    changed: list[Line] = field(default_factory=list)
    dropped: list[Line] = field(default_factory=list)
    secret: str = ""  # variable that a client key is to be read from

    def keep(self, flag: str, name: str, value: Value, note: str = "") -> None:
        """Carried over as it is."""
        self.fields[name] = _Entry(value, flag, note)
        self.kept.append(Line(flag, f"`{name}: {flow(value)}`"))

    def change(self, flag: str, name: str, value: Value, why: str) -> None:
        """Carried over, but not as it was written."""
        self.fields[name] = _Entry(value, flag, "")
        self.changed.append(Line(flag, f"`{name}: {flow(value)}`: {why}"))

    def remark(self, flag: str, why: str) -> None:
        """Something that the operator should know of what was carried over."""
        self.changed.append(Line(flag, why))

    def drop(self, flag: str, why: str) -> None:
        self.dropped.append(Line(flag, why))

    @property
    def ranks_here(self) -> int:
        """Tensor-parallel ranks of one node, as far as the flags tell."""
        return max(1, self._count("engine.tensor_parallel") // self._count("cluster.nodes"))

    def _count(self, name: str) -> int:
        entry = self.fields.get(name)
        is_count = entry is not None and isinstance(entry.value, int) and entry.value > 0
        return int(str(entry.value)) if entry is not None and is_count else 1

    def text(self, command: str) -> str:
        """The profile. What the loader refuses is left out, with the loader's reason."""
        for _ in range(_TRIES_MAX):
            text = self._render(command)
            try:
                load_text(text, Path("imported.yaml"))
            except ProfileError as error:
                if not self._leave_out({problem.field: problem.what for problem in error.problems}):
                    raise
            else:
                return text
        return self._render(command)

    def _leave_out(self, problems: dict[str, str]) -> bool:
        """True if a field of ours was among them."""
        found = False
        for name in list(self.fields):
            for wrong, what in problems.items():
                if wrong == name or wrong.startswith((f"{name}[", f"{name}.")):
                    self.drop(self.fields.pop(name).flag, f"`{name}` {what}")
                    found = True
                    break
        return found

    def _render(self, command: str) -> str:
        lines = [f"# Made by `kvtier profile import {command}`. `kvtier plan` says what it takes.",
                 "", "version: 1"]  # fmt: skip
        open_sections: tuple[str, ...] = ()
        for name in all_fields():
            entry = self.fields.get(name)
            if entry is None and not (name == "server.api_keys" and self.secret):
                continue
            *sections, last = name.split(".")
            lines += _headings(open_sections, tuple(sections))
            open_sections = tuple(sections)
            pad = "  " * len(sections)
            if entry is None:
                lines += [f"{pad}{last}:", f"{pad}  - {{name: default, env: {self.secret}}}"]
            else:
                lines += _written(pad, last, entry)
        return "\n".join(lines) + "\n"


def _headings(before: tuple[str, ...], now: tuple[str, ...]) -> list[str]:
    common = 0
    while common < min(len(before), len(now)) and before[common] == now[common]:
        common += 1
    blank = [""] if common == 0 else []
    return blank + [f"{'  ' * depth}{now[depth]}:" for depth in range(common, len(now))]


def _written(pad: str, name: str, entry: _Entry) -> list[str]:
    why = f"# {' '.join(entry.flag.split())}" + (f": {entry.note}" if entry.note else "")
    why = printable(why)[:120]
    if isinstance(entry.value, list):
        items = [f"{pad}  - {quoted(item)}" for item in entry.value]
        return [f"{pad + name + ':':<32}  {why}", *items]
    if isinstance(entry.value, dict):
        items = [f"{pad}  {key}: {quoted(text)}" for key, text in entry.value.items()]
        return [f"{pad + name + ':':<32}  {why}", *items]
    return [f"{f'{pad}{name}: {flow(entry.value)}':<32}  {why}"]


def flow(value: Value) -> str:
    """As YAML has it on one line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if isinstance(value, list):
        return f"[{', '.join(quoted(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {quoted(text)}' for key, text in value.items())}}}"
    return quoted(value)
