"""Turns a step's chunks into the tensors that the forward pass takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from kvtier_engine.attention.batch import Batch, Span
from kvtier_engine.runner.step import Chunk


def build_batch(chunks: Sequence[Chunk], page_tokens: int, device: torch.device) -> Batch:
    """The batch of `chunks`, in their order, on `device`."""
    spans = _spans(chunks)
    counts = np.array([span.count for span in spans], dtype=np.int64)
    starts = np.array([span.start for span in spans], dtype=np.int64)
    firsts = np.array([span.first for span in spans], dtype=np.int64)
    table = np.zeros((len(chunks), max(len(chunk.pages) for chunk in chunks)), dtype=np.int32)
    for row, chunk in zip(table, chunks, strict=True):
        assert len(chunk.pages) * page_tokens >= chunk.start + len(chunk.token_ids), chunk
        row[: len(chunk.pages)] = chunk.pages
    token_ids = np.array([token for chunk in chunks for token in chunk.token_ids], dtype=np.int64)
    rows = np.repeat(np.arange(len(chunks)), counts)
    positions = np.arange(len(rows)) - (firsts - starts)[rows]
    query_starts = np.append(firsts, len(rows)).astype(np.int32)

    def place(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values).to(device, non_blocking=True)

    return Batch(
        token_ids=place(token_ids),
        positions=place(positions),
        write_pages=place(table[rows, positions // page_tokens].astype(np.int64)),
        write_offsets=place(positions % page_tokens),
        page_table=place(table),
        query_starts=place(query_starts),
        contexts=place((starts + counts).astype(np.int32)),
        spans=spans,
    )


def _spans(chunks: Sequence[Chunk]) -> tuple[Span, ...]:
    spans, first = [], 0
    for row, chunk in enumerate(chunks):
        assert chunk.token_ids, f"chunk of sequence {chunk.sequence_id} is empty"
        spans.append(Span(row, first, len(chunk.token_ids), chunk.start))
        first += len(chunk.token_ids)
    return tuple(spans)
