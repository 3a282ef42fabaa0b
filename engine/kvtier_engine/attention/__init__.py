"""Attention over L1 pages: one protocol, several backends."""
