"""Clients at work, each answer of which is compared."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from e2e.stress.clients import Answer, Client, Ended, Reply, Stuck
from e2e.stress.conversations import Ask, Conversations
from e2e.stress.counts import Totals
from e2e.stress.launcher import KEYS, MODEL
from e2e.stress.oracle import Oracle

CLIENTS = 6


@dataclass(frozen=True)
class Scene:
    """What outlives an engine."""

    seed: int
    conversations: Conversations
    oracle: Oracle
    totals: Totals


class Crowd:
    """Asks one engine, until told to leave it. What goes wrong is in `failure`."""

    def __init__(self, scene: Scene, url: str, life: int, describe: Callable[[bool], str]) -> None:
        """`describe`: the engine's state in words; of one that is stuck if True."""
        self._scene = scene
        self._url = url
        self._describe = describe
        self._changed = threading.Condition()
        self._paused = False
        self._parked = 0
        self._left = False
        self.answered = 0
        self.failure: str | None = None
        self._threads = [
            threading.Thread(target=self._go, args=(Random(f"{scene.seed} {life} {i}"),))
            for i in range(CLIENTS)
        ]
        for thread in self._threads:
            thread.start()

    def pause(self) -> None:
        """Returns when nobody waits for an answer."""
        with self._changed:
            self._paused = True
            self._changed.wait_for(lambda: self._parked == CLIENTS or self.failure)

    def resume(self) -> None:
        with self._changed:
            self._paused = False
            self._changed.notify_all()

    def expect_the_end(self) -> None:
        """From now on the engine may refuse or break off; who sees it leaves."""
        with self._changed:
            self._left = True

    def join(self) -> None:
        self.expect_the_end()
        self.resume()
        for thread in self._threads:
            thread.join()

    def _go(self, random: Random) -> None:
        client = Client(self._url, MODEL, KEYS)
        try:
            while self._goes_on():
                self._ask(client, random)
        except Exception as error:
            is_stuck = isinstance(error, Stuck)
            known = is_stuck or isinstance(error, AssertionError)
            said = str(error) if known else traceback.format_exc()
            self._fail(f"{said}\n{self._describe(is_stuck)}")
        finally:
            client.close()

    def _goes_on(self) -> bool:
        with self._changed:
            self._parked += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._paused or self._left or self.failure)
            self._parked -= 1
            return not self._left and self.failure is None

    def _fail(self, text: str) -> None:
        with self._changed:
            self.failure = self.failure or text
            self._changed.notify_all()

    def _ask(self, client: Client, random: Random) -> None:
        ask, conversation = self._scene.conversations.next(random)
        try:
            reply = client.send(ask)
        except Stuck as error:
            raise Stuck(f"no answer in time to {ask}: {error}") from None
        self._judge(ask, reply)
        if reply.ended is Ended.WHOLE:
            self._scene.conversations.answered(conversation, ask, reply.answers[0].ids)
        self._scene.totals.happened(f"answers that ended {reply.ended.value}")
        self.answered += 1

    def _judge(self, ask: Ask, reply: Reply) -> None:
        if reply.ended in (Ended.REFUSED, Ended.BROKEN):
            assert self._left, f"ended {reply.ended.value}: {reply.status} {reply.said}; {ask}"
        expected = self._scene.oracle.answer(ask.prompt, ask.tokens)
        for answer in reply.answers:
            right = answer.is_of(expected)
            if reply.ended is Ended.WHOLE:
                right = right and answer == expected
            assert right, difference(ask, reply, expected, answer)


def difference(ask: Ask, reply: Reply, expected: Answer, answer: Answer) -> str:
    return "\n".join(
        [
            f"a wrong answer, ended {reply.ended.value}, {reply.cached_tokens} tokens cached",
            f"asked:    {ask}",
            f"expected: {expected}",
            f"answered: {answer}",
        ]
    )
