"""Request traces through caches: the engine's bookkeeping, the page store, and a simulator."""
