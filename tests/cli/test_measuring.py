"""`sweep`, `layers`, `card` and `similarity`, on a tiny model with very few answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.conftest import Cli, make_calibration, make_vector

from persona_steering.engine import create
from persona_steering.evaluation.report.page import shown
from persona_steering.vectors import ModelIdentity, VectorStore

PROMPTS = ("You are a sage who speaks in riddles.", "You are an old sage, slow and kind.")
FEW = ("--questions", "4", "--max-new-tokens", "6")


def spaced(text: str) -> str:
    """The text with one space for many."""
    return " ".join(text.split())


@pytest.fixture
def prompted(stored: VectorStore, tiny_model: ModelIdentity) -> VectorStore:
    """The store of `stored`, in which sage and pirate say what evokes them."""
    for name in ("sage", "pirate"):
        vector = make_vector(tiny_model, name, calibration=make_calibration(), system_prompts=PROMPTS)
        stored.save(vector)
    return stored


@pytest.mark.usefixtures("prompted")
def test_a_sweep_measures_every_strength_beside_random_directions_and_writes_its_report(
    on_tiny: Cli, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = on_tiny("sweep", "sage", "--from", "-1", "--to", "1", "--points", "3", *FEW, "--raw", "--out", str(out))
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert [line.split()[0] for line in lines] == ["strength", "-1", "0", "1"]
    assert "mean coherence" in result.err.lower() and str(out / "report.html") in result.err
    data = json.loads((out / "sweep.json").read_text())
    assert [point["strength"] for point in data["points"]] == [-1, 0, 1]
    base = data["points"][1]
    assert base["steered"] == base["control"], "at 0 both are the base model"
    assert base["steered"]["gain"]["mean"] == 0 and base["anti_steered"] is None
    assert all(len(point["answers"]) == 4 for point in data["points"])
    page = (out / "report.html").read_text()
    assert page.count("<svg") == 2 and "likelihood" in page and 'id="point-2"' in page


@pytest.mark.usefixtures("prompted")
def test_a_sweep_resumes_from_its_run_and_says_the_same_again(
    on_tiny: Cli, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    asked = ("sweep", "sage", "--from", "0", "--to", "1", "--points", "2", *FEW, "--json")
    first = on_tiny(*asked)
    assert first.code == 0, first.err
    monkeypatch.setattr(
        "persona_steering.backends.transformers.backend.TransformersBackend.generate",
        lambda *a, **k: pytest.fail("asked again"),
    )
    again = on_tiny(*asked)
    assert again.code == 0 and again.data == first.data
    assert Path(first.data["report"]).parent.parent == home / "data" / "runs"


@pytest.mark.usefixtures("prompted")
def test_a_dry_run_counts_the_answers_and_asks_none(on_tiny: Cli, home: Path) -> None:
    result = on_tiny("sweep", "sage", "--points", "3", *FEW, "--dry-run", "--json")
    assert result.code == 0, result.err
    # two strengths beside 0, each with the vector and two random directions, on four questions
    assert result.data["phases"] == {"reference": 8, "sweep": 24}
    assert not list((home / "data").glob("runs/sweep*"))
    result = on_tiny("card", "sage", *FEW, "--controls", "3", "--dry-run", "--json")
    assert result.data["phases"]["card"] == 16


@pytest.mark.usefixtures("prompted")
def test_a_vector_without_a_calibration_needs_layers_and_a_dose(
    on_tiny: Cli, prompted: VectorStore, tiny_model: ModelIdentity
) -> None:
    prompted.save(make_vector(tiny_model, "raw", system_prompts=PROMPTS))
    few = ("sweep", "raw", "--from", "0", "--to", "1", "--points", "2", *FEW)
    refused = on_tiny(*few)
    assert refused.code == 2 and "not calibrated" in refused.err and "--layers 10-17 --dose 0.2" in refused.err
    assert on_tiny(*few, "--layers", "1-2").code == 2, "and no dose"
    for unit in (("--dose", "0.2"), ("--coef", "0.5")):
        given = on_tiny(*few, "--layers", "1-2", *unit, "--raw")
        assert given.code == 0, given.err


@pytest.mark.usefixtures("prompted")
def test_layers_marks_the_calibrated_ones_and_shows_both_measures(on_tiny: Cli) -> None:
    result = on_tiny("layers", "sage", *FEW, "--held-out", "4", "--json")
    assert result.code == 0, result.err
    rows = result.data["rows"]
    assert [row["layer"] for row in rows] == [0, 1, 2, 3]
    assert [row["chosen"] for row in rows] == [False, True, True, False]
    for row in rows:
        assert 0 <= row["auroc"]["low"] <= row["auroc"]["mean"] <= row["auroc"]["high"] <= 1
        assert {"gain", "coherence", "score"} == row["steered"].keys() == row["control"].keys()
    assert result.data["positives"] == result.data["negatives"] == 4
    some = on_tiny("layers", "sage", *FEW, "--held-out", "4", "--layers", "1,3")
    assert [line.split()[0] for line in some.out.splitlines()] == ["layer", "1", "3"]
    assert "tells best" in some.err


@pytest.mark.usefixtures("prompted")
def test_a_card_is_kept_with_the_vector_and_info_shows_it(
    on_tiny: Cli, prompted: VectorStore, tiny_model: ModelIdentity
) -> None:
    before = prompted.load("persona", "sage", tiny_model)
    result = on_tiny("card", "sage", *FEW, "--held-out", "4", "--controls", "2", "--shuffles", "2")
    assert result.code == 0, result.err
    after = prompted.load("persona", "sage", tiny_model)
    found = after.metadata.evidence
    assert after.digest == before.digest and found is not None
    assert found.discrimination is not None and found.steered is not None and found.lens is not None
    assert found.selectivity is not None and found.selectivity.keys() == {"pirate"}
    # nobody knows which answers this vector was made from
    assert found.stability is None and found.shuffled_labels is None
    assert "split-half cosine not measured" in spaced(result.out)
    assert "stability: not measured, the run that it was made in is not here" in result.err
    assert f"AUROC {shown(found.discrimination.auroc)}" in spaced(on_tiny("info", "sage").out)

    prompted.save(after * 2.0)
    assert "AUROC" not in on_tiny("info", "sage").out, "not for other directions"


def test_the_card_of_a_vector_made_here_has_its_stability_from_the_answers_on_disk(
    on_tiny: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    little = create.Effort(
        prompts_per_question=1,
        questions=6,
        max_new_tokens=6,
        calibration_questions=10,
        search_questions=4,
        coarse_questions=2,
        coarse_doses=(0.2,),
        controls=1,
        safety_prompts=8,
    )
    monkeypatch.setattr(create, "EFFORTS", dict.fromkeys(("quick", "standard", "thorough"), little))
    made = on_tiny("create", "my-sage", "--from-archetype", "sage", "--set", "extraction.num_questions=6")
    assert made.code == 0, made.err
    result = on_tiny("card", "my-sage", *FEW, "--held-out", "4", "--controls", "2", "--shuffles", "3", "--json")
    assert result.code == 0, result.err
    stability = result.data["stability"]
    assert stability["questions"] == 6 and stability["resamples"] > 100
    assert -1 <= stability["split_half"] <= 1 and stability["bootstrap_low"] <= stability["bootstrap_mean"]
    assert result.data["shuffled_labels"]["count"] == 3
    assert result.data["not_measured"].keys() == {"selectivity"}, "there is no other persona"


@pytest.mark.usefixtures("prompted")
def test_similarity_compares_all_vectors_of_the_model_without_loading_it(
    on_tiny: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("persona_steering.backends.wrapper.load", lambda *a, **k: pytest.fail("loaded"))
    result = on_tiny("similarity", "--json")
    assert result.code == 0, result.err
    assert result.data["names"] == ["bland", "calm", "pirate", "raw", "sage"]
    assert Path(result.data["report"]).is_file() and "similarity-" in result.data["report"]
    assert result.data["layers"] == [1, 2] and len(result.data["pairs"]) == 10
    assert result.data["space"]["positions"].keys() == {"bland", "pirate", "raw", "sage"}, "calm is a trait"
    two = on_tiny("similarity", "sage", "pirate", "--layers", "3", "--out", str(tmp_path / "out"))
    assert two.out.splitlines()[0].split() == ["cosine", "sage", "pirate"]
    assert "not measured" in (tmp_path / "out" / "report.html").read_text(), "two personas span no space"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["sweep", "sagee"], 4, "'sage'"),
        (["sweep", "sage", "--points", "1"], 2, "1 points"),
        (["sweep", "sage", "--from", "1", "--to", "-1"], 2, "do not ascend"),
        (["sweep", "sage", "--from", "0", "--to", "5"], 2, "out of range"),
        (["sweep", "sage", "--from", "nan"], 2, "out of range"),
        (["sweep", "sage", "--dose", "0.2"], 2, "without layers"),
        (["sweep", "sage", "--layers", "1", "--dose", "0.2", "--coef", "1"], 2, "both given"),
        (["sweep", "sage", "--layers", "1", "--dose", "-0.2"], 2, "dose of -0.2"),
        (["sweep", "sage", "--layers", "x"], 2, "names no layers"),
        (["sweep", "sage", "--layers", "99"], 2, "no direction at layer 99"),
        (["sweep", "sage", "--questions", "500"], 2, "held-out questions"),
        (["sweep", "raw", "--raw"], 2, "which system prompts"),
        (["layers", "sage", "--layers", "0-9"], 2, "no direction at layer 4"),
        (["layers", "sage", "--dose", "0"], 2, "dose of 0"),
        (["layers", "none"], 4, "unknown persona or trait 'none'"),
        (["card", "sage", "--controls", "1"], 2, "1"),
        (["similarity", "sage"], 2, "two or more"),
        (["similarity", "sage", "nobody"], 4, "nobody"),
        (["similarity", "sage", "raw", "--layers", "9"], 2, "no direction at layer 9"),
    ],
)
@pytest.mark.usefixtures("prompted")
def test_bad_input_says_what_to_do(arguments: list[str], code: int, message: str, on_tiny: Cli) -> None:
    result = on_tiny(*arguments)
    assert result.code == code, result.err
    assert message in result.err and "Traceback" not in result.err and result.out == ""


def test_without_a_safety_axis_the_raw_form_can_be_measured(
    on_tiny: Cli, store: VectorStore, tiny_model: ModelIdentity
) -> None:
    store.save(make_vector(tiny_model, "sage", calibration=make_calibration(), system_prompts=PROMPTS))
    few = ("sweep", "sage", "--from", "0", "--to", "1", "--points", "2", *FEW)
    refused = on_tiny(*few)
    assert refused.code == 4 and "no safety axis" in refused.err and "--raw" in refused.err
    assert on_tiny(*few, "--raw").code == 0


def test_a_vector_of_another_model_is_refused_by_name(on_tiny: Cli, store: VectorStore) -> None:
    other = ModelIdentity(id="hf:other/model", fingerprint="0" * 16, num_layers=4, hidden_size=32)
    store.save(make_vector(other, "sage", calibration=make_calibration(), system_prompts=PROMPTS))
    result = on_tiny("sweep", "sage")
    assert result.code == 8 and "hf:other/model" in result.err


@pytest.mark.usefixtures("prompted")
def test_ctrl_c_says_that_the_same_command_resumes(on_tiny: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("persona_steering.backends.transformers.backend.TransformersBackend.generate", stop)
    result = on_tiny("sweep", "sage", *FEW)
    assert result.code == 130 and "goes on where it stopped" in result.err
