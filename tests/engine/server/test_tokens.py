"""POST /tokenize and /detokenize."""

from __future__ import annotations

import threading
import time

import pytest
from support.server_thread import Running

from kvtier_engine.server.text.tokenizer import Tokenizer


def test_tokenize_a_prompt(server: Running, tokenizer: Tokenizer) -> None:
    body = server.post("/tokenize", {"prompt": "Hello é", "return_token_strs": True}).json()
    ids = tokenizer.encode("Hello é", special=True)
    assert (body["tokens"], body["count"], body["max_model_len"]) == (ids, len(ids), 256)
    assert [tokenizer.vocabulary.text_of(token) for token in ids] == body["token_strs"]
    assert server.post("/tokenize", {"prompt": "x"}).json()["token_strs"] is None


def test_tokenize_a_chat(server: Running, tokenizer: Tokenizer) -> None:
    messages = [{"role": "user", "content": "Hi"}]
    whole = server.post("/tokenize", {"messages": messages}).json()["tokens"]
    assert tokenizer.decode(whole).endswith("Hi<|im_end|>\n<|im_start|>assistant\n")
    bare = {"messages": messages, "add_generation_prompt": False}
    assert tokenizer.decode(server.post("/tokenize", bare).json()["tokens"]).endswith("_end|>\n")


def test_detokenize(server: Running, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("<|im_start|>Hello é", special=False)
    answer = server.post("/detokenize", {"tokens": ids})
    assert answer.json() == {"prompt": "<|im_start|>Hello é"}
    assert server.post("/detokenize", {"tokens": []}).json() == {"prompt": ""}


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/tokenize", {}, "give either `prompt` or `messages`"),
        ("/tokenize", {"prompt": "x", "messages": [{"role": "user", "content": "x"}]}, "either"),
        ("/tokenize", {"prompt": 5}, "`prompt`"),
        ("/detokenize", {"tokens": [400]}, "0 to 399"),
        ("/detokenize", {"tokens": ["x"]}, "`tokens[0]`"),
        ("/detokenize", {}, "`tokens` is missing"),
    ],
)
def test_mistakes(server: Running, path: str, body: object, words: str) -> None:
    response = server.post(path, body)
    assert response.status_code == 400
    assert words in response.json()["error"]["message"]


def test_a_long_prompt_does_not_stall_the_others(tokenizer: Tokenizer) -> None:
    """The GIL is free while the library works: another thread runs in the meantime."""
    text = "some words of all sorts " * 10_000
    done = threading.Event()

    def encode() -> None:
        tokenizer.encode(text, special=False)
        done.set()

    thread = threading.Thread(target=encode)
    thread.start()
    turns = 0
    while not done.is_set():
        time.sleep(0)
        turns += 1
    thread.join()
    assert turns > 100, "this thread stood still while the other one tokenized"
