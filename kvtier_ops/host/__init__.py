"""The host: what probing found, or what was recorded of another one."""

from kvtier_ops.host.directories import nearest_folder
from kvtier_ops.host.probing import probe
from kvtier_ops.host.types import (
    DirectoryFacts,
    Drive,
    DriveKind,
    FileSystem,
    Gpu,
    Host,
    HugepagePool,
    NumaNode,
)

__all__ = [
    "DirectoryFacts",
    "Drive",
    "DriveKind",
    "FileSystem",
    "Gpu",
    "Host",
    "HugepagePool",
    "NumaNode",
    "nearest_folder",
    "probe",
]
