"""`init`: a workspace and its steps, skippable and resumable, with an estimate before anything is done."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from tests.cli.conftest import Cli, Terminal, make_calibration, make_vector

from persona_steering.config import get_config
from persona_steering.errors import QualityError
from persona_steering.personas.datasets import Datasets, SetKind, shipped_path
from persona_steering.vectors import ModelIdentity, VectorStore

pytestmark = pytest.mark.usefixtures("little_effort")

WITHOUT_MODEL = ("--skip", "datasets", "--skip", "baseline", "--skip", "safety", "--no-personas")


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("persona_steering.backends.wrapper.load", lambda *a, **k: pytest.fail("a model was loaded"))


def test_a_workspace_is_made_step_by_step_and_not_twice(
    on_tiny: Cli, tmp_path: Path, tiny_model: ModelIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "lab"
    dry = on_tiny("init", str(root), "--personas", "sage", "--dry-run")
    assert dry.code == 0 and not root.exists(), dry.err
    assert f"Would make {root / 'config.yaml'}" in dry.err
    for expected in ("assistant baseline", "16 answers", "safety axis", "persona sage", "estimate"):
        assert expected in dry.err

    result = on_tiny("init", str(root), "--personas", "sage", "--json")
    assert result.code == 0, result.err
    states = {step["title"]: step["state"] for step in result.data["steps"]}
    assert states == {
        "questions and prompts": "done",
        "assistant baseline": "done",
        "safety axis with its floors": "done",
        "persona sage": "done",
        "assistant axis": "skipped",  # one persona is too few
    }
    store = VectorStore(root / "vectors")
    assert store.exists("baseline", "assistant-baseline", tiny_model)
    assert store.load("axis", "safety", tiny_model).metadata.thresholds
    assert store.exists("persona", "sage", tiny_model)
    assert yaml.safe_load((root / "config.yaml").read_text())["model"] == {"name": tiny_model.id}

    # a second run finds everything done, and with another persona makes the assistant axis
    monkeypatch.chdir(root)
    store.save(make_vector(tiny_model, "pirate", calibration=make_calibration()))
    before = store.path("persona", "sage", tiny_model).read_bytes()
    again = on_tiny("init", "--personas", "sage,pirate")
    assert again.code == 0, again.err
    assert again.err.count("there already") == 4
    assert store.path("persona", "sage", tiny_model).read_bytes() == before
    assert store.exists("axis", "assistant", tiny_model)
    following = again.err.split("Next:")[1].strip().splitlines()
    assert len(following) == 3 and all("persona-steer " in line for line in following)

    done = on_tiny("init", "--personas", "sage,pirate", "--json")
    assert {step["state"] for step in done.data["steps"]} == {"done"} and done.data["created"] == []


@pytest.mark.usefixtures("no_model")
def test_with_every_step_skipped_only_the_folders_are_made(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = cli("init", "lab", *WITHOUT_MODEL, "--model", "Qwen/Qwen2.5-7B-Instruct")
    assert result.code == 0, result.err
    root = tmp_path / "lab"
    assert sorted(path.name for path in root.iterdir()) == ["config.yaml", "datasets", "runs", "vectors"]
    monkeypatch.chdir(root)
    config = get_config()
    assert config.workspace == root and config.model.name == "Qwen/Qwen2.5-7B-Instruct"
    assert config.origin("model.name") == str(root / "config.yaml")

    file = root / "config.yaml"
    file.write_text(file.read_text() + "# mine\n")
    again = cli("init", *WITHOUT_MODEL, "--model", "hf:o/other", "--json")
    assert again.data["created"] == [] and "# mine" in file.read_text() and "hf:o/other" not in file.read_text()


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("arguments", "code", "message", "hint"),
    [
        (["--personas", "sgae"], 4, "unknown archetype 'sgae'", "'sage'"),
        (["--personas", "sage", "--no-personas"], 2, "both given", "one of them"),
        (["--personas", ","], 2, "names none", "--no-personas"),
        (["--skip", "axis"], 2, "'axis' is not one of", "--help"),
        (["--config", "x.yaml"], 2, "takes no --config", "init DIR"),
        (["--set", "model.nam=x"], 3, "unknown setting", "'model.name'"),
        (["file"], 2, "is a file", "another folder"),
        (["theirs"], 2, "belongs to another program", "persona_steering: 1"),
    ],
)
def test_bad_input_makes_nothing(
    arguments: list[str], code: int, message: str, hint: str, cli: Cli, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "config.yaml").write_text("their: settings\n")
    before = sorted(tmp_path.rglob("*"))
    result = cli("init", *arguments)
    assert result.code == code and result.out == "", result.err
    error, advice = result.err.strip().splitlines()[-2:]
    assert message in error and hint in advice
    assert sorted(tmp_path.rglob("*")) == before


def test_a_no_stops_before_any_step(on_tiny: Cli, tmp_path: Path) -> None:
    result = on_tiny("init", "lab", "--no-personas", stdin=Terminal("n\n"))
    assert result.code == 130 and "Go on?" in result.err
    assert not list((tmp_path / "lab" / "vectors").rglob("*.safetensors"))


def test_data_sets_are_written_by_a_model_only_when_asked_for(
    on_tiny: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def write_set(writer: object, datasets: Datasets, kind: SetKind, count: int, **options: object) -> None:
        asked.append(kind)
        if kind == "unsafe":
            raise QualityError("too few were written.", hint="")
        with shipped_path(kind) as path:
            shutil.copy(path, datasets.path(kind))

    monkeypatch.setattr("persona_steering.engine.writing.write_set", write_set)
    skips = ("--skip", "baseline", "--skip", "safety", "--no-personas")
    result = on_tiny("init", "lab", *skips, "--generate", "--json")
    assert result.code == 7 and asked == ["questions", "safe", "unsafe"]
    assert "data set unsafe: too few were written." in result.err
    again = on_tiny("init", "lab", *skips, "--generate")
    assert again.code == 7 and asked[3:] == ["unsafe"]  # what is there is kept
    refused = on_tiny("init", "lab", *skips, "--generator", "local")
    assert refused.code == 2 and "--generate" in refused.err
