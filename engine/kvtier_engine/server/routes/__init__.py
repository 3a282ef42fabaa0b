"""The endpoints, one module a family. Each module's `router(service)` makes its routes."""
