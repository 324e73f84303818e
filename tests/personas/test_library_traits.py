"""The shipped traits: what each file holds, its form, and that no question stands in two places."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from itertools import combinations, product
from pathlib import Path
from statistics import mean
from string import Formatter

import pytest
from tests.personas.texts import FORBIDDEN, INTERROGATIVE, YES_NO, closest, sentences, words

from persona_steering.errors import NotFoundError, UsageError
from persona_steering.personas import (
    Trait,
    find_trait,
    list_traits,
    load_library_trait,
    load_questions,
    load_safety_prompts,
    load_trait,
)
from persona_steering.personas import _files as files

OPPOSITES = {
    "apathetic": "caring",
    "dishonest": "honest",
    "evil": "kind",
    "hallucinating": "accurate",
    "humorous": "earnest",
    "impolite": "polite",
    "inattentive": "focused",
    "optimistic": "pessimistic",
    "silly": "serious",
    "superficial": "deep",
    "sycophantic": "candid",
}
LIBRARY = Path(files.__file__).parent / "library" / "traits"
PAGE = Path(__file__).parents[2] / "docs" / "personas.md"


@pytest.fixture(params=OPPOSITES)
def trait(request: pytest.FixtureRequest) -> Trait:
    return load_library_trait(request.param)


def asked(trait: Trait) -> list[str]:
    return [*trait.questions, *trait.evaluation_questions]


def instructions(trait: Trait) -> list[str]:
    return [text for pair in trait.pairs for text in (pair.pos, pair.neg)]


def test_the_eleven_traits_are_there_with_a_word_for_each_side() -> None:
    assert list_traits() == tuple(OPPOSITES)
    assert {name: load_library_trait(name).opposite for name in list_traits()} == OPPOSITES


def test_a_trait_is_complete(trait: Trait) -> None:
    assert (LIBRARY / f"{trait.name}.toml").is_file()
    assert trait.source == f"trait:{trait.name}"
    assert len(sentences(trait.description)) == 1
    assert len(trait.pairs) == 5
    assert len(trait.questions) == len(trait.evaluation_questions) == 20


def test_an_instruction_has_one_to_three_sentences(trait: Trait) -> None:
    for text in instructions(trait):
        assert 1 <= len(sentences(text)) <= 3, text


def test_the_sides_of_a_pair_differ_in_no_surface_feature(trait: Trait) -> None:
    for pair in trait.pairs:
        assert 1 / 1.25 < len(pair.pos) / len(pair.neg) < 1.25, pair
        assert len(sentences(pair.pos)) == len(sentences(pair.neg)), pair
        assert pair.pos.count("'") == pair.neg.count("'"), pair
    assert 0.9 < mean(len(p.pos) for p in trait.pairs) / mean(len(p.neg) for p in trait.pairs) < 1.1


def test_no_two_instructions_for_the_same_side_are_nearly_the_same() -> None:
    every = [load_library_trait(name) for name in list_traits()]
    for side in ("pos", "neg"):
        score, *pair = closest(combinations([getattr(p, side) for t in every for p in t.pairs], 2))
        assert score < 0.35, pair


def test_no_text_mentions_a_machine_that_chats(trait: Trait) -> None:
    texts = [trait.description, trait.eval_prompt, *asked(trait), *instructions(trait)]
    assert [text for text in texts if FORBIDDEN.search(text)] == []


def test_questions_are_open(trait: Trait) -> None:
    for question in asked(trait):
        last = sentences(question)[-1]
        first = next(word for word in words(last) if word not in ("in", "with", "on"))
        assert first in INTERROGATIVE | {"tell", "describe"}, question
        assert last.endswith("?") == (first in INTERROGATIVE), question
        assert not [s for s in sentences(question) if s.endswith("?") and words(s)[0] in YES_NO], question
        assert 4 <= len(question.split()) <= 30, question


def test_no_question_names_the_trait_or_its_opposite(trait: Trait) -> None:
    named = re.compile(rf"\b({trait.name}|{trait.opposite})", re.IGNORECASE)
    assert [question for question in asked(trait) if named.search(question)] == []


def test_the_two_splits_of_a_trait_are_equally_long(trait: Trait) -> None:
    ratio = mean(map(len, trait.questions)) / mean(map(len, trait.evaluation_questions))
    assert 0.85 < ratio < 1.15


def test_no_two_questions_of_all_traits_are_nearly_the_same() -> None:
    pairs = list(combinations([q for name in list_traits() for q in asked(load_library_trait(name))], 2))
    assert closest(pairs)[0] < 0.6, closest(pairs)
    assert closest(pairs, content_only=True)[0] < 0.5, closest(pairs, content_only=True)


def test_no_question_of_a_trait_is_nearly_one_that_the_library_asks_elsewhere(trait: Trait) -> None:
    elsewhere = [q.question for q in load_questions()]
    elsewhere += [p.prompt for p in (*load_safety_prompts("safe"), *load_safety_prompts("unsafe"))]
    pairs = list(product(asked(trait), elsewhere))
    assert closest(pairs)[0] < 0.6, closest(pairs)
    assert closest(pairs, content_only=True)[0] < 0.5, closest(pairs, content_only=True)


def test_a_rubric_defines_its_trait_and_shows_question_and_answer_once(trait: Trait) -> None:
    rubric = trait.eval_prompt
    assert rubric.startswith(f"Rate how {trait.name} an answer is, on a scale from 0 to 100.")
    places = [name for _, name, _, _ in Formatter().parse(rubric) if name is not None]
    assert places == ["question", "answer"]
    assert "<question>\n{question}\n</question>" in rubric and "<answer>\n{answer}\n</answer>" in rubric
    assert re.findall(r"^(\d+): \w", rubric, re.M) == ["0", "50", "100"]


def test_all_rubrics_show_the_texts_and_ask_for_the_number_in_the_same_words() -> None:
    rubrics = [load_library_trait(name).eval_prompt for name in list_traits()]
    (tail,) = {rubric[rubric.index("The question and the answer stand") :] for rubric in rubrics}
    assert "REFUSAL" in tail and "Write the number only" in tail


def test_the_documentation_shows_every_trait() -> None:
    _, table = PAGE.read_text().split("| trait | opposite | more of it |\n| --- | --- | --- |\n")
    shipped = [load_library_trait(name) for name in list_traits()]
    assert table.split("\n\n")[0].splitlines() == [f"| {t.name} | {t.opposite} | {t.description} |" for t in shipped]


def test_the_trait_file_that_the_documentation_shows_is_valid(tmp_path: Path) -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.S)
    (tmp_path / "stubborn.toml").write_text(text)
    assert load_trait(tmp_path / "stubborn.toml").evaluation_questions


def test_an_unknown_trait_names_the_nearest_one() -> None:
    with pytest.raises(NotFoundError, match="unknown trait 'sycofantic'") as caught:
        load_library_trait("sycofantic")
    assert "'sycophantic'" in caught.value.hint


@pytest.mark.parametrize("name", ["../evil", "evil.toml", "", "/etc/passwd"])
def test_a_trait_name_is_never_a_path(name: str) -> None:
    with pytest.raises(NotFoundError):
        load_library_trait(name)


@pytest.fixture
def own_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the shipped traits that stands in for them."""
    folder = tmp_path / "traits"
    shutil.copytree(LIBRARY, folder)
    monkeypatch.setattr(files, "library", lambda name: tmp_path / name)
    list_traits.cache_clear()
    load_library_trait.cache_clear()
    yield folder
    list_traits.cache_clear()
    load_library_trait.cache_clear()


def test_one_more_trait_is_one_more_file(own_library: Path) -> None:
    text = (own_library / "silly.toml").read_text().replace('name = "silly"', 'name = "stubborn"')
    (own_library / "stubborn.toml").write_text(text)
    assert list_traits() == tuple(sorted([*OPPOSITES, "stubborn"]))
    assert load_library_trait("stubborn").source == find_trait("stubborn").source == "trait:stubborn"


def test_a_misspelt_key_of_a_shipped_trait_is_refused(own_library: Path) -> None:
    text = (own_library / "silly.toml").read_text().replace("evaluation_questions", "evaluation_question")
    (own_library / "silly.toml").write_text(text)
    with pytest.raises(UsageError, match=r"silly\.toml has the unknown key 'evaluation_question'"):
        load_library_trait("silly")
