"""`python -m kvtier_ops`: the command `kvtier`."""

from kvtier_ops.cli import main

main()
