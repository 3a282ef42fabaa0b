"""Scripts as a shell reads them, and whatever else is typed: a profile or a sentence."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.builders import caught
from ops.test_import import profile

from kvtier_ops.errors import BadInput
from kvtier_ops.profile.importing import ENGINES, import_command
from kvtier_ops.profile.importing.script import parse_script


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ('vllm serve a#b \'c $X\' "d\\"e" f\\ g', ["a#b", "c $X", 'd"e', "f g"]),
        ("A='-x 1'\nvllm serve $A \"$A\"", ["-x", "1", "-x 1"]),
        ("A=(-x 'b c'\n d)\nA+=(e)\nvllm serve \"${A[@]}\"", ["-x", "b c", "d", "e"]),
        ("vllm serve ${A:-d} ${B} \"\" $(x 'y') $", ["d", "${B}", "", "${...}", "$"]),
        ("vllm serve a \\\n b # c 'd\n", ["a", "b"]),
        ("cat <<E\nit's\nE\nvllm serve a", ["a"]),
        ("vllm serve a 2> x >y 2>&1 | tee log; vllm serve b", ["a"]),
        ("x && vllm serve a &", ["a"]),
    ],
)
def test_a_shell_reads_it_so(script: str, words: list[str]) -> None:
    found = [command.words for command in parse_script(script).commands]
    [first, *_] = [each[2:] for each in found if each[:2] == ["vllm", "serve"]]
    assert first == words


@pytest.mark.parametrize("kind", ["double", "lines"])
def test_what_grows_without_end_is_refused_at_once(kind: str) -> None:
    text = "A=aa\n" + "A=$A$A\n" * 40 if kind == "double" else 'x "' + "line\n" * 100_000
    with pytest.raises(BadInput):
        parse_script(text)


WORDS = st.sampled_from(
    [
        *(f"--{name}" for engine in ENGINES.values() for name in engine.dialect.flags),
        *("0", "1", "8", "64", "0.5", "-1", "nan", "1e400", "auto", "fp8", "/a b", "$X", "${Y:-z}"),
        *(
            "9" * 30,
            "{",
            '{"kv_connector": 5}',
            "[]",
            "*x",
            "&y",
            "# c",
            "key: value",
            "'",
            "\t",
            "é",
        ),
        *("FOO=bar", "LMCACHE_MAX_LOCAL_CPU_SIZE=x", "numactl", "-m", ">", "2>&1", ";", "\\\n"),
    ]
)


@settings(max_examples=300, deadline=None)
@given(
    engine=st.sampled_from(sorted(ENGINES)), words=st.lists(WORDS, max_size=12), raw=st.booleans()
)
def test_any_flags_make_a_valid_profile_or_a_sentence(
    engine: str, words: list[str], raw: bool
) -> None:
    tail = " ".join(words) if raw else shlex.join(words)
    text = f"A=1 python -m {ENGINES[engine].modules[0]} {tail}"
    error = caught(BadInput, lambda: import_command(engine, text))
    if error is None:
        profile(import_command(engine, text))
    else:
        assert "no command" in str(error)


@settings(max_examples=200, deadline=None)
@given(engine=st.sampled_from(sorted(ENGINES)), text=st.text(max_size=80))
def test_any_text_is_a_command_or_a_sentence(engine: str, text: str) -> None:
    error = caught(BadInput, lambda: import_command(engine, text))
    assert error is None or str(error)
