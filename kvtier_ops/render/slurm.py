"""A batch script for Slurm: one task on each node, drained before the job's time is up."""

from __future__ import annotations

import shlex

from kvtier_ops.render.service import Service
from kvtier_ops.units import UNITS


def render(service: Service) -> str:
    blocks = (
        ["#!/bin/bash", *service.head(*_notes(service))],
        _directives(service),
        ["set -euo pipefail", "umask 077", *_environment(service)],
        _limits(service),
        _run(service),
    )
    return "\n\n".join("\n".join(lines) for lines in blocks) + "\n"


def _notes(service: Service) -> list[str]:
    notes = [
        f"Submit it with: sbatch {service.name}.sbatch. `scancel --signal=TERM JOB` drains it;\n"
        "a plain scancel leaves it KillWait (30 s unless slurm.conf says more)."
    ]
    if service.secrets:
        notes.append(
            "Secrets come from the environment of sbatch, which hands it on:\n"
            f"  {' '.join(service.secrets)}"
        )
    return notes


def _directives(service: Service) -> list[str]:
    """The job's name has plain letters: in #SBATCH lines sbatch's own rules of quoting hold."""
    plan, limits = service.plan, service.limits
    memory = (limits.memory_bytes + _hugepage_bytes(service)) // UNITS["MiB"]
    lines = [
        f"#SBATCH --job-name={service.name}",
        f"#SBATCH --nodes={plan.ranks.nodes}",
        "#SBATCH --ntasks-per-node=1",
        f"#SBATCH --cpus-per-task={max(1, plan.threads * plan.ranks.here)}",
        f"#SBATCH --mem={memory}M",
        "#SBATCH --output=%x-%j.log",
        "#SBATCH --open-mode=append",
        "# The time that it has to drain, before the job's own time is up.",
        f"#SBATCH --signal=TERM@{min(limits.stop_s, 65535)}",
    ]
    if plan.device == "cuda":
        lines.insert(5, f"#SBATCH --gpus-per-node={plan.ranks.here}")
    return lines


def _hugepage_bytes(service: Service) -> int:
    return sum(need.pages * need.page_bytes for need in service.plan.hugepages)


def _environment(service: Service) -> list[str]:
    lines = [f"export {name}={shlex.quote(value)}" for name, value in service.environment.items()]
    for name in service.secrets:
        lines.append(f': "${{{name}:?set it where you call sbatch, not in this file}}"')
    return lines


def _limits(service: Service) -> list[str]:
    locked = service.limits.locked_bytes // UNITS["KiB"]
    return [
        "# Up to what the administrator allows; kvtier says what that costs.",
        f"ulimit -n {service.limits.open_files} || true",
        f"ulimit -l {locked} || true",
        "ulimit -c 0",
    ]


def _run(service: Service) -> list[str]:
    command = shlex.join([service.program, *service.launch])
    lines = []
    if service.plan.ranks.nodes > 1:
        lines += [
            "# All nodes meet at the job's first one; SLURM_NODEID numbers them.",
            'first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
        ]
        command += ' --set "cluster.master_address=$first"'
    return [
        *lines,
        "# Locks and sockets are each node's own: a home that nodes share is no place for them.",
        "# shellcheck disable=SC2016  # each node has its own values",
        "runtime='export XDG_RUNTIME_DIR=${TMPDIR:-/tmp}/kvtier-$SLURM_JOB_ID'",
        "# shellcheck disable=SC2016",
        'runtime+=\'; mkdir -p -m 0700 -- "$XDG_RUNTIME_DIR" && exec "$@"\'',
        'exec srun --cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=1 \\',
        f'  bash -c "$runtime" kvtier {command}',
    ]
