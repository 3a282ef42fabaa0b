"""Checks of Python, native modules, torch and GPUs: once passing, once failing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ops.doctored import all_of, load, look, of, put
from ops.test_host_gpus import failing, nvml

from kvtier_ops.doctor import Context
from kvtier_ops.doctor.checks import environment, gpu
from kvtier_ops.doctor.examine import examine


def test_python(monkeypatch: pytest.MonkeyPatch) -> None:
    assert look("KVT-D101", Context()).ok
    monkeypatch.setattr(environment, "PYTHON_MIN", (4, 0))
    found = look("KVT-D101", Context())
    assert (found.ok, found.required) == (False, "4.0 or later")


def test_native_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "NATIVE_MODULES", ("zlib",))
    assert look("KVT-D102", Context()).ok
    assert environment.store_works()
    monkeypatch.setattr(environment, "NATIVE_MODULES", ("kvtier_no_such_module",))
    missing = look("KVT-D102", Context())
    assert not missing.ok
    assert "No module named" in missing.current
    assert not environment.store_works()
    monkeypatch.setattr(environment, "NATIVE_MODULES", ("os; os.kill(os.getpid(), 4)",))
    assert look("KVT-D102", Context()).current == "was killed by signal 4"


def test_a_module_that_never_ends_its_import(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_IMPORT_S_MAX", 0)
    monkeypatch.setattr(environment, "NATIVE_MODULES", ("signal; signal.pause()",))
    assert "took longer" in look("KVT-D102", Context()).current


def test_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "requires", lambda name: ["torch>=2.11,<2.14"])
    versions: dict[str, str] = {"torch": "2.13.0+cpu"}
    monkeypatch.setattr(environment, "version", lambda name: versions[name])
    assert look("KVT-D103", Context()).ok
    versions["torch"] = "2.10.0"
    assert not look("KVT-D103", Context()).ok

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(environment, "version", missing)
    assert look("KVT-D103", Context()).current == "not installed"


@pytest.fixture
def module(home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, bytes], None]:
    """Makes a package `kvt_fake` with one file of a native module."""
    package = home / "path/kvt_fake"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('it must not be imported')")
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.setattr(environment, "NATIVE_MODULES", ("kvt_fake._native",))

    def make(suffix: str, content: bytes = b"GLIBC_2.17\0GLIBC_2.2.5\0") -> None:
        (package / f"_native{suffix}").write_bytes(content)

    return make


OURS = environment.EXTENSION_SUFFIXES[0]


def test_build_for_this_python(module: Callable[..., None]) -> None:
    assert look("KVT-D104", Context()).current == "no such file"
    module(".cpython-39-sparc64-linux-gnu.so")
    other = look("KVT-D104", Context())
    assert not other.ok
    assert "cpython-39-sparc64" in other.current
    module(OURS)
    assert look("KVT-D104", Context()).ok


def test_build_for_this_glibc(module: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    module(OURS, b"\0GLIBC_2.2.5\0GLIBC_2.38\0GLIBC_2.9\0GLIBCXX_3.4.30\0")
    monkeypatch.setattr(environment, "glibc_here", lambda: (2, 36))
    found = look("KVT-D104", Context())
    assert (found.ok, found.required) == (False, "glibc 2.38 or later")
    monkeypatch.setattr(environment, "glibc_here", lambda: (2, 38))
    assert look("KVT-D104", Context()).ok
    monkeypatch.setattr(environment, "glibc_here", lambda: (0, 0))  # another C library
    assert look("KVT-D104", Context()).ok


def test_our_own_build() -> None:
    assert len(all_of("KVT-D104", Context())) == 2
    assert look("KVT-D104", Context()).ok


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def make(count: int = 2, **changes: Any) -> None:
        functions = {
            "nvmlDeviceGetCount": lambda: count,
            "nvmlSystemGetDriverVersion": lambda: "580.65",
            "nvmlSystemGetCudaDriverVersion_v2": lambda: 12080,
        }
        monkeypatch.setitem(sys.modules, "pynvml", nvml(**{**functions, **changes}))

    return make


def torch_of(home: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    folder = home / "torch"
    folder.mkdir(exist_ok=True)
    (folder / "version.py").write_text(f"__version__ = '2.13.0'\n{line}\nhip: str = '6.1'\n")
    spec = SimpleNamespace(origin=str(folder / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)


@pytest.mark.parametrize(
    ("line", "ok", "said"),
    [
        ("cuda: Optional[str] = '12.8'", True, "built for CUDA 12.8"),
        ("cuda = '12.9'", True, "serves CUDA 12.8"),  # minor versions are compatible
        ("cuda: Optional[str] = '13.0'", False, "built for CUDA 13.0; driver 580.65 serves"),
        ("cuda: Optional[str] = None", False, "for the CPU alone"),
    ],
)
def test_torch_build_and_driver(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    install: Callable[..., None],
    line: str,
    ok: bool,
    said: str,
) -> None:
    torch_of(home, monkeypatch, line)
    install()
    found = look("KVT-D111", Context())
    assert found.ok is ok
    assert said in found.current


def test_torch_build_does_not_matter_on_a_cpu(
    home: Path, monkeypatch: pytest.MonkeyPatch, install: Callable[..., None]
) -> None:
    torch_of(home, monkeypatch, "cuda = None")
    install(count=0)
    assert not all_of("KVT-D111", Context())
    install()
    assert not all_of("KVT-D111", Context(load(home, "engine.device=cpu").profile))
    assert all_of("KVT-D111", Context(load(home).profile))


def test_the_torch_that_is_installed_is_read_without_importing_it() -> None:
    from importlib.metadata import version

    is_cpu = "+cpu" in version("torch")
    assert (gpu.torch_cuda() == (0, 0)) is is_cpu


def bus(home: Path, gpus: int) -> Context:
    for number in range(gpus):
        put(home, f"sys/bus/pci/devices/0000:0{number}:00.0/vendor", "0x10de\n")
        put(home, f"sys/bus/pci/devices/0000:0{number}:00.0/class", "0x030200\n")
    put(home, "sys/bus/pci/devices/0000:09:00.1/vendor", "0x10de\n")  # a GPU's sound
    put(home, "sys/bus/pci/devices/0000:09:00.1/class", "0x040300\n")
    return Context(root=home / "root")


def test_gpus_seen(
    home: Path, install: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not all_of("KVT-D112", bus(home, 0))
    context = bus(home, 2)
    install(2)
    assert look("KVT-D112", context).ok
    install(1)
    put(home, "proc/driver/nvidia/version", "580")
    found = look("KVT-D112", context)
    assert (found.ok, found.current) == (False, "1 of 2 are seen")
    assert "dmesg" in found.fix
    install(2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert look("KVT-D112", context).ok
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    found = look("KVT-D112", context)
    assert "unset CUDA_VISIBLE_DEVICES" in found.fix
    assert "compute on the CPU" in found.reason


def test_gpus_that_a_container_was_not_given(home: Path, install: Callable[..., None]) -> None:
    """/sys shows all of the host's; a pod that asked for one of eight sees that one."""
    context = bus(home, 8)
    put(home, "run/.containerenv", "")
    install(1)
    assert look("KVT-D112", context).ok
    install(0)
    assert not look("KVT-D112", context).ok


def test_gpus_that_a_virtual_machine_has(home: Path, install: Callable[..., None]) -> None:
    context = bus(home, 2)
    driver = home / "root/sys/bus/pci/drivers/vfio-pci"
    driver.mkdir(parents=True)
    (home / "root/sys/bus/pci/devices/0000:01:00.0/driver").symlink_to(driver)
    install(1)
    assert look("KVT-D112", context).current == "1 of 1 are seen"


def test_the_driver_is_opened_once(home: Path, install: Callable[..., None]) -> None:
    """Each time that nobody else has it open, it wakes all GPUs, which takes seconds."""
    opens = {"now": 0, "first": 0}

    def init() -> None:
        opens["first"] += not opens["now"]
        opens["now"] += 1

    def shutdown() -> None:
        opens["now"] -= 1

    install(1, nvmlInit=init, nvmlShutdown=shutdown)
    assert of(examine(load(home, "engine.device=cuda")), "KVT-D113").ok
    assert opens == {"now": 0, "first": 1}


def test_gpus_that_nothing_shows(
    home: Path, monkeypatch: pytest.MonkeyPatch, install: Callable[..., None]
) -> None:
    install(0)
    assert "install NVIDIA's driver" in look("KVT-D112", bus(home, 1)).fix
    put(home, "proc/driver/nvidia/version", "580")
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "kvtier[cuda]" in look("KVT-D112", bus(home, 1)).fix


@pytest.mark.parametrize(
    ("changes", "ill"),
    [
        ({}, ""),
        ({"nvmlDeviceGetTotalEccErrors": lambda handle, kind, since: 3}, "3 memory errors"),
        ({"nvmlDeviceGetTotalEccErrors": failing}, ""),
        ({"nvmlDeviceGetRemappedRows": lambda handle: (0, 0, 0, 0)}, ""),
        ({"nvmlDeviceGetRemappedRows": lambda handle: (0, 1, 1, 0)}, "wait for a reset"),
        ({"nvmlDeviceGetRemappedRows": lambda handle: (0, 1, 0, 1)}, "failed"),
        ({"nvmlDeviceGetRetiredPagesPendingStatus": lambda handle: 1}, "to be retired"),
        ({"nvmlDeviceGetCurrentClocksEventReasons": lambda handle: 0x4}, ""),  # its power cap
        ({"nvmlDeviceGetCurrentClocksEventReasons": lambda handle: 0x40}, "by hardware for heat"),
        ({"nvmlDeviceGetCurrentClocksThrottleReasons": lambda handle: 0x80}, "power supply"),
        ({"nvmlDeviceGetCurrPcieLinkWidth": lambda handle: 16}, ""),
        ({"nvmlDeviceGetCurrPcieLinkWidth": lambda handle: 8}, "8 of 16 lanes"),
        ({"nvmlDeviceGetComputeMode": lambda handle: 2}, "Prohibited"),
    ],
)
def test_health_of_gpus(
    home: Path, install: Callable[..., None], changes: dict[str, Any], ill: str
) -> None:
    install(1, **changes)
    found = look("KVT-D113", Context(root=home))
    assert found.ok is (not ill)
    assert (ill or "well") in found.current
    assert "0, GPU 0" in found.what


def test_health_is_of_the_gpu_that_nvidia_smi_numbers(
    home: Path, install: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(4, nvmlDeviceGetTotalEccErrors=lambda handle, kind, since: int(handle == 3))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,3")
    bad = look("KVT-D113", Context(root=home))
    assert "nvidia-smi -q -i 3" in bad.fix


def test_xids_in_the_kernels_log(home: Path, install: Callable[..., None]) -> None:
    context = bus(home, 1)
    assert not all_of("KVT-D114", context), "where the log cannot be read, nothing is known"
    application = "6,1,2,-;NVRM: Xid (PCI:0000:3b:00): 13, Graphics Exception\n"
    put(home, "dev/kmsg", application)
    assert look("KVT-D114", context).ok
    put(home, "dev/kmsg", application + "6,2,3,-;NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen\n")
    found = look("KVT-D114", context)
    assert (found.ok, found.current) == (False, "1, the last one Xid 79 of PCI:0000:3b:00")


def test_the_log_of_this_kernel_ends() -> None:
    log = Path("/dev/kmsg")
    if not os.access(log, os.R_OK):
        pytest.skip("the kernel's log may not be read here")
    said = gpu._kernel_log(log)
    assert said is None or said.count("\n") >= 1
