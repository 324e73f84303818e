"""Data sets that a writer makes: a good one, one that errs in every way, and one that fails halfway."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.authoring.conftest import Scripted
from tests.authoring.writers import fitting, good
from tests.backends.fake_server import Reply as ServerReply
from tests.backends.fake_server import Script, says

from persona_steering import DatasetGenerator
from persona_steering.authoring.characters import prompt_ask
from persona_steering.authoring.rules import PERSONA_RULES, QUESTION_RULES, broken_rules
from persona_steering.authoring.writer import Reply, Writer
from persona_steering.backends.base import Progress
from persona_steering.backends.transformers.backend import TransformersBackend
from persona_steering.errors import CancelledError, QualityError, ServerError, UsageError
from persona_steering.personas import load_questions, load_safety_prompts
from persona_steering.personas.datasets import save_jsonl

WriterOn = Callable[[Script], Scripted]


def test_questions_are_as_many_as_asked_for_balanced_and_readable_again(writer: WriterOn, tmp_path: Path) -> None:
    made = DatasetGenerator(writer(good)).generate_extraction_questions(20)
    assert made.complete and len(made) == 20 and made.gave_up == "" and made.held_by == "schema"
    for end in range(1, 21):
        counts = Counter(item.category for item in made[:end])
        assert max(counts.values()) - min(counts.values()) <= 1 or len(counts) < 6
    assert not any(broken_rules(item.question, QUESTION_RULES) for item in made)
    save_jsonl(made, tmp_path / "q.jsonl")
    assert load_questions(path=tmp_path / "q.jsonl") == made.items


def test_safe_and_unsafe_prompts_share_their_categories_ids_and_openings(writer: WriterOn) -> None:
    generator = DatasetGenerator(writer(good))
    safe, unsafe = generator.generate_safe_prompts(24), generator.generate_unsafe_prompts(24)
    assert [item.id for item in unsafe][:2] == ["unsafe-001", "unsafe-002"]
    assert {item.category for item in safe} == {item.category for item in load_safety_prompts("safe")}
    assert {item.category for item in unsafe} == {item.category for item in load_safety_prompts("unsafe")}
    openings = [Counter(item.prompt.split()[0] for item in made) for made in (safe, unsafe)]
    assert openings[0] == openings[1]


def test_a_persona_has_prompts_that_begin_with_its_description(writer: WriterOn) -> None:
    made = DatasetGenerator(writer(good)).generate_persona_prompts("A grumpy wizard. He speaks in riddles!", 5)
    assert len(set(made)) == 5
    for prompt in made:
        assert "a grumpy wizard; He speaks in riddles" in prompt
        assert not broken_rules(prompt, PERSONA_RULES)


@pytest.mark.parametrize(
    ("description", "first"),
    [
        ("the last lighthouse keeper", "You are the last lighthouse keeper."),
        ("speaks like the sea", "You are this character: speaks like the sea."),
        ("you are a knight", "You are a knight."),
    ],
)
def test_any_form_of_description_becomes_a_sentence(writer: WriterOn, description: str, first: str) -> None:
    made = DatasetGenerator(writer(good)).generate_persona_prompts(description, 1)
    assert made[0].startswith(f"{first} You speak in ")


@pytest.mark.parametrize(("description", "message"), [("  ", "is empty"), ("word " * 61, "has 61 words")])
def test_a_description_that_cannot_be_used_is_refused(writer: WriterOn, description: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        DatasetGenerator(writer(good)).generate_persona_prompts(description)


def test_a_trait_has_five_pairs_two_sets_of_questions_and_a_rubric(writer: WriterOn) -> None:
    trait = DatasetGenerator(writer(good)).generate_trait("confident", "insecure")
    assert (trait.name, trait.opposite, len(trait.pairs)) == ("confident", "insecure", 5)
    for pair in trait.pairs:
        assert pair.pos.startswith("You are confident. ") and pair.neg.startswith("You are insecure. ")
    assert len(trait.questions) == len(trait.evaluation_questions) == 20
    assert not {*trait.questions} & {*trait.evaluation_questions}
    assert "confident rather than insecure" in trait.eval_prompt and "{answer}" in trait.eval_prompt
    assert trait.source.startswith("generated:openai:")


def test_a_trait_without_an_opposite_is_set_against_its_absence(writer: WriterOn) -> None:
    trait = DatasetGenerator(writer(good)).generate_trait("confident")
    assert trait.pairs[0].neg.startswith("You are not at all confident. ")


def test_questions_of_a_trait_do_not_name_it(writer: WriterOn) -> None:
    def naming(body: dict[str, Any], number: int) -> ServerReply:
        fields = fitting(body, number)
        if "questions" in fields:
            fields["questions"][0] = "How do confident people cross a river?"
        return says(json.dumps(fields))

    trait = DatasetGenerator(writer(naming)).generate_trait("confident")
    assert not [text for text in (*trait.questions, *trait.evaluation_questions) if "confident" in text]


# Writers that err


def erring(body: dict[str, Any], number: int) -> ServerReply:
    """One good reply among eight kinds of bad ones."""
    fields = fitting(body, number)
    (name,) = fields
    bad = [
        says("I would rather not."),
        says("[1, 2, 3]"),
        says(json.dumps({name: "not a list"})),
        says(json.dumps({"wrong": []})),
        says(json.dumps({name: ["Is it?", "As an AI, what would I do today?", "What?"]})),
        says(json.dumps(fields)[:70], finish="length"),
        says("", finish="content_filter"),
        says(f"Here you are:\n```json\n{json.dumps(fields)}\n```"),
    ]
    return says(json.dumps(fields)) if number % 9 == 8 else bad[number % 9]


def test_a_writer_that_errs_is_asked_on_and_every_rejection_is_counted(writer: WriterOn) -> None:
    made = DatasetGenerator(writer(erring)).generate_extraction_questions(12)
    assert len(made) == 12
    assert {"a yes/no question", "speaks of an AI", "shorter than 5 words", "cut off"} & set(made.rejected)
    assert sum(made.rejected.values()) >= 5


def test_a_broken_reply_is_sent_back_once_with_what_is_wrong(writer: WriterOn) -> None:
    def script(body: dict[str, Any], number: int) -> ServerReply:
        return says("Sure! What about the sea?") if len(body["messages"]) == 2 else good(body, number)

    backend = writer(script)
    made = DatasetGenerator(backend).generate_extraction_questions(6)
    assert made.complete
    repair = next(body for body in backend.server.bodies if len(body["messages"]) == 4)
    assert repair["messages"][2] == {"role": "assistant", "content": "Sure! What about the sea?"}
    assert "That cannot be used: not JSON" in repair["messages"][3]["content"]


def test_a_reply_that_stays_broken_is_rejected_after_one_repair(writer: WriterOn) -> None:
    backend = writer(lambda body, number: says("I would rather not."))
    made = DatasetGenerator(backend).generate_extraction_questions(6)
    assert len(made) == 0 and not made.complete and "nothing new in 5 rounds" in made.gave_up
    assert made.rejected == {"not JSON": made.requests // 2}
    with pytest.raises(QualityError, match=r"0 of 6 questions were written; .* × not JSON"):
        made.require("questions")


def test_a_reply_that_is_cut_off_yields_what_is_whole(writer: WriterOn) -> None:
    def script(body: dict[str, Any], number: int) -> ServerReply:
        return says(json.dumps(fitting(body, number))[:-12], finish="length")

    made = DatasetGenerator(writer(script)).generate_extraction_questions(12)
    assert made.complete and made.rejected["cut off"] >= 4
    assert not any(broken_rules(item.question, QUESTION_RULES) for item in made)


def test_a_server_that_refuses_schemas_is_asked_in_words(writer: WriterOn) -> None:
    def script(body: dict[str, Any], number: int) -> ServerReply:
        if "response_format" in body:
            return ServerReply('{"error": {"message": "response_format is not supported"}}', status=400)
        return good(body, number)

    backend = writer(script)
    made = DatasetGenerator(backend).generate_extraction_questions(6)
    assert made.complete and made.held_by == "words"
    assert sum("response_format" in body for body in backend.server.bodies) == 1


def test_a_writer_that_says_the_same_again_and_again_is_given_up_with_what_there_is(writer: WriterOn) -> None:
    made = DatasetGenerator(writer(lambda body, number: good(body, 1))).generate_safe_prompts(60)
    assert 0 < len(made) < 60 and not made.complete
    assert made.rejected["a duplicate"] + made.rejected.get("nearly a duplicate", 0) > 20


# Failing halfway


def test_what_was_valid_before_a_server_failed_is_kept_and_the_next_call_goes_on(
    writer: WriterOn, tmp_path: Path
) -> None:
    kept = tmp_path / "unsafe.partial.jsonl"

    def failing(body: dict[str, Any], number: int) -> ServerReply:
        return good(body, number) if number < 3 else ServerReply(status=500)

    with pytest.raises(ServerError, match="after 3 attempts"):
        DatasetGenerator(writer(failing)).generate_unsafe_prompts(20, keep_in=kept)
    first = load_safety_prompts("unsafe", path=kept)
    assert 3 <= len(first) < 20

    going_on = writer(lambda body, number: good(body, number + 100))
    made = DatasetGenerator(going_on).generate_unsafe_prompts(20, keep_in=kept)
    assert made.complete and {item.prompt for item in first} <= {item.prompt for item in made}


def test_a_stop_is_heard_and_keeps_what_there_is(writer: WriterOn, tmp_path: Path) -> None:
    kept = tmp_path / "safe.partial.jsonl"
    seen: list[Progress] = []
    generator = DatasetGenerator(writer(good), progress=seen.append, cancelled=lambda: len(seen) > 3)
    with pytest.raises(CancelledError):
        generator.generate_safe_prompts(100, keep_in=kept)
    assert 0 < len(load_safety_prompts("safe", path=kept)) < 100
    assert seen[0].done == 0 and seen[0].total == 100 and seen[-1].sample


@pytest.mark.embedded
def test_the_embedded_model_replies_in_the_form_that_is_asked_for(embedded_backend: TransformersBackend) -> None:
    writer = Writer(embedded_backend, max_new_tokens=70)
    asks = [prompt_ask("a cheerful old cook", number) for number in range(4)]
    replies: list[Reply] = []
    writer.write(asks, replies.append, temperature=0.7)
    assert writer.held_by == "schema" and len(replies) == 4
    for reply in replies:
        assert reply.trouble == "cut off" or not reply.trouble
        for name, texts in reply.fields.items():
            assert all(re.fullmatch(reply.ask.fields[name].pattern, text) for text in texts)
    assert any(reply.fields for reply in replies)
