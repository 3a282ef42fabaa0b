"""Page keys: a chain of digests, so that a key stands for all tokens up to its page's end.

key[i] = H(key[i-1], tokens of page i), key[-1] = H(namespace, salt, tenant, generation), with
H = BLAKE2b (RFC 7693) cut to 16 bytes. Equal on every machine, process and degree of parallelism.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from hashlib import blake2b

from kvtier_engine.config import EngineConfig

KEY_BYTES = 16
NO_PARENT = bytes(KEY_BYTES)  # the parent that a chain's first page names in the store
PAGE_LAYOUT = 1  # bump when the order of the numbers in a page changes


def _digest(purpose: bytes, *parts: bytes) -> bytes:
    """Digest of length-prefixed parts: no two lists of parts give the same input."""
    digest = blake2b(digest_size=KEY_BYTES, person=purpose)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()


def namespace(config: EngineConfig, fingerprint: bytes) -> bytes:
    """What a page's bytes depend on besides its tokens: weights (`fingerprint`), dtype,
    geometry, page_tokens and the layout's version. 16 bytes."""
    geometry = config.cache.geometry
    facts = (
        f"layout={PAGE_LAYOUT} dtype={config.model.dtype} page_tokens={config.cache.page_tokens} "
        f"layers={geometry.layers} kv_heads={geometry.kv_heads} head_dim={geometry.head_dim} "
        f"item_bytes={geometry.item_bytes}"
    )
    return _digest(b"kvtier-ns", fingerprint, facts.encode())


def root_key(space: bytes, salt: str = "", tenant: str = "", generation: int = 0) -> bytes:
    """Where every chain of one salt of one tenant starts. `tenant`: the name of an API key, or
    none; `generation`: how often the tenant's pages have been cleared."""
    parts = [space, salt.encode()]
    if tenant or generation:  # without: the roots of caches that knew no tenants
        parts += [tenant.encode(), generation.to_bytes(8, "little")]
    return _digest(b"kvtier-root", *parts)


def page_key(parent: bytes, token_ids: Sequence[int]) -> bytes:
    """Key of the page that holds `token_ids` (non-negative, below 2**32) after `parent`."""
    tokens = array("I", token_ids)
    if sys.byteorder == "big":
        tokens.byteswap()
    return blake2b(parent + tokens.tobytes(), digest_size=KEY_BYTES, person=b"kvtier-page").digest()


class KeyChain:
    """The keys of a growing sequence's full pages."""

    def __init__(self, root: bytes, page_tokens: int) -> None:
        self.root = root
        self.page_tokens = page_tokens
        self.keys: list[bytes] = []

    def extend(self, token_ids: Sequence[int]) -> None:
        """Adds keys for the pages that `token_ids`, the whole sequence, has filled since."""
        size = self.page_tokens
        for index in range(len(self.keys), len(token_ids) // size):
            page = token_ids[index * size : (index + 1) * size]
            self.keys.append(page_key(self.keys[-1] if index else self.root, page))

    def parent(self, index: int) -> bytes:
        """Key of the page before `index`; NO_PARENT for the first."""
        return self.keys[index - 1] if index else NO_PARENT
