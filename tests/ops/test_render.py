"""What artefacts say: limits from the plan, no secrets, the routes and times that there are."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from ops.builders import GIB, make_host
from ops.rendered import of_guide, render, service, small_profile

from kvtier_engine.server.routes import status
from kvtier_ops import notify
from kvtier_ops.cli import run
from kvtier_ops.errors import BadInput
from kvtier_ops.instance import instance_name
from kvtier_ops.plan import make_plan
from kvtier_ops.profile.load import load_profile, load_text
from kvtier_ops.render import FORMATS, Service
from kvtier_ops.render.kubernetes import pod_profile
from kvtier_ops.render.limits import LAUNCHER_BYTES
from kvtier_ops.render.profile_text import profile_text

KINDS = list(FORMATS)
SECRET = "open-sesame"
WITH_SECRETS = """\
server:
  api_keys: [{name: a, env: KEY_A}]
  admin_key: {env: KEY_ADMIN}
engine:
  environment: {HF_TOKEN: open-sesame, NCCL_DEBUG: WARN, PROXY: "http://me:open-sesame@proxy"}
cluster:
  secret: {env: CLUSTER_SECRET}
"""


def with_secrets(folder: Path) -> Path:
    path = small_profile(folder)
    text = path.read_text().replace("engine: {device: cpu}\n", "")
    path.write_text(text + WITH_SECRETS.replace("engine:\n", "engine:\n  device: cpu\n"))
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_the_head_says_how_to_make_it_again(kind: str, tmp_path: Path) -> None:
    path = small_profile(tmp_path)
    made = service(path)
    lines = render(kind, made).splitlines()[:8]
    assert any(line.startswith("# Made by kvtier ") and str(path) in line for line in lines)
    assert f"#   kvtier render X {path}" in lines


@pytest.mark.parametrize("kind", KINDS)
def test_no_secret_is_in_it_and_each_is_asked_for(kind: str, tmp_path: Path) -> None:
    text = render(kind, service(with_secrets(tmp_path)))
    assert SECRET not in text
    for name in ("KEY_A", "KEY_ADMIN", "CLUSTER_SECRET"):
        assert name in text, name


def test_kubernetes_takes_secrets_of_the_engines_environment_from_a_secret(tmp_path: Path) -> None:
    text = render("kubernetes", service(with_secrets(tmp_path)))
    *_, stateful = yaml.safe_load_all(text)
    container = stateful["spec"]["template"]["spec"]["containers"][0]
    variables = {each["name"]: each for each in container["env"]}
    assert variables["NCCL_DEBUG"]["value"] == "WARN"
    for name in ("HF_TOKEN", "PROXY", "KEY_A"):
        assert variables[name]["valueFrom"]["secretKeyRef"]["key"] == name


def test_variables_that_the_profile_reads_keep_their_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTEXT", "512")
    monkeypatch.setenv("MY_TOKEN", SECRET)
    path = small_profile(tmp_path)
    text = path.read_text().replace(
        "{device: cpu}", "{device: cpu, max_context_tokens: '${CONTEXT}'}"
    )
    path.write_text(text + "server: {host: '${HOST:-127.0.0.1}'}\n# ${UNUSED}\n")
    made = service(path, "model.served_name=$${x} $HOME", "tiers.l3.size=1GiB")
    assert made.environment == {"CONTEXT": "512"}, "and none of what is only written"
    assert made.secrets == ()
    path.write_text(path.read_text().replace("${HOST:-127.0.0.1}", "${MY_TOKEN}"))
    assert service(path).secrets == ("MY_TOKEN",)


def test_a_path_in_a_home_keeps_that_home(tmp_path: Path, home: Path) -> None:
    path = small_profile(tmp_path, "server: {request_trace: ~/trace.jsonl}\n")
    assert service(path).environment == {"HOME": str(home)}
    bare = service(path, "server.request_trace=$XDG_CACHE_HOME/$$HOME/trace.jsonl")
    assert bare.environment == {"XDG_CACHE_HOME": str(home / "cache")}


def test_limits_come_from_the_plan() -> None:
    made = of_guide("production")
    limits, plan = made.limits, made.plan
    assert limits.locked_bytes > plan.l2.bytes
    assert limits.memory_bytes < plan.l2.bytes, "hugepages are no memory of the cgroup"
    assert limits.memory_bytes > 48 * GIB, "`host.reserve` is planned for within the limit too"
    assert limits.stop_s >= 120 + 90
    assert limits.start_s > 1800
    assert limits.shm_bytes > 8 * 512 << 20
    unit = render("systemd", made)
    assert f"MemoryMax={limits.memory_bytes}\n" in unit
    assert f"TimeoutStopSec={limits.stop_s}\n" in unit
    assert "DeviceAllow=char-nvidia rw" in unit


def test_hugepages_are_no_memory_of_the_cgroup_also_before_they_are_reserved(
    tmp_path: Path,
) -> None:
    path = small_profile(tmp_path)
    given = ("tiers.l2.size=2GiB", "tiers.l2.hugepages=2MiB")
    made = service(path, *given)
    assert made.plan.hugepages[0].missing
    assert made.limits.needed_bytes + 2 * GIB == service(path, given[0]).limits.needed_bytes


@pytest.mark.parametrize("sizes", ["l1: 5%, l2: auto", "l1: auto, l2: 10%", "l1: 1GiB, l2: 2GiB"])
@pytest.mark.parametrize("reserve", ["auto", "1GiB", "20%"])
def test_within_the_memory_limit_the_plan_is_the_same(
    sizes: str, reserve: str, tmp_path: Path
) -> None:
    """The launcher plans again, and finds the cgroup's limit rather than the host's memory."""
    path = small_profile(tmp_path)
    tiers = dict(part.split(": ") for part in sizes.split(", "))
    overrides = [f"tiers.{name}.size={size}" for name, size in tiers.items()]
    overrides.append(f"host.reserve={reserve}")
    made = service(path, *overrides)
    launch = list(made.launch)
    told = [launch[at + 1] for at, word in enumerate(launch) if word == "--set"]
    file = load_profile(path, told)
    within = make_host(
        disks=file.profile.tiers.l3.directories,
        cgroup_limit_bytes=made.limits.memory_bytes,
        cgroup_used_bytes=LAUNCHER_BYTES,
        memory_available_bytes=64 * GIB,
    )
    again = make_plan(file.profile, within, made.plan.model)
    assert (again.l1.pages, again.l2.pages) == (made.plan.l1.pages, made.plan.l2.pages)


def test_containers_publish_where_the_profile_would_listen(tmp_path: Path) -> None:
    path = small_profile(tmp_path, "server: {host: 10.0.0.7, port: 8123}\n")
    data = yaml.safe_load(render("docker-compose", service(path)))
    (container,) = data["services"].values()
    assert container["ports"] == ["10.0.0.7:8123:8123"]
    assert container["command"][-2:] == ["--set", "server.host=0.0.0.0"]


@pytest.mark.parametrize("kind", ["docker-compose", "kubernetes"])
def test_a_container_has_a_port_that_is_known(kind: str, tmp_path: Path) -> None:
    made = service(small_profile(tmp_path, "server: {port: 0}\n"))
    with pytest.raises(BadInput, match=r"server\.port"):
        render(kind, made)


def test_probes_ask_routes_that_the_server_has(tmp_path: Path) -> None:
    source = Path(status.__file__).read_text()
    *_, stateful = yaml.safe_load_all(render("kubernetes", service(small_profile(tmp_path))))
    container = stateful["spec"]["template"]["spec"]["containers"][0]
    asked = {name: container[name]["httpGet"]["path"] for name in container if "Probe" in name}
    assert asked == {
        "startupProbe": "/ready",
        "readinessProbe": "/ready",
        "livenessProbe": "/health",
    }
    for route in asked.values():
        assert f'@routes.get("{route}"' in source


def test_the_user_that_it_runs_as(tmp_path: Path) -> None:
    path = small_profile(tmp_path)
    assert "User=me\n" in render("systemd", service(path, user="me"))
    with pytest.raises(BadInput, match="no user of a unit"):
        render("systemd", service(path, user="1000:1000"))
    made = service(path, user="1000:1001")
    (container,) = yaml.safe_load(render("docker-compose", made))["services"].values()
    assert container["user"] == "1000:1001"
    *_, stateful = yaml.safe_load_all(render("kubernetes", made))
    security = stateful["spec"]["template"]["spec"]["containers"][0]["securityContext"]
    assert (security["runAsUser"], security["runAsGroup"]) == (1000, 1001)
    for user in ("me", "1000:users", "1000:"):
        with pytest.raises(BadInput, match="no user of a pod"):
            render("kubernetes", service(path, user=user))


@pytest.mark.parametrize(
    ("cpus", "threads", "asked"), [(8, 8, 7), (64, 64, 58), (1, 1, 1), (8, 2, 2)]
)
def test_a_pod_asks_for_cpus_that_a_machine_can_grant(
    tmp_path: Path, cpus: int, threads: int, asked: int
) -> None:
    """Nowhere are all of them free: such a pod would wait for ever on the host it is meant for."""
    made = service(small_profile(tmp_path))
    plan = replace(made.plan, host=make_host(cpus=cpus), threads=threads)
    assert cpus_of(replace(made, plan=plan)) == asked
    assert cpus_of(of_guide("gpu-cpu")) == 8 + 2, "GPUs compute, beside scheduler and server"


def cpus_of(made: Service) -> int:
    *_, stateful = yaml.safe_load_all(render("kubernetes", made))
    resources = stateful["spec"]["template"]["spec"]["containers"][0]["resources"]
    assert "cpu" not in resources["limits"]
    return int(resources["requests"]["cpu"])


def test_a_pod_knows_its_state_again(tmp_path: Path) -> None:
    """State, such as which tenants were cleared, goes by the profile's real path. That of a file
    in a ConfigMap's folder is another at each start of a pod."""
    paths = []
    for name in ("one", "two"):
        made = service(small_profile(tmp_path), name=name)
        *_, stateful = yaml.safe_load_all(render("kubernetes", made))
        (container,) = stateful["spec"]["template"]["spec"]["containers"]
        paths.append(container["args"][0])
        [mount] = [each for each in container["volumeMounts"] if each["name"] == "profile"]
        assert (mount["mountPath"], mount["subPath"]) == (paths[-1], "profile.yaml")
    assert len({instance_name(Path(path)) for path in paths}) == 2, "both on one machine"


def test_a_pod_that_is_not_root_can_read_its_key_files(tmp_path: Path) -> None:
    path = small_profile(tmp_path, f"server: {{admin_key: {{file: {tmp_path}/key}}}}\n")
    *_, stateful = yaml.safe_load_all(render("kubernetes", service(path, user="1000")))
    volumes = {each["name"]: each for each in stateful["spec"]["template"]["spec"]["volumes"]}
    assert volumes["keys"]["secret"]["defaultMode"] & 0o004, "files of a Secret are root's"


def test_code_that_is_made_at_run_time_can_be_loaded_from_tmp(tmp_path: Path) -> None:
    data = yaml.safe_load(render("docker-compose", service(small_profile(tmp_path))))
    (container,) = data["services"].values()
    assert container["environment"]["HOME"] == "/tmp", "Triton keeps its cache there"
    assert container["tmpfs"] == ["/tmp:exec"], "docker mounts it noexec"


def test_folders_that_would_be_refused_are_told(tmp_path: Path) -> None:
    made = service(small_profile(tmp_path))
    assert "the unit has those of" in render("systemd", made), "PrivateTmp hides it"
    elsewhere = replace(made, places=(), profile_path=Path("/etc/kvtier/x.yaml"))
    assert "the unit has those of" not in render("systemd", elsewhere)
    compose = render("docker-compose", made)
    assert yaml.safe_load(compose)["services"][made.name]["cap_drop"] == ["ALL"]
    for folder in (tmp_path / "pages", "/var/lib/kvtier"):
        assert f"#   {folder}\n" in compose, "root may not write there without capabilities"


def test_a_unit_lets_its_interpreter_be_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uv and pyenv keep it in the home of who installed it, and environments link to it."""
    bin = tmp_path / "opt/bin"
    bin.mkdir(parents=True)
    (bin / "python").symlink_to("/root/.local/share/uv/python/cpython-3.12/bin/python3.12")
    path = small_profile(tmp_path)
    monkeypatch.setattr("sys.executable", str(bin / "python"))
    text = render("systemd", service(path))
    assert "ProtectHome=read-only\n" in text
    assert "kvtier must be let in there" in text
    assert "ProtectHome=yes\n" in render("systemd", service(path, program="/usr/bin/kvtier"))


def test_hugepages_of_kubernetes() -> None:
    made = of_guide("gpu-cpu")
    *_, stateful = yaml.safe_load_all(render("kubernetes", made))
    pod = stateful["spec"]["template"]["spec"]
    resources = pod["containers"][0]["resources"]
    pages = sum(need.pages for need in made.plan.hugepages)
    assert resources["limits"]["hugepages-2Mi"] == str(pages * (2 << 20))
    assert resources["requests"]["hugepages-2Mi"] == resources["limits"]["hugepages-2Mi"]
    assert {"name": "hugepages", "emptyDir": {"medium": "HugePages-2Mi"}} in pod["volumes"]
    assert resources["limits"]["nvidia.com/gpu"] == "8"


def test_the_pods_profile_is_the_operators(tmp_path: Path) -> None:
    odd = tmp_path / "a $HOME ${x} ~ 'q' % \\"
    odd.mkdir()
    path = small_profile(odd, name="p.yaml")
    text = path.read_text().replace(str(odd), "ODD")
    path.write_text(text.replace("ODD/model", "model").replace("ODD/pages", "pages"))
    made = service(path, "model.served_name=a $${x} b")
    wanted = pod_profile(made)
    again = load_text(profile_text(wanted), Path("/elsewhere/profile.yaml")).profile
    assert again == wanted
    assert str(again.tiers.l3.directories[0]) == str(odd / "pages")
    assert again.model.served_name == "a ${x} b"


def test_two_nodes() -> None:
    made = of_guide("two-nodes")
    slurm = render("slurm", made)
    assert "#SBATCH --nodes=2\n" in slurm
    assert '--set "cluster.master_address=$first"' in slurm
    config, headless, _, stateful = yaml.safe_load_all(render("kubernetes", made))
    assert stateful["spec"]["replicas"] == 2
    profile = yaml.safe_load(config["data"]["profile.yaml"])
    name, service_name = made.name, headless["metadata"]["name"]
    assert profile["cluster"]["master_address"] == f"{name}-0.{service_name}"
    assert headless["spec"]["publishNotReadyAddresses"] is True
    (container,) = yaml.safe_load(render("docker-compose", made))["services"].values()
    assert container["network_mode"] == "host"
    assert "KVTIER_NODE_RANK" in container["command"][-1]


def test_every_kind_is_a_command_that_writes_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = small_profile(tmp_path)
    for kind, format in FORMATS.items():
        assert run(["render", kind, str(path), "-o", str(tmp_path)]) == 0
        written = tmp_path / f"kvtier-small{format.suffix}"
        assert run(["render", kind, str(path), "--set", "server.port=8001"]) == 0
        shown = capsys.readouterr().out
        assert written.read_text() != shown
        assert f"kvtier render {kind} {path} --set server.port=8001" in shown
        assert run(["render", kind, str(path), "-o", str(written)]) == 2, "it exists"
        assert "--force" in capsys.readouterr().err


def test_mistakes_of_the_operator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = small_profile(tmp_path)
    assert run(["render", "systemd", str(path), "--name", "A b"]) == 2
    assert "cannot be the name of a service" in capsys.readouterr().err
    folder = tmp_path / "new\nline"
    folder.mkdir()
    assert run(["render", "systemd", str(small_profile(folder, name="p.yaml"))]) == 2
    made = tmp_path / "p\x1b.yaml"
    made.write_text(path.read_text())
    with pytest.raises(BadInput, match="cannot be seen"):
        service(made)
    colon = small_profile(tmp_path, f"server: {{request_trace: {tmp_path}/a:b/c}}\n")
    with pytest.raises(BadInput, match="no mount path"):
        render("kubernetes", service(colon))


def test_a_service_is_told_ready_and_that_it_goes_on(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "s"))
        known = {"NOTIFY_SOCKET": str(tmp_path / "s")}
        assert notify.notify("READY=1", "STATUS=x", environment=known)
        assert listener.recv(100) == b"READY=1\nSTATUS=x"
    assert not notify.notify("READY=1", environment=known), "nobody listens any more"
    assert not notify.notify("READY=1", environment={})
    assert not notify.notify("READY=1", environment={"NOTIFY_SOCKET": "relative"})
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0kvtier-test-notify")
        assert notify.notify("A=1", environment={"NOTIFY_SOCKET": "@kvtier-test-notify"})
        assert listener.recv(100) == b"A=1"


def test_the_notes_of_notify(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[str, ...]] = []
    monkeypatch.setattr(notify, "notify", lambda *lines: bool(said.append(lines)) or True)
    notify.ready("a\nb")
    notify.starting("load", 1.5)
    notify.stopping("x")
    assert said == [
        ("READY=1", "STATUS=a b"),
        ("EXTEND_TIMEOUT_USEC=1500000", "STATUS=load"),
        ("STOPPING=1", "STATUS=x"),
    ]


def test_a_gguf_files_folder_is_written_to(tmp_path: Path) -> None:
    made = service(small_profile(tmp_path))
    gguf = replace(made.plan.model, path=tmp_path / "m.gguf")
    assert made.places[1].path == tmp_path / "model"
    assert not made.places[1].writable
    from kvtier_ops.render.service import _places

    file = load_profile(small_profile(tmp_path))
    (_, model) = _places(file, replace(made.plan, model=gguf))
    assert (model.path, model.writable) == (tmp_path, True)
