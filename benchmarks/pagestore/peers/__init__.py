"""Page stores side by side: each runs in a process, and if need be an interpreter, of its own."""
