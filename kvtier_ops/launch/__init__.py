"""`kvtier launch`: prepares, starts the engine, keeps it running, and ends it well."""

from kvtier_ops.launch.detach import launch_detached
from kvtier_ops.launch.serve import Wish, launch

__all__ = ["Wish", "launch", "launch_detached"]
