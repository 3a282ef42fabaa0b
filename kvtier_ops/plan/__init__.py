"""Plan: the profile resolved on a host. Pure; every size comes with its reason."""

from kvtier_ops.plan.make import make_plan
from kvtier_ops.plan.types import DiskPlan, MemoryItem, Plan, TierPlan, Warning_

__all__ = ["DiskPlan", "MemoryItem", "Plan", "TierPlan", "Warning_", "make_plan"]
