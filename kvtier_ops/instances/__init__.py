"""What is running here: the state that each launcher leaves in its run folder, and its control."""

from kvtier_ops.instances.find import all_instances, find_instance, instance_of, serving
from kvtier_ops.instances.state import Instance, Phase, State, read_state, write_state

__all__ = [
    "Instance",
    "Phase",
    "State",
    "all_instances",
    "find_instance",
    "instance_of",
    "read_state",
    "serving",
    "write_state",
]
