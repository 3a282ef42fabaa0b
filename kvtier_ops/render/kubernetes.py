"""Manifests for Kubernetes: the profile as a ConfigMap, one pod for each node, and services.

A StatefulSet, also for one pod: it never runs two of a name, and a page store has one owner.
Kubernetes replaces `$(NAME)` in commands and variables: a plain `$` is written `$$`.
"""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import Any

from kvtier_ops.errors import BadInput
from kvtier_ops.profile.schema import Profile
from kvtier_ops.profile.secrets import looks_secret, masked
from kvtier_ops.render.containers import (
    ANY_ADDRESS,
    HEALTH,
    READY,
    container_places,
    image,
    needs_mempolicy,
    port_of,
    variables,
)
from kvtier_ops.render.profile_text import profile_text
from kvtier_ops.render.service import Place, Service
from kvtier_ops.render.yaml_text import as_yaml
from kvtier_ops.text import printable
from kvtier_ops.units import UNITS

PROFILE_FOLDER = "/etc/kvtier"
_PROFILE = "profile.yaml"  # its key in the ConfigMap
PERIOD_S = 10
CPUS_BESIDE_RANKS = 2  # of GPUs: the scheduler and the HTTP server; see the doctor's KVT-D603
_HUGEPAGES = {UNITS["MiB"] * 2: "2Mi", UNITS["GiB"]: "1Gi"}


def render(service: Service) -> str:
    for place in service.places:
        if ":" in str(place.path):
            raise BadInput(
                f"`{place.path}` has a `:`, which Kubernetes takes in no mount path", "rename it"
            )
    documents = [_config_map(service), _headless(service), _service(service), _set(service)]
    return "\n".join([*service.head(*_notes(service)), "", as_yaml(*documents)])


def escaped(text: str) -> str:
    return text.replace("$", "$$")


def _notes(service: Service) -> list[str]:
    notes = [
        "Folders of L3 and of the model are those of the machine that the pod runs on (hostPath).\n"
        "The machine is tuned outside of the pod: see the command tune."
    ]
    if names := secret_names(service):
        keys = " ".join(f"--from-literal={name}=..." for name in names)
        notes.append(f"Its secrets: kubectl create secret generic {service.name} {keys}")
    if _key_files(service):
        named = " ".join(f"--from-file={key}=FILE" for key, _ in _key_files(service))
        notes.append(f"Its key files: kubectl create secret generic {service.name}-files {named}")
    for need in service.plan.hugepages:
        where = f" on NUMA node {need.node}" if need.node is not None else ""
        size = _HUGEPAGES[need.page_bytes]
        notes.append(f"The machine must have {need.pages} free hugepages of {size}{where}.")
    return notes


def secret_names(service: Service) -> tuple[str, ...]:
    """Variables that a Secret holds: those of the profile's keys, and of the engine's environment
    what looks like one."""
    environment = service.profile.engine.environment
    hidden = {name for name, value in environment.items() if _is_secret(name, value)}
    return tuple(sorted({*_key_variables(service), *hidden}))


def _is_secret(name: str, value: str) -> bool:
    return looks_secret(name) or masked(name, value) != value


def _key_variables(service: Service) -> set[str]:
    profile = service.profile
    keys = (*profile.server.api_keys, profile.server.admin_key, profile.cluster.secret)
    return {key.env for key in keys if key.env}


def _key_files(service: Service) -> list[tuple[str, Place]]:
    """Each under the key that it has in the Secret."""
    places = [place for place in service.places if place.what == "key"]
    return [(f"key-{number}", place) for number, place in enumerate(places)]


def _labels(service: Service) -> dict[str, str]:
    return {"app.kubernetes.io/name": "kvtier", "app.kubernetes.io/instance": service.name}


def _metadata(service: Service, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "labels": {**_labels(service), "app.kubernetes.io/version": version("kvtier")},
    }


def _config_map(service: Service) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(service, service.name),
        "data": {_PROFILE: profile_text(pod_profile(service))},
    }


def pod_profile(service: Service) -> Profile:
    """As the pods read it: every path and variable resolved, the engine's variables left to the
    pod, its address that of the pod."""
    profile, several = service.profile, service.plan.ranks.nodes > 1
    server = profile.server.model_copy(update={"host": ANY_ADDRESS})
    engine = profile.engine.model_copy(update={"environment": {}})
    changes: dict[str, Any] = {"server": server, "engine": engine}
    if several:
        first = f"{service.name}-0.{service.name}-nodes"
        changes["cluster"] = profile.cluster.model_copy(
            update={"master_address": first, "node_rank": "auto"}
        )
    return profile.model_copy(update=changes)


def _headless(service: Service) -> dict[str, Any]:
    """Names for the pods themselves, also before they are ready: that is when they meet."""
    ports = [{"name": "http", "port": port_of(service)}]
    if service.plan.ranks.nodes > 1:
        ports.append({"name": "meet", "port": service.profile.cluster.master_port})
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(service, f"{service.name}-nodes"),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": _labels(service),
            "ports": ports,
        },
    }


def _service(service: Service) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(service, service.name),
        "spec": {
            "selector": _labels(service),
            "ports": [{"name": "http", "port": port_of(service), "targetPort": "http"}],
        },
    }


def _set(service: Service) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": _metadata(service, service.name),
        "spec": {
            "replicas": service.plan.ranks.nodes,
            "serviceName": f"{service.name}-nodes",
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": _labels(service)},
            "template": {"metadata": {"labels": _labels(service)}, "spec": _pod(service)},
        },
    }


def _pod(service: Service) -> dict[str, Any]:
    pod: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": service.limits.stop_s,
        "containers": [_container(service)],
        "volumes": _volumes(service),
    }
    if service.plan.ranks.nodes > 1:
        terms = [
            {
                "labelSelector": {"matchLabels": _labels(service)},
                "topologyKey": "kubernetes.io/hostname",
            }
        ]
        pod["affinity"] = {
            "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}
        }
    return pod


def _container(service: Service) -> dict[str, Any]:
    capabilities: dict[str, Any] = {"drop": ["ALL"]}
    if needs_mempolicy(service):
        capabilities["add"] = ["SYS_NICE"]
    security: dict[str, Any] = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": capabilities,
    }
    security.update(_user(service))
    return {
        "name": "kvtier",
        "image": image(service),
        "command": ["kvtier", "launch"],
        "args": [escaped(word) for word in _arguments(service)],
        "env": _environment(service),
        "ports": [{"name": "http", "containerPort": port_of(service)}],
        "resources": _resources(service),
        "securityContext": security,
        "startupProbe": _probe(READY, max(1, -(-service.limits.start_s // PERIOD_S))),
        "livenessProbe": _probe(HEALTH, 6),
        "readinessProbe": _probe(READY, 2),
        "volumeMounts": _mounts(service),
    }


def _user(service: Service) -> dict[str, int]:
    """Raises BadInput for a name: only an image knows its users' names, and a pod takes numbers."""
    if not service.options.user:
        return {}
    match = re.fullmatch(r"([0-9]{1,10})(?::([0-9]{1,10}))?", service.options.user)
    if match is None:
        raise BadInput(
            f"`{printable(service.options.user)[:60]}` is no user of a pod",
            "give its number, and maybe its group's, such as `--user 1000:1000`",
            place="--user",
        )
    names = ("runAsUser", "runAsGroup")
    return {name: int(found) for name, found in zip(names, match.groups(), strict=True) if found}


def _arguments(service: Service) -> list[str]:
    """Overrides of the command line are in the ConfigMap already; pinned sizes are not."""
    _, _, *words = service.launch
    for override in service.options.overrides:
        at = words.index(override)
        del words[at - 1 : at + 1]
    return [_profile_path(service), *words]


def _profile_path(service: Service) -> str:
    """In the pod. The instance's state is kept by it, beside that of others on the machine."""
    return f"{PROFILE_FOLDER}/{service.name}.yaml"


def _environment(service: Service) -> list[dict[str, Any]]:
    own = {name: value for name, value in variables(service).items() if name.startswith("XDG_")}
    plain = {"HOME": "/tmp", **own}
    hidden = secret_names(service)
    for name, value in service.profile.engine.environment.items():
        if name not in hidden:
            plain[name] = value
    shown = [{"name": name, "value": escaped(value)} for name, value in plain.items()]
    pod_name = {
        "name": "POD_NAME",
        "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}},
    }
    secret = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": service.name, "key": name}}}
        for name in hidden
    ]
    return [pod_name, *shown, *secret]


def _resources(service: Service) -> dict[str, Any]:
    limits = service.limits
    bound: dict[str, Any] = {"memory": str(limits.memory_bytes + limits.shm_bytes)}
    asked: dict[str, Any] = {
        "cpu": str(_cpus(service)),
        "memory": str(limits.needed_bytes + limits.shm_bytes),
    }
    if service.plan.device == "cuda":
        bound["nvidia.com/gpu"] = str(service.plan.ranks.here)
    for page_bytes in sorted({need.page_bytes for need in service.plan.hugepages}):
        pages = sum(n.pages for n in service.plan.hugepages if n.page_bytes == page_bytes)
        name = f"hugepages-{_HUGEPAGES[page_bytes]}"
        bound[name] = asked[name] = str(pages * page_bytes)
    return {"requests": asked, "limits": bound}


def _cpus(service: Service) -> int:
    """What it keeps busy, as far as the machine can grant it: some are the system's, and a pod that
    asks for all is never placed. There is no limit: it may use more."""
    plan = service.plan
    busy = plan.ranks.here * (plan.threads if plan.device == "cpu" else 1)
    busy += 0 if plan.device == "cpu" else CPUS_BESIDE_RANKS
    return max(1, min(busy, plan.host.cpus - max(1, plan.host.cpus // 10)))


def _probe(path: str, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": PERIOD_S,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _host_places(service: Service) -> list[tuple[str, Place]]:
    places = [place for place in container_places(service) if place.what != "key"]
    return [(f"host-{number}", place) for number, place in enumerate(places)]


def _mounts(service: Service) -> list[dict[str, Any]]:
    # As a file: in a mounted folder it is a link into one of another name at every start.
    profile = {"mountPath": _profile_path(service), "subPath": _PROFILE, "readOnly": True}
    mounts: list[dict[str, Any]] = [
        {"name": "profile", **profile},
        {"name": "tmp", "mountPath": "/tmp"},
        {"name": "shm", "mountPath": "/dev/shm"},
    ]
    if service.plan.hugepages:
        mounts.append({"name": "hugepages", "mountPath": "/dev/hugepages"})
    for key, place in _key_files(service):
        mounts.append(
            {"name": "keys", "mountPath": str(place.path), "subPath": key, "readOnly": True}
        )
    for name, place in _host_places(service):
        mount: dict[str, Any] = {"name": name, "mountPath": str(place.path)}
        if not place.writable:
            mount["readOnly"] = True
        mounts.append(mount)
    return mounts


def _volumes(service: Service) -> list[dict[str, Any]]:
    shm = {"medium": "Memory", "sizeLimit": str(service.limits.shm_bytes)}
    volumes: list[dict[str, Any]] = [
        {"name": "profile", "configMap": {"name": service.name}},
        {"name": "tmp", "emptyDir": {}},
        {"name": "shm", "emptyDir": shm},
    ]
    if service.plan.hugepages:
        size = _HUGEPAGES[service.plan.hugepages[0].page_bytes]
        volumes.append({"name": "hugepages", "emptyDir": {"medium": f"HugePages-{size}"}})
    if _key_files(service):
        # Files of a Secret are root's, and the container is somebody else; nobody else is in it.
        keys = {"secretName": f"{service.name}-files", "defaultMode": 0o444}
        volumes.append({"name": "keys", "secret": keys})
    for name, place in _host_places(service):
        kind = "DirectoryOrCreate" if place.writable else "File" if place.is_file else "Directory"
        volumes.append({"name": name, "hostPath": {"path": str(place.path), "type": kind}})
    return volumes
