"""`kvtier doctor --live URL`: how a running engine does, and what would make it do better."""
