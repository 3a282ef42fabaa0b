"""The commented profile that `kvtier profile init` writes. No I/O."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum

from kvtier_ops.units import UNITS


class Use(StrEnum):
    """What most requests are."""

    CHAT = "chat"
    DOCUMENTS = "documents"
    MIXED = "mixed"


_PAGE_TOKENS = {Use.CHAT: 64, Use.DOCUMENTS: 256, Use.MIXED: 128}
_CHAT_PAGE_TOKENS_CPU = 32  # a hit computes what is left of the last page, slowly on a CPU
_WHY_PAGES = {
    Use.CHAT: "what chats share is short: small pages find more of it",
    Use.DOCUMENTS: "what documents share is long: large pages move faster",
    Use.MIXED: "between what suits chat and what suits long documents",
}


@dataclass(frozen=True)
class Answers:
    """What `init` was told. Paths are written as they stand here."""

    model: str
    use: Use
    directories: tuple[str, ...]
    host: str
    port: int
    schema: str = ""  # file that the editor is pointed to


@dataclass(frozen=True)
class Sizes:
    """What the plan found room for; `about` is the host, in words."""

    device: str
    l1_bytes: int
    l2_bytes: int
    l3_bytes: int
    token_bytes: int
    page_tokens: int
    about: str


def page_tokens(use: Use, device: str) -> int:
    """Of a page, for this use on this device."""
    if device == "cpu" and use is Use.CHAT:
        return _CHAT_PAGE_TOKENS_CPU
    return _PAGE_TOKENS[use]


def draft(answers: Answers) -> str:
    """The profile without sizes, from which the plan makes them."""
    directories = "".join(f"      - {quoted(path)}\n" for path in answers.directories)
    return (
        f"version: 1\nmodel:\n  path: {quoted(answers.model)}\n"
        f"tiers:\n  page_tokens: {page_tokens(answers.use, 'cpu')}\n  l3:\n"
        + (f"    directories:\n{directories}" if directories else "")
    )


def render(answers: Answers, sizes: Sizes) -> str:
    """The profile: what was answered, what fits here, and why."""
    lines = [
        *([f"# yaml-language-server: $schema={answers.schema}"] if answers.schema else []),
        "# Written by `kvtier profile init`. Sizes leave a little of what this host had free:",
        f"# {sizes.about}.",
        "# `kvtier plan` on this file says what it takes here; docs/profile.md has every field.",
        "",
        "version: 1",
        "",
        "model:",
        _line(f"  path: {quoted(answers.model)}", "a folder, a GGUF file or a registered name"),
        "",
        *_tiers(answers, sizes),
        "",
        "server:",
        _line(f"  host: {quoted(answers.host)}", _who(answers.host)),
        _line(f"  port: {answers.port}", "0: any free one" if answers.port == 0 else ""),
    ]
    return "\n".join(lines) + "\n"


def _tiers(answers: Answers, sizes: Sizes) -> list[str]:
    l1, l2, l3 = (round_size(each) for each in (sizes.l1_bytes, sizes.l2_bytes, sizes.l3_bytes))
    place = "host memory" if sizes.device == "cpu" else "GPU memory"
    lines = [
        "tiers:",
        _line(f"  page_tokens: {sizes.page_tokens}", _WHY_PAGES[answers.use]),
        "  l1:",
        _line(f"    size: {show_size(l1)}", f"{place}, where attention reads"),
        f"    # about {l1 // sizes.token_bytes:,} tokens of this model; `auto`: the plan chooses",
        "  l2:",
        _line(f"    size: {show_size(l2)}", "host memory; survives a restart of the engine"),
    ]
    if not answers.directories:
        return [
            *lines,
            "  l3:",
            _line("    directories: []", "no disk: name a folder on each to be warm after a boot"),
        ]
    return [
        *lines,
        "  l3:",
        _line("    directories:", "disk; survives restarts and crashes; one for each disk"),
        *(f"      - {quoted(path)}" for path in answers.directories),
        _line(f"    size: {show_size(l3)}", "over all directories; made as it fills"),
    ]


def _line(text: str, why: str) -> str:
    return f"{text:<28}# {why}" if why else text


def _who(host: str) -> str:
    if host in ("127.0.0.1", "::1", "localhost"):
        return "this host alone; 0.0.0.0: others too"
    return "others can reach it: give them keys, see server.api_keys"


def round_size(count: int) -> int:
    """A little less, so that it also fits tomorrow, in few digits: sixteenths of the next
    power of two."""
    count = count * 15 // 16
    step = 1 << max(count.bit_length() - 4, 0)
    return count // step * step


def show_size(count: int) -> str:
    """Exactly, in the largest unit that leaves at most two decimals."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if count >= UNITS[unit] and count * 4 % UNITS[unit] == 0:
            return f"{count / UNITS[unit]:g}{unit}"
    return f"{count}B"


def quoted(text: str) -> str:
    """As a value in YAML that reads back as this text: in quotes unless it is plain."""
    is_plain = re.fullmatch(r"[A-Za-z0-9/._~$][A-Za-z0-9/._~${}+:-]*(?<!:)", text)
    if is_plain and text not in ("null", "Null", "NULL"):
        return text
    return json.dumps(text, ensure_ascii=False)
