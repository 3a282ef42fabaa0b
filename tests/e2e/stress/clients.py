"""Clients of an engine that may be killed under them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import httpx
from e2e.stress.conversations import Ask

DEADLINE_S = 90.0  # nothing here takes a second, but for a disk that hangs
AT_ONCE_S = 0.01  # a client that does not even wait for the first token
FIELDS = {"logprobs": 0, "return_token_ids": True, "skip_special_tokens": False}


class Stuck(Exception):
    """No answer in time."""


class Ended(Enum):
    WHOLE = "with all tokens"
    CANCELLED = "by the client"
    REFUSED = "by the server, with a status"
    BROKEN = "as the connection did"


@dataclass
class Answer:
    """Tokens, and the logprobs of those that were told: bit for bit."""

    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, choice: dict[str, Any]) -> Answer:
        return cls(choice["token_ids"], choice["logprobs"]["token_logprobs"])

    def is_of(self, whole: Answer) -> bool:
        """It is the beginning of `whole`."""
        ids, logprobs = len(self.ids), len(self.logprobs)
        return self.ids == whole.ids[:ids] and self.logprobs == whole.logprobs[:logprobs]


@dataclass
class Reply:
    ended: Ended
    answers: list[Answer]
    cached_tokens: int | None = None
    status: int = 200
    said: str = ""


class Client:
    """One user, who waits for each answer."""

    def __init__(self, url: str, model: str, keys: dict[str, str]) -> None:
        self._http = httpx.Client(base_url=url, timeout=DEADLINE_S)
        self._model = model
        self._keys = keys

    def close(self) -> None:
        self._http.close()

    def send(self, ask: Ask) -> Reply:
        """Raises Stuck."""
        body = {"model": self._model, "temperature": 0, "ignore_eos": True} | FIELDS | ask.body()
        headers = {"Authorization": f"Bearer {self._keys[ask.tenant]}"}
        answers = [Answer() for _ in range(ask.n)]
        gives_up_at_once = ask.give_up_after == 0
        try:
            if ask.stream:
                return self._stream(body, headers, answers, ask.give_up_after)
            timeout = AT_ONCE_S if gives_up_at_once else DEADLINE_S
            response = self._http.post(
                "/v1/completions", json=body, headers=headers, timeout=timeout
            )
        except httpx.TimeoutException as error:
            if gives_up_at_once:
                return Reply(Ended.CANCELLED, answers)
            raise Stuck(repr(error)) from error
        except httpx.TransportError as error:
            return Reply(Ended.BROKEN, answers, said=repr(error))
        if response.status_code != 200:
            return Reply(Ended.REFUSED, answers, status=response.status_code, said=response.text)
        whole = response.json()
        answers = [Answer.of(choice) for choice in whole["choices"]]
        return Reply(Ended.WHOLE, answers, cached_tokens(whole["usage"]))

    def _stream(
        self,
        body: dict[str, Any],
        headers: dict[str, str],
        answers: list[Answer],
        give_up_after: int | None,
    ) -> Reply:
        reply = Reply(Ended.BROKEN, answers)
        with self._http.stream("POST", "/v1/completions", json=body, headers=headers) as response:
            if response.status_code != 200:
                said = response.read().decode()
                return Reply(Ended.REFUSED, answers, status=response.status_code, said=said)
            for number, event in enumerate(events(response), 1):
                if "error" in event:
                    return Reply(Ended.REFUSED, answers, status=0, said=json.dumps(event))
                for choice in event["choices"]:
                    new, answer = Answer.of(choice), answers[choice["index"]]
                    answer.ids += new.ids
                    answer.logprobs += new.logprobs
                if event["usage"] is not None:
                    reply.ended, reply.cached_tokens = Ended.WHOLE, cached_tokens(event["usage"])
                elif number == give_up_after:
                    reply.ended = Ended.CANCELLED
                    break
        return reply


def events(response: httpx.Response) -> Iterator[dict[str, Any]]:
    for line in response.iter_lines():
        data = line.removeprefix("data: ")
        if line != data and data != "[DONE]":
            yield json.loads(data)


def cached_tokens(usage: dict[str, Any]) -> int:
    cached: int = usage["prompt_tokens_details"]["cached_tokens"]
    return cached
