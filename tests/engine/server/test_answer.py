"""Answers against a simple model: all tokens at once, decoded and cut by hand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvtier_engine.messages import FinishReason, Output, TokenLogprob
from kvtier_engine.server.answer import Answer, TextOptions
from kvtier_engine.server.text.tokenizer import Tokenizer

IDS = st.lists(st.integers(3, 399), min_size=1, max_size=30)


def run(tokenizer: Tokenizer, outputs: list[Output], options: TextOptions):
    """Text, entries and finish of all deltas together, and how many outputs were taken."""
    answer = Answer(tokenizer.vocabulary, options)
    deltas = []
    for output in outputs:
        deltas.append(answer.feed(output))
        if answer.finish is not None:
            break
    assert [delta.finish for delta in deltas[:-1]] == [None] * (len(deltas) - 1)
    text = "".join(delta.text for delta in deltas)
    return text, [entry for delta in deltas for entry in delta.logprobs], answer, deltas[-1]


def split(ids: list[int], sizes: list[int], **last: object) -> list[Output]:
    """`ids` as outputs of these sizes, over and over; `last` goes to the last one."""
    outputs, start, turn = [], 0, 0
    while start < len(ids):
        size = sizes[turn % len(sizes)]
        chunk = ids[start : start + size]
        start, turn = start + size, turn + 1
        more = last if start >= len(ids) else {}
        logprobs = [TokenLogprob(token, -1.0, []) for token in chunk]
        outputs.append(Output(request_id="r", token_ids=chunk, logprobs=logprobs, **more))
    return outputs


SIZES = st.lists(st.integers(1, 4), min_size=1, max_size=4)


@given(IDS, SIZES)
def test_whole_text_and_all_entries(tokenizer: Tokenizer, ids, sizes) -> None:
    outputs = split(ids, sizes, finish=FinishReason.LENGTH)
    text, entries, answer, _ = run(tokenizer, outputs, TextOptions())
    assert text == tokenizer.decode(ids)
    assert [entry.logprob.token_id for entry in entries] == ids
    assert (answer.tokens, answer.finish) == (len(ids), FinishReason.LENGTH)


@given(IDS, SIZES, st.text("aeto ", min_size=1, max_size=2))
def test_cut_before_the_stop_string(tokenizer: Tokenizer, ids, sizes, stop) -> None:
    outputs = split(ids, sizes, finish=FinishReason.LENGTH)
    text, entries, answer, last = run(tokenizer, outputs, TextOptions(stop=(stop,)))
    whole = tokenizer.decode(ids)
    cut, found, _ = whole.partition(stop)
    assert text == cut
    if found:
        assert (answer.finish, last.stop_reason) == (FinishReason.STOP, stop)
        assert [entry.start for entry in entries] == [
            entry.start for entry in entries if entry.start < len(text)
        ]
        assert tokenizer.decode(ids[: answer.tokens]).count(stop) >= 1
        assert stop not in tokenizer.decode(ids[: answer.tokens - 1])
    else:
        assert answer.finish is FinishReason.LENGTH


def test_stop_strings_wait_for_min_tokens(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("x.x.x.", special=False)
    dots = [place for place, token in enumerate(ids) if "." in tokenizer.decode([token])]
    options = TextOptions(stop=(".",), min_tokens=dots[0] + 1)
    outputs = split(ids, [1], finish=FinishReason.LENGTH)
    text, _, answer, _ = run(tokenizer, outputs, options)
    assert (text, answer.finish) == ("x.x", FinishReason.STOP)


def test_the_ending_token_counts_and_is_not_shown(tokenizer: Tokenizer) -> None:
    outputs = split([40, 41, 2], [2], finish=FinishReason.STOP, stop_token=2)
    text, entries, answer, last = run(tokenizer, outputs, TextOptions(skip_special=False))
    assert text == tokenizer.decode([40, 41])
    assert [entry.logprob.token_id for entry in entries] == [40, 41]
    assert (answer.tokens, last.stop_reason) == (3, None)


def test_the_ending_token_is_shown_when_asked_for(tokenizer: Tokenizer) -> None:
    outputs = split([40, 50], [1], finish=FinishReason.STOP, stop_token=50)
    options = TextOptions(include_stop=True, stop_token_ids=frozenset({50}))
    text, _, _, last = run(tokenizer, outputs, options)
    assert (text, last.stop_reason) == (tokenizer.decode([40, 50]), 50)
