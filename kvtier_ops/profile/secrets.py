"""Values that no output shows: what may be a secret, and what is shown in its place.

A secret has no place in a profile (`server.api_keys` name where it is), but variables of the
environment hold them all the same. The names of variables and fields tell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

MASK = "********"

_ANYWHERE = ("SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIAL")
_AT_THE_END = ("KEY", "KEYS", "TOKEN")  # of a word: TOKENIZERS_PARALLELISM, MAX_TOKENS are none
_WHOLE = ("PASS", "SSHPASS", "AUTH")  # DB_PASS; BYPASS and AUTHOR are none
_CREDENTIALS_OF_URL = re.compile(r"(?<=://)[^/@\s]*:[^/@\s]+(?=@)")


def looks_secret(name: str) -> bool:
    """True if a variable or field of this name may hold a secret: `HF_TOKEN`, `apiKey2`."""
    words = [word.strip("0123456789") for word in re.split(r"[^A-Za-z0-9]+", name.upper())]
    return any(
        word.endswith(_AT_THE_END) or word in _WHOLE or any(part in word for part in _ANYWHERE)
        for word in words
    )


def masked(name: str, value: str) -> str:
    """`value` of the variable `name`, as it may be shown: also no password within a URL."""
    if value and looks_secret(name):
        return MASK
    return _CREDENTIALS_OF_URL.sub(MASK, value)


def masked_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables as they may be shown."""
    return {name: masked(name, value) for name, value in environment.items()}
