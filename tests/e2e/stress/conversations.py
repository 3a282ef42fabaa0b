"""Random conversations: turns that grow, fork and come again, with system prompts in common, and
with documents that come behind other beginnings."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

VOCABULARY = 400  # as tests/support/server_thread.py makes it
ANSWER_TOKENS_MAX = 40
CONVERSATIONS_MAX = 14  # all together more than L3 holds
TENANTS = ("red", "blue")


@dataclass(frozen=True)
class Ask:
    """One request."""

    prompt: tuple[int, ...]
    tokens: int
    tenant: str
    n: int = 1
    salt: str | None = None
    hints: tuple[tuple[str, Any], ...] = ()
    stream: bool = False
    give_up_after: int | None = None  # chunks of a stream; 0: before any answer

    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "prompt": list(self.prompt),
            "max_tokens": self.tokens,
            "n": self.n,
            "kv_cache": dict(self.hints),
            "stream": self.stream,
        }
        if self.salt is not None:
            body["cache_salt"] = self.salt
        if self.stream:
            body["stream_options"] = {"include_usage": True}
        return body


@dataclass
class Conversation:
    name: str
    tenant: str
    salt: str | None
    ids: tuple[int, ...]  # up to and with the last answer
    last: tuple[int, ...] = ()  # the last prompt


class Conversations:
    """The pool that all clients draw from. Thread-safe."""

    def __init__(self, seed: int, page_tokens: int, context_tokens: int) -> None:
        random = Random(f"{seed} conversations")
        self._page_tokens = page_tokens
        self._context_tokens = context_tokens
        self._systems = [some(random, random.randrange(9, 60)) for _ in range(4)]
        self._documents = [some(random, 2 * page_tokens + 1) for _ in range(3)]
        self._pool: list[Conversation] = []
        self._begun = 0
        self._mutex = threading.Lock()

    def next(self, random: Random) -> tuple[Ask, Conversation]:
        with self._mutex:
            conversation = self._choose(random)
            prompt = conversation.ids + self._turn(random, len(conversation.ids))
            if conversation.last and random.random() < 0.2:
                prompt = conversation.last  # it is sent again
            conversation.last = prompt[: self._context_tokens - ANSWER_TOKENS_MAX]
            return self._ask(random, conversation), conversation

    def answered(self, conversation: Conversation, ask: Ask, answer: Sequence[int]) -> None:
        with self._mutex:
            if conversation.last == ask.prompt:  # nobody has gone on with it meanwhile
                conversation.ids = ask.prompt + tuple(answer)

    def any_prefix(self, random: Random) -> tuple[Conversation, tuple[int, ...]] | None:
        """What an operator may want to have warm."""
        with self._mutex:
            begun = [each for each in self._pool if each.last]
            if not begun:
                return None
            conversation = random.choice(begun)
            return conversation, conversation.last

    def _choose(self, random: Random) -> Conversation:
        """One of late, more likely; now and then a new one or a fork, in the place of one that is
        too long or has been forgotten."""
        drawn = random.random()
        if len(self._pool) < 3 or drawn < 0.12:
            return self._begin(random, random.choice(self._systems))
        chosen = random.choice(self._pool[-3:] if drawn < 0.4 else self._pool)
        if len(chosen.ids) > self._context_tokens - ANSWER_TOKENS_MAX - 20 or drawn > 0.9:
            cut = 1 + random.randrange(len(chosen.ids))
            return self._begin(random, chosen.ids[:cut], chosen)
        return chosen

    def _begin(
        self, random: Random, ids: tuple[int, ...], of: Conversation | None = None
    ) -> Conversation:
        self._begun += 1
        tenant = of.tenant if of else TENANTS[random.random() < 0.25]
        salt = of.salt if of else random.choice([None, None, None, "salt"])
        made = Conversation(f"c{self._begun}", tenant, salt, ids)
        self._pool.append(made)
        if len(self._pool) > CONVERSATIONS_MAX:
            del self._pool[random.randrange(len(self._pool) - 3)]
        return made

    def _ask(self, random: Random, conversation: Conversation) -> Ask:
        stream = random.random() < 0.5
        give_up = random.random() < 0.12
        after = random.randrange(1, 6) if stream else 0
        return Ask(
            prompt=conversation.last,
            tokens=random.randrange(20, ANSWER_TOKENS_MAX) if give_up else random.randrange(1, 14),
            n=random.choice([1] * 9 + [2]),
            tenant=conversation.tenant,
            salt=conversation.salt,
            hints=_hints(random, conversation.name),
            stream=stream,
            give_up_after=after if give_up else None,
        )

    def _turn(self, random: Random, begins: int) -> tuple[int, ...]:
        """Something new; or a document, whose pages look as they look elsewhere: only what is
        before them differs."""
        if random.random() < 0.7:
            return some(random, random.randrange(3, 24))
        return some(random, -begins % self._page_tokens) + random.choice(self._documents)


def some(random: Random, tokens: int) -> tuple[int, ...]:
    return tuple(random.choices(range(3, VOCABULARY), k=tokens))


def _hints(random: Random, session: str) -> tuple[tuple[str, Any], ...]:
    hints: dict[str, Any] = {}
    if random.random() < 0.5:
        hints["session"] = session
        if random.random() < 0.1:
            hints["end_of_session"] = True
    if random.random() < 0.1:
        hints["ttl_s"] = random.choice([0.2, 1, 5])
    if random.random() < 0.3:
        hints["priority"] = random.choice(["low", "high"])
    match random.randrange(16):
        case 0:
            hints["no_store"] = True
        case 1:
            hints["pin"] = True
    return tuple(hints.items())
