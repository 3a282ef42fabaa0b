"""Start commands of other engines: what is carried over, what is mended, what is said."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from kvtier_ops import cli
from kvtier_ops.errors import BadInput
from kvtier_ops.profile.importing import Imported, import_command
from kvtier_ops.profile.load import load_text
from kvtier_ops.profile.schema import Profile

HEAD = "LOADWORKER=18 python -m lightllm.server.api_server --model_dir /path/to/Qwen3-235B-A22B "
TWO_TIERS = HEAD + (
    "--tp 8 --graph_max_batch_size 500 --enable_fa3 --mem_fraction 0.88 --enable_cpu_cache "
    "--cpu_cache_storage_size 400 --cpu_cache_token_page_size 64"
)
THREE_TIERS = TWO_TIERS.replace("size 64", "size 256") + (
    " --enable_disk_cache --disk_cache_storage_size 1000 --disk_cache_dir /mnt/ssd/disk_cache_dir"
)
PRODUCTION = r"""#!/bin/bash

# the variables' "part
export CUDA_VISIBLE_DEVICES=0,1,2,3,4,5,6,7
export LOADWORKER=18

# echo 200000 > /proc/sys/vm/nr_hugepages
python -m lightllm.server.api_server \
    --host 0.0.0.0 \
    --port 8000 \
    --model_dir /models/Qwen3-235B-A22B \
    --tokenizer_mode auto \
    --tp 8 \
    --graph_max_batch_size 500 \
    --enable_fa3 \
    --mem_fraction 0.88 \
    --max_total_token_num 100000 \
    --max_req_input_len 32768 \
    --max_req_total_len 65536 \
    --enable_cpu_cache \
    --cpu_cache_storage_size 400 \
    --cpu_cache_token_page_size 128 \
    --enable_disk_cache \
    --disk_cache_storage_size 1000 \
    --disk_cache_dir /mnt/nvme/lightllm_cache \
    --log_level info 2>&1 | tee log.txt
"""
NODE = r"""export nccl_host=$1
LOADWORKER=18 python -m lightllm.server.api_server \
    --model_dir /path/to/model --tp 16 --enable_fa3 --mem_fraction 0.88 --enable_cpu_cache \
    --cpu_cache_storage_size 400 --cpu_cache_token_page_size 256 --enable_disk_cache \
    --disk_cache_storage_size 1000 --disk_cache_dir /mnt/shared_storage/cache \
    --nnodes 2 --node_rank {rank} --nccl_host $nccl_host --nccl_port 2732
"""


def profile(made: Imported) -> Profile:
    return load_text(made.text, Path("imported.yaml")).profile


def said(made: Imported, flag: str) -> str:
    """Everything that the report has of a flag."""
    lines = [*made.kept, *made.changed, *made.dropped]
    return " ".join(line.what for line in lines if line.flag.startswith(flag))


def field(made: Imported, name: str) -> Any:
    value: Any = profile(made)
    for part in name.split("."):
        value = getattr(value, part)
    return value


def test_gpu_and_cpu() -> None:
    made = import_command("lightllm", TWO_TIERS)
    found = profile(made)
    assert (found.model.path, found.model.load_workers) == ("/path/to/Qwen3-235B-A22B", 18)
    assert (found.engine.tensor_parallel, found.engine.graph_max_batch) == (8, 500)
    assert found.engine.gpu_memory_fraction == 0.88
    assert (str(found.tiers.l2.size), found.tiers.page_tokens) == ("400GiB", 64)
    assert found.tiers.l3.directories == ()
    assert "these are GiB, not GB" in said(made, "--cpu_cache_storage_size")
    assert [line.flag for line in made.dropped] == ["--enable_fa3"]


def test_three_tiers() -> None:
    made = import_command("lightllm", THREE_TIERS)
    assert str(field(made, "tiers.l3.size")) == "1000GiB"
    assert field(made, "tiers.l3.directories") == (Path("/mnt/ssd/disk_cache_dir"),)
    assert "small ones find more" in said(made, "--cpu_cache_token_page_size")
    assert "give each instance and each node its own" in said(made, "--disk_cache_dir")


def test_production() -> None:
    made = import_command("lightllm", PRODUCTION)
    found = profile(made)
    assert (found.server.host, found.server.port, found.server.log_level) == (
        "0.0.0.0",
        8000,
        "info",
    )
    assert found.engine.environment == {"CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7"}
    assert (found.engine.max_prompt_tokens, found.engine.max_context_tokens) == (32768, 65536)
    assert found.tiers.l1.max_tokens == 100_000
    assert found.tiers.l2.hugepages == "transparent"  # the line is a comment


@pytest.mark.parametrize("rank", [0, 1])
def test_two_nodes(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = import_command("lightllm", NODE.replace("{rank}", str(rank)))
    cluster = profile(made).cluster
    assert (cluster.nodes, cluster.node_rank, cluster.master_port) == (2, rank, 2732)
    assert cluster.master_address == "127.0.0.1"
    monkeypatch.setenv("nccl_host", "10.0.0.7")
    assert profile(made).cluster.master_address == "10.0.0.7"
    assert "set `nccl_host` in the environment" in said(made, "--nccl_host")
    folder = Path(f"/mnt/shared_storage/cache/node-{rank}")
    assert profile(made).tiers.l3.directories == (folder,)
    assert "two nodes cannot share one" in said(made, "--disk_cache_dir")
    assert "only the shell knows its value" in said(made, "nccl_host=")


def test_hugepages_and_membind() -> None:
    """The guide's two lines beside the command."""
    script = (
        "echo 200000 > /proc/sys/vm/nr_hugepages\n"
        f"numactl --cpubind=0 --membind=0 {TWO_TIERS.removeprefix('LOADWORKER=18 ')}"
    )
    made = import_command("lightllm", script)
    assert field(made, "tiers.l2.hugepages") == "2MiB"
    assert "390.6 GiB, fewer than the 204,800 that 400GiB takes" in said(made, "nr_hugepages")
    assert (field(made, "host.memory_nodes"), field(made, "host.cpu_nodes")) == ((0,), (0,))
    assert "must then fit into these nodes" in said(made, "--membind")
    assert field(made, "engine.tensor_parallel") == 8


RESERVE = (
    "sudo sysctl -w vm.nr_hugepages=1024",
    "echo 1024 | sudo tee /proc/sys/vm/nr_hugepages",
)


@pytest.mark.parametrize("line", RESERVE)
def test_other_ways_to_reserve(line: str) -> None:
    made = import_command("lightllm", f"{line}; {TWO_TIERS}")
    assert "1,024 pages of 2 MiB are 2.0 GiB" in said(made, "nr_hugepages")


def test_a_tier_that_was_off() -> None:
    made = import_command("lightllm", HEAD + "--cpu_cache_storage_size 400")
    assert "L2 was off" in said(made, "--cpu_cache_storage_size")
    assert str(field(made, "tiers.l2.size")) == "auto"
    made = import_command("lightllm", HEAD + "--enable_cpu_cache --enable_disk_cache")
    assert "a reboot empties" in said(made, "--enable-disk-cache")


VLLM = (
    "docker run --gpus all -e HF_TOKEN=hf_1 -e NCCL_DEBUG=WARN vllm/vllm-openai:v0.12 "
    "--model /models/m --served-model-name big -tp 4 --max-model-len 32K --max-num-seqs 64 "
    "--max-num-batched-tokens=2048 --block-size 16 --kv-cache-dtype fp8_e4m3 --port 80 "
    "--gpu-memory-utilization 0.92 --no-enable-prefix-caching --kv-offloading-size 64 "
    "--api-key sk-secret --swap-space 4 --enforce-eager --speculative-config '{\"a\": 1}'"
)


def test_vllm() -> None:
    made = import_command("vllm", VLLM)
    found = profile(made)
    assert (found.model.path, found.model.served_name) == ("/models/m", "big")
    assert (found.engine.tensor_parallel, found.engine.max_context_tokens) == (4, 32768)
    assert (found.engine.max_running, found.engine.max_step_tokens) == (64, 2048)
    assert (found.tiers.page_tokens, found.tiers.kv_dtype) == (16, "float8")
    assert str(found.tiers.l2.size) == "64GiB"
    assert found.tiers.prefix_reuse is False
    assert found.engine.environment == {"NCCL_DEBUG": "WARN"}
    assert [key.env for key in found.server.api_keys] == ["KVTIER_API_KEY"]
    everything = json.dumps(
        [made.text, [vars(x) for x in (*made.kept, *made.changed, *made.dropped)]]
    )
    assert "sk-secret" not in everything
    assert "hf_1" not in everything
    assert "go to L2" in said(made, "--swap-space")
    assert "no counterpart" in said(made, "--enforce-eager")
    assert "no counterpart" in said(made, "--speculative-config")


def test_vllm_serve_with_lmcache() -> None:
    made = import_command(
        "vllm",
        "LMCACHE_MAX_LOCAL_CPU_SIZE=20 LMCACHE_LOCAL_DISK=file:///mnt/x LMCACHE_CHUNK_SIZE=256 "
        "LMCACHE_MAX_LOCAL_DISK_SIZE=100 vllm serve /m --tensor-parallel-size 2 "
        '--kv-transfer-config \'{"kv_connector": "LMCacheConnectorV1"}\'',
    )
    found = profile(made)
    assert (str(found.tiers.l2.size), str(found.tiers.l3.size)) == ("40GiB", "200GiB")
    assert found.tiers.l3.directories == (Path("/mnt/x"),)
    assert found.tiers.page_tokens == 256
    assert "for each of 2 ranks" in said(made, "LMCACHE_MAX_LOCAL_CPU_SIZE")


def test_vllm_offloading() -> None:
    config = '{"kv_connector": "OffloadingConnector", "kv_connector_extra_config": {"cpu_bytes_to_use": 1073741824}}'  # noqa: E501
    made = import_command("vllm", f"vllm serve /m --kv-transfer-config '{config}'")
    assert str(field(made, "tiers.l2.size")) == "1GiB"


def test_sglang() -> None:
    made = import_command(
        "sglang",
        "SGLANG_HICACHE_FILE_BACKEND_STORAGE_DIR=/mnt/h python3 -m sglang.launch_server "
        "--model-path /m --tp 8 --nnodes 2 --node-rank 1 --dist-init-addr 10.0.0.1:5000 "
        "--mem-fraction-static 0.8 --context-length 32768 --max-total-tokens 100000 --page-size 64 "
        "--enable-hierarchical-cache --hicache-size 30 --hicache-write-policy write_back "
        "--hicache-storage-backend file --cuda-graph-max-bs 64 --attention-backend fa3",
    )
    found = profile(made)
    assert (found.engine.tensor_parallel, found.cluster.nodes, found.cluster.node_rank) == (8, 2, 1)
    assert (found.cluster.master_address, found.cluster.master_port) == ("10.0.0.1", 5000)
    assert str(found.tiers.l2.size) == f"{30 * 4 * 10**9 >> 10}KiB"  # GB, for each of 4 ranks
    assert "for each of 4 ranks" in said(made, "--hicache-size")
    assert (found.tiers.l3.write, found.tiers.page_tokens) == ("on_evict", 64)
    assert found.tiers.l3.directories == (Path("/mnt/h/node-1"),)
    assert "two nodes cannot share one" in said(made, "SGLANG_HICACHE")
    assert found.tiers.l1.max_tokens == 100_000


def test_pages_of_other_sizes_are_rounded_and_said() -> None:
    made = import_command("vllm", "vllm serve /m --block-size 1")
    assert field(made, "tiers.page_tokens") == 8
    assert "in steps of 8, not 1" in said(made, "--block-size")


def test_what_the_profile_refuses_is_left_out_with_the_reason() -> None:
    made = import_command("vllm", "vllm serve /m --port 99999 --max-num-seqs 0")
    assert "must be at most 65535" in said(made, "--port")
    assert "must be at least 1" in said(made, "--max-num-seqs")
    assert profile(made).server.port == 8000


def test_unknown_flags_are_named_with_their_like() -> None:
    made = import_command("vllm", "vllm serve /m --max-modellen 5 --zzz 1 2 --port")
    assert "did you mean `--max-model-len`?" in said(made, "--max-modellen")
    assert "no such flag" in said(made, "--zzz")
    assert "its value is missing" in said(made, "--port")


def test_nothing_secret_reaches_profile_or_report() -> None:
    keys = "--api-key sk-1 sk-2 --hf-token sk-3 --unknown-thing sk-4 --other-key=sk-5"
    for engine, start in (("vllm", "vllm serve /m"), ("sglang", "sglang serve --model-path /m")):
        made = import_command(engine, f"MY_SECRET=sk-6 {start} {keys} --admin-api-key sk-7")
        assert "sk-" not in json.dumps(asdict(made))
    assert profile(made).server.admin_key.env == "KVTIER_ADMIN_KEY"


def test_passwords_within_values_are_shown_nowhere() -> None:
    config = '{"kv_connector": "LMCacheConnectorV1", "x": {"api_key": "hunter2"}}'
    made = import_command(
        "vllm",
        "docker run --env=HTTPS_PROXY=http://bob:hunter2@proxy:1 -eNCCL_DEBUG=WARN "
        "vllm/vllm-openai --model /m --otlp-traces-endpoint https://u:hunter2@h "
        f"--additional-config '{config}' --kv-transfer-config '{config}'",
    )
    assert "hunter2" not in json.dumps(asdict(made))
    assert profile(made).engine.environment == {"NCCL_DEBUG": "WARN"}
    assert "looks like a secret" in said(made, "HTTPS_PROXY")


def test_paths_of_a_container_become_those_of_the_host() -> None:
    made = import_command(
        "vllm",
        "docker run -v /data/models:/models --volume /nvme/c:/cache:rw -e "
        "LMCACHE_LOCAL_DISK=file:///cache/x vllm/vllm-openai --model /models/m",
    )
    assert field(made, "model.path") == "/data/models/m"
    assert field(made, "tiers.l3.directories") == (Path("/nvme/c/x"),)


def test_names_of_a_hub_and_defaults_that_differ_are_told() -> None:
    made = import_command("vllm", "vllm serve Qwen/Qwen3-8B")
    assert "kvtier loads no model from a hub" in said(made, "Qwen/Qwen3-8B")
    assert "vLLM listens on every address" in said(made, "no --host")
    made = import_command("sglang", "sglang serve --model-path /m")
    assert field(made, "server.port") == 30000
    assert "`tiers.l2.size: 0GiB`: none" in said(
        import_command("lightllm", HEAD), "no --enable_cpu_cache"
    )


def test_writes_from_the_second_use_on() -> None:
    made = import_command(
        "sglang", "sglang serve --model-path /m --hicache-write-policy write_through_selective"
    )
    l3 = field(made, "tiers.l3")
    assert (l3.write, l3.admit_sightings) == ("write_through", 2)


@pytest.mark.parametrize(
    ("engine", "text", "what"),
    [
        ("vllm", "python -m sglang.launch_server --model-path /m", "a command of SGLang"),
        ("sglang", TWO_TIERS, "a command of LightLLM"),
        ("lightllm", "echo hello", "no command of LightLLM"),
        ("lightllm", "", "no command of LightLLM"),
        ("lightllm", "python -m 'lightllm", "a quote is not closed"),
    ],
)
def test_what_is_no_command(engine: str, text: str, what: str) -> None:
    with pytest.raises(BadInput, match=what):
        import_command(engine, text)


def test_the_command(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    script, target = home / "start.sh", home / "made.yaml"
    script.write_text(PRODUCTION)
    arguments = ["profile", "import", "lightllm", "--file", str(script)]
    assert cli.run([*arguments, "--output", str(target)]) == 0
    out, err = capfd.readouterr()
    assert out == ""
    assert f"wrote {target}; next: `kvtier plan {target}`" in err
    assert all(len(line) <= 100 for line in err.splitlines())
    assert cli.run(["profile", "validate", str(target)]) == 0
    assert cli.run([*arguments, "--output", str(target)]) == 2
    assert "--force" in capfd.readouterr().err
    assert cli.run([*arguments, "--json"]) == 0
    made = json.loads(capfd.readouterr().out)
    assert made["text"] == target.read_text()
    assert {"flag", "what"} == set(made["dropped"][0])


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["vllm"], "give one command line"),
        (["vllm", "x", "--file", "y"], "give one command line"),
        (["vllm", "--file", "/nowhere"], "cannot read `/nowhere`"),
        (["ollama", "x"], "kvtier knows no commands of `ollama`"),
        (["vllm", "x"], "there is no command of vLLM"),
    ],
)
def test_mistakes(
    home: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], what: str
) -> None:
    assert cli.run(["profile", "import", *arguments]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert what in err
