"""`python -P -m kvtier_ops`: the `kvtier` command where its script is not on the path."""

from kvtier_ops.cli import main

main()
