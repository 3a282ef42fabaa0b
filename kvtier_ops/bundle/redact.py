"""Takes secrets out of text: values that are known to be secret, and what looks like one.

What is shown in the place of a secret is always the same, so that nothing of it is left, not even
its length. Too much may go; too little must not.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote, unquote

from kvtier_ops.profile.secrets import MASK, looks_secret

# A shorter value is a word that stands in many places; it goes where its name tells.
KNOWN_CHARS_MIN = 6

_OF_URL = re.compile(r"(?<=://)[^/@\s\"']+(?=@)")
_PATTERNS = [
    re.compile(pattern, flags)
    for pattern, flags in (
        # Private keys, also cut off at either end.
        (r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)",
         re.DOTALL),
        (r"\A(?:(?!-----BEGIN ).)*-----END [A-Z0-9 ]*PRIVATE KEY-----", re.DOTALL),
        (r"(?i)(?<=\bbearer )\s*[^\s\"',;\\]+", 0),
        (r"(?i)(?<=\bbasic )\s*[A-Za-z0-9+/=]{6,}", 0),
        (r"\b(?:hf|api_org|ghp|gho|ghu|ghs|ghr|github_pat|glpat|npm|pypi)[_-][A-Za-z0-9_-]{8,}", 0),
        (r"\b(?:sk|pk|rk)-[A-Za-z0-9_-]{8,}", 0),
        (r"\bxox[a-z]-[A-Za-z0-9-]{8,}", 0),
        (r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}\b", 0),
        (r"\bAIza[A-Za-z0-9_-]{20,}", 0),
        (r"\beyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){1,2}", 0),
    )
]  # fmt: skip

# A head is a name and what stands between it and its value; most names are not secret, and their
# values are not read. Lengths are bounded, so that a long line costs no more than it is long.
_QUOTED = r"\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'"
# `NAME=value`, `name: value`, `"name": "value"`, `X-Name: value`, `name: [a, b]`, and the same in
# lines that begin with `-`
_NAMED = re.compile(
    r"(?<![A-Za-z0-9_.])(?P<name>[A-Za-z_][A-Za-z0-9_.-]{0,80})"
    r"[\"']?[ \t]{0,8}[=:][ \t]{0,80}"
)
_VALUE = re.compile(
    r"\[[^\[\]{}]{0,4000}\]|\n(?:[ \t]{0,80}-[ \t]{1,80}[^:\n{}]{1,4000}(?:\n|\Z))+|"
    rf"{_QUOTED}|[^\s,;&\"'}}\])]+(?:[^\n,;&\"'}}\]]{{0,1000}}$)?",
    re.MULTILINE,
)
_FLAG = re.compile(
    r"(?<![\w-])(?P<name>--?[A-Za-z][A-Za-z0-9-]{0,80})[ \t]{1,80}"
)  # `--name value`
_WORD = re.compile(rf"{_QUOTED}|[^\s-]\S*")
_BLOCK = re.compile(  # YAML's `name: |` with the value in the lines below
    r"^[ \t]{0,80}(?P<name>[A-Za-z_][\w.-]{0,80}):[ \t]{0,80}[|>][+-]?\d?[ \t]{0,80}\n",
    re.MULTILINE,
)
_LINES = re.compile(r"(?:[ \t]+\S.*(?:\n|\Z)|[ \t]*\n)+")
# What stands after a name that looks secret without being one: structure, and references.
_STRUCTURE = r"[{\[|>&*]|\$\{?[A-Za-z_][A-Za-z0-9_]*\}?$|(?:true|false|null|none|~)$"
_HARMLESS = re.compile(_STRUCTURE)
_HARMLESS_OR_NUMBER = re.compile(rf"{_STRUCTURE}|-?\d+(?:\.\d+)?(?:e[+-]?\d+)?$")


class Redactor:
    """Knows the secrets of this profile and this environment. `count`: what it has replaced."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets for form in _forms(secret)}
        # The longest first: one may hold another.
        self._known = sorted((f for f in forms if len(f) >= KNOWN_CHARS_MIN), key=len, reverse=True)
        self.count = 0

    def clean(self, text: str, *, numbers: bool = True) -> str:
        """`numbers` False: what has a name like a secret and is a number stays, such as the
        `token_bytes` of a plan."""
        for secret in self._known:
            self.count += text.count(secret)
            text = text.replace(secret, MASK)
        for pattern in (_OF_URL, *_PATTERNS):
            text = pattern.sub(self._mask_all, text)
        harmless = _HARMLESS if numbers else _HARMLESS_OR_NUMBER
        for head, value in ((_BLOCK, _LINES), (_NAMED, _VALUE), (_FLAG, _WORD)):
            text = self._mask_named(head, value, text, harmless)
        return text

    def finds(self, data: bytes) -> bool:
        """True if a known secret is in there after all."""
        return any(secret.encode() in data for secret in self._known)

    def _mask_all(self, match: re.Match[str]) -> str:
        if match[0] == MASK:
            return MASK
        self.count += 1
        return MASK

    def _mask_named(
        self, head: re.Pattern[str], value: re.Pattern[str], text: str, harmless: re.Pattern[str]
    ) -> str:
        """Masks the values of names that look secret; what stands in other values is looked at as
        well: in `"command": "serve --token=x"` it is the inner name that counts."""
        parts: list[str] = []
        done = at = 0
        while (match := head.search(text, at)) is not None:
            at = match.end()
            if not looks_secret(match["name"].lstrip("-")):
                continue
            found = value.match(text, at)
            shown = _shown(found[0], harmless) if found else None
            if found is None or shown is None:
                continue
            self.count += 1
            parts += [text[done:at], shown]
            done = at = found.end()
        return "".join([*parts, text[done:]])


def _shown(value: str, harmless: re.Pattern[str]) -> str | None:
    """In the place of a secret's value, in the same quotes or lines; None if it is none."""
    plain = value.strip().strip("\"'").strip()
    if not plain or plain == MASK:
        return None
    if value.startswith("["):
        return f'["{MASK}"]' if plain.strip("[]").strip(" \"'\n*") else None
    if value.startswith("\n"):
        return f' ["{MASK}"]\n'
    if value[0] in " \t":
        return f"  {MASK}\n"
    if harmless.match(plain):
        return None
    mark = value[0] if value[0] in "\"'" else ""
    return f"{mark}{MASK}{mark}"


def _forms(secret: str) -> set[str]:
    """As it is, and as it looks in JSON, in Python, in a URL, and in an Authorization header."""
    if not secret:
        return set()
    lines = {line.strip() for line in secret.splitlines()}
    encoded = base64.b64encode(secret.encode(errors="surrogateescape")).decode()
    return {
        secret,
        *lines,
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
        quote(secret, safe=""),
        encoded.rstrip("="),
    }


def secrets_of(environment: Mapping[str, str]) -> list[str]:
    """Values of variables whose names look like those of secrets, and passwords in URLs."""
    found = [value for name, value in environment.items() if looks_secret(name)]
    for value in environment.values():
        for user_and_password in _OF_URL.findall(value):
            password = user_and_password.partition(":")[2] or user_and_password
            found += [password, unquote(password)]
    return found


def secrets_here() -> list[str]:
    return secrets_of(os.environ)
