"""Profiles: every mistake at its line and column, all at once, never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ops.builders import caught

from kvtier_ops.errors import ProfileError
from kvtier_ops.profile.load import PROBLEMS_MAX, ProfileFile, all_fields, load_profile
from kvtier_ops.profile.render import profile_as_yaml
from kvtier_ops.profile.schema import Profile
from kvtier_ops.units import AUTO, Size

ROOT = Path(__file__).resolve().parents[2]


def load(home: Path, text: str | bytes, *overrides: str) -> ProfileFile:
    path = home / "p.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_profile(path, overrides)


def errors(home: Path, text: str | bytes, *overrides: str) -> str:
    with pytest.raises(ProfileError) as raised:
        load(home, text, *overrides)
    return raised.value.render().replace(f"{home}/", "")


def test_version_alone_is_a_profile(home: Path) -> None:
    profile = load(home, "version: 1\n").profile
    assert profile.model.path == "smollm2-135m"
    assert profile.tiers.l2.size is AUTO
    assert profile.tiers.l3.reserve == Size(1 << 30)


def test_all_mistakes_at_once_in_the_order_of_the_file(home: Path) -> None:
    text = (
        "version: 1\ntiers:\n  l2:\n    sise: 4GiB\n    size: 4\n  page_tokens: 65\n"
        "server: 5\nprot: 1\n"
    )
    said = errors(home, text)
    places = [line.split(" ")[1] for line in said.splitlines() if line.startswith("error:")]
    assert places == ["p.yaml:4:5:", "p.yaml:5:11:", "p.yaml:6:16:", "p.yaml:7:9:", "p.yaml:8:1:"]
    assert "`tiers.l2.sise`: there is no such field\nhint: did you mean `size`?" in said
    assert "the unit is missing: write `4GiB` or `4MiB`, not `4`" in said
    assert "multiple of 8, not `65`" in said
    assert "it belongs in" not in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "p.yaml: the profile is empty"),
        ("# only this\n", "the profile is empty"),
        ("- a\n", "p.yaml:1:1: a profile is a mapping of sections, not a list"),
        ("version: 2\n", "reads profiles of version 1"),
        ("model: {}\n", "`version`: is missing"),
        ("version: 1\nversion: 1\n", "p.yaml:2:1: `version`: stands here for the second time"),
        ("version: 1\nserver:\n\tport: 1\n", "p.yaml:3:1: a tab stands here"),
        (b"version: 1\nmodel: {path: \xff}\n", "p.yaml:2:15: byte 0xff is not UTF-8"),
        ("version: 1\x07\n", "p.yaml:1:11: character U+0007"),
        ("version: 1\nport: 1\n", "it belongs in `server`"),
        ("version: 1\nmodel: {path: a: b}\n", "p.yaml:2:"),
        ("version: 1\n---\nversion: 1\n", "one document"),
        ("version: 1\nmodel: {path: *x}\n", "undefined alias"),
        ("version: 1\nserver: {port: !!int 5}\n", "tags such as"),
        ("version: 1\nserver: {port: }\n", "`server.port`: has no value"),
        ("version: 1\nserver: {port: 70000}\n", "must be at most 65535, not `70000`"),
        ("version: 1\nserver: {drain_s: .nan}\n", "must be a number"),
        (
            "version: 1\ntiers: {l2: {numa: all}}\n",
            "`tiers.l2.numa`: write `auto`, `none` or a list of NUMA nodes, one for each rank, not "
            "`all`",
        ),
        (
            "version: 1\ntiers: {l2: {numa: []}}\n",
            "a list of NUMA nodes, one for each rank, not `[]`",
        ),
        ("version: 1\ntiers: {l2: {numa: {a: 1}}}\n", "one for each rank, not `a section`"),
        ("version: 1\ntiers: {l2: {numa: [0, -1]}}\n", "a number from 0 to 1023, not `-1`"),
        ("version: 1\ntiers: {l2: {numa: [1024]}}\n", "a number from 0 to 1023, not `1024`"),
        ("version: 1\ntiers: {l2: {numa: [[1]]}}\n", "a number from 0 to 1023, not `['1']`"),
        ("version: 1\nserver: {drain_s: nan}\n", "must be a number"),
        ("version: 1\ntiers: {prefix_reuse: maybe}\n", "must be `true` or `false`"),
        ("version: 1\ntiers: {l3: {directories: [$NOPE/x]}}\n", "has no `NOPE`"),
        ("version: 1\nmodel: {dtype: bf16}\n", "`bfloat16`, `float16` or `float32`, not `bf16`"),
        ("version: 1\nmodel: &a {path: x, q: *a}\n", "p.yaml"),
        ("[" * 5000, "nested deeper"),
        ("version: 1\nserver: {api_keys: [{name: a, env: A, key: x}]}\n", "no such field"),
        ("version: 1\nserver: {api_keys: [{name: a, enw: A}]}\n", "did you mean `env`?"),
        ("version: 1\nserver: {api_keys: [{env: A}]}\n", "`server.api_keys[0].name`: is missing"),
        ("version: 1\nserver: {api_keys: [{name: a}]}\n", "give `env` or `file`"),
        ("version: 1\nserver: {api_keys: [{name: a/b, env: A}]}\n", "letters, digits"),
        ("version: 1\nserver: {api_keys: [{name: a, env: my-key}]}\n", "not `my-key`"),
        ("version: 1\nserver: {api_keys: [{name: a, env: A}, {name: a, env: B}]}\n", "two keys"),
        ("version: 1\nserver: {admin_key: {env: A, file: b}}\n", "either `env` or `file`"),
        ("version: 1\nserver: {admin_key: secret}\n", "must be a section"),
    ],
)
def test_each_mistake_has_a_sentence(home: Path, text: str | bytes, said: str) -> None:
    assert said in errors(home, text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("server:\n  port:80\n", "hint: a space is missing: write `port: 80`"),
        ("server:\n  port:80\n  host: a\n", "a space is missing after the `:` of the line above"),
        ("server: {port:80}\n", "did you mean `port`?"),
        ("server: {port: 8_000}\n", "write a whole number in digits alone: `8000`, not `8_000`"),
        ("server: {port: 0123}\n", "`123`, not `0123`"),
        ("server: {port: 1e3}\n", "`1000`, not `1e3`"),
        ("server: {port: +80}\n", "`80`, not `+80`"),
        ("server: {port: 80.0}\n", "`80`, not `80.0`"),
        ("server: {port: 0x10}\n", "must be a whole number, not `0x10`"),
        ("server: {port: 1:30}\n", "must be a whole number, not `1:30`"),
        ("server: {drain_s: 1:30}\n", "must be a number, not `1:30`"),
        ("server: {port: " + "9" * 5000 + "}\n", "must be a whole number, not `9999"),
        ("engine: {threads: 0123}\n", "`123`, not `0123`"),
        ("engine: {threads: 1_6}\n", "`16`, not `1_6`"),
        ("engine: {threads: 0}\n", "write a whole number above 0, or `auto`, not `0`"),
        ("cluster: {node_rank: 10000}\n", "from 0 to 9999, or `auto`, not `10000`"),
        ("tiers: {l2: {size: .5GiB}}\n", "write `0.5GiB`, not `.5GiB`"),
        ("tiers: {l2: {size: '1,5GiB'}}\n", "write `1.5GiB`, not `1,5GiB`"),
        ("tiers: {l2: {size: 64G}}\n", "write `64GiB` (powers of 1024) or `64GB`"),
        ("tiers: {l2: {size: 64gib}}\n", "write `64GiB` (powers of 1024) or `64GB`"),
        ("tiers: [l1]\n", "must be a section with fields of its own, not a list"),
        ("server: {port: {a: 1}}\n", "must be a whole number, not a section"),
        ("server: {port: 80\n", "p.yaml:2:9: a bracket is never closed"),
        ("model: {path: 'a}\n", "p.yaml:2:15: a quote is never closed"),
        ("model: {path: @a}\n", "a value that begins with this character needs quotes"),
        ("model: !!python/object:os.system {path: x}\n", "p.yaml:2:8: `model`: tags such as"),
        ("model: !x {path: a}\n", "tags such as `!x`"),
        ("tiers:\n\u00a0\u00a0l2: 1\n", "a character that cannot be seen"),
        ("l2: {}\n", "it belongs in `tiers`"),
        ("<<: x\n", "`<<` takes an anchor of a mapping"),
        ("? [a]\n: b\n", "p.yaml:2:3: a field's name is text"),
        ("engine: {environment: {A: }}\n", "`engine.environment.A`: has no value"),
        ("engine: {environment: {1B: x}}\n", "p.yaml:2:24: `engine.environment.1B`: this is not"),
        ("engine: {environment: x}\n", "write variables and values"),
        ("engine: {environment: {A: [1]}}\n", "must be a single value, not a list"),
    ],
)
def test_what_people_write(home: Path, text: str, said: str) -> None:
    found = errors(home, "version: 1\n" + text)
    assert said in found
    assert found.count("error:") == 1


@pytest.mark.parametrize(
    "text",
    [
        "version: 1\r\nserver:\r\n  port: 9\r\n",
        "\ufeffversion: 1\nserver: {port: 9}\n",
        "---\nversion: 1\nserver: {port: 9}\n...\n",
        "%YAML 1.1\n---\nversion: '1'\nserver: {port: \"9\"}\n",
        "# é\nversion: 1 # x\nserver:   {   port: 9, }",
        "version: 1\nserver: !!map {port: 9}\n",
    ],
)
def test_spellings_of_the_same(home: Path, text: str) -> None:
    assert load(home, text).profile.server.port == 9


def test_errors_of_windows_files_have_their_lines(home: Path) -> None:
    assert "p.yaml:4:3: `server.prot`" in errors(home, "version: 1\r\nserver:\r\n\r\n  prot: 9\r\n")


@pytest.mark.parametrize("field", ["size", "numa", "hugepages", '"\\e[31m"'])
def test_errors_move_no_cursor(home: Path, field: str) -> None:
    said = errors(home, f'version: 1\ntiers: {{l2: {{{field}: "\\e[31m\\n4\\u2028"}}}}\n')
    assert all(line.isprintable() for line in said.split("\n"))
    assert "?[31m" in said


def test_mistakes_without_end_have_one(home: Path) -> None:
    said = errors(home, "version: 1\n" + "".join(f"a{n}: 1\n" for n in range(PROBLEMS_MAX + 7)))
    assert said.count("error:") == PROBLEMS_MAX + 1
    assert said.endswith("error: p.yaml: has 7 more mistakes")


def test_files_that_are_none(home: Path) -> None:
    (home / "other.yaml").write_text("version: 1\n")
    for path, said in [
        (home, "this is a directory"),
        (home / "none.yaml", "there is no such file\nhint: in that folder: other.yaml"),
        (Path("a\0b"), "not a file name"),
    ]:
        with pytest.raises(ProfileError) as raised:
            load_profile(path)
        assert said in raised.value.render()


def test_words_mean_what_the_field_needs(home: Path) -> None:
    text = "version: 1\nmodel: {served_name: no}\ntiers: {prefix_reuse: off, l2: }\n"
    profile = load(home, text).profile
    assert profile.model.served_name == "no"
    assert profile.tiers.prefix_reuse is False
    assert profile.tiers.l2.size is AUTO


def test_anchors_and_merge_keys(home: Path) -> None:
    text = "version: 1\ntiers:\n  l1: &s {size: 1GiB}\n  l2: {<<: *s, hugepages: none}\n"
    tiers = load(home, text).profile.tiers
    assert tiers.l2.size == tiers.l1.size == Size(1 << 30)


def test_alias_bombs_are_refused(home: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "more than" in errors(home, "\n".join(lines))


def test_overrides_win_and_name_themselves(home: Path) -> None:
    file = load(home, "version: 1\ntiers: {l2: }\n", "tiers.l2.size=4GiB", "server.port=9")
    assert file.profile.tiers.l2.size == Size(4 << 30)
    assert file.profile.server.port == 9
    assert file.place_of("server.port") == "--set server.port"
    assert "--set tiers.l2.size: the unit" in errors(home, "version: 1\n", "tiers.l2.size=4")
    assert "such as `--set" in errors(home, "version: 1\n", "tiers.l2.size")
    assert "--set a.b: `a`" in errors(home, "version: 1\n", "a.b=1")


def test_an_override_stands_for_all_that_was_in_its_place(home: Path) -> None:
    text = "version: 1\nserver: {port: 80, api_keys: [{name: a, env: A}]}\n"
    said = errors(home, text, "server.api_keys=[{name: b}]", "tiers.l2=5", "server.host=")
    assert said.count("error: --set server.api_keys: `server.api_keys[0]`") == 1
    assert "p.yaml" not in said
    assert "--set tiers.l2: must be a section" in said
    assert "--set server.host: the value is missing" in said


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("server.port.x=1", "`server.port` is not a section: its value is set as a whole"),
        ("server.api_keys.0.env=X", "`server.api_keys` is not a section"),
        ("server.port=1\nhost: x", "this is more than one value"),
        ("server.port=[", "--set server.port: "),
        ("server.port=1\nvalue: 2", "stands here for the second time"),
        ("=1", "such as `--set"),
        ("server..port=1", "such as `--set"),
    ],
)
def test_an_override_is_never_ignored(home: Path, override: str, said: str) -> None:
    text = "version: 1\nserver: {port: 80, api_keys: [{name: a, env: A}]}\n"
    assert said in errors(home, text, override)


def test_paths(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    text = "version: 1\ntiers: {l3: {directories: [~/a, $XDG_CACHE_HOME/b, c]}}\n"
    found = load(home, text).profile.tiers.l3.directories
    assert found == (home / "a", home / ".cache/b", home / "c")


def test_shown_profiles_read_back(home: Path) -> None:
    text = "version: 1\nmodel: {served_name: 'null'}\ntiers: {l1: {size: 12.5%}}\n"
    text += "server: {api_keys: [{name: a, env: A}, {name: b, file: b}], admin_key: {env: C}}\n"
    profile = load(home, text).profile
    assert load(home, profile_as_yaml(profile)).profile == profile


def test_every_field_says_what_it_is() -> None:
    def check(model: type[Profile], names: str = "") -> None:
        for name, field in model.model_fields.items():
            if hasattr(field.annotation, "model_fields"):
                check(field.annotation, f"{names}{name}.")  # type: ignore[arg-type]
            else:
                assert field.description, name
                assert field.examples, name
                assert name == "version" or not field.is_required(), name

    check(Profile)
    assert "tiers.l3.directories" in all_fields()


@pytest.mark.parametrize("path", sorted((ROOT / "profiles").glob("*.yaml")), ids=lambda p: p.name)
def test_profiles_of_the_repository_are_valid(path: Path) -> None:
    load_profile(path)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(all_fields()), st.text(max_size=12))
def test_any_override_is_taken_or_refused(home: Path, field: str, value: str) -> None:
    error = caught(ProfileError, lambda: load(home, "version: 1\n", f"{field}={value}"))
    assert error is None or str(error)


@pytest.mark.parametrize(
    ("text", "value"), [("auto", AUTO), ("none", ()), ("[0, 1]", (0, 1)), ('["3"]', (3,))]
)
def test_numa_nodes(home: Path, text: str, value: object) -> None:
    profile = load(home, f"version: 1\ntiers: {{l2: {{numa: {text}}}}}\n").profile
    assert profile.tiers.l2.numa == value
    again = load(home, profile_as_yaml(profile)).profile
    assert again.tiers.l2.numa == value
    assert load(home, "version: 1\n", f"tiers.l2.numa={text}").profile.tiers.l2.numa == value
