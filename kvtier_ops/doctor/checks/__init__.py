"""The checks, by group."""
