"""A unit of systemd: tuned as root before it starts, served as a user of its own, put back after.

systemd reads a line of Exec as words in quotes, with `%` and, unless the command begins with `:`,
`$`; in other settings `%` alone means something. See systemd.syntax(7) and systemd.service(5).
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

from kvtier_ops.errors import BadInput
from kvtier_ops.render.service import CACHE_HOME, RUNTIME, STATE_HOME, Service
from kvtier_ops.text import printable

DEFAULT_USER = "kvtier"
RESTARTS_MAX, RESTARTS_S, RESTART_S = 5, 900, 10
_HOMES = ("/home", "/root", "/run/user")
_TEMPORARY = ("/tmp", "/var/tmp")
_PLAIN = re.compile(r"[A-Za-z0-9_@+=:,./-]+")
_PRIVILEGED_PORTS = 1024
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,30}|[0-9]{1,10}")


def render(service: Service) -> str:
    sections = (_unit(service), _service(service), ["[Install]", "WantedBy=multi-user.target"])
    head = service.head(*_installing(service))
    return "\n\n".join("\n".join(lines) for lines in (head, *sections)) + "\n"


def quoted(text: str) -> str:
    """One word of a setting that takes words."""
    text = text.replace("%", "%%")
    if _PLAIN.fullmatch(text.replace("%%", "")):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    for raw, written in (("\n", "\\n"), ("\t", "\\t"), ("\r", "\\r")):
        escaped = escaped.replace(raw, written)
    return f'"{escaped}"'


def _words(texts: Iterable[str | Path]) -> str:
    return " ".join(quoted(str(text)) for text in texts)


def _user(service: Service) -> str:
    """Raises BadInput for what systemd would not take: the unit would not load."""
    user = service.options.user or DEFAULT_USER
    if not _USER.fullmatch(user):
        raise BadInput(
            f"`{printable(user)[:60]}` is no user of a unit",
            "name one user, such as `--user kvtier`, or give its number",
        )
    return user


def _secret_file(service: Service) -> str:
    return f"/etc/kvtier/{service.name}.env"


def _installing(service: Service) -> list[str]:
    user = _user(service)
    steps = [
        "Once, as root: make the user, give it the directories below, and install this file:",
        f"  useradd --system --no-create-home --shell /usr/sbin/nologin {user}",
    ]
    for place in service.places:
        if place.writable:
            steps.append(f"  install -d -o {user} -m 0700 {shlex.quote(str(place.path))}")
    steps += [
        f"  install -m 0644 {service.name}.service /etc/systemd/system/",
        f"  systemctl daemon-reload && systemctl enable --now {service.name}",
    ]
    notes = ["\n".join(steps)]
    if service.secrets:
        notes.append(
            f"{_secret_file(service)} (root's, mode 0600) has the secrets, a line NAME=VALUE for "
            f"each of:\n  {' '.join(service.secrets)}"
        )
    if _lies_in(service, _TEMPORARY):
        notes.append(
            "Something that it uses lies in /tmp or /var/tmp, and the unit has those of\n"
            "its own, which are empty: move it, and make this again."
        )
    if _needs_home(service):
        notes.append(f"Something that it uses lies in a home folder: {user} must be let in there.")
    return notes


def _unit(service: Service) -> list[str]:
    name = service.plan.served_name.replace("%", "%%")
    return [
        "[Unit]",
        f"Description=kvtier: {name}",
        "Wants=network-online.target",
        "After=network-online.target nvidia-persistenced.service",
        f"RequiresMountsFor={_words([service.profile_path, *(p.path for p in service.places)])}",
        f"StartLimitIntervalSec={RESTARTS_S}",
        f"StartLimitBurst={RESTARTS_MAX}",
    ]


def _service(service: Service) -> list[str]:
    groups = (_running(service), _limits(service), _walls(service))
    return ["[Service]", *"\n\n".join("\n".join(group) for group in groups).split("\n")]


def _running(service: Service) -> list[str]:
    tune = [service.program, "tune"]
    lines = [
        "Type=notify",
        "NotifyAccess=main",
        f"User={_user(service)}",
        f"StateDirectory={Path(STATE_HOME, 'kvtier').name}",
        "StateDirectoryMode=0700",
        f"CacheDirectory={Path(CACHE_HOME, 'kvtier').name}",
        f"RuntimeDirectory={Path(RUNTIME).name}",
        "RuntimeDirectoryMode=0700",
        "RuntimeDirectoryPreserve=yes",
        f"WorkingDirectory={STATE_HOME}/kvtier",
    ]
    lines += [f"Environment={quoted(f'{name}={value}')}" for name, value in _variables(service)]
    if service.secrets:
        lines.append(f"EnvironmentFile={_secret_file(service)}")
    lines += [
        "# The host is prepared by root, and put back however the service ends.",
        f"ExecStartPre=+:{_words([*tune, *_tuned(service)])}",
        f"ExecStart=:{_words([service.program, *service.launch])}",
        f"ExecStopPost=+:{_words([*tune, '--undo', service.launch[1]])}",
        "KillMode=mixed",
        f"TimeoutStartSec={service.limits.start_s}",
        f"TimeoutStopSec={service.limits.stop_s}",
        "# 130: stopped before it was ready. 2: the profile is wrong, and stays so.",
        "SuccessExitStatus=130",
        "Restart=on-failure",
        f"RestartSec={RESTART_S}",
        "RestartPreventExitStatus=2",
        "OOMPolicy=continue",
    ]
    return lines


def _tuned(service: Service) -> list[str]:
    """What `kvtier tune` is told: the same profile with the same overrides."""
    return [word for word in service.launch[1:] if word != "--no-tune"]


def _variables(service: Service) -> list[tuple[str, str]]:
    defaults = {
        "HOME": f"{STATE_HOME}/kvtier",
        "XDG_CACHE_HOME": CACHE_HOME,
        "XDG_STATE_HOME": STATE_HOME,
        "XDG_RUNTIME_DIR": RUNTIME,
    }
    return sorted({**defaults, **service.environment}.items())


def _limits(service: Service) -> list[str]:
    limits, host = service.limits, service.profile.host
    lines = [
        "# From the plan, with room to spare; reserved hugepages do not count as its memory.",
        f"MemoryMax={limits.memory_bytes}",
        f"LimitMEMLOCK={limits.locked_bytes}",
        f"LimitNOFILE={limits.open_files}",
        "LimitCORE=0",
        "TasksMax=infinity",
    ]
    if host.memory_nodes:
        lines += ["NUMAPolicy=bind", f"NUMAMask={' '.join(map(str, host.memory_nodes))}"]
    if cpus := _cpus(service):
        lines.append(f"CPUAffinity={' '.join(map(str, cpus))}")
    return lines


def _cpus(service: Service) -> list[int]:
    nodes = service.profile.host.cpu_nodes
    found = service.plan.host.numa_nodes
    return sorted(cpu for node in found if node.id in nodes for cpu in node.cpus)


def _walls(service: Service) -> list[str]:
    """What it may touch. Code that is made at run time (Triton, CUDA) must stay possible."""
    lines = ["# It may write to its own folders and to these, and to nothing else."]
    writable = [place.path for place in service.places if place.writable]
    home = service.environment.get("XDG_STATE_HOME")
    if home:  # the profile speaks of it, so its own folders lie there
        writable.append(Path(home) / "kvtier")
    cache = service.environment.get("XDG_CACHE_HOME")
    if cache:
        writable.append(Path(cache) / "kvtier")
    lines.append("ProtectSystem=strict")
    if writable:
        lines.append(f"ReadWritePaths={_words(writable)}")
    lines.append(f"ProtectHome={'read-only' if _needs_home(service) else 'yes'}")
    if service.plan.device == "cuda":
        lines += ["DevicePolicy=closed", *(f"DeviceAllow={name} rw" for name in _GPU_DEVICES)]
    else:
        lines.append("PrivateDevices=yes")
    if 0 < service.profile.server.port < _PRIVILEGED_PORTS:
        capabilities = "CAP_NET_BIND_SERVICE"
        lines.append(f"AmbientCapabilities={capabilities}")
    else:
        capabilities = ""
    return [*lines, f"CapabilityBoundingSet={capabilities}", *_HARDENING]


def _needs_home(service: Service) -> bool:
    return _lies_in(service, _HOMES)


def _lies_in(service: Service, folders: tuple[str, ...]) -> bool:
    used = [service.profile_path, Path(service.program), *(p.path for p in service.places)]
    if not service.options.program:
        # A virtual environment links to an interpreter that uv and pyenv keep in a home folder.
        used.append(Path(os.path.realpath(sys.executable)))
    used += [Path(value) for name, value in service.environment.items() if name.startswith("XDG_")]
    return any(path.is_relative_to(folder) for path in used for folder in folders)


_GPU_DEVICES = ("char-nvidia", "char-nvidia-frontend", "char-nvidia-uvm", "char-nvidia-caps")
_HARDENING = (
    "NoNewPrivileges=yes",
    "UMask=0077",
    "PrivateTmp=yes",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "ProtectControlGroups=yes",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "RestrictSUIDSGID=yes",
    "RestrictRealtime=yes",
    "RestrictNamespaces=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "LockPersonality=yes",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallErrorNumber=EPERM",
)
