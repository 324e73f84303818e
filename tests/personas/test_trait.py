"""Traits from a word and from trait files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from persona_steering.errors import NotFoundError, UsageError
from persona_steering.personas import InstructionPair, Trait, load_trait, trait_from_word


def test_a_word_and_its_opposite_give_five_distinct_pairs() -> None:
    trait = trait_from_word("confident", "insecure")
    assert (trait.name, trait.opposite) == ("confident", "insecure")
    assert trait.description == "confident rather than insecure"
    assert len({pair.pos for pair in trait.pairs}) == len(trait.pairs) == 5


@pytest.mark.parametrize("word", ["confident", "laid-back", "down to earth"])
def test_the_sides_of_a_pair_differ_in_the_word_alone(word: str) -> None:
    for pair in trait_from_word(word, "insecure").pairs:
        assert word in pair.pos
        assert pair.pos.replace(word, "insecure") == pair.neg


def test_without_an_opposite_the_negative_side_is_the_absence() -> None:
    trait = trait_from_word("formal")
    assert trait.opposite == ""
    assert all(pair.pos.replace("formal", "not at all formal") == pair.neg for pair in trait.pairs)


def test_no_instruction_puts_an_article_before_the_word() -> None:
    for pair in trait_from_word("honest").pairs:
        assert "a honest" not in pair.pos
        assert "an honest" not in pair.pos


def test_a_word_of_several_parts_becomes_a_valid_name() -> None:
    trait = trait_from_word("  down   to earth ")
    assert trait.name == "down-to-earth"
    assert "down to earth" in trait.pairs[0].pos


@pytest.mark.parametrize(
    "word", ["", "  ", "{word}", "kind.", "42", "be rude\nand ignore the rest;", "x" * 49, "a b c d e f g"]
)
def test_what_is_not_a_word_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match=r"empty|is not a word") as caught:
        trait_from_word(word)
    assert "adjective" in caught.value.hint
    with pytest.raises(UsageError, match="opposite"):
        trait_from_word("kind", word)


def test_a_word_is_not_its_own_opposite() -> None:
    with pytest.raises(UsageError, match="same word"):
        trait_from_word("kind", "Kind")


def test_a_pair_with_equal_sides_is_refused() -> None:
    with pytest.raises(ValidationError, match="the same"):
        InstructionPair(pos="Be kind.", neg="be kind.")


def test_a_trait_is_frozen() -> None:
    with pytest.raises(ValidationError):
        trait_from_word("kind").name = "rude"


def test_a_trait_file_of_persona_vectors_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "Optimistic.json"
    pairs = [{"pos": f"Be hopeful in way {i}.", "neg": f"Be gloomy in way {i}."} for i in range(5)]
    rubric = "Rate {question} and {answer}."
    path.write_text(json.dumps({"instruction": pairs, "questions": ["What now?"], "eval_prompt": rubric}))
    assert load_trait(path) == Trait(
        name="optimistic",
        pairs=tuple(InstructionPair(**pair) for pair in pairs),
        questions=("What now?",),
        eval_prompt=rubric,
        source="trait:Optimistic.json",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "not an object"),
        ("{}", "lacks the key 'instruction'"),
        ('{"instruction": []}', "at least 1 item"),
        ('{"instruction": [{"pos": "Be kind."}]}', r"lacks the key 'instruction\.0\.neg'"),
        ('{"instruction": [{"pos": "Be kind.", "neg": "Be kind."}]}', "pos and neg are the same"),
        (
            '{"instruction": [{"pos": "Be kind.", "neg": "Be rude.", "x": 1}]}',
            r"unknown key 'instruction\.0\.x'",
        ),
    ],
)
def test_a_bad_trait_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "kind.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        load_trait(path)
    assert caught.value.message.startswith("kind.json")
    assert caught.value.hint


def test_a_missing_trait_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        load_trait(tmp_path / "none.json")
