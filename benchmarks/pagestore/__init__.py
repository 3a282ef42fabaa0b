"""The parts of benchmarks/store.py: one question each, and what they share."""
