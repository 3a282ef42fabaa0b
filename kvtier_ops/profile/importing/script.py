"""A start script as operators have them -> the command in it, and what stands around it.

Nothing is run. Assignments, arrays, `export`, quotes and variables are followed as a shell would;
what only a shell knows (`$1`, `$(...)`) stays, as `${NAME}`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from kvtier_ops.errors import BadInput
from kvtier_ops.profile.importing.shell_words import Operator, Piece, Word, read_words

SCRIPT_CHARS_MAX = 1 << 20
EXPANDED_CHARS_MAX = 1 << 20
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)\+?=", re.ASCII)
_HUGEPAGES = re.compile(r"hugepages-(\d{1,9})kB/nr_hugepages|nr_hugepages")
_KEYWORDS = frozenset(("export", "set", "declare", "local", "readonly", "typeset"))
_DEFAULT_HUGEPAGE_KIB = 2048


@dataclass(frozen=True)
class Command:
    """One simple command: its words, without assignments and redirections."""

    words: list[str]
    environment: dict[str, str]


@dataclass
class Script:
    """What a script sets and runs. `hugepages`: pages that it reserves, by size in KiB."""

    commands: list[Command] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    hugepages: dict[int, int] = field(default_factory=dict)


def parse_script(text: str) -> Script:
    """Raises BadInput for what no shell would take, and for what grows without end."""
    if len(text) > SCRIPT_CHARS_MAX:
        raise BadInput("this is longer than any start command", "give the command line alone")
    return _Interpreter().run(text)


class _Interpreter:
    def __init__(self) -> None:
        self._script = Script()
        self._variables: dict[str, list[str]] = {}
        self._expanded = 0

    def run(self, text: str) -> Script:
        words: list[Word] = []
        target = False  # the next word is the file of a redirection
        tokens = iter(read_words(text))
        for token in tokens:
            if isinstance(token, Word):
                if target:
                    self._redirected(words, token)
                    target = False
                else:
                    words.append(token)
                continue
            if token.text == "(" and words and _is_array(words[-1]):
                self._array(words.pop(), tokens)
            elif set(token.text) <= set("<>&") and set(token.text) & set("<>"):
                target = True
                if words and words[-1].literal.isdecimal() and len(words[-1].literal) == 1:
                    words.pop()  # `2>&1`
            elif token.text == "|":
                self._command(words)
                words = []
            else:
                self._command(words)
                words = []
        self._command(words)
        return self._script

    def _array(self, name: Word, tokens: Iterable[Word | Operator]) -> None:
        """`ARGS=(a b)` and `ARGS+=(c)`, which may go over lines."""
        found: list[str] = []
        for token in tokens:
            if isinstance(token, Word):
                found += self._expand(token)
            elif token.text.startswith(")"):
                break
        plain = name.literal.rstrip("=").rstrip("+")
        before = self._variables.get(plain, []) if name.literal.endswith("+=") else []
        self._variables[plain] = before + found

    def _redirected(self, words: list[Word], target: Word) -> None:
        """`echo 200000 > /proc/sys/vm/nr_hugepages`."""
        file = "".join(self._expand(target))
        if match := _HUGEPAGES.search(file):
            self._reserve(match, [text for word in words for text in self._expand(word)])
            words.clear()

    def _command(self, words: list[Word]) -> None:
        if not words:
            return
        if words[0].literal in _KEYWORDS:
            for word in words[1:]:
                self._script.environment.update(self._assign(word))
            return
        environment: dict[str, str] = {}
        rest = list(words)
        while rest and _name_of(rest[0]):
            environment.update(self._assign(rest.pop(0), is_kept=len(rest) == 0))
        if not rest:
            for name, value in environment.items():
                self._variables[name] = [value]
            return
        expanded = [text for word in rest for text in self._expand(word)]
        match = next((m for text in expanded[1:] if (m := _HUGEPAGES.search(text))), None)
        if match is not None:
            before = self._script.commands.pop().words if self._piped(expanded) else []
            self._reserve(match, [*before, *expanded])
            return
        self._script.commands.append(Command(expanded, environment))

    def _piped(self, words: list[str]) -> bool:
        """`echo N | sudo tee FILE`: the number is in the command before."""
        return bool(self._script.commands) and "tee" in words

    def _assign(self, word: Word, *, is_kept: bool = True) -> dict[str, str]:
        name = _name_of(word)
        if not name:
            return {}
        first = word.pieces[0]
        cut = Piece(first.text.partition("=")[2], first.is_quoted)
        value = " ".join(self._expand(Word([cut, *word.pieces[1:]]), is_one=True))
        if is_kept:
            self._variables[name] = [value]
        return {name: value}

    def _reserve(self, match: re.Match[str], words: list[str]) -> None:
        """`200000`, `vm.nr_hugepages=200000`."""
        for word in words:
            digits = word.rpartition("=")[2]
            if digits.isascii() and digits.isdecimal() and len(digits) < 12:
                size = int(match[1]) if match[1] else _DEFAULT_HUGEPAGE_KIB
                self._script.hugepages[size] = int(digits)

    def _expand(self, word: Word, *, is_one: bool = False) -> list[str]:
        """What a word becomes: none, one or several. `is_one`: of an assignment, one."""
        found: list[str] = [""]
        is_there = False
        for piece in word.pieces:
            values = self._values(piece)
            is_there = is_there or piece.is_quoted or any(values)
            if len(values) > 1 and not is_one:
                found[-1] += values[0]
                found += values[1:]
            else:
                found[-1] += " ".join(values)
        self._expanded += sum(map(len, found))
        if self._expanded > EXPANDED_CHARS_MAX:
            raise BadInput("its variables become more text than any command has", "write it out")
        return found if is_there else []

    def _values(self, piece: Piece) -> list[str]:
        """Of one piece: a list's items, words of a value without quotes, or one text."""
        if not piece.name:
            return [piece.text if not piece.is_open else "${...}"]
        values = self._variables.get(piece.name)
        if values is None or any("${" in value for value in values):
            return [piece.text or f"${{{piece.name}}}"]
        if piece.is_list:
            return values
        joined = " ".join(values)
        return [joined] if piece.is_quoted else joined.split()


def _name_of(word: Word) -> str:
    """Of the variable that the word assigns; "": none."""
    first = word.pieces[0] if word.pieces else None
    if first is None or first.is_quoted or first.name:
        return ""
    match = _ASSIGNMENT.match(first.text)
    return match[1] if match else ""


def _is_array(word: Word) -> bool:
    return bool(_name_of(word)) and word.literal.endswith("=") and len(word.pieces) == 1
