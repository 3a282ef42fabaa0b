"""Checks of GPUs: that torch and the driver suit one another, that they are seen, and well."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from kvtier_ops.doctor.check import Check, Context, Outcome, Severity
from kvtier_ops.doctor.place import in_container
from kvtier_ops.host.gpu_health import Driver, read_driver
from kvtier_ops.host.sysfs import read_text
from kvtier_ops.text import shortened

_CUDA_LINE = re.compile(r"^cuda\b[^=\n]*=\s*(?:None|['\"](\d+)\.(\d+)[^'\"]*['\"])", re.MULTILINE)
_VENDOR = "0x10de"
_GIVEN_AWAY = ("vfio-pci", "pci-stub", "nvgrace_gpu_vfio_pci")
_DISPLAY_CLASS = "0x03"
# Those that tell of the hardware; others follow from what a program did.
_XIDS = (48, 61, 62, 63, 64, 74, 79, 92, 94, 95, 119, 120)
_XID = re.compile(r"NVRM: Xid \(([^)]{1,40})\): (\d{1,4})\b(.*)")
_KERNEL_LOG_BYTES_MAX = 8 << 20


def torch_build(context: Context) -> Iterator[Outcome]:
    """torch's own version.py says what it was built with; the driver says what it serves."""
    driver = _driver(context)
    if driver is None or not driver.gpus:
        return
    found = torch_cuda()
    if found is None:
        return  # KVT-D103 tells that torch is missing
    gpus = f"{len(driver.gpus)} GPU{'s' * (len(driver.gpus) > 1)}"
    if found == (0, 0):
        yield Outcome(
            ok=False,
            required="a build with CUDA",
            current="a build for the CPU alone",
            fix=f"`{sys.executable} -m pip install --force-reinstall torch`, from an index that is "
            "not the CPU's",
            reason=f"{gpus} would be used",
        )
        return
    built = f"CUDA {found[0]}.{found[1]}"
    if driver.cuda is None:
        return
    # Within a major version every driver serves every build ("minor version compatibility").
    yield Outcome(
        ok=driver.cuda[0] >= found[0],
        required=f"a driver for CUDA {found[0]} or later",
        current=f"built for {built}; driver {driver.version} serves CUDA "
        f"{driver.cuda[0]}.{driver.cuda[1]}",
        fix=f"install a newer driver, or a torch built for CUDA {driver.cuda[0]}",
        reason=f"torch is built for {built}",
    )


def torch_cuda() -> tuple[int, int] | None:
    """Of torch's build, without importing it; (0, 0): none; None: there is no torch."""
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.origin:
        return None
    match = _CUDA_LINE.search(read_text(Path(spec.origin).with_name("version.py")))
    if match is None:
        return None
    return (int(match[1]), int(match[2])) if match[1] else (0, 0)


def gpus_seen(context: Context) -> Iterator[Outcome]:
    """What the PCI bus has, against what NVML shows."""
    if not _may_use_gpus(context):
        return
    there = _on_the_bus(context.root)
    if not there:
        return
    driver = _driver(context)
    seen = len(driver.gpus) if driver else 0
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    current = f"{seen} of {there} are seen"
    if chosen is not None:
        current += f" (CUDA_VISIBLE_DEVICES is `{shortened(chosen, 40)}`)"
    is_given = chosen is not None or in_container(context.root)  # a part of them, by somebody
    yield Outcome(
        ok=seen >= there or (is_given and seen > 0),
        required=f"{there} as on the PCI bus, or those of CUDA_VISIBLE_DEVICES or the container",
        current=current,
        fix=_unseen_fix(context.root, driver, chosen),
        reason="the engine would compute on the CPU" if not seen else "the others would idle",
    )


def _unseen_fix(root: Path, driver: Driver | None, chosen: str | None) -> str:
    if chosen is not None:
        return "`unset CUDA_VISIBLE_DEVICES`, or name GPUs that `nvidia-smi -L` lists"
    if not (root / "proc/driver/nvidia").exists():
        return (
            "install NVIDIA's driver; in a container, give it the GPUs "
            "(`docker run --gpus all ...`)"
        )
    if driver is None and importlib.util.find_spec("pynvml") is None:
        return f"`{sys.executable} -m pip install 'kvtier[cuda]'`, which brings nvidia-ml-py"
    return "`nvidia-smi -L` and `dmesg | grep NVRM` say what the driver makes of the others"


def _on_the_bus(root: Path) -> int:
    """NVIDIA's devices of the display class: GPUs, not their audio or their switches; without those
    that are given to virtual machines."""
    folders = (root / "sys/bus/pci/devices").glob("*")
    return sum(
        read_text(folder / "vendor") == _VENDOR
        and os.path.basename(os.path.realpath(folder / "driver")) not in _GIVEN_AWAY
        and read_text(folder / "class").startswith(_DISPLAY_CLASS)
        for folder in folders
    )


def gpus_well(context: Context) -> Iterator[Outcome]:
    """Of each GPU that the engine would see."""
    driver = _driver(context)
    for gpu in driver.gpus if driver else ():
        yield Outcome(
            ok=not gpu.ills,
            required="no errors of memory, full clocks and a full link",
            current="; ".join(gpu.ills) or "well",
            fix=f"`nvidia-smi -q -i {gpu.index}` says more; errors of memory take `nvidia-smi "
            f"--gpu-reset -i {gpu.index}` or another GPU, heat takes air",
            subject=f"{gpu.index}, {gpu.name}",
        )


def gpu_log(context: Context) -> Iterator[Outcome]:
    """Errors ("Xid") that the driver wrote into the kernel's log since boot."""
    if not _may_use_gpus(context) or not _on_the_bus(context.root):
        return
    log = _kernel_log(context.root / "dev/kmsg")
    if log is None:
        return
    found = [match for match in _XID.finditer(log) if int(match[2]) in _XIDS]
    last = f"Xid {found[-1][2]} of {found[-1][1]}" if found else ""
    yield Outcome(
        ok=not found,
        required="no Xid that tells of broken hardware since boot",
        current=f"{len(found)}, the last one {last}" if found else "none",
        fix="`dmesg | grep Xid` shows them all; reset the GPU, and replace it if they come back",
    )


def _kernel_log(path: Path) -> str | None:
    """All of it; None if it may not be read. Each read of /dev/kmsg is one line, and EAGAIN the
    end."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    parts, total = [], 0
    try:
        while total < _KERNEL_LOG_BYTES_MAX:
            try:
                part = os.read(fd, 8192)
            except BrokenPipeError:  # it was overwritten under our hands: go on with the next
                continue
            except OSError:
                break
            if not part:
                break
            parts.append(part)
            total += len(part)
    finally:
        os.close(fd)
    return b"".join(parts).decode(errors="replace")


def _may_use_gpus(context: Context) -> bool:
    """Without a profile, and with `auto`, whatever GPUs there are would be used."""
    return context.profile is None or context.profile.engine.device != "cpu"


def _driver(context: Context) -> Driver | None:
    """None where GPUs are not used, or there are none."""
    return read_driver() if _may_use_gpus(context) else None


CHECKS = (
    Check(
        "KVT-D111",
        "gpu",
        "torch and the driver",
        Severity.FAILURE,
        torch_build,
        passes="torch is built for a CUDA that the driver serves, where there are GPUs",
        why="A torch that is built for the CPU alone sees no GPU, and one that is built for a "
        "newer major version of CUDA than the driver serves fails at its first call; both only "
        "show when the engine has started. Read from torch's files and from NVML, without "
        "importing torch. The fix installs the other build, or a newer driver.",
    ),
    Check(
        "KVT-D112",
        "gpu",
        "GPUs seen",
        Severity.WARNING,
        gpus_seen,
        passes="kvtier sees every GPU of the PCI bus, or those of CUDA_VISIBLE_DEVICES, or in a "
        "container some",
        why="`engine.device: auto` takes the CPU where no GPU is seen: the server starts, and is "
        "slower by orders of magnitude. Drivers that are not loaded, containers without "
        "`--gpus`, a missing nvidia-ml-py and a CUDA_VISIBLE_DEVICES of another host all look "
        "the same from inside. The fix names which of them it is.",
    ),
    Check(
        "KVT-D113",
        "gpu",
        "GPU",
        Severity.WARNING,
        gpus_well,
        passes="no GPU has uncorrected memory errors, is slowed down, or has lost PCIe lanes",
        why="Memory that fails ends the engine or, before that, changes what it computes; a GPU "
        "that is hot or short of power computes at a part of its rate; a link with fewer lanes "
        "makes every restore from L2 slower. The fix says where to look: a reset remaps damaged "
        "rows, and what comes back needs another GPU.",
    ),
    Check(
        "KVT-D114",
        "gpu",
        "Xids in the kernel's log",
        Severity.WARNING,
        gpu_log,
        passes="the driver has logged no error of the hardware since boot",
        why="The driver logs errors of the hardware as Xids (79: the GPU has fallen off the bus, "
        "48 and 94: memory, 74: NVLink), and the GPU may work on for a while. Those that a "
        "program's own mistakes cause are not counted. The fix shows them all.",
    ),
)
