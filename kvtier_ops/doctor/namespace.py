"""The namespace that this profile's pages will have, if it can be told without reading weights."""

from __future__ import annotations

from pathlib import Path

from kvtier_engine.kv.keys import namespace
from kvtier_engine.model.fingerprint import known_fingerprint
from kvtier_engine.model.gguf import model_folder, needs_conversion
from kvtier_ops.plan import Plan


def known_namespace(plan: Plan) -> bytes | None:
    """None until an engine has started with these very files: it keeps their digest. None as well
    for a model that the bundled engine does not serve."""
    if not plan.model.is_served or needs_conversion(plan.model.path):
        return None
    fingerprint = known_fingerprint(model_folder(plan.model.path))
    if fingerprint is None:
        return None
    return namespace(plan.engine_config(Path("/")), fingerprint)
