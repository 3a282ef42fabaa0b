"""RankGroup: the ranks that share one model, and the two things they do together."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import FileStore, ProcessGroup, Store

from kvtier_engine.config import Device
from kvtier_engine.model.errors import ModelError

_RENDEZVOUS = "rendezvous"


class RankGroup:
    """One rank's end of the group. A group of one needs no torch.distributed.

    Holds its own process group rather than torch's global one, so that several may live
    in one process. Not thread-safe: ranks must call the same methods in the same order.
    """

    def __init__(self, rank: int = 0, backend: ProcessGroup | None = None) -> None:
        self.rank = rank
        self.size = 1 if backend is None else backend.size()
        self._backend = backend

    @classmethod
    def join(
        cls, rank: int, size: int, folder: Path, device: Device, timeout_s: float = 120.0
    ) -> RankGroup:
        """Meets the other ranks through a file in `folder`, which must be new to this group:
        the engine's run_dir. Also the longest that a rank waits for another in any call.

        Raises ModelError if they do not all come in time.
        """
        if size == 1:
            return cls()
        timeout = timedelta(seconds=timeout_s)
        try:
            store = FileStore(str(folder / _RENDEZVOUS), size)
            store.set_timeout(timeout)
            group = cls(rank, _make_backend(store, rank, size, device, timeout))
            group.all_reduce(torch.zeros(1, device=device))
        except RuntimeError as error:
            raise ModelError(
                f"rank {rank} did not meet the other {size - 1} ranks in {timeout_s:g} s: {error}",
                f"look in {folder} for the logs of the others",
            ) from error
        return group

    def all_reduce(self, values: torch.Tensor) -> None:
        """Replaces `values` by their sum over all ranks, on every rank."""
        if self._backend is not None:
            self._backend.allreduce([values]).wait()

    def gather(self, values: torch.Tensor) -> list[torch.Tensor] | None:
        """Every rank's `values`, of one shape, in rank order on rank 0; None elsewhere."""
        if self._backend is None:
            return [values]
        out = [torch.empty_like(values) for _ in range(self.size)] if self.rank == 0 else []
        options = dist.GatherOptions()
        options.rootRank = 0
        self._backend.gather([out] if out else [], [values], options).wait()
        return out or None

    def close(self) -> None:
        """Leaves the group. Idempotent."""
        self._backend = None

    def __enter__(self) -> RankGroup:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _make_backend(
    store: Store, rank: int, size: int, device: Device, timeout: timedelta
) -> ProcessGroup:
    """A process group of torch's that is not registered as its global one."""
    backend: Any
    if device == "cuda":
        options = dist.ProcessGroupNCCL.Options()
        options._timeout = timeout
        backend = dist.ProcessGroupNCCL(store, rank, size, options)
    else:
        gloo: Any = dist.ProcessGroupGloo
        options = gloo._Options()
        # All ranks are on one host: its name need not resolve, and no other interface is used.
        options._devices = [gloo.create_device(hostname="127.0.0.1")]
        options._timeout = timeout
        backend = gloo(store, rank, size, options)
    # Backends have the collective calls that the stubs give to ProcessGroup alone.
    return cast(ProcessGroup, backend)
