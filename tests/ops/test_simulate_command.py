"""`kvtier simulate`: options, table, JSON, chart, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import msgspec
import pexpect
import pytest
from ops.launched import write_profile
from ops.simulated import BEGINNING, BIG, line, write_chains, write_lines

from kvtier_ops import cli
from kvtier_ops.errors import BadInput
from kvtier_ops.simulate.rates import Rates, ToldRates, make_rates, parse_rate
from kvtier_ops.simulate.report import seconds
from kvtier_ops.simulate.result import Result, json_schema
from kvtier_ops.simulate.setup import ModelWork
from kvtier_ops.simulate.sweep import Range, default_sizes, knee, parse_sweep

SIZES = ["--kv-bytes-per-token", "1000", "--l1", "200kB", "--l2", "400kB", "--l3", "4MB"]


Capture = pytest.CaptureFixture[str]


@pytest.fixture
def trace(tmp_path: Path) -> str:
    """Six conversations that take turns; a block is 4 tokens, 4 kB."""
    chains = [
        [100 * talk + block for block in range(8 * turn)]
        for turn in range(1, 6)
        for talk in range(1, 7)
    ]
    return write_chains(tmp_path / "trace.jsonl", chains)


def run(capfd: Capture, *arguments: str) -> tuple[int, str, str]:
    code = cli.run(["simulate", *arguments])
    out, err = capfd.readouterr()
    assert "Traceback" not in err
    assert "\x1b" not in out + err
    return code, out, err


def run_json(capfd: Capture, *arguments: str) -> dict[str, Any]:
    code, out, err = run(capfd, *arguments, "--json")
    assert (code, err) == (0, "")
    result: dict[str, Any] = json.loads(out)
    return result


def test_json_is_what_the_schema_says(trace: str, capfd: Capture) -> None:
    found = run_json(capfd, trace, *SIZES, "--prefill-tokens-per-s", "100")
    msgspec.convert(found, Result)
    assert set(found) == set(json_schema()["$defs"]["Result"]["properties"])
    assert [tier["tokens"] for tier in found["tiers"]] == [200, 400, 4000]
    hits = sum(tier["hit_tokens"] for tier in found["tiers"])
    assert found["hit_rates"]["all_tiers"] == hits / found["trace"]["input_tokens"]
    assert found["hit_rates"]["all_tiers"] == found["hit_rates"]["infinite"] > 0.5
    assert found["hit_rates"]["memory"] < found["hit_rates"]["told"]
    assert [wait["tiers"] for wait in found["waits"]] == [
        [], ["l1"], ["l1", "l2"], ["l1", "l2", "l3"],
    ]  # fmt: skip
    assert found["waits"][3]["mean_s"] < found["waits"][0]["mean_s"]
    assert found["disk"]["written_bytes"] > 0
    assert found["disk"]["days"][0]["read_bytes"] == found["disk"]["read_bytes"]
    assert [sweep["tier"] for sweep in found["sweeps"]] == ["l2", "l3"]


def test_the_speed_is_of_arrivals(trace: str, capfd: Capture) -> None:
    rate = ["--prefill-tokens-per-s", "100"]
    slow = run_json(capfd, trace, *SIZES, *rate)
    quick = run_json(capfd, trace, *SIZES, *rate, "--speed", "10")
    assert quick["trace"]["duration_s"] == pytest.approx(slow["trace"]["duration_s"] / 10)
    assert quick["waits"][0]["device_load"] == pytest.approx(10 * slow["waits"][0]["device_load"])
    assert "overloaded" in " ".join(quick["findings"])
    assert quick["hit_rates"] == slow["hit_rates"]


def test_a_slow_copy_from_l2_is_waited_for(trace: str, capfd: Capture) -> None:
    rates = ["--prefill-tokens-per-s", "1000", "--l2-copy"]
    slow, quick = (run_json(capfd, trace, *SIZES, *rates, each) for each in ("1MB/s", "1TB/s"))
    assert slow["waits"][:2] == quick["waits"][:2]
    for tiers in (2, 3):
        assert slow["waits"][tiers]["mean_s"] > quick["waits"][tiers]["mean_s"]


@pytest.mark.parametrize("columns", ["80", "120"])
def test_the_table_fits(
    trace: str, capfd: Capture, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    code, out, err = run(capfd, trace, *SIZES, "--prefill-tokens-per-s", "100")
    assert (code, err) == (0, "")
    text = out.replace(trace, "trace")
    assert max(map(len, text.splitlines())) <= int(columns)
    for said in ("L1 ", "L2 ", "L3 ", "infinite", "no cache", "planned", "knee", "buys", "##"):
        assert said in out


def test_a_profile_says_it_all(home: Path, trace: str, capfd: Capture) -> None:
    profile = str(write_profile(home))
    assert cli.run(["plan", profile, "--json"]) == 0
    plan = json.loads(capfd.readouterr().out)
    found = run_json(capfd, trace, "--profile", profile)
    for tier in found["tiers"]:
        assert tier["tokens"] == plan["tiers"][tier["name"]]["tokens"]
    assert found["token_bytes"] == plan["model"]["kv_token_bytes"]
    assert found["rates"][0]["source"].startswith("assumed")
    more = run_json(capfd, trace, "--profile", profile, "--set", "tiers.l2.size=16MiB")
    assert more["tiers"][1]["tokens"] > found["tiers"][1]["tokens"]


def test_the_chart_is_a_picture_of_its_own(trace: str, tmp_path: Path, capfd: Capture) -> None:
    odd = tmp_path / "a<&b.jsonl"
    Path(trace).rename(odd)
    chart = tmp_path / "chart.svg"
    code, _, _ = run(capfd, str(odd), *SIZES, "--prefill-tokens-per-s", "9", "--chart", str(chart))
    assert code == 0
    root = ElementTree.fromstring(chart.read_text())
    texts = ["".join(each.itertext()) for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert any("a<&b.jsonl" in text for text in texts)
    assert any(text.startswith("L3 3.81 MiB: ") for text in texts)
    assert "href" not in chart.read_text()
    width = float(root.get("width", 0))
    for each in root.iter("{http://www.w3.org/2000/svg}rect"):
        assert 0 <= float(each.get("x", 0)) <= width
        assert float(each.get("width", 0)) <= width
    code, _, err = run(capfd, str(odd), *SIZES, "--chart", str(tmp_path / "no" / "c.svg"))
    assert code == 2
    assert "there is no folder" in err


def test_a_trace_without_times_has_hit_rates(capfd: Capture) -> None:
    code, out, _ = run(
        capfd, str(BEGINNING), "--kv-bytes-per-token", "1000", "--l1", "4GB",
        "--prefill-tokens-per-s", "100",
    )  # fmt: skip
    assert code == 0
    assert "no times: the trace has no timestamps" in out
    assert "first token" not in out
    found = run_json(capfd, str(BEGINNING), "--kv-bytes-per-token", "1000", "--l1", "4GB")
    assert (found["waits"], found["disk"]) == ([], None)


def test_tiers_that_are_not_there_are_left_out(trace: str, capfd: Capture) -> None:
    one = ["--kv-bytes-per-token", "1000"]
    assert run_json(capfd, trace, *one)["hit_rates"]["all_tiers"] == 0
    code, out, _ = run(capfd, trace, *one, "--l2", "400kB", "--prefill-tokens-per-s", "9")
    assert code == 0
    assert "L1 + L2 " not in out
    assert "disk:" not in out


def test_one_request_and_no_tokens(tmp_path: Path, capfd: Capture) -> None:
    empty = {"input_length": 0, "hash_ids": [], "timestamp": 0, "block_tokens": 4}
    for lines in ([line([1], timestamp=7, block_tokens=4)], [empty], [empty, empty]):
        path = write_lines(tmp_path / "t", lines)
        found = run_json(capfd, path, *SIZES, "--prefill-tokens-per-s", "9")
        assert found["hit_rates"]["infinite"] == 0
        assert run(capfd, path, *SIZES, "--prefill-tokens-per-s", "9")[0] == 0


def test_bad_lines_are_counted(trace: str, capfd: Capture) -> None:
    with Path(trace).open("a") as file:
        file.write("oops\n")
    code, _, err = run(capfd, trace, *SIZES)
    assert code == 2
    assert f"error: {trace}:31: this is no request" in err
    code, out, _ = run(capfd, trace, *SIZES, "--skip-bad")
    assert code == 0
    assert "1 lines were bad" in out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "which cache?"),
        (["--kv-bytes-per-token", "0"], 2, "--kv-bytes-per-token: 0 bytes are no KV"),
        (["--kv-bytes-per-token", "9", "--l1", "7"], 2, "--l1: the unit is missing"),
        (["--kv-bytes-per-token", "9", "--l3", "7GB"], 2, "L3 needs an L2"),
        (["--kv-bytes-per-token", "9", "--page-tokens", "0"], 2, "--page-tokens: "),
        (["--speed", "0"], 2, "--speed: `0` is not a number above 0"),
        (["--speed", "nan"], 2, "--speed"),
        (["--prefill-tokens-per-s", "-1"], 2, "above 0"),
        (["--disk-read", "6GB"], 2, "write a size per second, not `6GB`"),
        (["--disk-read", "6XB/s"], 2, "`XB` is not a unit"),
        (["--l2-copy", "0GB/s"], 2, "nothing moves"),
        (["--decode-share", "100%"], 2, "below 100%"),
        (["--decode-share", "x"], 2, "--decode-share"),
        (["--sweep", "l1=1GB..2GB"], 2, "l2 or l3"),
        (["--sweep", "l2=2GB..1GB"], 2, "not smaller"),
        (["--sweep", "l2=1..2GB"], 2, "unit is missing"),
        (["--profile", "none.yaml"], 2, "no such file"),
        (["--profile", "p.yaml", "--l2", "4GB"], 2, "`--l2` and `--profile` say the same thing"),
        (["--block-tokens", "3", "--kv-bytes-per-token", "9"], 2, "`--block-tokens` says 3"),
        (["--nope"], 2, "no such option"),
    ],
)
def test_mistakes(trace: str, capfd: Capture, arguments: list[str], code: int, said: str) -> None:
    got, out, err = run(capfd, trace, *arguments)
    assert (got, out) == (code, "")
    assert said.lower() in err.lower()
    assert err.startswith("error: ")


def test_a_profile_that_does_not_fit(home: Path, trace: str, capfd: Capture) -> None:
    profile = str(write_profile(home))
    code, _, err = run(capfd, trace, "--profile", profile, "--set", "tiers.l1.size=900TiB")
    assert code == 3
    assert "the largest that fits" in err


def test_nothing_heavy_is_imported(trace: str) -> None:
    program = (
        "import sys; from kvtier_ops import cli; "
        f"code = cli.run(['simulate', {trace!r}, *{SIZES!r}]); "
        "bad = {'torch', 'transformers', 'numpy', 'matplotlib'} & set(sys.modules); "
        "sys.exit(str(bad) if bad else code)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_sweeps() -> None:
    assert parse_sweep("l2=1GiB..4GiB, l3=1GB..3GB") == {
        "l2": Range(1 << 30, 4 << 30), "l3": Range(10**9, 3 * 10**9),
    }  # fmt: skip
    assert Range(1, 6).sizes() == [1, 2, 4, 6]
    assert default_sizes(64, 1000)[-1] >= 1000
    assert 64 in default_sizes(64, 1000)
    for planned, everything in ((1, 1), (10**15, 1), (1, 10**15), (3, 0)):
        assert 2 <= len(default_sizes(planned, everything)) <= 13
    steps = {1: 0.1, 2: 0.2, 4: 0.205, 8: 0.3, 16: 0.305, 32: 0.306}
    assert knee(steps.__getitem__, [1, 2, 4, 8, 16]) == 8
    assert knee(steps.__getitem__, [8, 16]) == 8
    assert knee(steps.__getitem__, [1, 2, 4]) is None


@pytest.mark.parametrize("planned", [1, 7, 64, 35136 * 12345, 10**12 + 1])
def test_the_planned_size_is_among_the_others(planned: int) -> None:
    sizes = default_sizes(planned, 10**13)
    assert planned in sizes
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0123, "12 ms"), (1.5, "1.50 s"), (99_000, "99,000 s"), (148_786, "41.3 h")],
)
def test_times_have_their_columns(value: float, shown: str) -> None:
    assert seconds(value) == shown
    assert len(shown) <= 10


def test_what_does_not_store_finds_all_the_same(home: Path, capfd: Capture) -> None:
    line = {"input_length": 2048, "hash_ids": [1, 2, 3, 4]}
    lines = [line, *[{**line, "no_store": True}] * 9]
    path = home / "t.jsonl"
    path.write_text("".join(f"{json.dumps(each)}\n" for each in lines))
    sizes = ["--kv-bytes-per-token", "1000", "--l1", "1GiB", "--l2", "2GiB"]
    assert cli.run(["simulate", str(path), *sizes, "--json"]) == 0
    rates = json.loads(capfd.readouterr().out)["hit_rates"]
    assert rates["memory"] > 0.6
    assert rates["memory"] <= rates["told"] <= rates["optimum"] <= rates["infinite"]


def test_one_bad_line_leaves_the_others(home: Path, capfd: Capture) -> None:
    """The first, which alone would tell the size of blocks."""
    bad = '{"input_length": 7, "hash_ids": [1], "block_tokens": 1}\n'
    good = '{"input_length": 2048, "hash_ids": [1, 2, 3, 4]}\n'
    path = home / "t.jsonl"
    path.write_text(bad + good * 2)
    sizes = ["--kv-bytes-per-token", "1000", "--l1", "1GiB"]
    assert cli.run(["simulate", str(path), *sizes, "--skip-bad", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["trace"]["requests"] == 2


@pytest.mark.parametrize("option", [["--speed", "1e-9"], ["--prefill-tokens-per-s", "1e300"]])
def test_rates_that_nothing_has(trace: str, capfd: Capture, option: list[str]) -> None:
    sizes = ["--kv-bytes-per-token", "1000", "--l1", "1GiB"]
    assert cli.run(["simulate", trace, *sizes, *option]) == 2
    assert "is not between" in capfd.readouterr().err


def test_a_chart_replaces_nothing_unasked(trace: str, home: Path, capfd: Capture) -> None:
    chart = home / "c.svg"
    chart.write_text("mine")
    arguments = ["simulate", trace, "--kv-bytes-per-token", "1000", "--l1", "1GiB", "--chart"]
    assert cli.run([*arguments, str(chart)]) == 2
    assert chart.read_text() == "mine"
    assert "`--force` overwrites it" in capfd.readouterr().err
    assert cli.run([*arguments, str(chart), "--force"]) == 0
    assert chart.read_text().startswith("<svg")


def test_a_sweep_that_was_asked_for(trace: str, capfd: Capture) -> None:
    found = run_json(capfd, trace, *SIZES, "--sweep", "l2=100kB..400kB")
    assert [point["bytes"] for point in found["sweeps"][0]["points"]] == [100_000, 200_000, 400_000]
    assert [point["is_planned"] for point in found["sweeps"][0]["points"]] == [False, False, True]


def test_rates() -> None:
    assert parse_rate("6GB/s", "--x") == 6 * 10**9
    with pytest.raises(BadInput):
        parse_rate("6GB/m", "--x")
    told, work = ToldRates(disk_read_bytes_per_s=7.0), ModelWork(8_000_000_000)
    assert make_rates(told, ModelWork(), "cuda") is None
    rates = make_rates(told, work, "cuda")
    assert rates is not None
    assert (rates.disk_read_bytes_per_s, rates.prefill_tokens_per_s) == (7.0, 20_000)
    assert rates.sources["disk_read_bytes_per_s"] == "as told"
    assert "disk_read_bytes_per_s" not in rates.assumed
    assert "prefill_tokens_per_s" in rates.assumed
    measured = Rates(1, 2, 3, 4, {"l2_bytes_per_s": "measured on Monday"})
    mixed = make_rates(told, work, "cuda", measured)
    assert mixed is not None
    assert (mixed.prefill_tokens_per_s, mixed.disk_read_bytes_per_s) == (1, 7.0)
    assert mixed.sources["l2_bytes_per_s"] == "measured on Monday"


@pytest.mark.skipif(not BIG.is_dir(), reason="the whole traces are not here")
@pytest.mark.parametrize("name", ["mooncake_conversation", "mooncake_synthetic"])
@pytest.mark.timeout(60)
def test_whole_traces(name: str, capfd: Capture) -> None:
    found = run_json(
        capfd, str(BIG / f"{name}.jsonl.gz"), "--kv-bytes-per-token", "147456", "--l1", "60GB",
        "--l2", "600GB", "--l3", "6TB", "--prefill-tokens-per-s", "20000",
    )  # fmt: skip
    assert found["trace"]["block_tokens"] == 512
    assert 0 < found["hit_rates"]["memory"] < found["hit_rates"]["all_tiers"] <= 0.66


@pytest.mark.skipif(not BIG.is_dir(), reason="the whole traces are not here")
def test_ctrl_c_ends_it_and_a_terminal_sees_how_far_it_is() -> None:
    trace = str(BIG / "cc_weka_dev.jsonl.gz")
    arguments = ["-P", "-m", "kvtier_ops", "simulate", trace, *SIZES]
    child = pexpect.spawn(sys.executable, arguments, encoding="utf-8", timeout=30)
    child.expect("simulating")
    child.sendcontrol("c")
    child.expect("interrupted")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130
    assert "Traceback" not in child.before
