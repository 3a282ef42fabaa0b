"""A start script as operators have them -> the command in it, and what stands around it.

Nothing is run. What a shell would do beyond assignments, `export`, quotes, comments and line
continuations is not followed: such words stay as they are.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field

from kvtier_ops.errors import BadInput

SCRIPT_CHARS_MAX = 1 << 20
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::-([^}]*))?\}|(\w+))")
_ENDS = frozenset(";&|<>()")
_NUMBERED = re.compile(r"(?<!\S)\d>(?:&[\d-]|\s*\S+)")  # `2>&1`, `2> FILE`
_HUGEPAGES = re.compile(r"(?:/proc/sys/vm/|hugepages-2048kB/|vm\.)nr_hugepages")


@dataclass(frozen=True)
class Command:
    """One simple command: its words, without assignments and redirections."""

    words: list[str]
    environment: dict[str, str]


@dataclass
class Script:
    """What a script sets and runs. `hugepages`: of 2 MiB, that it reserves."""

    commands: list[Command] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)  # variables whose values only a shell knows
    hugepages: int | None = None


def parse_script(text: str) -> Script:
    """Raises BadInput for what no shell would take: a quote that is not closed."""
    if len(text) > SCRIPT_CHARS_MAX:
        raise BadInput("is longer than any start command", "give the command line alone")
    script, variables = Script(), dict[str, str]()
    for words in _simple_commands(text.replace("\\\r\n", " ").replace("\\\n", " ")):
        _take(script, variables, words)
    return script


def _simple_commands(text: str) -> Iterator[list[str]]:
    """Words between `;`, `&&`, `|` and ends of lines; a redirection is a command `>` of its own."""
    pending = ""
    for line in text.splitlines():
        pending += ("\n" if pending else "") + line
        try:
            words = _words(pending)
        except ValueError:
            continue  # a quote goes on in the next line
        pending = ""
        yield from _split(words)
    if pending:
        raise BadInput(
            "this is no command line: a quote is not closed",
            "put the command in single quotes, and use double ones inside",
        )


def _words(line: str) -> list[str]:
    line = _NUMBERED.sub(" ", line)
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|<>()")
    lexer.whitespace_split = True
    return list(lexer)


def _split(words: list[str]) -> Iterator[list[str]]:
    command: list[str] = []
    for word in words:
        if word and set(word) <= _ENDS:
            if command:
                yield command
            command = [">"] if set(word) <= set("<>&") and "&&" not in word else []
        else:
            command.append(word)
    if command and command != [">"]:
        yield command


def _take(script: Script, variables: dict[str, str], words: list[str]) -> None:
    if words[0] == ">":
        if script.commands and len(words) > 1 and _HUGEPAGES.search(words[1]):
            _reserve(script, script.commands.pop().words)
        return
    if words[0] in ("export", "set", "declare", "local", "readonly"):
        words = words[1:]
        for word in words:
            if match := _ASSIGNMENT.fullmatch(word):
                value = _substitute(script, variables, match[2])
                script.environment[match[1]] = variables[match[1]] = value
        return
    environment = {}
    while words and (match := _ASSIGNMENT.fullmatch(words[0])):
        environment[match[1]] = _substitute(script, variables, match[2])
        words = words[1:]
    if not words:
        variables.update(environment)
        return
    words = [_substitute(script, variables, word) for word in words]
    if any(_HUGEPAGES.search(word) for word in words[1:]):
        said = words if "=" in " ".join(words) or not script.commands else []
        _reserve(script, said or script.commands.pop().words)  # `echo N | sudo tee FILE`
        return
    script.commands.append(Command(words, environment))


def _reserve(script: Script, words: list[str]) -> None:
    """`echo 200000`, `sysctl -w vm.nr_hugepages=200000`."""
    for word in words:
        digits = word.rpartition("=")[2]
        if digits.isascii() and digits.isdecimal() and len(digits) < 12:
            script.hugepages = int(digits)


def _substitute(script: Script, variables: dict[str, str], text: str) -> str:
    """Variables that the script itself sets; others stay, as `${NAME}`."""

    def value_of(match: re.Match[str]) -> str:
        name = match[1] or match[3]
        if name in variables and "$" not in variables[name]:
            return variables[name]
        if match[2]:
            return str(match[2])
        if name not in script.unknown:
            script.unknown.append(name)
        return f"${{{name}}}"

    return _VARIABLE.sub(value_of, text)
