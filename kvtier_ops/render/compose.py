"""A file for docker compose. Folders have the same names inside as on the host.

Compose replaces `$NAME` in every value: a plain `$` is written `$$`.
"""

from __future__ import annotations

from typing import Any

from kvtier_ops.render.containers import (
    HEALTH,
    READY,
    container_places,
    image,
    launch_in_container,
    needs_mempolicy,
    port_of,
    variables,
)
from kvtier_ops.render.service import Place, Service
from kvtier_ops.render.yaml_text import as_yaml

_RETRIES = 6


def render(service: Service) -> str:
    data = {"services": {service.name: _service(service)}}
    return "\n".join([*service.head(*_notes(service)), "", as_yaml(data)])


def escaped(text: str) -> str:
    return text.replace("$", "$$")


def _notes(service: Service) -> list[str]:
    notes = [
        "The host is tuned outside of the container, where it can be: see the command tune.\n"
        "Docker's seccomp profile forbids io_uring: the page store then reads with threads.",
        "Folders that it writes to must belong to the user that it runs as (--user, else the\n"
        "image's), also if that is root, who has no capabilities here:\n"
        + "\n".join(f"  {place.path}" for place in container_places(service) if place.writable),
    ]
    if service.secrets:
        notes.append(
            "Secrets come from the environment of `docker compose`, or from the file .env beside "
            f"this one:\n  {' '.join(service.secrets)}"
        )
    return notes


def _service(service: Service) -> dict[str, Any]:
    limits, several = service.limits, service.plan.ranks.nodes > 1
    data: dict[str, Any] = {
        "image": escaped(image(service)),
        "command": _command(service),
        "init": True,
        "restart": "on-failure:5",
        "stop_grace_period": f"{limits.stop_s}s",
        "environment": _environment(service),
        "volumes": [_volume(place) for place in _places(service)],
        "shm_size": limits.shm_bytes,
        "mem_limit": limits.memory_bytes + limits.shm_bytes,
        "ulimits": {
            "memlock": {"soft": limits.locked_bytes, "hard": limits.locked_bytes},
            "nofile": {"soft": limits.open_files, "hard": limits.open_files},
            "core": 0,
        },
        "read_only": True,
        "tmpfs": ["/tmp:exec"],  # docker's default is noexec: Triton loads what it has compiled
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "healthcheck": _health(service),
    }
    if service.options.user:
        data["user"] = escaped(service.options.user)
    if several:
        data["network_mode"] = "host"  # nodes meet at addresses of the hosts
    else:
        data["ports"] = [_port(service)]
    if needs_mempolicy(service):
        data["cap_add"] = ["SYS_NICE"]
    if cpus := _cpu_set(service):
        data["cpuset"] = cpus
    if service.plan.device == "cuda":
        data["deploy"] = {"resources": {"reservations": {"devices": [_gpus(service)]}}}
    return data


def _command(service: Service) -> list[str]:
    command = [escaped(word) for word in ("kvtier", *launch_in_container(service))]
    if service.plan.ranks.nodes > 1:
        rank = "${KVTIER_NODE_RANK:?the number of this node, from 0}"
        command += ["--set", f"cluster.node_rank={rank}"]
    return command


def _environment(service: Service) -> dict[str, str]:
    shown = {name: escaped(value) for name, value in variables(service).items()}
    missing = "put it into the environment or into .env, not into this file"
    secret = {name: f"${{{name}:?{missing}}}" for name in service.secrets}
    return {**shown, **secret}


def _places(service: Service) -> list[Place]:
    files = [Place(path, False, "profile", is_file=True) for path in service.profile_files]
    return [*files, *container_places(service)]


def _volume(place: Place) -> dict[str, Any]:
    name = escaped(str(place.path))
    volume: dict[str, Any] = {"type": "bind", "source": name, "target": name}
    if not place.writable:
        volume["read_only"] = True
    return volume


def _port(service: Service) -> str:
    """Published where the profile would listen, and nowhere else."""
    host, port = service.profile.server.host, port_of(service)
    if host in ("0.0.0.0", "::", "*"):
        return f"{port}:{port}"
    shown = f"[{host}]" if ":" in host else "127.0.0.1" if host == "localhost" else host
    return f"{shown}:{port}:{port}"


def _health(service: Service) -> dict[str, Any]:
    ask = f"http://127.0.0.1:{port_of(service)}{HEALTH}"
    script = f"import urllib.request as u; u.urlopen('{ask}', timeout=5)"
    ready = f"import urllib.request as u; u.urlopen('{ask.replace(HEALTH, READY)}', timeout=5)"
    return {
        # Alive and ready: until it is ready the start period forgives.
        "test": ["CMD", "python3", "-c", f"{script}; {ready.partition('; ')[2]}"],
        "interval": "10s",
        "timeout": "12s",
        "retries": _RETRIES,
        "start_period": f"{service.limits.start_s}s",
    }


def _gpus(service: Service) -> dict[str, Any]:
    return {"driver": "nvidia", "count": service.plan.ranks.here, "capabilities": ["gpu"]}


def _cpu_set(service: Service) -> str:
    nodes = service.profile.host.cpu_nodes
    cpus = [cpu for n in service.plan.host.numa_nodes if n.id in nodes for cpu in n.cpus]
    return ",".join(map(str, sorted(cpus)))
