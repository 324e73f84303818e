"""The shipped texts: counts, form, balance, and that no two of them are nearly the same."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import combinations, product
from statistics import mean

import pytest
from tests.personas.texts import FORBIDDEN, INTERROGATIVE, YES_NO, closest, sentences, words

from persona_steering.personas import (
    Persona,
    list_archetypes,
    load_archetype,
    load_questions,
    load_safety_prompts,
)

ARCHETYPES = (
    "conspiracy_theorist",
    "creator",
    "drill_sergeant",
    "excited_puppy",
    "explorer",
    "guardian",
    "hermit",
    "medieval_peasant",
    "noir_detective",
    "pirate",
    "prophet",
    "robot",
    "sage",
    "shakespearean",
    "surfer_dude",
    "trickster",
    "valley_girl",
)


def questions() -> list[str]:
    return [q.question for q in load_questions()]


def safety(kind: str) -> list[str]:
    assert kind in ("safe", "unsafe")
    return [p.prompt for p in load_safety_prompts("safe" if kind == "safe" else "unsafe")]


def assert_prefixes_are_balanced(categories: Sequence[str]) -> None:
    kinds = set(categories)
    for end in range(1, len(categories) + 1):
        counts = Counter(categories[:end])
        spread = [counts[kind] for kind in kinds]
        assert max(spread) - min(spread) <= 1, (end, counts)


def test_the_seventeen_archetypes_are_there() -> None:
    assert list_archetypes() == ARCHETYPES


@pytest.fixture(params=ARCHETYPES)
def archetype(request: pytest.FixtureRequest) -> Persona:
    return load_archetype(request.param)


def test_an_archetype_is_complete(archetype: Persona) -> None:
    assert archetype.source == f"archetype:{archetype.name}"
    assert archetype.title
    assert len(sentences(archetype.description)) == 1
    assert len(sentences(archetype.emphasis)) == 1
    assert 4 <= len(archetype.traits) <= 6
    assert len(set(archetype.traits)) == len(archetype.traits)
    assert len(archetype.system_prompts) == 5


def test_every_prompt_of_an_archetype_has_two_to_four_sentences(archetype: Persona) -> None:
    for prompt in archetype.system_prompts:
        assert 2 <= len(sentences(prompt)) <= 4, prompt


def test_every_prompt_of_an_archetype_says_who_speaks(archetype: Persona) -> None:
    for prompt in archetype.system_prompts:
        assert prompt.startswith(("You are ", "Speak as ")), prompt


def test_every_prompt_of_an_archetype_lets_its_voice_be_heard(archetype: Persona) -> None:
    for prompt in archetype.system_prompts:
        quoted = re.search(r"(?<!\w)'[^']{3,}", prompt)
        shouted = re.search(r"\b[A-Z]{4,}\b", prompt)
        assert quoted or shouted, prompt


def test_no_text_for_extraction_mentions_a_machine_that_chats() -> None:
    texts = questions()
    for name in ARCHETYPES:
        persona = load_archetype(name)
        texts += [
            persona.title,
            persona.description,
            persona.emphasis,
            *persona.traits,
            *persona.system_prompts,
        ]
    assert [t for t in texts if FORBIDDEN.search(t)] == []


def test_the_prompts_of_all_archetypes_are_distinct() -> None:
    prompts = [p for name in ARCHETYPES for p in load_archetype(name).system_prompts]
    assert len(prompts) == 85
    score, *pair = closest(combinations(prompts, 2))
    assert score < 0.35, pair


def test_there_are_one_hundred_questions_over_six_categories() -> None:
    counts = Counter(q.category for q in load_questions())
    assert set(counts) == {"identity", "values", "style", "problem_solving", "social", "abstract"}
    assert sum(counts.values()) == 100
    assert set(counts.values()) == {16, 17}


def test_question_ids_are_unique_and_name_their_category() -> None:
    asked = load_questions()
    assert len({q.id for q in asked}) == 100
    assert all(re.fullmatch(rf"{q.category}-\d\d", q.id) for q in asked)


def test_questions_are_open_and_short() -> None:
    for question in questions():
        first = words(question)[0]
        assert first not in YES_NO, question
        assert first in INTERROGATIVE | {"describe", "tell"}, question
        assert question.endswith("?") == (first in INTERROGATIVE), question
        assert 6 <= len(question.split()) <= 18, question


def test_any_prefix_of_the_questions_is_balanced() -> None:
    assert_prefixes_are_balanced([q.category for q in load_questions()])


def test_no_two_questions_are_nearly_the_same() -> None:
    score, *pair = closest(combinations(questions(), 2))
    assert score < 0.6, pair


@pytest.mark.parametrize("kind", ["safe", "unsafe"])
def test_there_are_two_hundred_safety_prompts_over_ten_categories(kind: str) -> None:
    prompts = load_safety_prompts("safe" if kind == "safe" else "unsafe")
    counts = Counter(p.category for p in prompts)
    assert len(prompts) == 200
    assert len(counts) >= 10
    assert [p.id for p in prompts] == [f"{kind}-{i:03d}" for i in range(1, 201)]
    assert_prefixes_are_balanced([p.category for p in prompts])


@pytest.mark.parametrize("kind", ["safe", "unsafe"])
def test_no_two_prompts_of_a_set_are_nearly_the_same(kind: str) -> None:
    pairs = list(combinations(safety(kind), 2))
    assert closest(pairs)[0] < 0.6, closest(pairs)
    assert closest(pairs, content_only=True)[0] < 0.6, closest(pairs, content_only=True)


def test_no_safe_prompt_is_nearly_an_unsafe_one_or_a_question() -> None:
    for first, second in combinations([safety("safe"), safety("unsafe"), questions()], 2):
        pairs = list(product(first, second))
        assert closest(pairs)[0] < 0.6, closest(pairs)
        assert closest(pairs, content_only=True)[0] < 0.6, closest(pairs, content_only=True)


def test_safe_and_unsafe_differ_in_no_surface_feature() -> None:
    safe, unsafe = safety("safe"), safety("unsafe")
    for ours, theirs in zip(safe, unsafe, strict=True):
        assert words(ours)[0] == words(theirs)[0], (ours, theirs)
        assert ours.endswith("?") == theirs.endswith("?"), (ours, theirs)
    for length in (len, lambda text: len(text.split())):
        ratio = mean(map(length, safe)) / mean(map(length, unsafe))
        assert 0.97 < ratio < 1.03


@pytest.mark.parametrize("kind", ["safe", "unsafe"])
def test_safety_prompts_are_one_short_line(kind: str) -> None:
    for prompt in safety(kind):
        assert 5 <= len(prompt.split()) <= 14, prompt
        assert prompt.isascii(), prompt
        assert prompt.endswith("?") == (words(prompt)[0] in INTERROGATIVE), prompt


def test_unsafe_prompts_hold_no_quantities_links_or_code() -> None:
    assert [p for p in safety("unsafe") if re.search(r"[0-9]|https?:|[<>{}`$%;=]", p)] == []
