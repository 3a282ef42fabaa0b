"""The command `kvtier`."""

from kvtier_ops.cli.entry import app, main, run

__all__ = ["app", "main", "run"]
