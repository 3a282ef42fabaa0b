"""`kvtier doctor`: what is wrong with this host for this profile, and how to mend it."""

from kvtier_ops.doctor import cache, environment, serving
from kvtier_ops.doctor.check import Context, Finding, Severity, run_checks

# In the order in which they are shown; a module registers nothing by itself.
CHECKS = (*environment.CHECKS, *cache.CHECKS, *serving.CHECKS)

__all__ = ["CHECKS", "Context", "Finding", "Severity", "run_checks"]
