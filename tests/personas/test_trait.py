"""Traits from a word and from trait files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from persona_steering.errors import NotFoundError, StorageError, UsageError
from persona_steering.personas import (
    InstructionPair,
    Trait,
    find_trait,
    list_traits,
    load_library_trait,
    load_trait,
    save_trait,
    trait_from_word,
)


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


PAIRS = [{"pos": f"Be hopeful in way {i}.", "neg": f"Be gloomy in way {i}."} for i in range(5)]
RUBRIC = "Rate {question} and {answer}."


def write_published(path: Path, **changes: object) -> Path:
    data = {"instruction": PAIRS, "questions": ["What now?"], "eval_prompt": RUBRIC} | changes
    path.write_text(json.dumps(data))
    return path


def test_the_two_files_of_a_published_trait_become_one_trait(tmp_path: Path) -> None:
    extract = write_published(tmp_path / "hopeful.json")
    other = write_published(tmp_path / "hopeful_eval.json", questions=["What then?", "What next?"])
    trait = load_trait(extract, evaluation=other)
    assert trait.name == "hopeful"
    assert trait.questions == ("What now?",)
    assert trait.evaluation_questions == ("What then?", "What next?")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"instruction": PAIRS[:4]}, "differ in 'instruction'"),
        ({"eval_prompt": f"{RUBRIC} Be strict."}, "differ in 'eval_prompt'"),
        ({"questions": ["What  NOW?"]}, r"hopeful\.json: the evaluation question 'What  NOW\?' is also"),
        ({"questions": [" "]}, r"hopeful_eval\.json, 'questions\.0'|'evaluation_questions\.0'"),
    ],
)
def test_two_files_that_are_not_the_splits_of_one_trait_are_refused(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    extract = write_published(tmp_path / "hopeful.json")
    with pytest.raises(UsageError, match=message) as caught:
        load_trait(extract, evaluation=write_published(tmp_path / "hopeful_eval.json", **changes))
    assert caught.value.hint


@pytest.mark.parametrize("lacking", ["{question}", "{answer}"])
def test_a_rubric_without_a_place_for_the_text_is_refused(tmp_path: Path, lacking: str) -> None:
    path = write_published(tmp_path / "hopeful.json", eval_prompt=RUBRIC.replace(lacking, "it"))
    with pytest.raises(UsageError, match=lacking):
        load_trait(path)


@pytest.mark.parametrize("name", list_traits())
def test_a_shipped_trait_written_as_two_published_files_comes_back(tmp_path: Path, name: str) -> None:
    shipped = load_library_trait(name)
    save_trait(shipped, tmp_path / "extract" / f"{name}.json")
    save_trait(shipped, tmp_path / "eval" / f"{name}.json", split="eval")
    again = load_trait(tmp_path / "extract" / f"{name}.json", evaluation=tmp_path / "eval" / f"{name}.json")
    lost = {field: getattr(shipped, field) for field in ("opposite", "description", "source")}
    assert again.model_copy(update=lost) == shipped


def test_the_published_layout_has_the_published_keys(tmp_path: Path) -> None:
    trait = load_library_trait("evil")
    assert list(trait.to_published()) == ["instruction", "questions", "eval_prompt"]
    assert trait.to_published("eval")["questions"] == list(trait.evaluation_questions)
    save_trait(trait, tmp_path / "evil.json")
    assert json.loads((tmp_path / "evil.json").read_text()) == trait.to_published("extract")


def test_a_trait_that_lacks_what_the_published_layout_holds_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'calm' has no questions for the split 'extract'"):
        save_trait(trait_from_word("calm"), tmp_path / "calm.json")
    trait = load_library_trait("evil").model_copy(update={"eval_prompt": ""})
    with pytest.raises(UsageError, match="'evil' has no rubric"):
        save_trait(trait, tmp_path / "evil.json")
    with pytest.raises(NotFoundError, match="unknown split 'evaluation'"):
        load_library_trait("evil").to_published("evaluation")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(StorageError):
        save_trait(load_library_trait("evil"), tmp_path / "taken" / "evil.json")


def test_a_toml_file_gives_every_key_of_a_trait(tmp_path: Path) -> None:
    path = tmp_path / "Night Owl.toml"
    path.write_text(
        'opposite = "early"\nquestions = ["When?"]\nevaluation_questions = ["Where?"]\n'
        '[[pairs]]\npos = "Stay up late."\nneg = "Get up early."\n'
    )
    assert load_trait(path) == Trait(
        name="night-owl",
        opposite="early",
        pairs=(InstructionPair(pos="Stay up late.", neg="Get up early."),),
        questions=("When?",),
        evaluation_questions=("Where?",),
        source="trait:Night Owl.toml",
    )


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", "pairs = [", "not valid TOML"),
        ("a.toml", 'opposite = "early"', "lacks the key 'pairs'"),
        ("a.toml", "pears = []", "unknown key 'pears'"),
        ("a.toml", 'source = "me"', "key 'source'"),
        ("a.txt", "Be calm.", r"ending '\.txt' is unknown"),
    ],
)
def test_a_bad_trait_file_of_ones_own_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        load_trait(tmp_path / name)
    assert caught.value.hint


def test_a_toml_file_takes_no_second_file(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("")
    with pytest.raises(UsageError, match="both splits"):
        load_trait(tmp_path / "a.toml", evaluation=tmp_path / "b.json")


@pytest.mark.parametrize(
    ("word", "opposite", "source"),
    [
        ("evil", None, "trait:evil"),
        ("Evil", None, "trait:evil"),
        ("evil", "Kind", "trait:evil"),
        ("evil", "holy", "word:evil/holy"),
        ("evil-minded", None, "word:evil-minded"),
        ("calm", "nervous", "word:calm/nervous"),
    ],
)
def test_a_word_means_the_trait_of_the_library_unless_it_has_another_opposite(
    word: str, opposite: str | None, source: str
) -> None:
    assert find_trait(word, opposite).source == source


def test_a_trait_file_is_meant_by_its_ending(tmp_path: Path) -> None:
    path = write_published(tmp_path / "hopeful.json")
    assert find_trait(str(path)) == load_trait(path)
    with pytest.raises(UsageError, match="both sides"):
        find_trait(str(path), "gloomy")
    with pytest.raises(NotFoundError):
        find_trait("evil.toml")
