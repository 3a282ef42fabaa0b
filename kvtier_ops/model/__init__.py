"""The model: what the plan must know of it, and how a registered one is fetched."""
