"""The guide's mistakes, on the machine that it speaks of: each is computed, and has a name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.builders import GIB, caught, disk, make_host
from ops.test_plan import ids, profile

from kvtier_ops.errors import BadInput, KvtierError, PlanDoesNotFit
from kvtier_ops.host import Drive, DriveKind, Gpu, Host, HugepagePool, NumaNode
from kvtier_ops.model.facts import ModelFacts
from kvtier_ops.model.kv_shape import KvKind, KvLayers, KvShape
from kvtier_ops.plan import Plan, make_plan
from kvtier_ops.plan.resolve import resolve
from kvtier_ops.profile.schema import Profile

MIB2 = 2 << 20
SSD = Path("/mnt/ssd/disk_cache_dir")
QWEN = ModelFacts(
    path=Path("/models/Qwen3-235B-A22B"),
    architecture="Qwen3MoeForCausalLM",
    kv=KvShape((KvLayers(KvKind.FULL, 94, 4, 128, 128),), 2),
    parameters=235_093_634_560,
    active_parameters=22_000_000_000,
    weight_bytes=470_187_269_120,
    query_heads=64,
    head_dim=128,
    layers=94,
    hidden=4096,
    ffn=1536,
    vocab=151_936,
    max_context_tokens=262_144,
    weights_reason="235,093,634,560 parameters as bfloat16",
)
DEEPSEEK = replace(
    QWEN,
    architecture="DeepseekV3ForCausalLM",
    kv=KvShape((KvLayers(KvKind.LATENT, 61, 1, 576, 0),), 2),
)
GUIDE = {"tensor_parallel": 8, "gpu_memory_fraction": 0.88, "max_context_tokens": 65536}


def server(hugepages: int = 0, **changes: Any) -> Host:
    """512 GiB over two sockets, eight H100, one NVMe drive; so many hugepages on each node."""
    pool = {MIB2: HugepagePool(hugepages, hugepages)}
    nodes = tuple(
        NumaNode(n, 256 * GIB, 200 * GIB, tuple(range(n * 48, n * 48 + 48)), (10, 21), pool)
        for n in (0, 1)
    )
    ssd = disk(
        SSD,
        kind="xfs",
        total_bytes=3840 * 10**9,
        free_bytes=3600 * 10**9,
        drive_kind=DriveKind.NVME,
        drives=(Drive("nvme1n1", DriveKind.NVME, 3840 * 10**9),),
    )
    values = {
        "memory_total_bytes": 512 * GIB,
        "memory_available_bytes": 500 * GIB - 2 * hugepages * MIB2,
        "cpus": 96,
        "numa_nodes": nodes,
        "hugepages": {MIB2: HugepagePool(2 * hugepages, 2 * hugepages)},
        "gpus": tuple(
            Gpu("NVIDIA H100 80GB HBM3", 80 * GIB, 79 * GIB, n // 4, 5, 16) for n in range(8)
        ),
        "directories": {SSD: ssd},
    }
    return make_host(**{**values, **changes})


def plan(on: Host | None = None, model: ModelFacts = QWEN, **sections: Any) -> Plan:
    sections = {"engine": GUIDE, **sections}
    return make_plan(profile(**sections), on or server(), model)


def warning(made: Plan, id: str) -> str:
    [found] = [w for w in made.warnings if w.id == id]
    return f"{found.what}. {found.hint}"


def test_tokens_of_a_gigabyte_are_computed() -> None:
    """The guide has 13K for this model, in GPU memory, host memory and on disk alike."""
    made = plan(l2="300GiB")
    assert made.token_bytes == 94 * 2 * 4 * 128 * 2 == 192_512
    assert GIB // made.token_bytes == 5577
    assert made.l2.tokens // 300 in range(5570, 5578)


def test_eight_ranks_keep_four_heads_twice() -> None:
    made = plan()
    assert made.device_token_bytes == 2 * made.token_bytes
    assert made.l1.bytes // made.l1.tokens == 2 * 192_512
    assert "each head is kept 2 times" in warning(made, "KVT-P102")
    four = plan(engine={**GUIDE, "tensor_parallel": 4, "max_context_tokens": "auto"}, model=SMALL)
    assert four.device_token_bytes == four.token_bytes
    assert "KVT-P102" not in ids(four)


SMALL = replace(QWEN, weight_bytes=64 * GIB)


def test_200_000_hugepages_are_too_few_for_400_gib() -> None:
    """400 GiB take 204,800 pages of 2 MiB; `echo 200000` reserves 390.6 GiB."""
    made = plan(server(100_000), tiers={"l2": {"size": "400GiB", "hugepages": "2MiB"}})
    assert sum(need.pages for need in made.hugepages) == pytest.approx(204_800, abs=12)
    assert sum(need.missing for need in made.hugepages) == pytest.approx(4_800, abs=12)
    assert [need.node for need in made.hugepages] == [0, 1]
    found = [w for w in made.warnings if w.id == "KVT-P011"]
    assert all(w.forbids_launch for w in found)
    assert "100,000 are reserved (195 GiB)" in found[0].what
    assert "echo 102398 | sudo tee /sys/devices/system/node/node0/hugepages" in found[0].hint


def test_enough_hugepages_are_no_warning() -> None:
    made = plan(server(102_400), tiers={"l2": {"size": "400GiB", "hugepages": "2MiB"}})
    assert "KVT-P011" not in ids(made)
    assert made.memories[-1].items[-1].name != "L2"  # it takes nothing of other memory


def test_hugepages_that_nobody_uses_are_lost() -> None:
    """The guide reserves them and does not tell the server to use them."""
    made = plan(server(100_000), l2="64GiB")
    said = warning(made, "KVT-P012")
    assert "200,000 hugepages of 2.00 MiB are reserved and free" in said
    assert "390 GiB of memory are lost" in said
    assert "tiers.l2.hugepages: 2MiB" in said


def test_one_node_does_not_hold_the_cache() -> None:
    """`numactl --membind=0` with 400 GiB on a node of 256."""
    with pytest.raises(PlanDoesNotFit) as raised:
        plan(l2="400GiB", host={"memory_nodes": [0]})
    [problem] = raised.value.problems
    assert (problem.id, problem.field) == ("KVT-P013", "tiers.l2.size")
    assert "NUMA node 0 (`host.memory_nodes`) has" in problem.what
    assert "`host.memory_nodes: all`" in problem.hint
    largest = problem.hint.split("`")[1]
    assert plan(l2=largest, host={"memory_nodes": [0]}).l2.bytes <= 256 * GIB


def test_parts_bound_to_one_node_do_not_fit_either() -> None:
    with pytest.raises(PlanDoesNotFit) as raised:
        plan(tiers={"l2": {"size": "400GiB", "numa": [0] * 8}})
    assert raised.value.problems[0].id == "KVT-P013"
    assert raised.value.problems[0].field == "tiers.l2.numa"


def test_nodes_that_do_not_hold_their_parts_are_left_to_themselves() -> None:
    """Four ranks, their GPUs all beside node 0: `auto` binds nothing that would not fit."""
    engine = {"tensor_parallel": 4}
    made = plan(model=SMALL, engine=engine, l2="400GiB")
    assert made.numa_nodes == ()
    assert "NUMA node 0 would not hold its part" in made.l2.reason
    assert plan(model=SMALL, engine=engine, l2="200GiB").numa_nodes == (0, 0, 0, 0)


def test_chosen_sizes_take_the_hugepages_that_there_are() -> None:
    tiers = {"l2": {"hugepages": "2MiB"}}
    made = plan(server(100_000), model=SMALL, engine={"tensor_parallel": 4}, tiers=tiers)
    assert made.l2.bytes <= 200_000 * MIB2
    assert made.numa_nodes == ()
    assert "KVT-P011" not in ids(made)


def test_hugepages_of_the_nodes_that_are_kept_to() -> None:
    sections = {"tiers": {"l2": {"size": "220GiB", "hugepages": "2MiB"}}}
    made = plan(server(100_000), host={"memory_nodes": [0]}, **sections)
    [need] = made.hugepages
    assert (need.node, need.free) == (0, 100_000)
    assert need.missing == pytest.approx(12_640, abs=12)
    both = plan(server(100_000), host={"memory_nodes": [0, 1]}, **sections)
    assert "KVT-P011" not in ids(both)
    on_cpu = {"model": SMALL, "engine": {"device": "cpu"}, "host": {"memory_nodes": [0, 1]}}
    [need] = plan(server(100_000), **on_cpu, **sections).hugepages
    assert (need.node, need.among, need.reserved, need.free) == (None, (0, 1), 200_000, 200_000)


def test_parts_outside_of_the_nodes_that_are_kept_to() -> None:
    tiers = {"l2": {"size": "20GiB", "numa": [1] * 8}}
    with pytest.raises(BadInput, match=r"`host\.memory_nodes` leaves it out"):
        plan(tiers=tiers, host={"memory_nodes": [0]})


def test_heads_that_two_nodes_would_share() -> None:
    """20 ranks, 5 on each of 4 nodes, and 10 heads, each kept twice: one lies on two nodes."""
    ten = replace(QWEN, kv=KvShape((KvLayers(KvKind.FULL, 40, 10, 128, 128),), 2))
    with pytest.raises(BadInput, match="cannot share 10 kv heads with other nodes equally"):
        plan(model=ten, engine={"tensor_parallel": 20}, cluster={"nodes": 4})


def test_what_is_left_to_the_system_can_be_too_much() -> None:
    with pytest.raises(PlanDoesNotFit) as raised:
        plan(host={"reserve": "499GiB"})
    assert raised.value.problems[0].field == "host.reserve"


def test_an_l2_that_leaves_l1_nothing_is_told_of_l2() -> None:
    with pytest.raises(PlanDoesNotFit) as raised:
        plan(model=SMALL, engine={"device": "cpu"}, l2="480GiB")
    assert raised.value.problems[0].field == "tiers.l2.size"


def test_loopback_has_many_addresses() -> None:
    assert "KVT-P005" not in ids(plan(server={"host": "127.0.0.5"}))
    assert "KVT-P005" in ids(plan(server={"host": "10.0.0.5"}))


def test_gpus_beside_the_nodes_that_are_kept_to() -> None:
    made = plan(l2="64GiB", host={"cpu_nodes": [0]})
    assert "GPUs 4, 5, 6, 7 are near other NUMA nodes than 0" in warning(made, "KVT-P025")
    assert made.threads == 48 // 8


def test_gigabytes_are_not_gibibytes() -> None:
    assert "372.5 GiB" in warning(plan(l2="400GB"), "KVT-P014")
    assert "KVT-P014" not in ids(plan(l2="400GiB"))


def test_memory_that_leaves_nothing_to_the_system() -> None:
    made = plan(l2="460GiB", host={"reserve": "1GiB"})
    assert "are left to the system" in warning(made, "KVT-P015")
    assert "KVT-P015" not in ids(plan(l2="400GiB"))


def test_nodes_share_no_directory() -> None:
    """The guide says both: share it, and do not."""
    nfs = disk(SSD, kind="nfs4", drive_kind=DriveKind.NETWORK)
    engine = {**GUIDE, "tensor_parallel": 16}
    made = plan(
        server(directories={SSD: nfs}),
        engine=engine,
        cluster={"nodes": 2},
        l2="40GiB",
        tiers={"l3": {"size": "90GiB", "directories": [str(SSD)]}},
    )
    assert "second node is refused" in warning(made, "KVT-P016")
    assert "KVT-P103" in ids(made)
    l3 = {"l3": {"size": "90GiB", "directories": [str(SSD)]}}
    alone = plan(server(directories={SSD: nfs}), l2="40GiB", tiers=l3)
    assert "KVT-P016" not in ids(alone)
    assert "KVT-P006" in ids(alone)


def test_an_architecture_that_is_not_known() -> None:
    made = plan(model=replace(QWEN, architecture="NewForCausalLM", is_guess=True))
    assert "does not know NewForCausalLM" in warning(made, "KVT-P024")
    assert "KVT-P024" not in ids(plan())


def test_two_nodes_hold_half_each() -> None:
    engine = {**GUIDE, "tensor_parallel": 16}
    made = plan(engine=engine, cluster={"nodes": 2, "node_rank": 1}, l2="64GiB")
    assert (made.ranks.here, made.ranks.node_rank) == (8, 1)
    assert made.token_bytes == 192_512 // 2  # two of four heads
    assert made.device_token_bytes == 192_512 // 4 * 8  # each rank one head
    assert made.memories[0].items[0].bytes == 470_187_269_120 // 2


def test_a_latent_vector_is_on_every_rank_and_once_below() -> None:
    engine = {**GUIDE, "max_context_tokens": "auto"}
    made = plan(model=replace(DEEPSEEK, weight_bytes=300 * GIB), engine=engine, l2="64GiB")
    assert made.token_bytes == 61 * 576 * 2 == 70_272
    assert made.device_token_bytes == 8 * 70_272
    assert made.arena_parts == 1


def test_a_limit_of_tokens_that_holds_one_request() -> None:
    made = plan(tiers={"l1": {"max_tokens": 100_000}})
    assert made.l1.tokens <= 100_000
    assert "1.5 requests of 65,536" in warning(made, "KVT-P023")


def test_pages_of_512_tokens_find_less() -> None:
    assert "KVT-P019" in ids(plan(tiers={"page_tokens": 512}))
    assert "KVT-P019" not in ids(plan(tiers={"page_tokens": 256}))


def test_what_the_bundled_engine_does_not_do() -> None:
    engine = {**GUIDE, "graph_max_batch": 500}
    made = plan(engine=engine, tiers={"kv_dtype": "float8"})
    forbidding = {w.id for w in made.warnings if w.forbids_launch}
    assert forbidding == {"KVT-P101", "KVT-P102", "KVT-P104"}
    assert "captures no CUDA graphs" in warning(made, "KVT-P022")


def test_a_hard_disk_does_not_pay() -> None:
    hdd = disk(SSD, drive_kind=DriveKind.HDD, free_bytes=3000 * GIB, total_bytes=4000 * GIB)
    made = plan(
        server(directories={SSD: hdd}),
        l2="64GiB",
        tiers={"l3": {"size": "1TiB", "directories": [str(SSD)]}},
    )
    assert "computing is quicker than reading" in warning(made, "KVT-P017")


def test_more_ranks_than_gpus() -> None:
    with pytest.raises(PlanDoesNotFit) as raised:
        plan(engine={**GUIDE, "tensor_parallel": 16})
    assert raised.value.problems[0].id == "KVT-P202"
    assert "16 ranks on this node need as many GPUs; 8 are visible" in str(raised.value)


@pytest.mark.parametrize(
    ("sections", "field"),
    [
        ({"engine": {**GUIDE, "tensor_parallel": 6}}, "engine.tensor_parallel"),
        ({"cluster": {"nodes": 3}}, "cluster.nodes"),
        ({"cluster": {"nodes": 2, "node_rank": 2}}, "cluster.node_rank"),
        ({"engine": {**GUIDE, "max_prompt_tokens": 65536}}, "engine.max_prompt_tokens"),
    ],
)
def test_contradictions(sections: dict[str, Any], field: str) -> None:
    with pytest.raises(BadInput) as raised:
        plan(**sections)
    assert raised.value.problems[0].field == field


SIZES = st.sampled_from(["auto", "0GiB", "3MiB", "10GiB", "390GiB", "600GiB", "30%", "100%"])


@settings(deadline=None, max_examples=150)
@given(
    l1=st.sampled_from(["auto", "10GiB", "90GiB", "30%", "100%"]),
    l2=SIZES,
    backing=st.sampled_from(["transparent", "2MiB", "1GiB", "none"]),
    reserved=st.integers(0, 110_000),
    ranks=st.sampled_from([1, 2, 4, 8, 16]),
    nodes=st.sampled_from([1, 2]),
    bound=st.sampled_from(["all", [0], [0, 1]]),
    page=st.sampled_from([16, 64, 512]),
    model=st.sampled_from([QWEN, SMALL, DEEPSEEK]),
    memory=st.integers(GIB, 500 * GIB),
)
def test_a_plan_never_takes_what_the_host_does_not_have(
    *, l1: str, l2: str, backing: str, reserved: int, ranks: int, nodes: int, bound: Any,
    page: int, model: ModelFacts, memory: int,
) -> None:  # fmt: skip
    host = server(reserved, memory_available_bytes=memory)
    asked = profile(
        engine={"tensor_parallel": ranks},
        cluster={"nodes": nodes},
        host={"memory_nodes": bound},
        tiers={
            "page_tokens": page,
            "l1": {"size": l1},
            "l2": {"size": l2, "hugepages": backing},
            "l3": {"size": "100GiB", "directories": [str(SSD)]},
        },
    )
    error = caught(KvtierError, lambda: make_plan(asked, host, model))
    if error is not None:
        assert isinstance(error, KvtierError)
        assert error.problems[0].field
        return
    made = make_plan(asked, host, model)
    assert all(each.left_bytes >= 0 for each in made.memories)
    assert made.memories[-1].usable_bytes <= memory
    assert made.memories[0].usable_bytes <= 8 * 79 * GIB
    from_memory = sum(item.bytes for item in made.memories[-1].items if item.name == "L2")
    in_hugepages = host.hugepages_free(MIB2) * MIB2 if backing == "2MiB" else 0
    assert made.l2.bytes <= from_memory + in_hugepages
    assert made.l2.bytes >= made.l2.pages * made.page_bytes
    assert made.l1.bytes == made.l1.pages * made.device_token_bytes * page
    assert sum(need.pages * need.page_bytes for need in made.hugepages) <= made.l2.bytes
    again = resolve(asked, made).model_dump(mode="json")
    once_more = make_plan(Profile.model_validate(again), host, model)
    assert (once_more.l1.pages, once_more.l2.pages) == (made.l1.pages, made.l2.pages)
