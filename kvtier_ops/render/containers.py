"""What docker compose and Kubernetes have in common."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from kvtier_ops.errors import BadInput
from kvtier_ops.model.registry import REGISTERED
from kvtier_ops.render.service import CACHE_HOME, STATE_HOME, Place, Service

HEALTH, READY = "/health", "/ready"
ANY_ADDRESS = "0.0.0.0"


def image(service: Service) -> str:
    return service.options.image or f"kvtier:{version('kvtier')}"


def port_of(service: Service) -> int:
    """Raises BadInput for a port that nobody can know beforehand."""
    port = service.profile.server.port
    if not port:
        raise BadInput(
            "`server.port` is 0, any free port: a container's must be known before it runs",
            "set a port, such as `--set server.port=8000`",
            field="server.port",
        )
    return port


def launch_in_container(service: Service) -> tuple[str, ...]:
    """What is published reaches the container's own address, never its 127.0.0.1."""
    if service.plan.ranks.nodes > 1:
        return service.launch
    return (*service.launch, "--set", f"server.host={ANY_ADDRESS}")


def variables(service: Service) -> dict[str, str]:
    defaults = {
        "HOME": "/tmp",
        "XDG_CACHE_HOME": CACHE_HOME,
        "XDG_STATE_HOME": STATE_HOME,
        "XDG_RUNTIME_DIR": "/tmp",
    }
    return dict(sorted({**defaults, **service.environment}.items()))


def container_places(service: Service) -> list[Place]:
    """Of the host, under the same names: what the profile names, and what is kept from run to
    run."""
    known = {**{"XDG_STATE_HOME": STATE_HOME, "XDG_CACHE_HOME": CACHE_HOME}, **service.environment}
    own = [Place(Path(known["XDG_STATE_HOME"], "kvtier"), True, "state")]
    if service.profile.model.path in REGISTERED:
        own.append(Place(Path(known["XDG_CACHE_HOME"], "kvtier"), True, "cache"))
    named = {place.path for place in service.places}
    return [*service.places, *(place for place in own if place.path not in named)]


def needs_mempolicy(service: Service) -> bool:
    """Memory is bound to NUMA nodes, which containers may not do unasked."""
    return bool(service.profile.host.memory_nodes or service.plan.numa_nodes)
