"""Words of a shell script with what their quotes mean: which of them holds a variable, and where.

As much of the shell's grammar as start scripts use (POSIX, 2.2 and 2.3, and bash's arrays):
quotes, escapes, comments, continued lines, here-documents, operators. One pass, one time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from kvtier_ops.errors import BadInput

_NAME = re.compile(r"[A-Za-z_]\w*|[0-9@*#?$!]", re.ASCII)
_BRACED = re.compile(r"\{([A-Za-z_]\w*|[0-9@*#?])(\[[@*]\])?(?::?-([^{}]*))?\}", re.ASCII)
_OPERATORS = ";&|<>()"


@dataclass(frozen=True)
class Piece:
    """Text, or a variable (`name`) in its place. `is_quoted`: its value is one word."""

    text: str
    is_quoted: bool
    name: str = ""  # `${name:-text}`
    is_list: bool = False  # `${name[@]}`
    is_open: bool = False  # `$(...)`: only a shell knows what it becomes


@dataclass
class Word:
    pieces: list[Piece] = field(default_factory=list)

    @property
    def literal(self) -> str:
        """Its text, if it is nothing else; variables are left out."""
        return "".join(piece.text for piece in self.pieces if not piece.name)


@dataclass(frozen=True)
class Operator:
    """`;`, `&&`, `|`, `>`, `(`, ... or the end of a line."""

    text: str


Token = Word | Operator


def read_words(text: str) -> Iterator[Token]:
    """Raises BadInput for a quote that is not closed."""
    return _Reader(text).read()


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text.replace("\r\n", "\n")
        self._at = 0
        self._documents: list[str] = []  # delimiters of here-documents that follow this line
        self._is_delimiter = False

    def read(self) -> Iterator[Token]:
        while self._at < len(self._text):
            char = self._text[self._at]
            if char in " \t\r" or self._text.startswith("\\\n", self._at):
                self._at += 1 if char != "\\" else 2
            elif char == "#":
                self._at = self._line_end()
            elif char == "\n":
                self._at += 1
                self._skip_documents()
                yield Operator("\n")
            elif char in _OPERATORS:
                yield self._operator()
            else:
                word = self._word()
                if self._is_delimiter:
                    self._documents.append(word.literal)
                    self._is_delimiter = False
                yield word

    def _line_end(self) -> int:
        end = self._text.find("\n", self._at)
        return len(self._text) if end < 0 else end

    def _operator(self) -> Operator:
        start = self._at
        while self._at < len(self._text) and self._text[self._at] in _OPERATORS:
            self._at += 1
            if self._text[start : self._at] in ("(", ")"):
                break
        found = self._text[start : self._at]
        if found == "<<" or found == "<<-":
            self._is_delimiter = True
        return Operator(found)

    def _skip_documents(self) -> None:
        """Lines up to each delimiter: no words of ours."""
        for delimiter in self._documents:
            while self._at < len(self._text):
                end = self._line_end()
                line = self._text[self._at : end]
                self._at = min(end + 1, len(self._text))
                if line.strip("\t") == delimiter.removeprefix("-"):
                    break
        self._documents = []

    def _word(self) -> Word:
        word = Word()
        while self._at < len(self._text):
            char = self._text[self._at]
            if char in " \t\r\n" or char in _OPERATORS:
                break
            if self._text.startswith("\\\n", self._at):
                self._at += 2
            elif char == "'":
                word.pieces.append(Piece(self._until("'"), is_quoted=True))
            elif char == '"':
                self._double(word)
            elif char in "$`":
                word.pieces.append(self._variable(is_quoted=False))
            else:
                word.pieces.append(self._plain(is_quoted=False, stop=" \t\r\n'\"$`\\" + _OPERATORS))
        return word

    def _until(self, quote: str) -> str:
        end = self._text.find(quote, self._at + 1)
        if end < 0:
            raise self._unclosed()
        found = self._text[self._at + 1 : end]
        self._at = end + 1
        return found

    def _double(self, word: Word) -> None:
        self._at += 1
        word.pieces.append(Piece("", is_quoted=True))  # `""` is a word as well
        while self._at < len(self._text):
            char = self._text[self._at]
            if char == '"':
                self._at += 1
                return
            if self._text.startswith("\\\n", self._at):
                self._at += 2
            elif char in "$`":
                word.pieces.append(self._variable(is_quoted=True))
            else:
                word.pieces.append(self._plain(is_quoted=True, stop='"$`\\'))
        raise self._unclosed()

    def _plain(self, *, is_quoted: bool, stop: str) -> Piece:
        """Up to a character of `stop`; a backslash takes the next one as it is."""
        if self._text[self._at] == "\\":
            following = self._text[self._at + 1 : self._at + 2]
            self._at += 2
            kept = "\\" if is_quoted and following not in ('"', "$", "`", "\\") else ""
            return Piece(kept + following, is_quoted=True)
        start = self._at
        self._at += 1
        while self._at < len(self._text) and self._text[self._at] not in stop:
            self._at += 1
        return Piece(self._text[start : self._at], is_quoted=is_quoted)

    def _variable(self, *, is_quoted: bool) -> Piece:
        if self._text[self._at] == "`":
            return Piece(f"`{self._until('`')}`", is_quoted, is_open=True)
        braced = _BRACED.match(self._text, self._at + 1)
        if braced is not None:
            self._at = braced.end()
            return Piece(braced[3] or "", is_quoted, braced[1], is_list=bool(braced[2]))
        name = _NAME.match(self._text, self._at + 1)
        if name is not None:
            self._at = name.end()
            return Piece("", is_quoted, name[0], is_list=name[0] in "@*")
        if self._text[self._at + 1 : self._at + 2] in ("(", "{"):
            return Piece(self._nested(), is_quoted, is_open=True)
        self._at += 1
        return Piece("$", is_quoted)

    def _nested(self) -> str:
        """`$( ... )` or a `${ ... }` of another kind, to its end."""
        start, depth = self._at, 0
        while self._at < len(self._text):
            char = self._text[self._at]
            depth += (char in "({") - (char in ")}")
            self._at += 1
            if depth == 0 and char in ")}":
                return self._text[start : self._at]
        raise self._unclosed()

    def _unclosed(self) -> BadInput:
        return BadInput(
            "this is no command line: a quote is not closed",
            "put the command in single quotes, and use double ones inside",
        )
