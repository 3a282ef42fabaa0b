"""`kvtier doctor`: what is wrong with this host for this profile, and how to mend it."""

from kvtier_ops.doctor.check import Context, Finding, Result, Severity, run_checks
from kvtier_ops.doctor.registry import CHECKS

__all__ = ["CHECKS", "Context", "Finding", "Result", "Severity", "run_checks"]
