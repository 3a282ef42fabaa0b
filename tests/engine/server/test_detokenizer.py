"""Text of a growing answer: any split gives the text of the whole, and nothing is taken back."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers

from kvtier_engine.server.text.detokenizer import Detokenizer
from kvtier_engine.server.text.tokenizer import Tokenizer, TokenizerError
from kvtier_engine.server.text.vocabulary import UnknownDecoder, Vocabulary

TEXTS = st.text(st.characters(codec="utf-8"), max_size=40) | st.sampled_from(
    [
        "a family \U0001f469\u200d\U0001f469\u200d\U0001f467 of one character",
        "東京タワー",
        "naïve cafe\u0301",
        "\ufffd is a character too",
        "\r\n\t ",
        "<|im_start|>",
    ]
)


def pieces(vocabulary: Vocabulary, ids: list[int], *, skip_special: bool = False) -> list[str]:
    detokenizer = Detokenizer(vocabulary, skip_special=skip_special)
    return [*(detokenizer.push(token_id) for token_id in ids), detokenizer.flush()]


@given(TEXTS)
def test_text_comes_back_whole(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text, special=False)
    assert "".join(pieces(tokenizer.vocabulary, ids)) == text


@given(st.lists(st.integers(0, 399), max_size=40), st.booleans())
def test_any_tokens_give_what_the_library_gives(tokenizer: Tokenizer, ids, skip_special) -> None:
    """Tokens in random order: characters are torn, bytes invalid, special tokens between."""
    backend = tokenizer._backend
    whole = backend.decode(ids, skip_special_tokens=skip_special)
    assert "".join(pieces(tokenizer.vocabulary, ids, skip_special=skip_special)) == whole


@given(st.lists(st.integers(0, 399), max_size=40))
def test_every_beginning_is_a_beginning_of_the_text(tokenizer: Tokenizer, ids) -> None:
    given_out = pieces(tokenizer.vocabulary, ids)
    text = tokenizer._backend.decode(ids, skip_special_tokens=False)
    for end in range(len(given_out) + 1):
        assert text.startswith("".join(given_out[:end]))


def test_added_tokens_stand_for_themselves() -> None:
    """Their characters need not be in the byte alphabet: a space, CJK, DeepSeek's bars."""
    added = ["a b", "東京", "<\uff5cend\u2581of\uff5c>", "<plain>"]
    backend = Backend(models.BPE({"a": 0}, []))
    backend.decoder = decoders.ByteLevel()
    backend.add_tokens(added)
    vocabulary = Vocabulary(backend)
    ids = [backend.token_to_id(token) for token in added]
    assert pieces(vocabulary, ids) == [*added, ""]
    assert backend.decode(ids) == "".join(added)


def test_a_torn_character_waits_for_its_end(tokenizer: Tokenizer) -> None:
    ids = [tokenizer._backend.token_to_id(char) for char in "ðŁĮį"]  # 🌍 byte by byte
    assert pieces(tokenizer.vocabulary, ids) == ["", "", "", "🌍", ""]
    assert pieces(tokenizer.vocabulary, ids[:3]) == ["", "", "", "\ufffd"]


@pytest.fixture(scope="module")
def sentencepiece_like() -> Vocabulary:
    """Llama 2's kind: words with a mark for the space, and bytes for the rest."""
    vocab = {"<unk>": 0} | {f"<0x{byte:02X}>": byte + 1 for byte in range(256)}
    for piece in ("▁", "▁Hello", "▁world", "a", "é"):
        vocab[piece] = len(vocab)
    backend = Backend(models.BPE(vocab, [], byte_fallback=True, unk_token="<unk>"))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return Vocabulary(backend)


@given(TEXTS)
def test_byte_fallback_gives_the_text(sentencepiece_like: Vocabulary, text: str) -> None:
    ids = [byte + 1 for byte in text.encode()]
    assert "".join(pieces(sentencepiece_like, ids)) == text


def test_the_space_before_a_first_word_is_kept(sentencepiece_like: Vocabulary) -> None:
    """The answer continues a prompt; the library's decoder would drop the space."""
    ids = [sentencepiece_like._backend.token_to_id(token) for token in ("▁Hello", "▁world")]
    assert pieces(sentencepiece_like, ids) == [" Hello", " world", ""]


def test_ids_without_a_token_have_no_text(tokenizer: Tokenizer) -> None:
    assert pieces(tokenizer.vocabulary, [10**6, 40])[0] == ""


def test_a_decoder_that_needs_context_is_refused() -> None:
    backend = Backend(models.WordPiece({"a": 0, "##b": 1}, unk_token="a"))
    backend.decoder = decoders.WordPiece()
    with pytest.raises(UnknownDecoder, match="WordPiece"):
        Vocabulary(backend)


def test_a_folder_without_tokenizer_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"no tokenizer\.json.*save_pretrained"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(TokenizerError, match="cannot be read"):
        Tokenizer.load(tmp_path)


@pytest.fixture(scope="module")
def smollm2(quickstart_model: Path) -> Tokenizer:
    return Tokenizer.load(quickstart_model)


@settings(max_examples=50)
@given(st.lists(st.integers(0, 49151), max_size=40), st.booleans())
def test_the_quickstart_model_s_tokens(smollm2: Tokenizer, ids, skip_special) -> None:
    whole = smollm2._backend.decode(ids, skip_special_tokens=skip_special)
    assert "".join(pieces(smollm2.vocabulary, ids, skip_special=skip_special)) == whole


def test_byte_level_prefix_space_is_only_the_encoder_s(tokenizer: Tokenizer) -> None:
    assert isinstance(tokenizer._backend.pre_tokenizer, pre_tokenizers.ByteLevel)
    assert tokenizer.decode(tokenizer.encode("a b", special=False)) == "a b"
