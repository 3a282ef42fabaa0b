"""Several nodes: which one this is, and how all of them meet before any of them starts."""
