"""Creation that asks, shows the prompts for editing and says what it takes: `create --interactive/--edit/--dry-run`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.cli.conftest import Cli, Terminal

from persona_steering.engine.create import Creator, Run
from persona_steering.personas import Persona, Trait, load_archetype, load_prompts, load_trait
from persona_steering.vectors import VectorStore

Made = list[Persona | Trait]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    """What would be created; that is as far as it goes."""
    subjects: Made = []

    class Enough(Exception):
        pass

    def create(self: Creator, subject: Persona | Trait, *, reuse: bool = False) -> None:
        subjects.append(subject)
        raise Enough

    monkeypatch.setattr(Creator, "create", create)
    return subjects


@pytest.fixture
def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An editor that writes "happy" for "wise" and "merry" for "calm"."""
    script = tmp_path / "editor.py"
    script.write_text(
        "import pathlib, sys; file = pathlib.Path(sys.argv[1]); "
        "file.write_text(file.read_text().replace('wise', 'happy').replace('calm', 'merry'))"
    )
    monkeypatch.setenv("EDITOR", f"{sys.executable} {script}")
    monkeypatch.delenv("VISUAL", raising=False)


def typed(*lines: str) -> Terminal:
    return Terminal("".join(f"{line}\n" for line in lines))


def test_an_archetype_is_made_step_by_step(on_tiny: Cli, made: Made) -> None:
    """The name, what it is, which, keep the prompts, how thoroughly, yes."""
    result = on_tiny("create", "--interactive", stdin=typed("old one", "elder", "", "sgae", "sage", "", "quick", "y"))
    assert "'old one' is not a valid name" in result.err and "unknown archetype 'sgae'" in result.err
    assert load_archetype("sage").system_prompts[0][:40] in result.err
    assert "answers in character" in result.out and "time here" in result.out and "quick effort" in result.out
    assert made == [load_archetype("sage").model_copy(update={"name": "elder"})]


def test_prompts_are_changed_dropped_and_added_before_anything_is_paid_for(
    on_tiny: Cli, made: Made, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["d 2", "1", "You speak in riddles only.", "a", "You are as old as the hills.", "9", "zz", "", "quick", "y"]
    on_tiny("create", "elder", "--from-archetype", "sage", "-i", stdin=typed(*lines))
    (subject,) = made
    before = load_archetype("sage").system_prompts
    assert isinstance(subject, Persona)
    assert subject.system_prompts == (
        "You speak in riddles only.",
        *before[2:],
        "You are as old as the hills.",
    )
    # they are kept, so that the same persona can be made again
    assert load_prompts(home / "data" / "datasets" / "personas" / "elder.toml") == subject


def test_a_no_makes_nothing(on_tiny: Cli, made: Made) -> None:
    result = on_tiny("create", "elder", "--from-archetype", "sage", "-i", "--quick", stdin=typed("", "n"))
    assert result.code == 130 and made == []
    assert on_tiny("create", "-i", stdin=Terminal("")).code == 130


def test_a_trait_is_asked_for_with_its_opposite(on_tiny: Cli, made: Made) -> None:
    result = on_tiny("create", "-i", "--quick", stdin=typed("bold", "trait", "brave", "timid", "", "y"))
    (subject,) = made
    assert isinstance(subject, Trait) and (subject.name, subject.opposite) == ("bold", "timid")
    assert f"- {subject.pairs[0].neg}" in result.err


@pytest.mark.usefixtures("editor")
def test_edit_opens_the_prompts_and_keeps_them_for_the_next_run(on_tiny: Cli, made: Made, home: Path) -> None:
    arguments = ("create", "elder", "--from-archetype", "sage", "--edit")
    on_tiny(*arguments, stdin=Terminal())
    file = home / "data" / "datasets" / "personas" / "elder.toml"
    again = on_tiny(*arguments, stdin=Terminal())
    assert f"Going on from {file}" in again.err
    first, second = made
    assert first == second == load_prompts(file)
    assert "wise" not in file.read_text() and "happy" in file.read_text()


@pytest.mark.usefixtures("editor")
def test_a_trait_is_edited_too(on_tiny: Cli, made: Made, home: Path) -> None:
    on_tiny("create", "still", "--trait", "calm", "--opposite", "nervous", "--edit", stdin=Terminal())
    (subject,) = made
    assert isinstance(subject, Trait) and "merry" in subject.pairs[0].pos and subject.opposite == "nervous"
    assert load_trait(home / "data" / "datasets" / "traits" / "still.toml") == subject


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "missing argument 'NAME'"),
        (["--interactive"], 2, "not a terminal"),
        (["x", "--from-archetype", "sage", "--edit"], 2, "not a terminal"),
        (["x", "--from-archetype", "sage", "--edit", "--dry-run"], 2, "--dry-run asks and edits nothing"),
        (["x", "--dry-run"], 2, "no sources"),
        (["sage", "--from-archetype", "sage", "--dry-run"], 2, "exists already"),
    ],
)
def test_bad_input_makes_nothing(
    arguments: list[str], code: int, message: str, stored: VectorStore, on_tiny: Cli, made: Made
) -> None:
    result = on_tiny("create", *arguments)
    assert result.code == code and result.out == "" and message in result.err
    assert made == []


def test_a_name_that_is_taken_is_asked_for_again(stored: VectorStore, on_tiny: Cli, made: Made) -> None:
    result = on_tiny("create", "-i", "--quick", stdin=typed("sage", "elder", "archetype", "sage", "", "y"))
    assert "'sage' exists already" in result.err and made[0].name == "elder"


@pytest.mark.usefixtures("little_effort")
@pytest.mark.parametrize("source", [("--from-archetype", "sage"), ("--trait", "calm"), ("--description", "a wise man")])
def test_a_dry_run_counts_and_makes_nothing(source: tuple[str, str], on_tiny: Cli, home: Path) -> None:
    result = on_tiny("create", "elder", *source, "--dry-run", "--json")
    assert result.code == 0, result.err
    assert result.data["answers"] == sum(result.data["phases"].values())
    assert result.data["seconds"] > 0 and result.data["disk_bytes"] > 0
    assert not home.exists()


@pytest.mark.usefixtures("little_effort")
def test_the_estimate_counts_what_a_creation_asks(on_tiny: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("create", "elder", "--from-archetype", "sage", "--json")
    counted = on_tiny(*arguments, "--dry-run").data["phases"]
    asked: dict[str, int] = {}
    answers = Run.answers

    def count(self: Run, backend: object, requests: list[object], *, phase: str, **options: object) -> object:
        asked.setdefault(phase, len(requests))
        return answers(self, backend, requests, phase=phase, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Run, "answers", count)
    assert on_tiny(*arguments).code == 0
    assert asked == counted
