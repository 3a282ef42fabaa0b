"""A profile as it may be shown: as YAML, or as data. What may be a secret is masked."""

from __future__ import annotations

from typing import Any

import yaml

from kvtier_ops.profile.schema import Profile
from kvtier_ops.profile.secrets import MASK, looks_secret, masked_environment
from kvtier_ops.profile.written import at, leaves
from kvtier_ops.profile.yaml_source import Tree


def profile_as_yaml(profile: Profile, tree: Tree | None = None) -> str:
    """Every field, in the order of the schema; reads back as the same profile, unless a secret
    is masked: then it is refused. `tree` tells which values came from the environment."""
    data = shown_data(profile, tree)
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


def shown_data(profile: Profile, tree: Tree | None = None) -> dict[str, Any]:
    """The profile as nested dicts and lists, ready to be shown."""
    data: dict[str, Any] = profile.model_dump(mode="json")
    data["engine"]["environment"] = masked_environment(profile.engine.environment)
    for path, leaf in leaves(tree.root) if tree else ():
        section: Any = at(data, path[:-1])
        if section is not None and any(map(looks_secret, leaf.variables)):
            section[path[-1]] = MASK
    return data
