"""L2 is page-locked in pieces, in the background, and never by more than is in use."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from support.engine_process import wait_for

from kvtier_engine.runner import page_locks
from kvtier_engine.runner.cuda_copier import CudaCopier
from kvtier_engine.runner.page_locks import PIECE_BYTES, PageLocks, SlotMemory

ADDRESS = 1 << 40
SLOT_BYTES = 3 << 20  # 341 slots in a piece of 1 GiB
PIECE_SLOTS = 341


class FakeCudart:
    """Keeps what is registered; refuses what goes beyond `bytes_max`."""

    def __init__(self, bytes_max: int = 1 << 60) -> None:
        self.bytes_max = bytes_max
        self.registered: dict[int, int] = {}
        self.calls: list[tuple[int, int]] = []
        self.unregister_status = 0
        self.gate = threading.Event()  # registrations wait for it
        self.gate.set()
        self.begun = threading.Event()

    def cudaHostRegister(self, address: int, size: int, flags: int) -> int:
        self.begun.set()
        assert self.gate.wait(60)
        self.calls.append((address, size))
        if sum(self.registered.values()) + size > self.bytes_max:
            return 2
        self.registered[address] = size
        return 0

    def cudaHostUnregister(self, address: int) -> int:
        if self.unregister_status == 0:
            del self.registered[address]
        return self.unregister_status


def make_locks(cudart: FakeCudart, slots: int) -> PageLocks:
    return PageLocks(cudart, SlotMemory(ADDRESS, slots, SLOT_BYTES), lambda: None)


def address(slot: int) -> int:
    return ADDRESS + slot * SLOT_BYTES


@pytest.fixture
def cudart() -> Iterator[FakeCudart]:
    made = FakeCudart()
    yield made
    made.gate.set()


def test_pieces_of_whole_slots_cover_everything_in_order(cudart: FakeCudart) -> None:
    locks = make_locks(cudart, 1000)
    locks.cover(1000)
    wait_for(lambda: locks.locked == 1000, "the slots to be registered")
    sizes = [PIECE_SLOTS, PIECE_SLOTS, 1000 - 2 * PIECE_SLOTS]
    assert [size for _, size in cudart.calls] == [slots * SLOT_BYTES for slots in sizes]
    assert [begin for begin, _ in cudart.calls] == [
        address(0),
        address(PIECE_SLOTS),
        address(2 * PIECE_SLOTS),
    ]
    assert max(size for _, size in cudart.calls) <= PIECE_BYTES
    locks.close()
    assert cudart.registered == {}


def test_a_size_that_needs_no_unlocking_waits_for_no_piece(cudart: FakeCudart) -> None:
    locks = make_locks(cudart, 1000)
    cudart.gate.clear()
    locks.cover(1000)
    assert cudart.begun.wait(60)
    locks.cover(1000)  # would wait for ever
    locks.cover(PIECE_SLOTS)
    cudart.gate.set()
    wait_for(lambda: locks.locked == PIECE_SLOTS, "the piece to be registered")
    locks.close()


def test_an_error_of_the_runtime_is_a_refusal(cudart: FakeCudart, monkeypatch: Any) -> None:
    def fail(*args: int) -> int:
        raise RuntimeError("no context")

    monkeypatch.setattr(cudart, "cudaHostRegister", fail)
    locks = make_locks(cudart, 10)
    locks.cover(10)
    locks.cover(5)
    assert locks.locked == 0
    locks.close()


def test_a_slot_larger_than_a_piece_is_a_piece(cudart: FakeCudart) -> None:
    locks = PageLocks(cudart, SlotMemory(ADDRESS, 3, PIECE_BYTES + 4096), lambda: None)
    locks.cover(3)
    wait_for(lambda: locks.locked == 3, "the slots to be registered")
    assert [size for _, size in cudart.calls] == [PIECE_BYTES + 4096] * 3
    locks.close()


def test_nobody_waits_for_the_driver(cudart: FakeCudart) -> None:
    cudart.gate.clear()
    locks = make_locks(cudart, 1000)
    locks.cover(1000)
    assert cudart.begun.wait(60)
    assert locks.locked == 0
    cudart.gate.set()
    wait_for(lambda: locks.locked == 1000, "the slots to be registered")
    locks.close()


def test_a_refusal_keeps_the_first_pieces_and_is_told_once(caplog: Any) -> None:
    cudart = FakeCudart(bytes_max=2 * PIECE_BYTES)
    locks = make_locks(cudart, 1000)
    locks.cover(1000)
    wait_for(lambda: caplog.messages, "a warning")
    assert locks.locked == 2 * PIECE_SLOTS
    assert len(cudart.calls) == 3
    [said] = caplog.messages
    assert f"only {2 * PIECE_SLOTS * SLOT_BYTES} of {1000 * SLOT_BYTES} bytes of L2" in said
    assert "CUDA error 2" in said
    assert "raise the memlock limit" in said
    cudart.bytes_max *= 2
    locks.cover(1000)
    wait_for(lambda: locks.locked == 1000, "another try")
    locks.close()
    assert cudart.registered == {}


def test_slots_out_of_use_are_let_go_of_and_come_back(cudart: FakeCudart) -> None:
    locks = make_locks(cudart, 1000)
    locks.cover(1000)
    wait_for(lambda: locks.locked == 1000, "the slots to be registered")
    locks.cover(400)
    assert all(begin + size <= address(400) for begin, size in cudart.registered.items())
    wait_for(lambda: locks.locked == 400, "the rest of the piece to be registered again")
    assert cudart.registered == {
        address(0): PIECE_SLOTS * SLOT_BYTES,
        address(PIECE_SLOTS): (400 - PIECE_SLOTS) * SLOT_BYTES,
    }
    locks.cover(900)
    wait_for(lambda: locks.locked == 900, "more slots to be registered")
    assert sum(cudart.registered.values()) == 900 * SLOT_BYTES
    locks.close()
    assert cudart.registered == {}


def test_slots_whose_piece_is_just_being_registered_are_let_go_of(cudart: FakeCudart) -> None:
    cudart.gate.clear()
    locks = make_locks(cudart, 300)
    locks.cover(300)
    assert cudart.begun.wait(60)
    shrinking = threading.Thread(target=locks.cover, args=(100,))
    shrinking.start()
    cudart.gate.set()
    shrinking.join()
    assert all(begin + size <= address(100) for begin, size in cudart.registered.items())
    wait_for(lambda: locks.locked == 100, "the slots in use to be registered")
    locks.close()


def test_memory_that_the_driver_keeps_must_not_be_released(cudart: FakeCudart) -> None:
    locks = make_locks(cudart, 300)
    locks.cover(300)
    wait_for(lambda: locks.locked == 300, "the slots to be registered")
    cudart.unregister_status = 4
    with pytest.raises(RuntimeError, match="does not unlock memory of L2"):
        locks.cover(100)
    cudart.unregister_status = 0
    locks.close()


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch, cudart: FakeCudart) -> FakeCudart:
    """As much of a CUDA device as a copier asks for when nothing is copied."""

    class Stream:
        def __init__(self, device: Any) -> None:
            pass

        def synchronize(self) -> None:
            pass

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch.cuda, "cudart", lambda: cudart)
    return cudart


@pytest.mark.parametrize(("in_use", "expected"), [(None, 12), (5, 5), (0, 0)])
def test_the_copier_locks_the_slots_in_use(
    device: FakeCudart, monkeypatch: pytest.MonkeyPatch, in_use: int | None, expected: int
) -> None:
    monkeypatch.setattr(page_locks, "PIECE_BYTES", 4 * 8192)
    memory = torch.zeros(12 * 8192, dtype=torch.uint8)
    slots = memory.view(12, 8192)[:, :5000]
    copier = CudaCopier(torch.zeros(3, 5000, dtype=torch.uint8), slots, in_use)
    locks = copier.locks
    assert locks is not None
    wait_for(lambda: locks.locked == expected, "the slots to be registered")
    assert sum(device.registered.values()) == expected * 8192
    assert len(device.calls) == -(-expected // 4)
    assert min(device.registered, default=slots.data_ptr()) == slots.data_ptr()
    copier.resize(3)
    assert sum(device.registered.values()) <= 3 * 8192
    copier.close()
    assert device.registered == {}
