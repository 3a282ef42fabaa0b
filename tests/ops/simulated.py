"""Traces for the tests of `kvtier simulate`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BEGINNING = ROOT / "tests/data/traces/mooncake_conversation_500.jsonl.gz"
BIG = Path("/work/shared/traces")  # whole traces, which this repository does not have


def line(hash_ids: Sequence[int], **fields: Any) -> dict[str, Any]:
    """A request of blocks of 4 tokens, with a token behind them."""
    return {"input_length": 4 * len(hash_ids) + 1, "hash_ids": list(hash_ids), **fields}


def write_lines(path: Path, lines: Iterable[Mapping[str, Any] | str]) -> str:
    text = "".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in lines)
    path.write_text(text)
    return str(path)


def write_chains(path: Path, chains: Iterable[Sequence[int]]) -> str:
    """A request a second, in blocks of 4 tokens."""
    return write_lines(
        path,
        (
            line(chain, timestamp=1000 * number, block_tokens=4, output_length=1)
            for number, chain in enumerate(chains)
        ),
    )
