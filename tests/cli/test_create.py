"""`create` and `extract-axes`, on a tiny model with very little effort."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from tests.cli.conftest import Cli, make_vector

from persona_steering.extraction.contrast import data_hash
from persona_steering.personas import load_library_trait
from persona_steering.vectors import ModelIdentity, VectorStore

SAGE = ("create", "my-sage", "--from-archetype", "sage", "--quick")


@pytest.mark.usefixtures("little_effort")
def test_create_measures_and_stores_a_vector_and_shows_its_card(
    on_tiny: Cli, store: VectorStore, tiny_model: ModelIdentity
) -> None:
    result = on_tiny(*SAGE)
    assert result.code == 0, result.err
    vector = store.load("persona", "my-sage", tiny_model)
    calibration = vector.metadata.safe_calibration
    assert calibration is not None and calibration.coherence is not None
    for shown in (
        f"{calibration.relative_dose:.2g} of the hidden state",
        f"{calibration.coherence.mean:.0f} (95 %",
        "archetype:sage",
        str(store.path("persona", "my-sage", tiny_model)),
        "weak" if calibration.weak else "ready",
    ):
        assert shown in result.out
    assert "answers in character: 16 of 16 in " in result.err
    assert "persona-steer generate" in result.err
    assert ("is weak on this model" in result.err) is calibration.weak

    again = on_tiny(*SAGE)
    assert again.code == 2 and "exists already" in again.err and "persona-steer delete my-sage" in again.err


@pytest.mark.usefixtures("little_effort")
def test_create_as_json_holds_the_measured_numbers(on_tiny: Cli, store: VectorStore, tiny_model: ModelIdentity) -> None:
    result = on_tiny(*SAGE, "--json")
    assert result.code == 0, result.err
    data = result.data
    metadata = store.load("persona", "my-sage", tiny_model).metadata
    assert data["status"] in ("ready", "weak") and Path(data["path"]).is_file()
    assert data["metadata"] == metadata.model_dump(mode="json")


@pytest.mark.usefixtures("little_effort")
def test_a_trait_of_the_library_brings_its_own_pairs_and_questions(
    on_tiny: Cli, store: VectorStore, tiny_model: ModelIdentity
) -> None:
    result = on_tiny("create", "clown", "--trait", "silly", "--quick")
    assert result.code == 0, result.err
    assert "trait:silly" in result.out
    metadata = store.load("trait", "clown", tiny_model).metadata
    shipped = load_library_trait("silly")
    assert (metadata.source, metadata.opposite) == ("trait:silly", "serious")
    assert metadata.system_prompts == tuple(pair.pos for pair in shipped.pairs)
    assert metadata.data_hashes["questions"] == data_hash(shipped.questions)


@pytest.mark.usefixtures("little_effort")
def test_no_disk_space_while_saving_leaves_no_vector(
    on_tiny: Cli, store: VectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def fail(source: Path, target: Path) -> None:
        if "personas" in Path(target).parts:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr("persona_steering.files.os.replace", fail)
    result = on_tiny(*SAGE)
    assert result.code == 9 and result.out == ""
    assert "the disk is full" in result.err and "hint: Free some space" in result.err
    assert not list(store.root.rglob("*my-sage*"))


@pytest.mark.parametrize(
    ("arguments", "code", "message", "hint"),
    [
        (["x"], 2, "no sources", "--from-archetype"),
        (["x", "--from-archetype", "sage", "--trait", "calm"], 2, "2 sources", "--from-archetype"),
        (["x", "--from-archetype", "sage", "--opposite", "nervous"], 2, "without --trait", "--trait"),
        (["x", "--from-archetype", "pirat"], 4, "unknown archetype 'pirat'", "'pirate'"),
        (["x", "--prompts", "none.txt"], 4, "none.txt", "path"),
        (["x", "--prompts", "odd.doc"], 2, "odd.doc", ".toml"),
        (["x", "--trait", "42"], 2, "is not a word", "adjective"),
        (["x", "--trait", "none.json"], 4, "none.json", "path"),
        (["x", "--trait", "own.toml", "--opposite", "calm"], 2, "both sides", "Leave out"),
        (["x", "--trait", "calm", "--opposite", "calm"], 2, "the same word", "another"),
        (["Bad Name", "--trait", "calm"], 2, "not a valid name", "'bad-name'"),
        (["../x", "--trait", "calm"], 2, "not a valid name", "letters"),
        (["x", "--trait", "calm", "--quick", "--thorough"], 2, "both", "one of them"),
        (["x", "--trait", "calm", "--set", "extraction.num_question=3"], 3, "unknown setting", "num_questions"),
        (["x", "--trait", "calm", "--set", "extraction.num_questions=many"], 3, "'many'", "per system prompt"),
    ],
)
def test_bad_input_is_refused_before_a_model_is_loaded(
    arguments: list[str], code: int, message: str, hint: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persona_steering.backends.wrapper.load", lambda *a, **k: pytest.fail("loaded"))
    Path("odd.doc").write_text("You are odd.")
    result = cli("create", *arguments)
    assert result.code == code and result.out == ""
    error, advice = result.err.splitlines()
    assert error.startswith("error: ") and message in error
    assert advice.startswith("hint: ") and hint in advice


def test_ctrl_c_says_that_the_same_command_resumes(on_tiny: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("persona_steering.backends.transformers.backend.TransformersBackend.generate", stop)
    result = on_tiny(*SAGE)
    assert result.code == 130 and "Traceback" not in result.err
    assert result.err.strip().endswith("The same command goes on where it stopped.")


@pytest.mark.usefixtures("little_effort")
def test_extract_axes_makes_both_and_says_what_is_missing(
    on_tiny: Cli, store: VectorStore, tiny_model: ModelIdentity
) -> None:
    store.save(make_vector(tiny_model, "sage"))
    result = on_tiny("extract-axes")
    assert result.code == 0, result.err
    assert "safety axis" in result.out and "assistant axis" not in result.out
    assert "needs 2 personas of this model, and there are 1" in result.err
    assert store.exists("axis", "safety", tiny_model)

    refused = on_tiny("extract-axes", "assistant")
    assert refused.code == 2 and "needs 2 personas" in refused.err

    store.save(make_vector(tiny_model, "pirate"))
    axes = on_tiny("extract-axes", "--json").data
    assert [axis["name"] for axis in axes] == ["safety", "assistant"]
    assert axes[0]["metadata"]["thresholds"]["1"].keys() == set("0123")
    assert store.exists("axis", "assistant", tiny_model)


@pytest.mark.usefixtures("little_effort")
def test_extract_axes_makes_the_assistant_axis_anew_when_personas_have_changed(
    on_tiny: Cli, store: VectorStore, tiny_model: ModelIdentity
) -> None:
    def status() -> str:
        (row,) = (row for row in on_tiny("list", "--axes", "--json").data if row["name"] == "assistant")
        return str(row["status"])

    for name in ("sage", "pirate"):
        store.save(make_vector(tiny_model, name))
    assert on_tiny("extract-axes", "assistant", "-q").out == "assistant\n"
    assert status() == "ready"
    store.save(make_vector(tiny_model, "monk"))
    assert status() == "stale"
    again = on_tiny("extract-axes", "assistant", "--json").data[0]["metadata"]
    assert again["counts"]["personas"] == 3 and again["data_hashes"].keys() == {"sage", "pirate", "monk"}
    assert status() == "ready"
