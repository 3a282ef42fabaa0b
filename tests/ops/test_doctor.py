"""The doctor as a whole: the plan's findings, checks that break, exit codes, the table."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from ops.doctored import load, of

from kvtier_ops.doctor import CHECKS, Context, Finding, Severity, run_checks
from kvtier_ops.doctor.check import Check, Needs, Outcome, Result
from kvtier_ops.doctor.examine import examine, find
from kvtier_ops.doctor.registry import ENTRIES
from kvtier_ops.doctor.report import exit_code, render
from kvtier_ops.errors import ExitCode
from kvtier_ops.profile.load import load_profile

ROOT = Path(__file__).resolve().parents[2]
GOOD = Finding("KVT-D1", "g", "what", Severity.FAILURE, True, "r", "c", "")
WARNED = replace(GOOD, ok=False, severity=Severity.WARNING, fix="mend it")
FAILED = replace(WARNED, severity=Severity.FAILURE)
BROKE = replace(WARNED, broke=True)


def test_plan_and_model(home: Path) -> None:
    findings = examine(load(home))
    assert of(findings, "KVT-D201").ok
    assert of(findings, "KVT-D401").ok
    large = of(examine(load(home, "tiers.l2.size=900TiB")), "KVT-D201")
    assert not large.ok
    assert "the largest that fits" in large.fix


def test_a_contradiction_is_not_the_models_fault(home: Path) -> None:
    assert of(examine(load(home)), "KVT-D204").ok
    findings = examine(load(home, "engine.tensor_parallel=3"))
    found = of(findings, "KVT-D204")
    assert not found.ok
    assert "3 ranks cannot share 2 kv heads" in found.current
    assert not [finding for finding in findings if finding.id == "KVT-D401"]
    large = of(examine(load(home, "tiers.l2.size=900TiB")), "KVT-D201")
    assert large.current.startswith("KVT-P203: `tiers.l2.size` asks for")


def test_warnings_of_the_plan_are_findings_of_the_same_id(home: Path) -> None:
    findings = examine(load(home, "tiers.l1.size=6MiB", "tiers.kv_dtype=float8"))
    harmless, forbidding = of(findings, "KVT-P001"), of(findings, "KVT-P104")
    assert (harmless.ok, harmless.severity) == (False, Severity.WARNING)
    assert harmless.what == "plan, `tiers.l2.size`"
    assert forbidding.severity is Severity.FAILURE
    assert exit_code(findings) == ExitCode.REFUSED
    text = render(findings, 80)
    assert "KVT-P104" in text
    assert "required: \n" not in text
    assert not [f for f in examine(load(home)) if f.id.startswith("KVT-P")]


def test_without_a_profile_only_the_host_is_checked() -> None:
    findings = examine(None)
    assert {finding.group for finding in findings} <= {
        *("environment", "gpu", "memory", "cpu", "clock"),
    }
    assert of(findings, "KVT-D101").ok
    assert not [f for f in findings if f.id in {c.id for c in CHECKS if c.needs is Needs.PLAN}]


def test_a_check_that_breaks_takes_no_other_down() -> None:
    def breaks(context: Context) -> list[Outcome]:
        raise ZeroDivisionError("by zero")

    def passes(context: Context) -> list[Outcome]:
        return [Outcome(True, "", "well")]

    checks = [
        Check("KVT-D001", "g", "one", Severity.FAILURE, breaks),
        Check("KVT-D002", "g", "two", Severity.FAILURE, passes),
    ]
    broken, well = run_checks(checks, Context())
    assert (broken.result, well.result) == (Result.ERROR, Result.OK)
    assert broken.current == "the check itself failed: ZeroDivisionError: by zero"
    assert broken.severity is Severity.WARNING, "a fault of ours must not stop a launch"
    assert exit_code([broken, well]) == ExitCode.BUG
    text = render([broken, well], 80)
    assert "BROKEN  KVT-D001" in text
    assert "ok      KVT-D002" in text
    assert "--skip KVT-D001" in text


def test_a_check_is_made_only_where_what_it_needs_is_there(home: Path) -> None:
    file = load(home)
    made: list[Needs] = []

    def check(needs: Needs) -> Check:
        def look(context: Context) -> list[Outcome]:
            made.append(needs)
            return []

        return Check("KVT-D001", "g", "one", Severity.FAILURE, look, needs=needs)

    checks = [check(needs) for needs in Needs]
    list(run_checks(checks, Context()))
    assert made == [Needs.NOTHING]
    list(run_checks(checks, Context(file.profile)))
    assert made[1:] == [Needs.NOTHING, Needs.PROFILE]
    several = load(home, "cluster.nodes=2", "engine.tensor_parallel=2").profile
    list(run_checks(checks, Context(several)))
    assert made[3:] == [Needs.NOTHING, Needs.PROFILE, Needs.NODES]


@pytest.mark.parametrize(
    ("findings", "code", "strict"),
    [
        ([], 0, 0),
        ([GOOD], 0, 0),
        ([GOOD, WARNED], 4, 3),
        ([WARNED, FAILED], 3, 3),
        ([FAILED, BROKE], 1, 1),
    ],
)
def test_exit_codes(findings: list[Finding], code: int, strict: int) -> None:
    assert exit_code(findings) == code
    assert exit_code(findings, strict=True) == strict


def test_table() -> None:
    reasoned = replace(WARNED, required="5 pages", reason="L2 of 10 MiB needs 5", group="memory")
    long = replace(FAILED, current="long " * 40, what="esc\x1b[31m")
    text = render([GOOD, reasoned, long], 80)
    lines = text.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert lines[0] == "memory", "groups that the registry knows come first"
    assert lines.count("g") == 1
    assert "  warning KVT-D1  what: c" in lines
    assert "          required: 5 pages: L2 of 10 MiB needs 5" in lines
    assert "          fix:      mend it" in lines
    assert "\x1b" not in text
    assert lines[-1] == "3 checks: 1 failed, 1 warned"
    assert "warnings count as failures" in render([WARNED], 80, strict=True)
    assert render([GOOD], 80).endswith("1 check: all passed")


def test_launch_stops_with_the_checks_own_text() -> None:
    problem = replace(FAILED, required="5 pages", reason="L2 needs 5").problem()
    assert problem.lines() == ["error: KVT-D1: what: c; required: 5 pages: L2 needs 5",
                               "hint: mend it"]  # fmt: skip


def test_registry() -> None:
    ids = [entry.id for entry in ENTRIES]
    assert len(set(ids)) == len(ids)
    for entry in ENTRIES:
        assert re.fullmatch(r"KVT-[DP]\d{3}", entry.id)
        assert entry.group == entry.group.lower()
        assert entry.passes, entry.id
        assert not entry.passes.endswith("."), entry.id
        assert len(entry.why.split()) >= 15, f"{entry.id} explains nothing"
        assert entry.why.endswith("."), entry.id


def test_every_id_of_the_plan_is_explained() -> None:
    sources = (ROOT / "kvtier_ops").rglob("*.py")
    told = {id for path in sources for id in re.findall(r"\"(KVT-P\d{3})\"", path.read_text())}
    assert len(told) > 20
    assert told <= {entry.id for entry in ENTRIES}


def test_a_plan_that_cannot_be_made_is_told_whatever_is_selected(home: Path) -> None:
    from kvtier_ops.doctor.select import select

    file = load(home)
    (home / "model/config.json").unlink()
    findings = examine(load_profile(file.path), select(only=["KVT-D203"]))
    assert [finding.id for finding in findings] == ["KVT-D401"]
    findings = examine(load_profile(file.path), select(skip=["model"]))
    assert "KVT-D401" not in {finding.id for finding in findings}


def test_launch_needs_a_profile_and_its_plan_alone(home: Path) -> None:
    """As kvtier_ops/launch calls it."""
    from kvtier_ops.prepare import prepare

    file = load(home)
    findings = find(Context(file.profile, prepare(file)))
    assert not [f.problem() for f in findings if not f.ok and f.severity is Severity.FAILURE]
