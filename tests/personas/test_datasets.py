"""The workspace's own data sets before the shipped ones, and what is written into them."""

from __future__ import annotations

from pathlib import Path

import pytest

from persona_steering.errors import UsageError
from persona_steering.personas import Persona, load_prompts, load_questions, load_safety_prompts
from persona_steering.personas.datasets import Datasets, persona_toml, save_jsonl

PERSONA = Persona(
    name="wizard",
    title="The Wizard",
    description='says "bah" and \\ \x7f',
    traits=("old", "grumpy"),
    system_prompts=("You are a wizard.\nYou say 'bah'.", "Speak in riddles — “always”."),
)


def test_without_a_folder_or_a_file_the_shipped_sets_hold(tmp_path: Path) -> None:
    for datasets in (Datasets(None), Datasets(tmp_path / "none")):
        assert datasets.questions() == load_questions()
        assert datasets.safety_prompts("unsafe", 3) == load_safety_prompts("unsafe", 3)
        assert datasets.own("safe") is None
    assert Datasets(tmp_path).persona("wizard") is None
    with pytest.raises(UsageError, match="no folder"):
        Datasets(None).path("safe")


def test_a_set_of_ones_own_is_preferred_and_split_in_the_same_shares(tmp_path: Path) -> None:
    save_jsonl(load_questions(50), tmp_path / "questions.jsonl")
    datasets = Datasets(tmp_path)
    texts = [item.question for item in load_questions(50)]
    assert [item.question for item in datasets.questions()] == texts
    assert datasets.extraction_questions(30) == tuple(texts[:30])
    assert datasets.calibration_questions() == tuple(texts[30:])
    with pytest.raises(UsageError, match="31 questions were asked for, and 30 are there for extraction"):
        datasets.extraction_questions(31)


def test_the_shipped_questions_are_split_60_to_40() -> None:
    assert len(Datasets(None).extraction_questions(60)) == 60
    assert len(Datasets(None).calibration_questions()) == 40


def test_a_saved_persona_is_read_back_whatever_its_characters(tmp_path: Path) -> None:
    datasets = Datasets(tmp_path)
    path = datasets.save_persona(PERSONA)
    assert path == tmp_path / "personas" / "wizard.toml"
    assert datasets.persona("wizard") == PERSONA.model_copy(update={"source": "prompts:wizard.toml"})
    assert persona_toml(PERSONA).startswith("# ")


def test_saved_lines_are_read_back(tmp_path: Path) -> None:
    save_jsonl(["You are a wizard of the north.", "Speak in riddles and rhymes."], tmp_path / "wizard.jsonl")
    assert len(load_prompts(tmp_path / "wizard.jsonl").system_prompts) == 2
    save_jsonl(load_safety_prompts("safe", 4), tmp_path / "safe.jsonl")
    assert load_safety_prompts("safe", path=tmp_path / "safe.jsonl") == load_safety_prompts("safe", 4)


@pytest.mark.parametrize("name", ["../wizard", "Wizard", "", "a/b"])
def test_a_name_never_leaves_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="not a valid name"):
        Datasets(tmp_path).persona_path(name)
