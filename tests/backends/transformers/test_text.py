"""Text out of tokens: a piece for each, and the pieces join to the whole."""

from __future__ import annotations

from typing import Any

import pytest
from tests.backends.tiny import make_tokenizer

from persona_steering.backends.transformers.prompts import PromptEncoder
from persona_steering.backends.transformers.text import TextStream, token_texts

FAMILY = "\N{MAN}\N{ZERO WIDTH JOINER}\N{WOMAN}"
TEXTS = (
    "plain words, and a stop.",
    "caf\N{LATIN SMALL LETTER E WITH ACUTE} \N{EM DASH} \N{GRINNING FACE}!",
    f"{FAMILY}\N{GRINNING FACE}",
    "\N{HIRAGANA LETTER A}b\N{HIRAGANA LETTER I}",
)


def sentence_pieces() -> Any:
    """Words begin with a mark that stands for a space, bytes stand in for other characters; as in Llama 2."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    mark = "\N{LOWER ONE EIGHTH BLOCK}"
    letters = [mark, *"abcdefghijklmnopqrstuvwxyz!,.", *(f"<0x{byte:02X}>" for byte in range(256))]
    vocabulary = {token: i for i, token in enumerate(["<unk>", "<s>", *letters])}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>", byte_fallback=True))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(replacement=mark, prepend_scheme="first")
    inner.decoder = decoders.Sequence(
        [decoders.Replace(mark, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    inner.add_special_tokens(["<s>"])
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", unk_token="<unk>")


@pytest.fixture(params=["bytes", "sentence_pieces"])
def encoder(request: pytest.FixtureRequest) -> PromptEncoder:
    made = make_tokenizer(byte_level=True) if request.param == "bytes" else sentence_pieces()
    return PromptEncoder(made, 512)


@pytest.mark.parametrize("text", TEXTS)
def test_the_texts_of_tokens_join_to_the_text(encoder: PromptEncoder, text: str) -> None:
    ids = encoder.encode_response(text)
    texts = token_texts(encoder.decode, ids)
    assert len(texts) == len(ids) > len(text) - 1
    assert "".join(texts) == encoder.decode(ids) == text


def test_a_character_belongs_to_the_last_of_its_tokens(encoder: PromptEncoder) -> None:
    ids = encoder.encode_response("a\N{GRINNING FACE}b")
    assert token_texts(encoder.decode, ids)[-6:] == ["a", "", "", "", "\N{GRINNING FACE}", "b"]


def test_bytes_that_never_become_a_character_are_told_in_the_end(encoder: PromptEncoder) -> None:
    ids = encoder.encode_response("ab\N{GRINNING FACE}")[:-1]
    texts = token_texts(encoder.decode, ids)
    assert texts[-3:-1] == ["", ""] and set(texts[-1]) == {"\ufffd"}
    assert "".join(texts) == encoder.decode(ids)


def test_a_special_token_inside_an_answer_has_no_text_but_a_name() -> None:
    encoder = PromptEncoder(make_tokenizer(byte_level=True), 512)
    (special,) = encoder.tokenizer.convert_tokens_to_ids(["<|end|>"])
    assert token_texts(encoder.decode, [*encoder.encode_response("a"), special, special]) == ["a", "", ""]
    assert encoder.spell(special) == "<|end|>"


def test_a_token_by_itself_keeps_the_space_before_it(encoder: PromptEncoder) -> None:
    *_, space, letter = encoder.encode_response("a b")
    assert [encoder.spell(space), encoder.spell(letter)] == [" ", "b"]


def test_what_may_become_a_stop_string_is_held_back() -> None:
    stream = TextStream(["END"])
    assert [stream.feed(text) for text in ("abc", "d", "E", "N")] == ["", "a", "b", "c"]
    assert stream.rest("abcd") == "d"


def test_without_stop_strings_nothing_is_held_back() -> None:
    stream = TextStream([])
    assert [stream.feed(text) for text in ("ab", "", "c")] == ["ab", "", "c"] and stream.rest("abc") == ""
