"""`kvtier doctor --live URL`: how a running engine does, and what would make it do better."""

from kvtier_ops.doctor.live.examine import examine_live

__all__ = ["examine_live"]
