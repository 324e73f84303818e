"""From messages to token ids: one BOS, every kind of template, borders that do not move."""

from __future__ import annotations

import pytest
from tests.backends.tiny import DROPS_SYSTEM_TEMPLATE, NO_SYSTEM_TEMPLATE, TEMPLATE, make_tokenizer

from persona_steering.backends.base import Message, conversation
from persona_steering.backends.transformers.prompts import PromptEncoder, ThinkingTracker
from persona_steering.errors import ContextLengthError, PromptError

CHAT = (
    Message("system", "Be brief."),
    Message("user", "Hi"),
    Message("assistant", "Yes?"),
    Message("user", "Who?"),
)


def encoder(template: str | None = TEMPLATE, *, context: int = 500, thinking: bool = False) -> PromptEncoder:
    return PromptEncoder(make_tokenizer(template=template, thinking=thinking), context)


def test_a_template_with_a_system_role_gets_it() -> None:
    assert encoder().render(CHAT) == (
        "<s><|system|>Be brief.<|end|><|user|>Hi<|end|><|assistant|>Yes?<|end|><|user|>Who?<|end|><|assistant|>"
    )


@pytest.mark.parametrize("template", [NO_SYSTEM_TEMPLATE, DROPS_SYSTEM_TEMPLATE], ids=["raises", "drops"])
def test_a_template_that_raises_on_or_drops_a_system_message_gets_it_in_the_first_user_turn(template: str) -> None:
    assert encoder(template).render(CHAT) == (
        "<s><|user|>Be brief.\n\nHi<|end|><|assistant|>Yes?<|end|><|user|>Who?<|end|><|assistant|>"
    )
    assert encoder(template).render(CHAT[1:]) == encoder().render(CHAT[1:])


def test_a_conversation_that_the_template_raises_on_is_a_prompt_error() -> None:
    template = "{% if messages|length > 1 %}{{ raise_exception('roles must alternate') }}{% endif %}" + TEMPLATE
    with pytest.raises(PromptError, match="refuses this conversation: roles must alternate"):
        encoder(template).render(CHAT[1:])


def test_a_model_without_a_template_gets_paragraphs() -> None:
    plain = encoder(None)
    assert not plain.has_template
    assert plain.render(CHAT[:2]) == "Be brief.\n\nHi\n\n"


@pytest.mark.parametrize("template", [TEMPLATE, NO_SYSTEM_TEMPLATE, None], ids=["system", "no-system", "none"])
def test_a_prompt_begins_with_exactly_one_bos(template: str | None) -> None:
    ids = encoder(template).encode(conversation("hello", "Be brief."))
    assert ids[0] == 1 and ids.count(1) == 1
    # the tokenizer alone would add a second one to a template's text
    assert make_tokenizer()(TEMPLATE)["input_ids"][0] == 1


def test_an_answer_is_encoded_without_any_special_token() -> None:
    ids = encoder().encode_response("yes")
    assert len(ids) == 3 and min(ids) > 7
    assert encoder().decode(ids) == "yes"


def test_decoding_leaves_special_tokens_out_and_spaces_alone() -> None:
    it = encoder()
    assert it.decode([1, *it.encode_response("a , b ."), 2]) == "a , b ."


def test_the_room_for_an_answer_counts_towards_the_context() -> None:
    length = len(encoder().encode(conversation("hello")))
    assert encoder(context=length + 5).encode(conversation("hello"), room=5)
    with pytest.raises(ContextLengthError, match="context holds") as caught:
        encoder(context=length + 5).encode(conversation("hello"), room=6)
    assert "Shorten" in caught.value.hint


def test_reasoning_is_asked_off_where_the_template_knows_how() -> None:
    template = TEMPLATE + "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
    ids = encoder(template, thinking=True).encode(conversation("hello"))
    assert not ThinkingTracker(encoder(thinking=True).thinking_marks, ids).open
    assert encoder(template, thinking=True).render(conversation("hello")).endswith("<|assistant|><think></think>")


def test_thinking_marks_are_found_only_as_a_pair_of_tokens() -> None:
    assert encoder().thinking_marks is None
    marks = encoder(thinking=True).thinking_marks
    assert marks is not None and marks[0] != marks[1]


@pytest.mark.parametrize(
    ("prompt", "answer", "inside"),
    [
        ("", "ab<cd>ef", "..tttt.."),
        ("", "abcd", "...."),
        ("", "<>a", "tt."),
        ("x<", "ab>cd", "ttt.."),
        ("<a>", "bc", ".."),
        ("", "a>b", "..."),
        ("", "a<b<c>d", ".ttttt."),
    ],
)
def test_thoughts_reach_from_the_opening_mark_to_the_closing_one(prompt: str, answer: str, inside: str) -> None:
    tracker = ThinkingTracker((ord("<"), ord(">")), [ord(c) for c in prompt])
    assert "".join("t" if tracker.feed(ord(c)) else "." for c in answer) == inside


def test_a_model_without_marks_never_thinks() -> None:
    tracker = ThinkingTracker(None, [1, 2])
    assert not any(tracker.feed(token) for token in range(5)) and not tracker.open
