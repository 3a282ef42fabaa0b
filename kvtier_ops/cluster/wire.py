"""What nodes say to one another: a length in four bytes, then JSON, signed by a shared secret.

Nothing that comes is trusted: frames have a size limit, messages a schema, and a peer that breaks
either is not a node.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import struct
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kvtier_ops.errors import Problem
from kvtier_ops.text import printable

PROTOCOL = 1  # raised when an older kvtier would misread what is said
FRAME_BYTES_MAX = 1 << 20
RANK_MAX = 9999
_LENGTH = struct.Struct(">I")
_SHOWN_BYTES = 16

Nonce = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
Rank = Annotated[int, Field(ge=0, le=RANK_MAX)]
Text = Annotated[str, Field(max_length=4096)]


class NotANode(Exception):
    """What came is not a node's; says what it was."""


class OtherProtocol(Exception):
    """A node of another kvtier, which speaks differently."""


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Node(_Message):
    """What a node says of itself; nothing in it is secret."""

    rank: Rank
    host: Annotated[str, Field(max_length=255)]
    versions: Annotated[dict[str, Text], Field(max_length=16)]
    profile: Annotated[dict[str, Text], Field(max_length=4096)]
    model: Text  # digest of its description and of its files' sizes
    l3: Annotated[list[Text], Field(max_length=64)]
    mark: Nonce  # in the names of the files by which others would see its directories

    @property
    def shown(self) -> str:
        """`1 (host-b)`"""
        return f"{self.rank} ({printable(self.host)})"


class Challenge(_Message):
    """Node 0's first word. `left_s`: until it gives up waiting for others."""

    left_s: Annotated[float, Field(ge=0, le=10**6)]


class Hello(_Message):
    node: Node


class Look(_Message):
    """Everybody has come: look for these marks, by rank, in your directories."""

    marks: dict[Annotated[str, Field(pattern="^[0-9]{1,4}$")], Nonce]


class Seen(_Message):
    """What a node found: whose marks in which of its L3 directories, which shared directories
    lack the mark of node 0, and what it could not look into."""

    l3: Annotated[list[tuple[Text, Rank]], Field(max_length=4096)]
    missing: Annotated[list[tuple[Text, Text]], Field(max_length=64)]
    unseen: Annotated[list[Text], Field(max_length=128)]


class Said(_Message):
    """A problem as it travels."""

    what: Text
    hint: Text = ""
    field: Text = ""
    id: Text = ""

    @classmethod
    def of(cls, problem: Problem) -> Said:
        return cls(what=problem.what, hint=problem.hint, field=problem.field, id=problem.id)

    def problem(self) -> Problem:
        """Safe to show, whoever sent it."""
        what, hint, field, id = map(printable, (self.what, self.hint, self.field, self.id))
        return Problem(what, hint, field, id=id)


class Verdict(_Message):
    """The end: all agree, or why not. `nodes`: those that came, each as `1 (host-b)`."""

    nodes: Annotated[list[Text], Field(max_length=64)]
    problems: Annotated[list[Said], Field(max_length=1000)]


Kind = TypeVar("Kind", bound=_Message)


class Channel:
    """One connection's two directions: packs what is said, unpacks what is heard.

    With a secret every message is signed with it, with both sides' random numbers and with the
    sender's part, so that what was recorded once proves nothing later.
    """

    def __init__(self, secret: bytes, *, leads: bool) -> None:
        self._secret = secret
        self._leads = leads
        self._mine = secrets.token_hex(16)
        self._theirs = ""
        self._heard = bytearray()
        self.first_bytes = b""

    def pack(self, message: _Message) -> bytes:
        body = json.dumps({"kind": type(message).__name__.lower(), **message.model_dump()})
        envelope = {
            "protocol": PROTOCOL,
            "nonce": self._mine,
            "body": body,
            "signature": self._sign(body, leads=self._leads, is_first=self._is_first(message)),
        }
        frame = json.dumps(envelope).encode()
        assert len(frame) <= FRAME_BYTES_MAX, "a profile is at most 128 KiB"
        return _LENGTH.pack(len(frame)) + frame

    def feed(self, data: bytes) -> None:
        """Bytes as they come. Raises NotANode at once where no frame can begin like this."""
        self.first_bytes = (self.first_bytes + data)[:_SHOWN_BYTES]
        self._heard += data
        if len(self._heard) >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(self._heard)
            if size > FRAME_BYTES_MAX:
                raise NotANode(f"it began with {self.first_bytes!r}")

    def take(self, *kinds: type[Kind]) -> Kind | None:
        """The next message, which must be of one of these kinds; None while it is incomplete.

        Raises NotANode, or OtherProtocol.
        """
        if len(self._heard) < _LENGTH.size:
            return None
        (size,) = _LENGTH.unpack_from(self._heard)
        end = _LENGTH.size + size
        if len(self._heard) < end:
            return None
        frame = bytes(self._heard[_LENGTH.size : end])
        del self._heard[:end]
        return _parse(self._open(frame, is_first=Challenge in kinds), kinds)

    def _open(self, frame: bytes, *, is_first: bool) -> dict[str, Any]:
        """The body of an envelope whose signature is right."""
        envelope = _read_json(frame)
        protocol = envelope.get("protocol")
        if isinstance(protocol, int) and protocol != PROTOCOL:
            raise OtherProtocol(f"it speaks version {protocol} of the meeting, not {PROTOCOL}")
        nonce, body = envelope.get("nonce"), envelope.get("body")
        signature = envelope.get("signature")
        if not (isinstance(nonce, str) and isinstance(body, str) and isinstance(signature, str)):
            raise NotANode(f"it began with {self.first_bytes!r}")
        if self._theirs and nonce != self._theirs:
            raise NotANode("it changed its number within one connection")
        self._theirs = nonce
        expected = self._sign(body, leads=not self._leads, is_first=is_first)
        if not hmac.compare_digest(signature.encode(), expected.encode()):
            raise NotANode("its `cluster.secret` is not the one of this node")
        return _read_json(body.encode())

    def _is_first(self, message: _Message) -> bool:
        return isinstance(message, Challenge)

    def _sign(self, body: str, *, leads: bool, is_first: bool) -> str:
        """Empty without a secret. The challenge is signed before the other side has a nonce."""
        if not self._secret:
            return ""
        nonces = (self._mine, self._theirs) if self._leads == leads else (self._theirs, self._mine)
        own, other = nonces
        parts = ("leads" if leads else "follows", own, "" if is_first else other, body)
        return hmac.new(self._secret, "\n".join(parts).encode(), hashlib.sha256).hexdigest()


def _parse(said: dict[str, Any], kinds: tuple[type[Kind], ...]) -> Kind:
    name = said.pop("kind", None)
    kind = next((each for each in kinds if each.__name__.lower() == name), None)
    if kind is None:
        expected = " or ".join(each.__name__.lower() for each in kinds)
        raise NotANode(f"it did not say what comes now, which is {expected}")
    try:
        return kind.model_validate_json(json.dumps(said))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))[:60]
        raise NotANode(f"its {name} is wrong at `{where}`") from None


def _read_json(raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        raise NotANode("it sent what is no JSON") from None
    if not isinstance(value, dict):
        raise NotANode("it sent JSON that is no object")
    return value
