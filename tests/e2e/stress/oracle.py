"""What the answers must be: those of an engine that keeps nothing and does one thing at a time."""

from __future__ import annotations

import threading

from e2e.stress.clients import FIELDS, Answer
from support.engine_process import EngineProcess


class Oracle:
    """Each prompt is computed once, or again if a longer answer is wanted. Thread-safe."""

    def __init__(self, engine: EngineProcess) -> None:
        self._engine = engine
        self._known: dict[tuple[int, ...], Answer] = {}
        self._mutex = threading.Lock()

    def answer(self, prompt: tuple[int, ...], tokens: int) -> Answer:
        """`tokens` tokens."""
        with self._mutex:
            known = self._known.get(prompt)
            if known is None or len(known.ids) < tokens:
                body = self._engine.complete(list(prompt), tokens, **FIELDS)
                known = self._known[prompt] = Answer.of(body["choices"][0])
            return Answer(known.ids[:tokens], known.logprobs[:tokens])
