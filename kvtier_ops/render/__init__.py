"""`kvtier render`: a profile as a unit of systemd, and as what containers and clusters run.

An artefact is text that is derived from the plan and changes nothing: whoever installs it reads it
first. The same profile on the same host makes the same text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kvtier_ops.render import compose, kubernetes, slurm, systemd
from kvtier_ops.render.service import Options, Service, service_of


@dataclass(frozen=True)
class Format:
    """`suffix`: of the file's name, after the service's."""

    suffix: str
    render: Callable[[Service], str]


FORMATS = {
    "systemd": Format(".service", systemd.render),
    "docker-compose": Format(".compose.yaml", compose.render),
    "kubernetes": Format(".k8s.yaml", kubernetes.render),
    "slurm": Format(".sbatch", slurm.render),
}

__all__ = ["FORMATS", "Format", "Options", "Service", "service_of"]
