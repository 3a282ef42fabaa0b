"""Plans: sizes that hold, the reason for each, and refusals that name what fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.builders import GIB, caught, disk, make_host

from kvtier_engine.config import EngineConfig
from kvtier_ops.errors import BadInput, KvtierError, PlanDoesNotFit
from kvtier_ops.host import DriveKind, Gpu, Host, HugepagePool
from kvtier_ops.model.facts import ModelFacts
from kvtier_ops.model.kv_shape import KvKind, KvLayers, KvShape
from kvtier_ops.plan import Plan, make_plan
from kvtier_ops.plan.arena import arena_bytes
from kvtier_ops.plan.report import render_plan
from kvtier_ops.plan.resolve import resolve
from kvtier_ops.profile.schema import Profile
from kvtier_ops.units import parse_size

DISK, MIB = Path("/disk/kvtier"), 1 << 20
MODEL = ModelFacts(
    path=Path("/m"),
    architecture="LlamaForCausalLM",
    kv=KvShape((KvLayers(KvKind.FULL, 30, 3, 64, 64),), 2),
    parameters=134_515_008,
    active_parameters=134_515_008,
    weight_bytes=269_030_016,
    query_heads=9,
    head_dim=64,
    layers=30,
    hidden=576,
    ffn=1536,
    vocab=49152,
    max_context_tokens=8192,
    weights_reason="134,515,008 parameters as bfloat16",
)


def profile(**sections: Any) -> Profile:
    """`profile(l2="4GiB", engine={...})`; l1 to l3 are sizes."""
    tiers = {name: {"size": sections.pop(name)} for name in ("l1", "l2", "l3") if name in sections}
    if "l3" in tiers:
        tiers["l3"]["directories"] = sections.pop("directories", [str(DISK)])
    more = sections.pop("tiers", {})
    return Profile.model_validate({"version": 1, "tiers": {**tiers, **more}, **sections})


def plan(made: Profile, host: Host | None = None) -> Plan:
    return make_plan(made, host or make_host(disks=[DISK]), MODEL)


def ids(made: Plan) -> list[str]:
    return [warning.id for warning in made.warnings]


def test_quickstart_sizes() -> None:
    made = plan(profile(l1="512MiB", l2="1GiB", l3="4GiB", engine={"device": "cpu"}))
    page = 2 * 30 * 3 * 64 * 2 * 64
    assert made.page_bytes == page == 1_474_560
    assert made.l1.pages == (512 << 20) // page == 364
    assert made.l2.pages == 726
    assert made.l3.pages == 2904
    assert made.threads == 4
    assert ids(made) == []
    config = made.engine_config(Path("/run/x"), arena_fd=7)
    assert config.cache.page_bytes == page
    assert (config.cache.l1.pages, config.cache.l2.pages, config.cache.l2.arena_fd) == (364, 726, 7)
    assert config.cache.l3.directories[0].capacity_bytes == 4 << 30
    assert EngineConfig.model_validate_json(config.model_dump_json()) == config


def test_the_eviction_policy_reaches_the_engine() -> None:
    l3 = {"size": "4GiB", "directories": [str(DISK)], "eviction": "keep_reused"}
    made = plan(profile(tiers={"l3": l3}))
    assert made.engine_config(Path("/run/x")).cache.l3.eviction == "keep_reused"
    assert plan(profile(l3="4GiB")).engine_config(Path("/run/x")).cache.l3.eviction == "lru"


def test_the_eviction_policies_of_memory_reach_the_engine() -> None:
    made = plan(profile(tiers={"l1": {"eviction": "arc"}, "l2": {"eviction": "arc"}}))
    cache = made.engine_config(Path("/run/x")).cache
    assert (cache.l1.eviction, cache.l2.eviction) == ("arc", "arc")
    cache = plan(profile(l1="1GiB")).engine_config(Path("/run/x")).cache
    assert (cache.l1.eviction, cache.l2.eviction) == ("lru", "lru")


def test_the_admission_rule_reaches_the_engine() -> None:
    l3 = {"size": "4GiB", "directories": [str(DISK)], "admit_sightings": 2, "admit_tokens": 1025}
    made = plan(profile(tiers={"l3": l3, "page_tokens": 64}))
    cache = made.engine_config(Path("/run/x")).cache
    assert (cache.l3.admit_sightings, cache.l3.admit_chain_pages) == (2, 17)
    assert ids(made) == ids(plan(profile(l3="4GiB")))


def test_how_the_disk_is_written_reaches_the_engine() -> None:
    l3 = {"size": "4GiB", "directories": [str(DISK)]}
    l3 |= {"write": "write_through", "admission": "all", "write_bytes_per_day": "5TB"}
    made = plan(profile(tiers={"l3": l3}))
    cache = made.engine_config(Path("/run/x")).cache
    assert (cache.l3.write, cache.l3.admission) == ("write_through", "all")
    assert cache.l3.write_bytes_per_day == 5 * 10**12
    l3["write_bytes_per_day"] = "none"
    cache = plan(profile(tiers={"l3": l3})).engine_config(Path("/run/x")).cache
    assert cache.l3.write_bytes_per_day is None
    cache = plan(profile(l3="4GiB")).engine_config(Path("/run/x")).cache
    assert (cache.l3.write, cache.l3.admission) == ("on_evict", "auto")
    assert cache.l3.write_bytes_per_day is None


def test_long_sequences_without_a_rule_to_except_them_from() -> None:
    l3 = {"size": "4GiB", "directories": [str(DISK)], "admit_tokens": 1024}
    assert "KVT-P007" in ids(plan(profile(tiers={"l3": l3})))


@pytest.mark.parametrize("size", ["17MiB", "101MiB", "1001MiB", "1025MiB"])
def test_an_arena_is_never_larger_than_asked_for(size: str) -> None:
    made = plan(profile(l1="64MiB", l2=size))
    assert made.l2.pages > 0
    assert made.l2.bytes <= parse_size(size).bytes


def test_auto_sizes_leave_room() -> None:
    made = plan(profile(l3="auto"))
    assert made.l1.reason.startswith("auto: a quarter")
    assert made.l2.bytes > made.l1.bytes
    assert made.memories[0].left_bytes > 0
    assert made.l3.bytes == 99 * GIB // 2


@pytest.mark.parametrize(
    ("made", "field", "hint"),
    [
        (profile(l1="90GiB"), "tiers.l1.size", "the largest that fits is `"),
        (profile(l2="90GiB", l1="1GiB"), "tiers.l2.size", "the largest that fits is `"),
        (profile(l3="1TiB"), "tiers.l3.size", "the largest that fits is `101376MiB`"),
        (profile(l1="1MiB"), "tiers.l1.size", "smaller `tiers.page_tokens`"),
        (profile(l2="1MiB"), "tiers.l2.size", "`0GiB` for no L2"),
        (
            profile(l1="100MiB", engine={"max_context_tokens": "8192"}),
            "engine.max_context_tokens",
            "the largest that fits is 4544",
        ),
        (profile(engine={"device": "cuda"}), "engine.device", "device: cpu"),
    ],
)
def test_what_does_not_fit(made: Profile, field: str, hint: str) -> None:
    with pytest.raises(PlanDoesNotFit) as raised:
        plan(made)
    assert raised.value.problems[0].field == field
    assert hint in raised.value.problems[0].hint


def test_the_largest_that_fits_fits() -> None:
    with pytest.raises(PlanDoesNotFit) as raised:
        plan(profile(l1="512MiB", l2="90GiB"))
    largest = raised.value.problems[0].hint.split("`")[1]
    plan(profile(l1="512MiB", l2=largest))


@pytest.mark.parametrize(
    ("made", "field"),
    [
        (profile(engine={"tensor_parallel": "2"}), "engine.tensor_parallel"),
        (profile(engine={"max_context_tokens": "9000"}), "engine.max_context_tokens"),
        (profile(l2="0GiB", l3="1GiB"), "tiers.l2.size"),
        (profile(l3="1GiB", directories=["/a", "/a"]), "tiers.l3.directories"),
    ],
)
def test_contradictions(made: Profile, field: str) -> None:
    with pytest.raises(BadInput) as raised:
        plan(made)
    assert raised.value.problems[0].field == field


@pytest.mark.parametrize(
    ("made", "host", "expected"),
    [
        (profile(l1="1GiB", l2="1GiB"), None, "KVT-P001"),
        (profile(l1="1GiB", l2="2GiB", l3="1GiB"), None, "KVT-P002"),
        (profile(l1="100MiB"), None, "KVT-P003"),
        (profile(engine={"threads": "9"}), None, "KVT-P004"),
        (profile(server={"host": "0.0.0.0"}), None, "KVT-P005"),
        (
            profile(l3="9GiB"),
            make_host(directories={DISK: disk(DISK, kind="tmpfs", drive_kind=DriveKind.MEMORY)}),
            "KVT-P006",
        ),
    ],
)
def test_each_warning(made: Profile, host: Host | None, expected: str) -> None:
    assert ids(plan(made, host)) == [expected]


def test_keys_for_those_who_are_let_in() -> None:
    keys = [{"name": "a", "env": "A_KEY"}, {"name": "b", "file": "/b", "shared_cache": "yes"}]
    made = profile(server={"host": "0.0.0.0", "api_keys": keys, "admin_key": {"env": "C_KEY"}})
    assert ids(plan(made)) == []
    server = plan(made).engine_config(Path("/run")).server
    assert [(key.name, key.shared_cache) for key in server.api_keys] == [("a", False), ("b", True)]
    assert [key.secret.env for key in server.api_keys] == ["A_KEY", None]
    assert server.api_keys[1].secret.file == Path("/b")
    assert server.admin_key is not None
    assert server.admin_key.env == "C_KEY"
    assert plan(profile()).engine_config(Path("/run")).server.admin_key is None


def test_a_cgroup_counts_for_more_than_the_host() -> None:
    host = make_host(cgroup_limit_bytes=3 * GIB, cgroup_used_bytes=GIB)
    assert plan(profile(), host).memories[0].usable_bytes == 2 * GIB
    with pytest.raises(PlanDoesNotFit, match=r"before any cache.*cgroup") as caught:
        plan(profile(), make_host(cgroup_limit_bytes=GIB, cgroup_used_bytes=GIB // 2))
    [problem] = caught.value.problems
    assert problem.hint.startswith("raise the cgroup's memory limit by ")
    missing = int(problem.hint.split(" by ")[1].split(" MiB")[0]) << 20  # so much, and no less
    for change, word in ((-MIB, "before any cache"), (0, "no page")):
        limit = GIB + missing + change
        with pytest.raises(PlanDoesNotFit, match=word):
            plan(profile(), make_host(cgroup_limit_bytes=limit, cgroup_used_bytes=GIB // 2))


def test_what_is_needed_before_any_cache_is_told_apart() -> None:
    """The sum is not the reserve alone, whichever field can mend it."""
    made = profile(host={"reserve": "7.9GiB"})
    with pytest.raises(PlanDoesNotFit) as caught:
        plan(made)
    [problem] = caught.value.problems
    assert problem.field == "host.reserve"
    assert "headroom 7.89 GiB), and host memory has 8.00 GiB to use" in problem.what
    assert "(weights 256 MiB, work " in problem.what
    assert problem.hint == "leave less to the system, or free memory"


def test_a_cgroup_that_grants_more_than_the_host_has_is_no_limit() -> None:
    wide = make_host(memory_available_bytes=GIB // 4, cgroup_limit_bytes=3 * GIB)
    with pytest.raises(PlanDoesNotFit) as caught:
        plan(profile(), wide)
    assert "cgroup" not in caught.value.render()


def test_pages_of_an_earlier_run_count_as_room() -> None:
    full = disk(DISK, free_bytes=2 * GIB, used_bytes=4 * GIB)
    assert plan(profile(l3="5GiB"), make_host(directories={DISK: full})).l3.bytes == 5 * GIB


def test_directories_on_one_file_system_share_its_room() -> None:
    paths = [Path("/disk/a"), Path("/disk/b")]
    host = make_host(directories={path: disk(path, free_bytes=11 * GIB) for path in paths})
    made = profile(l3="auto", directories=[str(path) for path in paths])
    assert sum(each.capacity_bytes for each in plan(made, host).disks) == 5 * GIB


def test_gpu_holds_weights_and_l1() -> None:
    host = make_host(gpus=(Gpu("H100", 80 * GIB, 79 * GIB),))
    made = plan(profile(), host)
    assert made.device == "cuda"
    assert made.memories[0].place == "GPU memory"
    assert made.l1.bytes > 60 * GIB
    assert made.memories[1].place == "host memory"


def test_reserved_hugepages_are_a_memory_of_their_own() -> None:
    host = make_host(hugepages={2 << 20: HugepagePool(1024, 1024)})
    made = plan(profile(tiers={"l2": {"hugepages": "2MiB"}}), host)
    assert GIB < made.l2.bytes <= 2 * GIB
    assert "L2" not in [item.name for item in made.memories[0].items]


SIZES = st.sampled_from(["auto", "0GiB", "3MiB", "100MiB", "1GiB", "7GiB", "30%", "100%", "0.1%"])


@settings(deadline=None)
@given(
    l1=SIZES,
    l2=SIZES,
    l3=SIZES,
    page=st.sampled_from([8, 64, 256]),
    ranks=st.sampled_from([1, 3]),
    memory=st.integers(GIB, 64 * GIB),
    free=st.integers(0, 200 * GIB),
)
def test_plans_never_take_more_than_there_is(
    *, l1: str, l2: str, l3: str, page: int, ranks: int, memory: int, free: int
) -> None:
    host = make_host(memory_available_bytes=memory, directories={DISK: disk(DISK, free_bytes=free)})
    sections = {"l1": l1, "l2": l2, "l3": l3, "engine": {"tensor_parallel": ranks}}
    asked = profile(**sections, tiers={"page_tokens": page})
    error = caught(KvtierError, lambda: plan(asked, host))
    if error is not None:
        assert isinstance(error, KvtierError)
        assert error.problems[0].field
        return
    made = plan(asked, host)
    assert all(memory.left_bytes >= 0 for memory in made.memories)
    assert made.l1.pages * made.page_bytes == made.l1.bytes
    assert made.l2.bytes >= made.l2.pages * made.page_bytes
    assert made.l2.bytes == 0 or made.l2.bytes == arena_bytes(
        made.page_bytes, ranks, made.l2.pages, "transparent"
    )
    assert made.l3.bytes <= max(0, free - GIB)
    assert made.max_context_tokens <= made.l1.tokens
    again = plan(Profile.model_validate(resolve(asked, made).model_dump(mode="json")), host)
    assert (again.l1.pages, again.l2.pages, again.l3.pages) == (
        made.l1.pages,
        made.l2.pages,
        made.l3.pages,
    )


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_tables_keep_to_the_width(width: int) -> None:
    text = render_plan(plan(profile(l1="1GiB", l2="1GiB", l3="4GiB")), width)
    assert all(len(line) <= max(width, 80) for line in text.splitlines())
    for word in ("KVT-P001", "weights", "headroom", "L3", "23,040 bytes a token"):
        assert word in text
