"""Flags of an engine's command line, as argparse would read them, and what becomes of each."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from kvtier_ops.profile.importing.draft import Draft
from kvtier_ops.profile.secrets import looks_secret

Apply = Callable[[Draft, str, str], None]  # draft, flag as written, its value ("" for a switch)


@dataclass(frozen=True)
class Flag:
    """A flag that is understood. `takes`: how many words follow it at least, 0 or 1."""

    apply: Apply
    takes: int = 1


@dataclass(frozen=True)
class Given:
    """One flag of a command line; `words`: all that followed it."""

    name: str  # without dashes, `_` as `-`
    written: str
    words: tuple[str, ...] = ()

    @property
    def value(self) -> str:
        return self.words[0] if self.words else ""

    @property
    def shown(self) -> str:
        return " ".join((self.written, *self.words))


@dataclass
class Dialect:
    """The flags of one engine. `useless`: known, without a counterpart; name -> why."""

    name: str
    flags: Mapping[str, Flag]
    useless: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    switches: frozenset[str] = frozenset()  # of `useless`, those that take no value


def read_flags(dialect: Dialect, words: Sequence[str]) -> tuple[list[Given], list[str]]:
    """Flags in their order, and the words that belong to none."""
    given: list[Given] = []
    loose: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word == "-" or _is_number(word):
            loose.append(word)
            continue
        written, equals, value = word.partition("=")
        name = _plain(dialect, written)
        if equals:
            given.append(Given(name, written, (value,)))
            continue
        given.append(Given(name, written, tuple(_values(dialect, name, rest))))
    return given, loose


def _values(dialect: Dialect, name: str, rest: list[str]) -> list[str]:
    """Words that belong to the flag: a switch has none, others at least one."""
    flag = dialect.flags.get(name)
    if flag is not None and not flag.takes:
        return []
    if flag is None and name in dialect.switches:
        return []
    values = []
    while rest and (not rest[0].startswith("-") or _is_number(rest[0])):
        values.append(rest.pop(0))
        if flag is not None:
            break
    return values


def _plain(dialect: Dialect, written: str) -> str:
    name = written.lstrip("-").replace("_", "-")
    return dialect.aliases.get(name, name)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def apply_flags(dialect: Dialect, draft: Draft, given: Sequence[Given]) -> None:
    """Later flags win. What is not understood is left out, and said."""
    for each in given:
        flag = dialect.flags.get(each.name)
        if flag is None and looks_secret(each.name.rpartition("-")[2]):
            draft.drop(each.written, "looks like a secret: it stays out of profile and report")
        elif flag is not None and flag.takes and not each.words:
            draft.drop(each.shown, "its value is missing")
        elif flag is not None and _is_open(each.value) and not _may_be_open(flag):
            draft.drop(each.shown, "only the shell knows its value: write it into the profile")
        elif flag is not None:
            flag.apply(draft, each.shown, each.value)
        elif each.name in dialect.useless:  # it may be anything, a key in JSON as well
            draft.drop(each.written, dialect.useless[each.name])
        else:  # its words are not shown: nobody knows what they are
            draft.drop(each.written, _unknown(dialect, each))


def _is_open(value: str) -> bool:
    return "${" in value


def _may_be_open(flag: Flag) -> bool:
    return getattr(flag.apply, "may_be_open", False)


def _unknown(dialect: Dialect, given: Given) -> str:
    names = [*dialect.flags, *dialect.useless]
    near = difflib.get_close_matches(given.name, names, 1, 0.8)
    hint = f"; did you mean `--{near[0]}`?" if near else ""
    return f"{dialect.name} has no such flag that kvtier knows of{hint}"


# How a value becomes that of a field.


def text(name: str, note: str = "") -> Apply:
    def apply(draft: Draft, flag: str, value: str) -> None:
        draft.keep(flag, name, value, note)

    return apply


def whole(name: str, note: str = "") -> Apply:
    """A whole number."""

    def apply(draft: Draft, flag: str, value: str) -> None:
        number = as_int(value)
        if number is None:
            draft.drop(flag, f"`{value[:40]}` is not a whole number")
        else:
            draft.keep(flag, name, number, note)

    return apply


def switch(name: str, value: bool, note: str = "") -> Flag:
    def apply(draft: Draft, flag: str, _: str) -> None:
        draft.keep(flag, name, value, note)

    return Flag(apply, 0)


def choice(name: str, values: Mapping[str, str], other: str) -> Apply:
    """One of the engine's words for one of ours; `other`: why a word is left out."""

    def apply(draft: Draft, flag: str, value: str) -> None:
        found = values.get(value.lower())
        if found is None:
            draft.drop(flag, other)
        else:
            draft.keep(flag, name, found)

    return apply


def fraction(name: str) -> Apply:
    """Part of a GPU's memory: theirs is of all of it, ours of what is free."""

    def apply(draft: Draft, flag: str, value: str) -> None:
        number = as_float(value)
        if number is None or not 0 < number <= 1:
            draft.drop(flag, f"`{value[:40]}` is no part between 0 and 1")
        else:
            why = "of what is free on each GPU, where it was of all of its memory"
            draft.change(flag, name, number, why)

    return apply


def model(draft: Draft, flag: str, value: str) -> None:
    """A folder or a file: a name of a hub would be taken for a folder beside the profile."""
    if value.count("/") == 1 and not value.startswith(("/", ".", "~", "$")):
        why = "a folder here: kvtier loads no model from a hub; download it, and name its folder"
        draft.change(flag, "model.path", value, why)
    else:
        draft.keep(flag, "model.path", value)


def gibibytes(name: str, why: str, ranks: str = "") -> Apply:
    """A number of GiB. `ranks`: said to be for each rank; the draft's ranks multiply it later."""

    def apply(draft: Draft, flag: str, value: str) -> None:
        number = as_float(value)
        if number is None or number < 0:
            draft.drop(flag, f"`{value[:40]}` is not a size")
            return
        draft.change(flag, name, size_text(number), why)
        if ranks:
            draft.remark(flag, ranks)

    return apply


def page(draft: Draft, flag: str, value: str) -> None:
    """`tiers.page_tokens` takes multiples of 8 from 8 to 2,048."""
    number = as_int(value)
    if number is None:
        draft.drop(flag, f"`{value[:40]}` is not a whole number")
        return
    fitting = min(max(number // 8 * 8, 8), 2048)
    if fitting == number:
        draft.keep(flag, "tiers.page_tokens", number)
    else:
        why = f"pages have 8 to 2,048 tokens, in steps of 8, not {number}"
        draft.change(flag, "tiers.page_tokens", fitting, why)


def as_int(value: str) -> int | None:
    digits = value.replace("_", "")
    return int(digits) if digits.isascii() and digits.isdecimal() and len(digits) < 16 else None


def as_float(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if abs(number) < 1e15 else None  # also refuses `nan`


def size_text(gib: float) -> str:
    """`400GiB`; whole MiB where it is not whole."""
    return f"{int(gib)}GiB" if gib == int(gib) else f"{int(gib * 1024)}MiB"
