"""Whatever a file holds: a profile, or sentences with places, and soon.

`make test-long` runs the long forms: KVTIER_FUZZ_EXAMPLES inputs of each kind.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ops.builders import caught

from kvtier_ops.errors import ProfileError
from kvtier_ops.profile.load import all_fields, load_profile
from kvtier_ops.profile.yaml_source import SOURCE_BYTES_MAX

ROOT = Path(__file__).resolve().parents[2]
SECONDS_MAX = 1.0  # of this process, so that a busy machine does not count
LONG = int(os.environ.get("KVTIER_FUZZ_EXAMPLES", "20000"))

SEED = """\
version: 1
extends: base.yaml
x: &a {size: 1GiB, numa: [0, 1]}
tiers:
  page_tokens: 64
  l2: {<<: *a, hugepages: none}
  l3:
    directories: [$HOME/a, "${V:-b}"]
    write: |
      on_evict
server: {port: "${PORT:-80}", api_keys: [{name: a, env: A}]}
engine: {environment: {A: on, B: '1'}}
"""
SEEDS = [SEED, *(path.read_text() for path in sorted((ROOT / "profiles").glob("*.yaml")))]
PIECES = [
    "version: 1\n", "extends: ", "base.yaml", "p.yaml", "tiers:", "  l2:", "    size: ", "4GiB",
    "\n", "\r\n", "\t", ": ", "- ", "[", "]", "{", "}", "&a ", "*a", "<<: ", "<<: [*a, *a]",
    "!!str ", "!!python/name:os ", "|", ">", "'", '"', "#", "%", "---\n", "...\n", "null", "no",
    "\0", "\ufeff", "\u00a0", "\u2028", "\x85", "é", "😀", "? ", ", ", "model", "path", "${", "}",
    "${A}", "${A:-", "$${", "$", "~", "9" * 30, "1e999", "-", "0x", "8_0", ".5", "********",
    "\\x", "\\", "=",
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=30).map("".join)


def check(home: Path, raw: bytes, *overrides: str) -> None:
    """Reads `raw` as a profile and, where it says so, as its base."""
    path = home / "p.yaml"
    path.write_bytes(raw)
    (home / "base.yaml").write_bytes(raw.replace(b"extends", b"model"))
    started = time.process_time()
    error = caught(ProfileError, lambda: load_profile(path, overrides))
    assert time.process_time() - started < SECONDS_MAX
    if error is not None:
        assert isinstance(error, ProfileError)
        assert error.problems
        assert all(problem.what and problem.place for problem in error.problems)
        assert all(line.isprintable() for line in error.render().splitlines())


def mutated(chance: random.Random) -> bytes:
    """A profile with pieces cut, doubled, moved, or replaced by what YAML means something by."""
    text = chance.choice(SEEDS)
    for _ in range(chance.randint(1, 6)):
        start, length = chance.randrange(len(text) + 1), chance.choice((0, 1, 2, 5, 20, 80))
        piece = text[start : start + length]
        at = chance.randrange(len(text) + 1)
        match chance.randrange(4):
            case 0:
                text = text[:start] + text[start + length :]
            case 1:
                text = text[:at] + piece + text[at:]
            case 2:
                text = text[:start] + chance.choice(PIECES) + text[start + length :]
            case 3:
                lines = text.splitlines(keepends=True)
                chance.shuffle(lines)
                text = "".join(lines[: chance.randint(1, 40)])
    raw = bytearray(text.encode())
    if raw and chance.random() < 0.2:
        raw[chance.randrange(len(raw))] = chance.randrange(256)
    return bytes(raw)


def fuzz(examples: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


def any_text(home: Path, text: str) -> None:
    check(home, text.encode("utf-8", "surrogatepass"))


def any_override(home: Path, field: str, value: str) -> None:
    check(home, b"version: 1\n", f"{field}={value}")


@fuzz(250)
@given(TEXTS)
def test_text(home: Path, text: str) -> None:
    any_text(home, text)


@fuzz(150)
@given(st.binary(max_size=64))
def test_bytes(home: Path, raw: bytes) -> None:
    check(home, raw)


@fuzz(300)
@given(st.randoms(use_true_random=False))
def test_mutated_profiles(home: Path, chance: random.Random) -> None:
    check(home, mutated(chance))


@fuzz(150)
@given(st.sampled_from(all_fields()) | TEXTS, TEXTS)
def test_overrides(home: Path, field: str, value: str) -> None:
    any_override(home, field, value)


@pytest.mark.slow
@fuzz(LONG)
@given(TEXTS)
def test_text_for_long(home: Path, text: str) -> None:
    any_text(home, text)


@pytest.mark.slow
@fuzz(LONG)
@given(st.binary(max_size=400))
def test_bytes_for_long(home: Path, raw: bytes) -> None:
    check(home, raw)


@pytest.mark.slow
@fuzz(LONG)
@given(st.sampled_from(all_fields()) | TEXTS, TEXTS)
def test_overrides_for_long(home: Path, field: str, value: str) -> None:
    any_override(home, field, value)


@pytest.mark.slow
def test_mutated_profiles_for_long(home: Path) -> None:
    chance = random.Random(5)
    for _ in range(5 * LONG):
        check(home, mutated(chance))


BOMBS = {
    "aliases": "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)),
    "merges": "a0: &a0 {x: 1}\n"
    + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 9)),
    "wide merges": "b: &b {"
    + ", ".join(f"k{n}: 1" for n in range(900))
    + "}\nc: {<<: ["
    + ", ".join(["*b"] * 900)
    + "]}\n",
    "a merge of itself": "a: &a {<<: *a}\n",
    "a list of itself": "a: &a [*a]\n",
    "lists": "[" * 100_000,
    "closed lists": "a: " + "[" * 20_000 + "]" * 20_000,
    "mappings": "{a: " * 50_000,
    "indents": "".join(" " * n + "a:\n" for n in range(600)),
    "items": "- " * 50_000,
    "fields": "a: b\n" * 40_000,
    "other fields": "".join(f"a{n}: b\n" for n in range(9_000)),
    "a comment": "# " + "x" * (SOURCE_BYTES_MAX - 20) + "\nversion: 1\n",
    "a quote": "a: '" + "''" * 120_000 + "'\n",
    "a folded text": "a: >\n" + "  x\n" * 50_000,
    "a name": "a" * 200_000 + ": 1\n",
    "variables": "version: 1\nserver:\n  host: " + "${A:-b}" * 30_000 + "\n",
    "unclosed variables": "version: 1\nserver:\n  host: '" + "${" * 100_000 + "'\n",
    "digits": "version: 1\nserver: {port: " + "9" * 200_000 + "}\n",
    "a size": "version: 1\ntiers: {l2: {size: " + "9" * 200_000 + "GiB}}\n",
    "too much": "a: b\n" * SOURCE_BYTES_MAX,
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(home: Path, name: str) -> None:
    text = BOMBS[name][: SOURCE_BYTES_MAX - 40] if name != "too much" else BOMBS[name]
    check(home, text.encode())
    check(home, ("version: 1\nextends: base.yaml\n" + text).encode())
