"""Start commands of other engines -> profiles, and a list of what could not be carried over."""

from kvtier_ops.profile.importing.carry import ENGINES, Imported, import_command

__all__ = ["ENGINES", "Imported", "import_command"]
