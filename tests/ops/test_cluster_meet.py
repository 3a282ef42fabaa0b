"""Nodes meet and agree, or every one of them says why not."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from ops.launched import free_port
from ops.meeting import Part, node, run_all, stranger, terms, with_directories

from kvtier_ops.cluster import follow, lead, shared, wire
from kvtier_ops.cluster.shared import PREFIX
from kvtier_ops.cluster.wire import Challenge, Channel, Hello, Verdict

LAST = "127.0.0.1"


def left_in(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.startswith(PREFIX)]


@pytest.mark.parametrize("secret", [b"", b"sesame"])
def test_all_come_and_agree(secret: bytes) -> None:
    parts = run_all([node(rank) for rank in (2, 0, 3, 1)], terms(4, secret=secret))
    for part in parts:
        assert part.meeting is not None, part.error
        assert part.meeting.nodes == tuple(f"{rank} (host-{rank})" for rank in range(4))
        assert "4 nodes met" in part.meeting.describe()


def test_who_is_missing_is_named_on_every_node() -> None:
    common = terms(4, timeout_s=2)
    first = Part(node(0), common).start()
    second = Part(node(1), replace(common, timeout_s=30)).start()
    for part in (first.end(), second.end()):
        (problem,) = part.problems
        assert problem == (
            f"KVT-D702: nodes 2, 3 of 4 (numbered from 0) did not come to {LAST}:{common.port} "
            "within 2 s; came: 0 (host-0), 1 (host-1)"
        )


def test_nobody_waits_for_node_0_for_ever() -> None:
    common = terms(2, timeout_s=0.3)
    part = Part(node(1), common).start().end()
    (problem,) = part.problems
    assert problem == (
        f"KVT-D702: node 0 was not there at {LAST}:{common.port} within 0.3 s: connection refused"
    )
    assert "start node 0" in part.error.problems[0].hint  # type: ignore[union-attr]
    assert any("waits for node 0" in line for line in part.said)


def test_a_name_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*given: object, **more: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    common = terms(2, timeout_s=0.2, address="nowhere.invalid")
    assert "does not resolve" in Part(node(1), common).start().end().problems[0]
    alone = Part(node(0), common).start().end()
    assert alone.problems == [
        "KVT-D701: `nowhere.invalid` does not resolve: Name or service not known"
    ]


def test_no_answer_from_the_address_of_node_0(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "CONNECT_S_MAX", 0.2)
    with socket.create_server((LAST, 0), backlog=0) as silent:
        port = silent.getsockname()[1]
        full = [socket.socket() for _ in range(8)]
        for each in full:  # its queue is full: what comes is dropped, as by a firewall
            each.setblocking(False)
            each.connect_ex((LAST, port))
        part = Part(node(1), terms(2, port=port, timeout_s=0.3)).start().end()
        for each in full:
            each.close()
    assert "no answer" in part.problems[0]
    assert "firewall" in part.error.problems[0].hint  # type: ignore[union-attr]


def test_two_nodes_of_one_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lead, "GRACE_S", 0.2)
    common = terms(3)
    first = Part(node(0), common).start()
    second = Part(node(1, host="a"), common).start()
    first.wait_said("node 1 (a) has come")
    third = Part(node(1, host="b"), common).start()
    for part in (first.end(), second.end(), third.end()):
        assert any(p == "KVT-D703: a and b both say that they are node 1" for p in part.problems)


def test_a_second_node_0(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is at another address, so it is the address of node 0 that is not its own."""
    monkeypatch.setattr(lead, "GRACE_S", 0.2)
    part = Part(node(0), terms(2, address="192.0.2.1", timeout_s=1)).start().end()
    assert part.problems == ["KVT-D702: this is node 0, and 192.0.2.1 is no address of this host"]
    common = terms(2, timeout_s=0.5)
    first = Part(node(0), common).start()
    second = Part(node(0, host="other"), common).start()
    ended = [first.end(), second.end()]
    assert any("in use" in "".join(part.problems) for part in ended)


def test_a_number_beyond_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lead, "GRACE_S", 0.2)
    for part in run_all([node(0), node(5)], terms(2)):
        assert "KVT-D703: host-5 says that it is node 5 of 2" in part.problems


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"versions": {"kvtier": "0.9", "torch": "2.13"}},
            "node 1 (host-1) has kvtier 0.9, node 0 (host-0) has 1.0",
        ),
        ({"versions": {"kvtier": "1.0"}}, "has torch none, node 0 (host-0) has 2.13"),
        ({"profile": {"tiers.l2.size": "8GiB"}}, "`tiers.l2.size` is `8GiB`, not `4GiB`"),
        ({"profile": {}}, "`tiers.l2.size` is nothing, not `4GiB`"),
        (
            {"profile": {"tiers.l2.size": "4GiB", **{f"f{n}": "x" for n in range(8)}}},
            "and 3 fields more",
        ),
        ({"model": "other"}, "the model on node 1 (host-1) is another (other)"),
    ],
)
def test_what_differs_is_said_on_both(change: dict[str, object], says: str) -> None:
    for part in run_all([node(0), node(1, **change)], terms(2)):
        (problem,) = part.problems
        assert problem.startswith("KVT-D704: ")
        assert says in problem


def test_a_difference_ends_the_waiting_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """The third never comes: it is not waited for, since it cannot end well."""
    monkeypatch.setattr(lead, "GRACE_S", 0.2)
    first, second = run_all([node(0), node(1, model="other")], terms(3, timeout_s=3000))
    for part in (first, second):
        assert any("another (other)" in problem for problem in part.problems)


def test_strangers_are_ignored_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lead, "HELLO_S_MAX", 0.2)
    common = terms(2)
    first = Part(node(0), common).start()
    first.wait_said("waits at")
    silent = socket.create_connection((LAST, common.port))
    first.wait_said("said nothing for")
    silent.close()
    monkeypatch.setattr(lead, "HELLO_S_MAX", 10.0)
    stranger(common, lambda s: s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
    first.wait_said("it began with b'GET / HTTP")
    for junk in (b"\x00\x00\x00\x02hi", b"\x00\x00\x00\x02{}", b"\x00\x00\x00\x02[]"):
        stranger(common, lambda s, junk=junk: (s.sendall(junk), s.recv(9), None)[-1])
    first.wait_said("no JSON")
    first.wait_said("no object")
    assert Part(node(1), common).start().end().meeting is not None
    assert first.end().meeting is not None


def test_too_many_strangers_do_not_fill_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lead, "STRANGERS_TOLD", 3)
    common = terms(2)
    first = Part(node(0), common).start()
    first.wait_said("waits at")
    for _ in range(6):
        stranger(common, lambda s: s.sendall(b"\xff\xff\xff\xff"))
    assert Part(node(1), common).start().end().meeting is not None
    first.end()
    assert sum("is no node of this cluster" in line for line in first.said) == 3
    assert sum("without a word" in line for line in first.said) == 1


def test_connections_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lead, "PEERS_MAX", 2)
    common = terms(2)
    first = Part(node(0), common).start()
    first.wait_said("waits at")
    idle = [socket.create_connection((LAST, common.port)) for _ in range(3)]
    first.wait_said("too many connections")
    for each in idle:
        each.close()
    assert Part(node(1), common).start().end().meeting is not None
    first.end()


@pytest.mark.parametrize(("of_0", "of_1"), [(b"a", b"b"), (b"a", b""), (b"", b"b")])
def test_who_does_not_know_the_secret_learns_nothing(of_0: bytes, of_1: bytes) -> None:
    common = terms(2, timeout_s=1.0)
    first = Part(node(0), replace(common, secret=of_0)).start()
    second = Part(node(1), replace(common, secret=of_1)).start().end()
    assert "its `cluster.secret` is not the one of this node" in second.problems[0]
    assert "did not come" in first.end().problems[0]


def test_another_protocol_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    common = terms(2, timeout_s=30.0)
    first = Part(node(0), common).start()
    first.wait_said("waits at")

    def talk(connection: socket.socket) -> None:
        channel = Channel(b"", leads=False)
        frame = channel.pack(Hello(node=node(1)))
        connection.sendall(frame.replace(b'"protocol": 1', b'"protocol": 7'))

    stranger(common, talk)
    first.wait_said("speaks version 7 of the meeting, not 1")
    assert Part(node(1), common).start().end().meeting is not None
    first.end()


def test_a_listener_that_is_no_node_0() -> None:
    with socket.create_server((LAST, 0)) as server:
        common = terms(2, port=server.getsockname()[1], timeout_s=30)
        part = Part(node(1), common).start()
        connection, _ = server.accept()
        connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
        part.end()
        connection.close()
    (problem,) = part.problems
    assert "is not node 0 of this cluster: it began with b'SSH-2.0" in problem


@pytest.mark.parametrize("is_clean", [True, False])
def test_node_0_that_goes_away_is_waited_for_again(is_clean: bool) -> None:
    """Its launcher was killed and starts again: the others need not. What it had not read resets
    the connection instead of ending it."""
    with socket.create_server((LAST, 0)) as server:
        common = terms(2, port=server.getsockname()[1])
        second = Part(node(1), common).start()
        connection, _ = server.accept()
        channel = Channel(b"", leads=True)
        connection.sendall(channel.pack(Challenge(left_s=30.0)))
        second.wait_said("has found node 0")
        while is_clean and channel.take(Hello) is None:
            channel.feed(connection.recv(65536))
        connection.close()
    second.wait_said("went away before all had come")
    assert Part(node(0), common).start().end().meeting is not None
    assert second.end().meeting is not None


def test_a_node_that_goes_away_may_come_again() -> None:
    common = terms(2)
    first = Part(node(0), terms(3, port=common.port)).start()
    first.wait_said("waits at")
    with socket.create_connection((LAST, common.port)) as connection:
        channel = Channel(b"", leads=False)
        channel.feed(connection.recv(65536))
        assert channel.take(Challenge) is not None
        connection.sendall(channel.pack(Hello(node=node(1))))
        first.wait_said("node 1 (host-1) has come")
    first.wait_said("went away again")
    others = [Part(node(rank), terms(3, port=common.port)).start() for rank in (1, 2)]
    for part in (first, *others):
        assert part.end().meeting is not None


def test_directories_that_are_the_same_place(tmp_path: Path) -> None:
    """A page store has one owner: two nodes that name one directory are found out by a mark."""
    common = terms(3)
    same, own = tmp_path / "same", tmp_path / "own"
    same.mkdir()
    own.mkdir()
    parts = [
        Part(node(0), with_directories(common, [same])).start(),
        Part(node(1), with_directories(common, [own])).start(),
        Part(node(2), with_directories(common, [same])).start(),
    ]
    for part in parts:
        (problem,) = part.end().problems
        assert problem == (
            f"KVT-D705: `{same}` of node 2 (host-2) is the same place as one of node 0 (host-0): "
            "a page store has one owner"
        )
    assert left_in(same) == left_in(own) == []


def test_shared_directories_are_really_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "SEE_S_MAX", 0.2)
    there, elsewhere = tmp_path / "there", tmp_path / "elsewhere"
    there.mkdir()
    elsewhere.mkdir()
    common = terms(2)
    good = [Part(node(r), with_directories(common, (), [there])).start() for r in (0, 1)]
    for part in good:
        assert part.end().meeting is not None
    for other, why in (
        (elsewhere, "what node 0 wrote is not there"),
        (tmp_path / "no", "it cannot be read"),
    ):
        parts = [
            Part(node(0), with_directories(common, (), [there])).start(),
            Part(node(1), with_directories(common, (), [other])).start(),
        ]
        for part in parts:
            assert part.end().problems == [
                f"KVT-D705: `{other}` is not shared with node 1 (host-1): {why}"
            ]
    assert left_in(there) == []


def test_node_0_must_be_able_to_write_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "SEE_S_MAX", 0.2)
    common = with_directories(terms(2), (), [tmp_path / "missing"])
    for part in run_all([node(0), node(1)], common):
        assert any("node 0 cannot write into" in problem for problem in part.problems)


def test_marks_of_a_node_that_was_killed_are_swept(tmp_path: Path) -> None:
    """The page store takes no directory that holds something else."""
    dead = tmp_path / f"{shared._own_prefix()}999999999-{'a' * 32}"
    other_host = tmp_path / f"{PREFIX}00000000-1-{'b' * 32}"
    stale = tmp_path / f"{PREFIX}00000000-2-{'c' * 32}"
    for path in (dead, other_host, stale):
        path.touch()
    os.utime(stale, (1, 1))
    common = terms(2)
    parts = [
        Part(node(0), with_directories(common, [tmp_path / "not" / "yet"])).start(),
        Part(node(1), common).start(),
    ]
    for part in parts:
        assert part.end().meeting is not None
    assert left_in(tmp_path) == [other_host.name]


def test_a_directory_that_cannot_be_marked_is_said(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    common = terms(2)
    first = Part(node(0), with_directories(common, [file / "x"])).start()
    second = Part(node(1), common).start()
    assert second.end().meeting is not None
    assert first.end().meeting is not None
    assert any("not checked on node 0" in line for line in first.said)


def test_a_node_that_goes_away_while_it_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    common = terms(2)
    first = Part(node(0), common).start()
    first.wait_said("waits at")
    with socket.create_connection((LAST, common.port)) as connection:
        channel = Channel(b"", leads=False)
        channel.feed(connection.recv(65536))
        channel.take(Challenge)
        connection.sendall(channel.pack(Hello(node=node(1))))
        first.wait_said("2 of 2")
    (problem,) = first.end().problems
    assert problem == "KVT-D705: node 1 went away while directories were looked into"


def test_no_port_is_left_behind() -> None:
    port = free_port()
    for _ in range(2):
        for part in run_all([node(0), node(1)], terms(2, port=port)):
            assert part.meeting is not None
    socket.create_server((LAST, port)).close()
    assert wire.PROTOCOL == 1
    assert Verdict(nodes=[], problems=[]).problems == []
