"""What comes over the wire is not trusted: anything at all may come, and nothing breaks."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ops.builders import caught
from ops.meeting import node

from kvtier_ops.cluster.wire import (
    FRAME_BYTES_MAX,
    Challenge,
    Channel,
    Hello,
    Look,
    NotANode,
    OtherProtocol,
    Said,
    Verdict,
)
from kvtier_ops.errors import Problem


def frame(value: Any) -> bytes:
    raw = json.dumps(value).encode()
    return struct.pack(">I", len(raw)) + raw


def pair(secret: bytes = b"") -> tuple[Channel, Channel]:
    """Both ends after the challenge."""
    leads, follows = Channel(secret, leads=True), Channel(secret, leads=False)
    follows.feed(leads.pack(Challenge(left_s=1.5)))
    assert follows.take(Challenge) == Challenge(left_s=1.5)
    return leads, follows


@pytest.mark.parametrize("secret", [b"", b"s"])
@pytest.mark.parametrize("step", [1, 7, 10**6])
def test_messages_come_through_in_pieces(secret: bytes, step: int) -> None:
    leads, follows = pair(secret)
    hello = Hello(node=node(3))
    data = follows.pack(hello) + follows.pack(hello)
    found = []
    for at in range(0, len(data), step):
        leads.feed(data[at : at + step])
        while (message := leads.take(Hello)) is not None:
            found.append(message)
    assert found == [hello, hello]


@given(st.binary(max_size=200))
def test_bytes_are_a_message_wait_for_more_or_are_refused(data: bytes) -> None:
    channel = Channel(b"", leads=True)

    def read() -> None:
        channel.feed(data)
        assert channel.take(Hello) is None

    refused = caught(NotANode, read)
    assert str(refused or "waits").isprintable()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(JSON, st.sampled_from(["envelope", "body", "node"]))
def test_json_of_any_shape_is_refused(value: Any, where: str) -> None:
    body = {"kind": "hello", "node": value} if where == "node" else value
    envelope = {"protocol": 1, "nonce": "0" * 32, "body": json.dumps(body), "signature": ""}
    channel = Channel(b"", leads=True)
    channel.feed(frame(value if where == "envelope" else envelope))
    with pytest.raises((NotANode, OtherProtocol)):
        channel.take(Hello)


def test_a_frame_has_a_limit_which_is_told_by_its_first_bytes() -> None:
    Channel(b"", leads=True).feed(struct.pack(">I", FRAME_BYTES_MAX))
    with pytest.raises(NotANode, match="it began with"):
        Channel(b"", leads=True).feed(struct.pack(">I", FRAME_BYTES_MAX + 1))


def test_nested_json_does_not_exhaust_the_stack() -> None:
    channel = Channel(b"", leads=True)
    raw = b"[" * 200_000
    channel.feed(struct.pack(">I", len(raw)) + raw)
    with pytest.raises(NotANode, match="no JSON"):
        channel.take(Hello)


def test_what_was_signed_once_proves_nothing_later() -> None:
    """A recorded hello is worth nothing to another node 0: its challenge is another."""
    _, follows = pair(b"secret")
    recorded = follows.pack(Hello(node=node(1)))
    other, _ = pair(b"secret")
    other.feed(recorded)
    with pytest.raises(NotANode, match="secret"):
        other.take(Hello)


def test_what_was_changed_on_the_way_is_refused() -> None:
    leads, follows = pair(b"secret")
    leads.feed(follows.pack(Hello(node=node(1))).replace(b"host-1", b"host-2"))
    with pytest.raises(NotANode, match="secret"):
        leads.take(Hello)


def test_a_side_cannot_be_answered_with_its_own_words() -> None:
    leads, _ = pair(b"secret")
    leads.feed(leads.pack(Verdict(nodes=[], problems=[])))
    with pytest.raises(NotANode):
        leads.take(Verdict)


def test_node_0_takes_no_other_node_0_for_a_node() -> None:
    """A side's part is signed too: what one leader says is worth nothing to another."""
    one, other = Channel(b"secret", leads=True), Channel(b"secret", leads=True)
    other.feed(one.pack(Challenge(left_s=1.0)))
    with pytest.raises(NotANode, match="secret"):
        other.take(Challenge)


def test_a_message_out_of_turn_is_refused() -> None:
    leads, follows = pair()
    leads.feed(follows.pack(Verdict(nodes=[], problems=[])))
    with pytest.raises(NotANode, match="it did not say what comes now, which is hello"):
        leads.take(Hello)


def test_ranks_in_a_look_are_numbers() -> None:
    leads, follows = pair()
    raw = leads.pack(Look(marks={"1": "0" * 32}))
    follows.feed(raw.replace(b'\\"1\\"', b'\\"x\\"'))
    with pytest.raises(NotANode, match="look is wrong at"):
        follows.take(Look, Verdict)


def test_what_others_say_is_safe_to_show() -> None:
    said = Said.of(Problem("a\x1b[2Jb", "c\nd"))
    assert said.problem() == Problem("a?[2Jb", "c?d")
    assert node(1, host="\x1b[31m").shown == "1 (?[31m)"
