"""Three classes of pages: low ones go first, high ones last, and alone each is as before."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from kvtier_engine.kv.policy import EvictionPolicy, Lru, make_policy
from kvtier_engine.kv.priority import ByPriority
from kvtier_engine.messages import Priority

LOW, NORMAL, HIGH = Priority.LOW, Priority.NORMAL, Priority.HIGH


def key(number: int) -> bytes:
    return number.to_bytes(16, "little")


def order(policy: EvictionPolicy) -> list[int]:
    """The numbers of all keys, in the order in which they go."""
    return [int.from_bytes(evict(policy) or b"", "little") for _ in range(len(policy))]


def evict(
    policy: EvictionPolicy, is_idle: Callable[[bytes], bool] = lambda key: True
) -> bytes | None:
    """The next key to go, which goes; None: there is none."""
    found = policy.oldest(1, is_idle)
    for key in found:
        policy.evict(key)
    return found[0] if found else None


def filled(*numbers: int) -> ByPriority:
    policy = ByPriority(Lru)
    for number in numbers:
        policy.insert(key(number))
    return policy


def test_low_goes_first_and_high_last():
    policy = filled(1, 2, 3, 4, 5)
    policy.set_priority(key(1), HIGH)
    policy.set_priority(key(4), LOW)
    policy.set_priority(key(3), LOW)
    assert order(policy) == [4, 3, 2, 5, 1]
    assert not policy.has_priorities


def test_what_is_in_use_is_passed_over_in_every_class():
    policy = filled(1, 2, 3)
    policy.set_priority(key(1), LOW)
    assert evict(policy, lambda k: k == key(3)) == key(3)
    assert evict(policy, lambda k: False) is None
    assert len(policy) == 2
    assert key(1) in policy


def test_priority_does_not_outlive_the_page():
    policy = filled(1, 2)
    policy.set_priority(key(1), HIGH)
    policy.discard(key(1))
    assert key(1) not in policy
    policy.insert(key(1))
    policy.touch(key(2))
    assert order(policy) == [1, 2]


def test_the_same_priority_again_does_not_move_a_page():
    policy = filled(1, 2)
    policy.set_priority(key(1), NORMAL)
    assert order(policy) == [1, 2]


actions = st.tuples(
    st.sampled_from(["expect", "insert", "touch", "reorder", "discard", "evict"]), st.integers(0, 6)
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["lru", "arc"]), st.lists(actions, max_size=60))
def test_without_priorities_it_is_the_policy_inside(name, steps):
    plain, wrapped = make_policy(name, 8), ByPriority(lambda: make_policy(name, 8))
    for action, number in steps:
        if action == "evict":
            found = [evict(each, lambda k: k != key(3)) for each in (plain, wrapped)]
            assert found[0] == found[1]
        elif (action in ("insert", "expect")) != (key(number) in plain):
            for each in (plain, wrapped):
                getattr(each, action)(key(number))
        assert len(plain) == len(wrapped)
    assert order(plain) == order(wrapped)
