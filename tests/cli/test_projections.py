"""`project`, `shift` and `screen`, as commands on a tiny model."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.backends.tiny import open_tiny, save_tiny
from tests.cli.conftest import Cli, make_vector

from persona_steering.backends.base import Text, conversation
from persona_steering.personas import load_library_trait, save_trait
from persona_steering.vectors import ModelIdentity, SteeringVector, VectorStore, replace_metadata
from persona_steering.vectors.formats import persona_vectors_pt


@pytest.fixture
def answers(tmp_path: Path, tiny_model: ModelIdentity) -> Path:
    """A CSV of three answers, one of them empty."""
    path = tmp_path / "answers.csv"
    prompt = "<s><|user|>Is it far?<|end|><|assistant|>"
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(
            [["question", "prompt", "answer"], *(["Is it far?", prompt, answer] for answer in ("NA", "", "Very far."))]
        )
    return path


@pytest.fixture
def training(tmp_path: Path) -> Path:
    path = tmp_path / "train.jsonl"
    turns = [
        [{"role": "user", "content": f"Question {i}?"}, {"role": "assistant", "content": f"Answer {i}, " * (i + 1)}]
        for i in range(5)
    ]
    path.write_text("".join(json.dumps({"messages": one}) + "\n" for one in turns) + "{broken\n")
    return path


def cells(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def projection(model: ModelIdentity, vector: SteeringVector, layer: int, question: str, answer: str) -> float:
    with open_tiny(Path(model.id)) as backend:
        (found,) = backend.capture([Text(conversation(question), answer)], layers=[layer])
    return float(found.mean[layer].astype(np.float64) @ vector.unit(layer).astype(np.float64))


def test_project_writes_a_side_file_and_leaves_the_answers_alone(
    on_tiny: Cli, stored: VectorStore, tiny_model: ModelIdentity, answers: Path
) -> None:
    before = answers.read_bytes()
    result = on_tiny("project", str(answers), "--vector", "sage", "--layer", "1")
    assert result.code == 0, result.err
    name = f"{Path(tiny_model.id).name}_sage_proj_layer2"
    assert name in result.out and "1 of 3 rows has no value. line 3: the answer is empty" in result.err
    rows = cells(answers.with_name("answers.projections.csv"))
    wanted = projection(tiny_model, make_vector(tiny_model, "sage"), 1, "Is it far?", "Very far.")
    assert float(rows[2][name]) == pytest.approx(wanted, rel=1e-4)
    assert [row["line"] for row in rows] == ["2", "3", "4"] and rows[1][name] == ""
    assert answers.read_bytes() == before


def test_project_takes_a_published_file_many_layers_and_writes_a_copy(
    on_tiny: Cli, home: Path, tiny_model: ModelIdentity, answers: Path, tmp_path: Path
) -> None:
    vector = make_vector(tiny_model, "evil")
    published = tmp_path / "evil_response_avg_diff.pt"
    persona_vectors_pt.write(published, vector)
    out = tmp_path / "out.csv"
    found = on_tiny(
        *("project", str(answers), "--vector", str(published), "--layer", "0-1", "--layer", "2"),
        *("--type", "cos_sim", "--out", str(out), "--json"),
    ).data
    stem = f"{Path(tiny_model.id).name}_evil_response_avg_diff_cos_sim"
    names = [f"{stem}_layer{row}" for row in (1, 2, 3)]
    assert [column["name"] for column in found["columns"]] == names
    assert [column["layer"] for column in found["columns"]] == [0, 1, 2]
    assert list(cells(out)[0]) == ["question", "prompt", "answer", *names]
    assert -1 <= float(cells(out)[0][names[0]]) <= 1
    page = Path(found["run"], "report.html").read_text()
    assert names[0] in page and "2 of 3 answers" in page


def test_project_in_place_adds_its_columns_once(on_tiny: Cli, stored: VectorStore, answers: Path) -> None:
    arguments = ("project", str(answers), "--vector", "calm", "--in-place", "-q")
    assert on_tiny(*arguments).out == f"{answers}\n"
    assert len(cells(answers)[0]) == 4
    again = on_tiny(*arguments)
    assert again.code == 2 and "--overwrite" in again.err
    assert on_tiny(*arguments, "--overwrite").code == 0 and len(cells(answers)[0]) == 4


def test_project_in_a_dry_run_says_how_much_it_is_and_writes_nothing(
    on_tiny: Cli, stored: VectorStore, answers: Path
) -> None:
    result = on_tiny("project", str(answers), "--vector", "sage", "--dry-run")
    assert result.code == 0 and "projections: 3, read" in result.out and "time: " in result.out
    data = on_tiny("project", str(answers), "--vector", "sage", "--dry-run", "--json").data
    assert data["phases"] == {"projections": 3} and data["seconds"] >= 0
    assert not answers.with_name("answers.projections.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("gone.csv", "--vector", "sage"), 4, "there is no file gone.csv"),
        (("answers.csv", "--vector", "sgae"), 4, "Did you mean 'sage'"),
        (("answers.csv", "--vector", "gone.pt"), 4, "there is no file gone.pt"),
        (("answers.csv", "--vector", "raw"), 2, "'raw' is not calibrated"),
        (("answers.csv", "--vector", "sage", "--layer", "4"), 2, "Its layers are 0 to 3"),
        (("answers.csv", "--vector", "sage", "--layer", "top"), 2, "names no layers"),
        (("answers.csv", "--vector", "sage", "--vector", "sage"), 2, "two vectors are called 'sage'"),
        (("answers.csv", "--vector", "sage", "--out", "a.csv", "--in-place"), 2, "both given"),
        (("answers.csv", "--vector", "sage", "--out", "answers.csv"), 2, "written over itself"),
        (("answers.csv", "--vector", "sage", "--out", "a.jsonl"), 2, "cannot hold the rows"),
        (("answers.csv",), 2, "--vector"),
    ],
)
def test_project_refuses_what_it_cannot_do(
    on_tiny: Cli, stored: VectorStore, answers: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    before = answers.read_bytes()
    result = on_tiny("project", *arguments)
    assert (result.code, message in result.err) == (code, True), result.err
    assert answers.read_bytes() == before


@pytest.mark.parametrize("command", ["project answers.csv", "screen train.jsonl", "shift --tuned anywhere"])
def test_a_vector_that_is_nowhere_is_refused_before_a_model_is_loaded(
    cli: Cli, stored: VectorStore, answers: Path, training: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persona_steering.backends.wrapper.load", lambda *a, **k: pytest.fail("a model was loaded"))
    for source in ("sgae", "gone.pt"):
        result = cli(*command.split(), "--vector", source)
        assert result.code == 4, result.err


def test_a_vector_of_another_model_is_refused(
    on_tiny: Cli, store: VectorStore, tiny_model: ModelIdentity, answers: Path
) -> None:
    vector = make_vector(tiny_model, "alien")
    other = tiny_model.model_copy(update={"fingerprint": "f" * 16, "id": "hf:other/model"})
    path = store.save(replace_metadata(vector, vector.metadata.model_copy(update={"model": other})))
    for source in ("alien", str(path)):
        result = on_tiny("project", str(answers), "--vector", source, "--layer", "1")
        assert result.code == 8 and "hf:other/model" in result.err


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of the same shape as the tiny one: as far from it as a model can be."""
    return save_tiny(
        "llama", tmp_path_factory.mktemp("tuned") / "tuned", max_position_embeddings=1024, rms_norm_eps=0.1
    )


def shift(cli: Cli, base: str, tuned: Path, *rest: str) -> Any:
    return cli("shift", "--base", base, "--tuned", str(tuned), "--vector", "sage", *rest)


def test_shift_shows_the_change_with_its_interval_and_what_random_directions_do(
    cli: Cli, stored: VectorStore, tiny_model: ModelIdentity, tuned: Path
) -> None:
    found = shift(cli, tiny_model.id, tuned, "--trait", "evil", "--questions", "6", "--layer", "1-2", "--json").data
    assert (found["base"], found["tuned"]) == (tiny_model.id, str(tuned))
    assert len(found["questions"]) == 6 and [one["layer"] for one in found["shifts"]] == [1, 2]
    one = found["shifts"][0]
    assert one["shift"]["low"] <= one["shift"]["mean"] <= one["shift"]["high"]
    assert one["tuned"] - one["base"] == pytest.approx(one["shift"]["mean"])
    assert one["control_sd"] > 0
    page = Path(found["run"], "report.html").read_text()
    assert found["questions"][0].split("?")[0][:20] in page and "6 questions" in page
    shown = shift(cli, tiny_model.id, tuned, "--questions", "4")
    assert "shift, 4 questions" in shown.out and "report: " in shown.err


def test_shift_asks_the_questions_of_a_published_evaluation_file(
    cli: Cli, stored: VectorStore, tiny_model: ModelIdentity, tuned: Path, tmp_path: Path
) -> None:
    save_trait(load_library_trait("evil"), tmp_path / "evil.json", split="eval")
    found = shift(cli, tiny_model.id, tuned, "--trait", "evil.json", "--questions", "3", "--json").data
    assert tuple(found["questions"]) == load_library_trait("evil").evaluation_questions[:3]


def test_shift_in_a_dry_run_loads_no_model(
    cli: Cli, stored: VectorStore, tiny_model: ModelIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persona_steering.backends.wrapper.load", lambda *a, **k: pytest.fail("a model was loaded"))
    result = shift(cli, tiny_model.id, Path("anywhere"), "--trait", "evil", "--dry-run", "--json")
    assert result.data == {"phases": {"base model": 20, "tuned model": 20}}


def test_shift_refuses_another_size_an_adapter_and_an_unknown_trait(
    cli: Cli, stored: VectorStore, tiny_model: ModelIdentity, tmp_path: Path
) -> None:
    small = save_tiny("llama", tmp_path / "small", hidden_size=16)
    result = shift(cli, tiny_model.id, small, "--questions", "2")
    assert result.code == 8 and "same hidden size" in result.err
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    result = shift(cli, tiny_model.id, tmp_path / "adapter")
    assert result.code == 10 and "Merge it" in result.err
    result = shift(cli, tiny_model.id, small, "--trait", "green")
    assert result.code == 2 and "no evaluation questions" in result.err


def test_screen_ranks_the_samples_and_keeps_every_value(
    on_tiny: Cli, stored: VectorStore, training: Path, tmp_path: Path
) -> None:
    out = tmp_path / "values.csv"
    arguments = ("screen", str(training), "--vector", "sage", "--max-new-tokens", "4", "--top", "2")
    found = on_tiny(*arguments, "--out", str(out), "--json").data
    assert (found["samples"], found["measured"], found["skipped"][0]["line"]) == (6, 5, 6)
    (push,) = found["pushes"]
    values = {int(row["line"]): float(row["difference"]) for row in cells(out)}
    assert push["difference"]["mean"] == pytest.approx(np.mean(list(values.values())))
    assert [one["line"] for one in push["ranked"]] == sorted(values, key=lambda line: -values[line])[:2]
    assert push["ranked"][0]["answer"].startswith("Answer ")
    page = Path(found["run"], "report.html").read_text()
    assert push["ranked"][0]["question"] in page and "5 of 6 samples" in page
    shown = on_tiny(*arguments)
    assert "difference, 5 samples" in shown.out and "line 6: it is not JSON" in shown.err


def test_screen_draws_the_same_part_for_a_seed(on_tiny: Cli, stored: VectorStore, training: Path) -> None:
    arguments = ("screen", str(training), "--vector", "sage", "--max-new-tokens", "6", "--sample", "4", "--json")
    first, again = (on_tiny(*arguments, "--seed", "4").data for _ in range(2))
    assert first == again and first["samples"] == 4


def test_screen_in_a_dry_run_counts_own_answers_and_readings(on_tiny: Cli, stored: VectorStore, training: Path) -> None:
    arguments = ("screen", str(training), "--vector", "sage", "--max-new-tokens", "4", "--dry-run", "--json")
    data = on_tiny(*arguments).data
    assert data["phases"] == {"own answers": 5, "differences": 10} and data["max_tokens"] == 20


def test_screen_refuses_what_holds_no_conversations(
    on_tiny: Cli, stored: VectorStore, answers: Path, tmp_path: Path
) -> None:
    result = on_tiny("screen", str(answers), "--vector", "sage")
    assert result.code == 2 and "already rendered" in result.err
    (tmp_path / "bad.jsonl").write_text("nonsense\n")
    result = on_tiny("screen", "bad.jsonl", "--vector", "sage")
    assert result.code == 2 and "Line 1: it is not JSON" in result.err
