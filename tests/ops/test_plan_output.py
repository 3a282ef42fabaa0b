"""The plan as table, reasons, JSON and HTML: complete, within the width, as documented."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import jsonschema_rs
import pytest
from ops.builders import disk, make_host
from ops.test_plan import DISK, MODEL, profile

from kvtier_ops.errors import BadInput
from kvtier_ops.plan import Plan, make_plan
from kvtier_ops.plan.explain import all_reasons, explain
from kvtier_ops.plan.html import render_html
from kvtier_ops.plan.json_output import json_schema, plan_as_json
from kvtier_ops.plan.report import render_plan


def plan(**sections: str) -> Plan:
    sections = {"l1": "1GiB", "l2": "1GiB", "l3": "4GiB", **sections}
    return make_plan(profile(**sections), make_host(disks=[DISK]), MODEL)


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_tables_keep_to_the_width(width: int) -> None:
    text = render_plan(plan(), width)
    assert all(len(line) <= max(width, 60) for line in text.splitlines())
    for word in ("KVT-P001", "weights", "headroom", "L3", "23,040 bytes a token", "46,603 tokens"):
        assert word in text


def test_json_agrees_with_its_schema() -> None:
    made = plan_as_json(plan())
    check = jsonschema_rs.validator_for(json_schema())
    check.validate(json.loads(json.dumps(made)))
    assert made["version"] == 1
    assert made["tiers"]["l1"]["bytes"] == plan().l1.bytes
    assert made["memory"][0]["left_bytes"] == plan().memories[0].left_bytes
    broken = {**made, "tiers": {}, "extra": 1}
    with pytest.raises(jsonschema_rs.ValidationError):
        check.validate(broken)


def test_every_property_of_the_schema_says_its_type() -> None:
    def check(node: object) -> None:
        if isinstance(node, dict):
            if "properties" in node:
                assert node.get("additionalProperties") is False
                assert set(node["required"]) == set(node["properties"])
            for item in node.values():
                check(item)

    check(json_schema())


@pytest.mark.parametrize("name", sorted(all_reasons(plan())))
def test_every_number_has_a_reason(name: str) -> None:
    text = explain(plan(), name, 80)
    assert text.startswith(f"{name} = ")
    assert all(len(line) <= 80 for line in text.splitlines())
    for reason in all_reasons(plan()).values():
        assert set(reason.because) <= set(all_reasons(plan())), reason.name


def test_a_chain_of_reasons_goes_down_to_what_was_read() -> None:
    text = explain(plan(), "tiers.l1.size", 100)
    for name in ("memory.host memory = ", "memory.weights = ", "kv_token_bytes = 23,040 bytes"):
        assert name in text
    assert "30 layers x 3 kv heads x (64 + 64)" in text
    assert text.count("kv_token_bytes = ") == 1


def test_a_reason_that_there_is_not() -> None:
    with pytest.raises(BadInput) as raised:
        explain(plan(), "l1.size", 80)
    assert raised.value.problems[0].hint == "did you mean `tiers.l1.size`?"
    with pytest.raises(BadInput) as raised:
        explain(plan(), "\x1b[31m" + "x" * 500, 80)
    assert "\x1b" not in str(raised.value)
    assert "there are reasons for" in raised.value.problems[0].hint


class Page(HTMLParser):
    """Fails on tags that do not match, and remembers text and what is loaded."""

    VOID = ("meta", "rect", "line")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words = ""
        self.loads: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "br", "line"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def test_html_has_what_the_table_has_and_loads_nothing() -> None:
    made = plan()
    page = Page(render_html(made))
    assert page.loads == []
    for word in ("134,515,008 parameters as bfloat16", "KVT-P001", "the disk:", "46,592", "ext4"):
        assert word in page.words


def test_html_escapes_what_others_wrote() -> None:
    path = Path("/disk/<script>alert(1)</script>")
    host = make_host(directories={path: disk(path)})
    made = make_plan(profile(l3="4GiB", directories=[str(path)]), host, MODEL)
    assert "<script>" not in render_html(made)
