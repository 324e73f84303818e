"""What lies at both ends of the stream, and which token comes next, against transformers itself; every family."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.oracle import published

from persona_steering.backends.base import Text, conversation
from persona_steering.backends.transformers.backend import TransformersBackend
from persona_steering.errors import PromptError

QUESTIONS = ("Is it far?", "What do you see from up there?", "Is it far?")
ANSWERS = ("no", "The sea, and a ship on it.", "very far")


def test_every_row_of_a_published_tensor_is_captured_in_a_batch(backend: TransformersBackend) -> None:
    texts = [Text(conversation(q), a) for q, a in zip(QUESTIONS, ANSWERS, strict=True)]
    found = backend.capture(texts, ends=True)
    loaded = backend.loaded
    for text, one in zip(texts, found, strict=True):
        prompt = backend.render(text.messages)
        expected = published.token_means(loaded.model, loaded.encoder.tokenizer, prompt, text.response)
        assert list(one.mean) == [-1, 0, 1, 2, 3, 4]
        for pooling, ours in (
            ("response_avg", one.mean),
            ("prompt_avg", one.prompt_mean),
            ("prompt_last", one.prompt_last),
        ):
            # the published row k is layer k - 1; row 4 is after the final norm, and layer 3 has none
            for row, layer in enumerate((-1, 0, 1, 2, 4)):
                assert np.allclose(ours[layer], expected[pooling][row], rtol=1e-4, atol=1e-5), (pooling, row)


def test_without_the_ends_a_capture_has_layers_only(llama: TransformersBackend) -> None:
    text = Text(conversation(QUESTIONS[0]), ANSWERS[0])
    plain, whole = llama.capture([text])[0], llama.capture([text], ends=True)[0]
    assert list(plain.mean) == [0, 1, 2, 3]
    assert np.allclose(plain.mean[3], whole.mean[3], atol=1e-6)


def test_the_next_tokens_are_those_of_one_plain_forward(backend: TransformersBackend) -> None:
    texts = [Text(conversation(q), a) for q, a in zip(QUESTIONS, ("", "The s", "1"), strict=True)]
    loaded = backend.loaded
    found = backend.next_tokens(texts, top=5)
    for text, choices in zip(texts, found, strict=True):
        ids = loaded.encoder.encode(text.messages)
        if text.response:
            ids += loaded.encoder.encode_response(text.response)
        with torch.no_grad():
            logits = loaded.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
        best, places = torch.log_softmax(logits.float(), -1).topk(5)
        assert [choice.text for choice in choices] == [loaded.encoder.decode([i]) for i in places.tolist()]
        assert [choice.logprob for choice in choices] == pytest.approx(best.tolist(), abs=1e-4)


def test_more_next_tokens_than_there_are_means_all_of_them(llama: TransformersBackend) -> None:
    (choices,) = llama.next_tokens([Text(conversation("Hm?"), "")], top=10**6)
    assert sum(np.exp(choice.logprob) for choice in choices) == pytest.approx(1, abs=1e-5)


def test_an_empty_answer_can_be_continued_but_not_captured(llama: TransformersBackend) -> None:
    with pytest.raises(PromptError, match="answer is empty"):
        llama.capture([Text(conversation("Hm?"), "")])
