"""`extends`: what a profile takes from another, and where its errors point."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from kvtier_ops.errors import ProfileError
from kvtier_ops.profile.extends import FILES_MAX
from kvtier_ops.profile.load import ProfileFile, load_profile
from kvtier_ops.profile.render import profile_as_yaml
from kvtier_ops.units import Size


def write(home: Path, **files: str) -> Path:
    """`a__b` is a/b.yaml; the first is the profile."""
    paths = [home / f"{name.replace('__', '/')}.yaml" for name in files]
    for path, text in zip(paths, files.values(), strict=True):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return paths[0]


def load(home: Path, *overrides: str, **files: str) -> ProfileFile:
    return load_profile(write(home, **files), overrides)


def errors(home: Path, *overrides: str, **files: str) -> str:
    with pytest.raises(ProfileError) as raised:
        load(home, *overrides, **files)
    return raised.value.render().replace(f"{home}/", "")


def test_sections_are_merged_lists_and_values_are_replaced(home: Path) -> None:
    file = load(
        home,
        p="extends: b.yaml\nversion: 1\ntiers: {l2: {size: 2GiB}, l3: {directories: [/c]}}\n"
        "engine: {environment: {B: x, C: x}}\n",
        b="tiers: {l2: {size: 1GiB, hugepages: none}, l3: {directories: [/a, /b], size: 9GB}}\n"
        "engine: {threads: 3, environment: {A: b, B: b}}\n",
    )
    tiers, engine = file.profile.tiers, file.profile.engine
    assert tiers.l2.size == Size(2 << 30)
    assert tiers.l2.hugepages == "none"
    assert tiers.l3.directories == (Path("/c"),)
    assert tiers.l3.size == Size(9 * 10**9)
    assert engine.environment == {"A": "b", "B": "x", "C": "x"}
    assert engine.threads == 3


def test_places_are_where_the_value_stands(home: Path) -> None:
    file = load(
        home,
        p="version: 1\nextends: b.yaml\ntiers:\n  l3:\n    directories: [/c]\n",
        b="tiers:\n  l2:\n    size: 1GiB\n  l3: {directories: [/a, /b]}\n",
    )
    assert file.place_of("tiers.l2.size") == f"{home}/b.yaml:3:11"
    assert file.place_of("tiers.l3") == f"{home}/p.yaml:5:5"
    assert file.place_of("tiers.l3.directories[0]") == f"{home}/p.yaml:5:19"
    assert file.place_of("tiers.l3.directories[1]") == f"{home}/p.yaml:5:5"


def test_relative_names_are_relative_as_the_profile_was(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(home, p="version: 1\nextends: sub/b.yaml\n", sub__b="server: {port: 5}\n")
    monkeypatch.chdir(home)
    assert load_profile(Path("p.yaml")).place_of("server.port") == "sub/b.yaml:1:16"


def test_relative_paths_start_at_the_file_in_which_they_stand(home: Path) -> None:
    profile = load(
        home,
        "tiers.l3.directories=[set]",
        p="version: 1\nextends: sub/b.yaml\nserver: {request_trace: t}\n",
        sub__b="extends: c.yaml\nmodel: {path: m}\nserver: {admin_key: {file: k}}\n",
        sub__c="tiers: {l3: {directories: [d]}}\n",
    ).profile
    assert profile.model.path == str(home / "sub/m")
    assert profile.server.admin_key.file == str(home / "sub/k")
    assert profile.server.request_trace == str(home / "t")
    assert profile.tiers.l3.directories == (home / "set",)


def test_an_empty_section_takes_the_bases(home: Path) -> None:
    file = load(home, p="version: 1\nextends: b.yaml\nserver:\n", b="server: {port: 5}\n")
    assert file.profile.server.port == 5


def test_what_is_shown_extends_nothing(home: Path) -> None:
    file = load(home, p="version: 1\nextends: b.yaml\n", b="server: {port: 5}\n")
    shown = profile_as_yaml(file.profile, file.tree)
    assert "extends" not in shown
    assert load(home, q=shown).profile == file.profile


def test_all_errors_of_all_files_at_once(home: Path) -> None:
    said = errors(
        home,
        p="version: 1\nextends: b.yaml\nserver: {prot: 1}\n",
        b="extends: c.yaml\nversion: 2\ntiers: {l1: {size: 4}}\n",
        c="engine: {threads: x}\nserver: {port: 1, port: 2}\n",
    )
    places = [line.split(" ")[1] for line in said.splitlines() if line.startswith("error:")]
    assert places == [
        "p.yaml:3:10:",
        "b.yaml:2:10:",
        "b.yaml:3:20:",
        "c.yaml:1:19:",
        "c.yaml:2:19:",
    ]
    assert "b.yaml:2:10: `version`: this kvtier reads profiles of version 1" in said


def test_a_wrong_version_is_there_all_the_same(home: Path) -> None:
    said = errors(home, p="extends: b.yaml\n", b="version: 2\n")
    assert said == "error: b.yaml:1:10: `version`: this kvtier reads profiles of version 1"


def test_a_base_that_cannot_be_read_hides_no_other_mistake(home: Path) -> None:
    said = errors(home, p="extends: b.yaml\nserver: {port: x}\n", b="a: [x\n")
    assert "b.yaml:1:4: a bracket is never closed" in said
    assert "p.yaml:2:16: `server.port`: must be a whole number" in said
    assert "`version`" not in said  # the base may have it
    said = errors(home, p="version: 1\nextends: sub/none.yaml\nserver: {port: x}\n")
    assert "p.yaml:2:10: `extends`: `sub/none.yaml`: there is no such file" in said
    assert "p.yaml:3:16" in said
    said = errors(home, p="version: 1\nextends: b.yaml\n", b="")
    assert "p.yaml:2:10: `extends`: `b.yaml`: the profile is empty" in said


@pytest.mark.parametrize("value", ["", "[a.yaml]", "{a: b}", '"${NOPE}"', "$NOPE/a", "~nobody9/a"])
def test_what_extends_cannot_be(home: Path, value: str) -> None:
    said = errors(home, p=f"version: 1\nextends: {value}\nport: 1\n")
    assert said.count("error: p.yaml:2:") == 1
    assert said.count("error: p.yaml:3:1:") == 1
    assert said.startswith(f"error: p.yaml:2:{10 if value else 9}: `extends`: ")


def test_cycles_are_named(home: Path) -> None:
    said = errors(
        home,
        p="version: 1\nextends: b.yaml\n",
        b="extends: sub/c.yaml\n",
        sub__c="extends: ../b.yaml\n",
    )
    assert "sub/c.yaml:1:10: `extends`: a profile cannot extend itself: b.yaml -> c.yaml" in said
    assert "c.yaml -> b.yaml" in said
    assert "itself: p.yaml -> p.yaml" in errors(home, p="version: 1\nextends: ./p.yaml\n")


def test_chains_have_an_end(home: Path) -> None:
    def chain(count: int) -> dict[str, str]:
        names = [f"f{n}" for n in range(count)]
        links = {name: f"extends: {below}.yaml\n" for name, below in itertools.pairwise(names)}
        return {**links, names[-1]: "version: 1\nserver: {port: 7}\n"}

    assert load(home, **chain(FILES_MAX)).profile.server.port == 7
    assert f"more than {FILES_MAX} profiles" in errors(home, **chain(FILES_MAX + 1))


def test_a_base_is_not_set_on_the_command_line(home: Path) -> None:
    said = errors(home, "extends=b.yaml", p="version: 1\n", b="server: {port: 5}\n")
    assert "--set extends: is read before anything else" in said


def test_what_is_replaced_is_no_mistake(home: Path) -> None:
    """A variable that only one of many hosts has, in a base that this one does not use so."""
    files = {"p": "version: 1\nextends: b.yaml\n", "b": 'server: {host: "${NOPE}"}\n'}
    assert "b.yaml:1:16: `server.host`: the environment has no `NOPE`" in errors(home, **files)
    assert load(home, "server.host=h", **files).profile.server.host == "h"
    files["p"] += "server: {host: g}\n"
    assert load(home, **files).profile.server.host == "g"
