"""A prompt that no chat template has made: the model goes on from the text as it stands."""

from __future__ import annotations

import pytest
from tests.backends.tiny import TEMPLATE, make_tokenizer, make_vector, tiny_backend

from persona_steering.backends.base import Message, Request, Sampling
from persona_steering.backends.transformers.backend import TransformersBackend
from persona_steering.backends.transformers.prompts import PromptEncoder
from persona_steering.errors import ContextLengthError, PromptError
from persona_steering.interventions import Add, Recipe

SAMPLING = Sampling(max_new_tokens=6, seed=4)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> TransformersBackend:
    return tiny_backend("llama", tmp_path_factory.mktemp("bare"))


@pytest.mark.parametrize("template", [TEMPLATE, None], ids=["template", "none"])
@pytest.mark.parametrize("bos", [True, False], ids=["bos", "no-bos"])
def test_a_bare_text_begins_with_the_one_bos_that_its_tokenizer_wants(template: str | None, bos: bool) -> None:
    tokenizer = make_tokenizer(template=template, bos=bos)
    encoder = PromptEncoder(tokenizer, 100)
    plain = tokenizer("once", add_special_tokens=False)["input_ids"]
    assert encoder.encode_bare("once") == ([1, *plain] if bos else plain)
    assert encoder.encode_bare("<s>once") == [1, *plain]  # written out already


def test_a_bare_text_that_is_too_long_or_no_token_at_all_is_refused() -> None:
    with pytest.raises(ContextLengthError, match="11 tokens"):
        PromptEncoder(make_tokenizer(), 10).encode_bare("once upon ")
    with pytest.raises(PromptError, match="no token"):
        PromptEncoder(make_tokenizer(bos=False), 10).encode_bare("")


def test_a_rendered_conversation_as_bare_text_gives_the_answer_of_the_conversation(llama: TransformersBackend) -> None:
    vector = make_vector(llama.identity)
    recipe = Recipe((Add(vector=vector, values={1: 2.0}),))
    asked = (Message("user", "hello"),)
    chat, bare, plain = llama.generate(
        [
            Request(asked, recipe, SAMPLING),
            Request((), recipe, SAMPLING, prompt=llama.render(asked)),
            Request((), recipe, SAMPLING, prompt="hello"),
        ]
    )
    assert (bare.token_ids, bare.prompt_tokens) == (chat.token_ids, chat.prompt_tokens)
    assert plain.prompt_tokens == len("<hello") and plain.token_ids != chat.token_ids
