"""`kvtier launch`: prepares, starts the engine, waits until it is ready, and ends it well."""

from kvtier_ops.launch.serve import launch

__all__ = ["launch"]
