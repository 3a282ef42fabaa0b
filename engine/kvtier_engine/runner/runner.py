"""Runner: executes steps on one rank. Owns the model, L1 and the way to and from L2."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from kvtier_engine.attention.base import AttentionParts
from kvtier_engine.attention.cache import PagedCache
from kvtier_engine.attention.rope import rope_table
from kvtier_engine.attention.select import (
    AttentionName,
    AttentionUnavailable,
    choose_attention,
    make_attention,
)
from kvtier_engine.config import EngineConfig
from kvtier_engine.model import model_class
from kvtier_engine.model.errors import ModelError
from kvtier_engine.model.gguf import model_folder
from kvtier_engine.model.layers import Place
from kvtier_engine.model.ops import Ops, TorchOps
from kvtier_engine.model.parallel import check_parallel, rank_heads
from kvtier_engine.model.spec import ModelSpec
from kvtier_engine.model.weights import Progress, load_weights
from kvtier_engine.runner.batch import build_batch
from kvtier_engine.runner.copier import Copier, HostPages, host_slots
from kvtier_engine.runner.distributed import RankGroup
from kvtier_engine.runner.l1_memory import L1Memory
from kvtier_engine.runner.sampler import Sampler
from kvtier_engine.runner.step import Chunk, Sampled, Step


class Runner:
    """One rank of the model. Not thread-safe: one thread loads it and executes its steps."""

    def __init__(
        self,
        config: EngineConfig,
        spec: ModelSpec,
        group: RankGroup,
        arena: HostPages | None = None,
        slots_in_use: int | None = None,
    ) -> None:
        """Checks that the model can run as configured; allocates nothing yet.

        `arena` is L2 (None: there is none), its part `group.rank` this rank's, of which the
        first `slots_in_use` slots (None: all) may be used. Raises ModelError.
        """
        check_parallel(spec, group.size)
        _check_geometry(config, spec)
        self.config = config
        self.spec = spec
        self.group = group
        self.arena = arena
        self.slots_in_use = slots_in_use
        self.device = _device(config, group.rank)
        self.sampler = Sampler(spec.eos_ids)

    def load(self, progress: Progress) -> None:
        """Reads the weights, allocates L1. Raises ModelError."""
        with torch.inference_mode():
            dtype = getattr(torch, self.config.model.dtype)
            name = self._choose_attention(dtype)
            ops = _make_ops(name, self.config.parallel.threads_per_rank)
            self.model = model_class(self.spec.architecture)(
                self.spec, Place(self.group, ops, self.device, dtype)
            )
            load_weights(
                model_folder(self.config.model.path),
                list(self.model.parts()),
                ignore=self.model.unused_tensors,
                workers=self.config.model.load_workers,
                progress=progress,
            )
            self.model.prepare()
            self.l1 = self._allocate_l1(dtype)
            self.cache = PagedCache(self.l1.storage)
            self.copier = self._make_copier()
            self.attention = make_attention(
                name,
                AttentionParts(self.model.attention_shape, self.cache, self._rope()),
            )

    def execute(self, step: Step) -> list[Sampled]:
        """Restores, computes all chunks in one pass, samples, starts the offloads.

        Returns one Sampled for each chunk with `sample`, in the chunks' order, on rank 0;
        an empty list on other ranks.
        """
        with torch.inference_mode():
            if step.sizes is not None:
                self.l1.keep(step.sizes.l1_pages)
                self.copier.resize(step.sizes.l2_slots)
            self.copier.restore(step.restores)
            sampled = self._compute(step)
            self.copier.offload(step.number, step.offloads)
        return sampled

    def offloads_done(self) -> int:
        """The highest step number up to which all offloads are complete on this rank; 0: none."""
        return self.copier.offloads_done()

    def wait_for_offloads(self) -> None:
        """Returns when every offload of the steps executed so far is complete."""
        self.copier.wait()

    def close(self) -> None:
        """Lets go of L2; nothing is executed any more."""
        self.copier.close()

    def forward(self, chunks: Sequence[Chunk], rows: Sequence[int]) -> torch.Tensor | None:
        """Computes the chunks and returns the logits [len(rows), vocab] float32 of the tokens
        at `rows` of the batch (all chunks' tokens one after another); None above rank 0."""
        with torch.inference_mode():
            batch = build_batch(chunks, self.config.cache.page_tokens, self.device)
            self.attention.begin(batch)
            chosen = torch.tensor(rows, dtype=torch.int64).to(self.device, non_blocking=True)
            return self.model.forward(batch.token_ids, chosen, self.attention)

    def _compute(self, step: Step) -> list[Sampled]:
        is_sampling = self.group.rank == 0
        if is_sampling:
            for new in step.new:
                self.sampler.add(new)
        sampled: list[Sampled] = []
        if step.chunks:
            rows, row = [], -1
            for chunk in step.chunks:
                row += len(chunk.token_ids)
                if chunk.sample:
                    rows.append(row)
            logits = self.forward(step.chunks, rows)
            if logits is not None and rows:
                sampled = self.sampler.sample(logits, [c for c in step.chunks if c.sample])
        if is_sampling:
            for sequence_id in step.drop:
                self.sampler.drop(sequence_id)
        return sampled

    def _choose_attention(self, dtype: torch.dtype) -> AttentionName:
        shape = rank_heads(self.spec, self.group.size)
        try:
            return choose_attention(self.config.attention, shape, self.device, dtype)
        except AttentionUnavailable as error:
            raise ModelError(str(error), "set `attention: auto`") from error

    def _allocate_l1(self, dtype: torch.dtype) -> L1Memory:
        cache, shape = self.config.cache, self.model.attention_shape
        per_page = (shape.kv_heads, self.spec.layers, 2, cache.page_tokens, shape.head_dim)
        return L1Memory((cache.l1.pages, *per_page), dtype, self.device)

    def _make_copier(self) -> Copier:
        pages = self.cache.page_bytes_view()
        slots = host_slots(self.arena, self.group.rank, pages.shape[1]) if self.arena else None
        if self.device.type == "cuda":
            from kvtier_engine.runner.cuda_copier import CudaCopier

            return CudaCopier(pages, slots, self.slots_in_use)
        from kvtier_engine.runner.host_copier import HostCopier

        return HostCopier(pages, slots, self.config.parallel.threads_per_rank)

    def _rope(self) -> torch.Tensor:
        positions = self.config.scheduler.max_context_tokens
        return rope_table(self.spec.rope, self.spec.head_dim, positions).to(self.device)


def _make_ops(attention: AttentionName, threads: int) -> Ops:
    """Native attention brings the other native operations with it.

    Then torch has one thread: what is left to it is small, and its OpenMP threads spin for
    a while after each operation, on the processors that the kernels' threads need.
    """
    if attention != "native":
        torch.set_num_threads(threads)
        return TorchOps()
    torch.set_num_threads(1)
    from kvtier_engine import _kernels
    from kvtier_engine.model.native_ops import NativeOps

    _kernels.set_num_threads(threads)
    return NativeOps()


def _check_geometry(config: EngineConfig, spec: ModelSpec) -> None:
    actual = spec.geometry(config.model.dtype)
    if actual != config.cache.geometry:
        raise ModelError(
            f"the KV geometry of {config.model.path} is {actual}, but the plan was made for "
            f"{config.cache.geometry}",
            "the model has changed since the plan was made: launch again",
        )
    limit = config.scheduler.max_context_tokens
    if limit > spec.max_positions:
        raise ModelError(
            f"max_context_tokens is {limit}, but the model was trained for "
            f"{spec.max_positions} positions",
            f"set it to {spec.max_positions} or less",
        )


def _device(config: EngineConfig, rank: int) -> torch.device:
    if config.device == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ModelError("device is cuda, but torch sees no CUDA device", "set `device: cpu`")
    devices = torch.cuda.device_count()
    if rank >= devices:
        raise ModelError(
            f"rank {rank} has no CUDA device: there are {devices}",
            f"set `parallel.tensor_parallel` to {devices} or less",
        )
    device = torch.device("cuda", rank)
    torch.cuda.set_device(device)
    return device
