"""`list`, `info`, `load`, `unload`, `delete` and `clear-personas`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.conftest import Cli, Result, Terminal, make_calibration, make_vector

from persona_steering.vectors import ModelIdentity, VectorStore


@pytest.fixture(autouse=True)
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of these commands loads a model."""
    monkeypatch.setattr("persona_steering.backends.wrapper.load", lambda *a, **k: pytest.fail("a model was loaded"))


def test_an_empty_store_says_how_to_fill_it(cli: Cli) -> None:
    result = cli("list")
    assert result.code == 0 and result.out == ""
    assert "persona-steer create" in result.err
    assert cli("list", "--json").data == []


def test_list_shows_every_status(stored: VectorStore, on_tiny: Cli, tiny_model: ModelIdentity) -> None:
    stored.save(make_vector(tiny_model.model_copy(update={"id": "hf:o/m", "fingerprint": "f" * 16}), "alien"))
    stored.path("persona", "raw", tiny_model).with_name("cut.safetensors").write_bytes(b"cut")
    rows = {entry["name"]: entry for entry in on_tiny("list", "--json", "--all-models").data}
    assert {name: row["status"] for name, row in rows.items()} == {
        "sage": "ready",
        "bland": "weak",
        "raw": "not calibrated",
        "calm": "ready",
        "safety": "ready",
        "alien": "other model",
        "cut": "broken",
    }
    assert rows["sage"]["persona_score"] == {"mean": 0.83, "low": 0.71, "high": 0.95}
    assert rows["sage"]["max_strength"] == 1.0 and rows["raw"]["max_strength"] is None
    assert rows["raw"]["persona_score"] is None and rows["calm"]["kind"] == "trait"
    assert "safetensors" in rows["cut"]["error"]


def test_list_in_a_pipe_is_aligned_text_and_quiet_is_names(stored: VectorStore, on_tiny: Cli) -> None:
    lines = on_tiny("list").out.splitlines()
    assert lines[0].split() == ["name", "kind", "strength", "persona", "score", "coherence", "status"]
    sage = next(line for line in lines if line.startswith("sage"))
    assert sage.split()[2:] == ["up", "to", "1.0", "0.83", "78", "ready"]
    assert on_tiny("list", "-q").out.split() == ["bland", "raw", "sage", "calm", "safety"]


def test_numbers_are_those_of_how_the_vector_is_used(
    store: VectorStore, on_tiny: Cli, tiny_model: ModelIdentity
) -> None:
    store.save(
        make_vector(
            tiny_model,
            "sage",
            calibration=make_calibration(),
            safe_calibration=make_calibration(weak_reason="nothing left").model_copy(update={"safe": True}),
        )
    )
    assert on_tiny("list", "--json").data[0]["status"] == "weak"
    assert on_tiny("list", "--json", "--set", "steering.safety=false").data[0]["status"] == "ready"


def test_a_folder_is_known_by_any_path_to_it(
    stored: VectorStore, cli: Cli, tiny_model: ModelIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(tiny_model.id)
    monkeypatch.chdir(folder.parent)
    statuses = {row["name"]: row["status"] for row in cli("list", "--json", "--model", folder.name).data}
    assert statuses["sage"] == "ready"


def test_info_shows_the_card(stored: VectorStore, on_tiny: Cli, tiny_model: ModelIdentity) -> None:
    text = on_tiny("info", "sage").out
    for part in ("ready", "1-2", "0.83 (95 %: 0.71 to 0.95)", "78 (95 %: 70 to 85)", "random directions"):
        assert part in text
    assert str(stored.path("persona", "sage", tiny_model)) in text
    assert "persona score 0.12" in on_tiny("info", "bland").out


def test_info_as_json_holds_all_metadata(stored: VectorStore, on_tiny: Cli) -> None:
    data = on_tiny("info", "sage", "--json").data
    assert data["metadata"]["calibration"]["coefficients"] == {"1": 0.4, "2": 0.3}
    assert data["metadata"]["model"]["num_layers"] == 4


def test_an_unknown_name_is_refused_with_the_nearest(stored: VectorStore, on_tiny: Cli) -> None:
    for command in (("info", "sagee"), ("delete", "sagee", "--yes")):
        result = on_tiny(*command)
        assert result.code == 4 and result.out == ""
        assert "unknown persona or trait 'sagee'" in result.err and "'sage'" in result.err


def test_info_asks_for_the_model_when_several_others_have_the_name(
    store: VectorStore, cli: Cli, tiny_model: ModelIdentity
) -> None:
    for i in "ab":
        store.save(make_vector(tiny_model.model_copy(update={"id": f"hf:o/{i}", "fingerprint": i * 16}), "sage"))
    result = cli("info", "sage")
    assert result.code == 2 and "hf:o/a, hf:o/b" in result.err and "--model" in result.err


def test_delete_without_a_terminal_needs_yes(stored: VectorStore, on_tiny: Cli, tiny_model: ModelIdentity) -> None:
    result = on_tiny("delete", "sage")
    assert result.code == 2 and "--yes" in result.err
    assert stored.exists("persona", "sage", tiny_model)
    assert on_tiny("delete", "sage", "--yes").code == 0
    assert not stored.exists("persona", "sage", tiny_model)


@pytest.mark.parametrize(("answer", "gone"), [("y\n", True), ("n\n", False), ("", False)])
def test_delete_on_a_terminal_asks(
    answer: str, gone: bool, stored: VectorStore, on_tiny: Cli, tiny_model: ModelIdentity
) -> None:
    result = on_tiny("delete", "sage", stdin=Terminal(answer))
    assert result.code == (0 if gone else 130)
    assert "Delete the persona 'sage'" in result.err
    assert f"To delete: {stored.path('persona', 'sage', tiny_model)}" in result.err
    assert stored.exists("persona", "sage", tiny_model) is not gone


def test_deleting_a_persona_removes_the_assistant_axis_made_with_it(
    stored: VectorStore, on_tiny: Cli, tiny_model: ModelIdentity
) -> None:
    stored.save(make_vector(tiny_model, "assistant", kind="axis"))
    assert "axis" not in on_tiny("delete", "calm", "--yes").err  # a trait has no part in it
    result = on_tiny("delete", "sage", "--yes", "--json")
    assert [Path(path).stem for path in result.data["deleted"]] == ["sage", "assistant"]
    assert "persona-steer extract-axes" in result.err
    assert not stored.exists("axis", "assistant", tiny_model)
    assert stored.exists("axis", "safety", tiny_model)


def test_a_vector_of_another_model_is_deleted_only_when_that_model_is_named(
    store: VectorStore, cli: Cli, on_tiny: Cli, tiny_model: ModelIdentity
) -> None:
    store.save(make_vector(tiny_model, "sage"))
    result = cli("delete", "sage", "--yes")
    assert result.code == 8 and f"--model {tiny_model.id}" in result.err
    assert on_tiny("delete", "sage", "--yes").code == 0


def test_a_broken_file_can_be_deleted_and_an_axis_cannot(
    stored: VectorStore, on_tiny: Cli, tiny_model: ModelIdentity
) -> None:
    path = stored.path("persona", "sage", tiny_model)
    path.write_bytes(b"cut")
    assert on_tiny("info", "sage").code == 8
    assert on_tiny("delete", "sage", "--yes").code == 0 and not path.exists()
    refused = on_tiny("delete", "safety", "--yes", "--json")
    assert refused.code == 2 and "extract-axes" in json.loads(refused.out)["error"]["hint"]


def names(listed: Result) -> list[str]:
    return listed.out.split()


def test_list_shows_the_kinds_that_are_asked_for(stored: VectorStore, on_tiny: Cli, tiny_model: ModelIdentity) -> None:
    stored.save(make_vector(tiny_model, "base", kind="baseline"))
    assert names(on_tiny("list", "-q", "--personas")) == ["bland", "raw", "sage"]
    assert names(on_tiny("list", "-q", "--traits")) == ["calm"]
    assert names(on_tiny("list", "-q", "--axes")) == ["base", "safety"]
    assert sorted(names(on_tiny("list", "-q", "--traits", "--axes"))) == ["base", "calm", "safety"]


def test_list_hides_other_models_and_says_so(stored: VectorStore, cli: Cli, on_tiny: Cli) -> None:
    hidden = cli("list")  # of the embedded model, of which there are none
    assert hidden.code == 0 and hidden.out == ""
    assert "5 of other models are not shown" in hidden.err and "--all-models" in hidden.err
    assert names(cli("list", "-q", "--all-models")) == names(on_tiny("list", "-q"))


def test_load_keeps_names_that_list_loaded_shows(
    stored: VectorStore, on_tiny: Cli, cli: Cli, home: Path, tiny_model: ModelIdentity
) -> None:
    assert on_tiny("list", "--loaded", "-q").out == ""
    result = on_tiny("load", "sage", "calm")
    file = home / "data" / "preload.json"
    assert result.code == 0 and str(file) in result.err and "calm, sage" in result.err
    assert names(on_tiny("list", "--loaded", "-q")) == ["sage", "calm"]
    assert names(on_tiny("list", "--loaded", "--traits", "-q")) == ["calm"]
    assert {row["name"]: row["loaded"] for row in on_tiny("list", "--json").data}["raw"] is False
    assert "There already: sage" in on_tiny("load", "sage").err
    assert on_tiny("unload", "sage", "--json").data == {
        "model": tiny_model.id,
        "loaded": ["calm"],
        "path": str(file),
    }
    assert on_tiny("unload", "--all").code == 0 and on_tiny("list", "--loaded", "-q").out == ""
    assert on_tiny("unload", "--all").code == 0


def test_a_deleted_vector_is_no_longer_loaded(stored: VectorStore, on_tiny: Cli) -> None:
    on_tiny("load", "sage", "bland")
    assert on_tiny("delete", "sage", "--yes").code == 0
    assert on_tiny("unload", "bland", "--json").data["loaded"] == []


@pytest.mark.parametrize(
    ("arguments", "code", "message", "hint"),
    [
        (["load", "sagee"], 4, "unknown persona or trait 'sagee'", "'sage'"),
        (["load", "sage", "sagee"], 4, "unknown persona or trait 'sagee'", "'sage'"),
        (["load"], 2, "missing argument", "load --help"),
        (["load", "../sage"], 2, "not a valid name", "letters"),
        (["load", "safety"], 4, "unknown persona or trait 'safety'", "persona-steer create"),
        (["unload", "sage"], 4, "unknown loaded persona 'sage'", "list --loaded"),
        (["unload"], 2, "names or --all", "unload pirate"),
        (["unload", "sage", "--all"], 2, "names or --all", "unload pirate"),
        (["delete"], 2, "missing argument", "delete --help"),
        (["delete", "sage", "sagee", "--yes"], 4, "unknown persona or trait 'sagee'", "'sage'"),
        (["clear-personas"], 2, "not a terminal", "--yes"),
    ],
)
def test_bad_input_changes_nothing(
    arguments: list[str], code: int, message: str, hint: str, stored: VectorStore, on_tiny: Cli, home: Path
) -> None:
    before = sorted(stored.root.rglob("*"))
    result = on_tiny(*arguments)
    assert result.code == code and result.out == ""
    error, advice = result.err.splitlines()[-2:]
    assert message in error and hint in advice
    assert sorted(stored.root.rglob("*")) == before and not (home / "data" / "preload.json").exists()


def test_a_damaged_vector_is_not_loaded(stored: VectorStore, on_tiny: Cli, tiny_model: ModelIdentity) -> None:
    stored.path("persona", "sage", tiny_model).write_bytes(b"cut")
    assert on_tiny("load", "sage").code == 8 and on_tiny("list", "--loaded", "-q").out == ""


def test_load_for_a_model_without_vectors_says_which_model_is_meant(stored: VectorStore, cli: Cli) -> None:
    result = cli("load", "sage")
    assert result.code == 8 and "'embedded'" in result.err and "--model" in result.err


def test_delete_takes_several_names_and_a_dry_run_takes_none(
    stored: VectorStore, on_tiny: Cli, tiny_model: ModelIdentity
) -> None:
    stored.save(make_vector(tiny_model, "assistant", kind="axis"))
    dry = on_tiny("delete", "sage", "calm", "--dry-run", "--json")
    assert dry.code == 0 and dry.data["deleted"] == []
    assert [Path(path).stem for path in dry.data["would_delete"]] == ["sage", "assistant", "calm"]
    assert "Would delete: " in on_tiny("delete", "sage", "--dry-run").err
    assert stored.exists("persona", "sage", tiny_model)
    result = on_tiny("delete", "sage", "calm", "--yes", "--json")
    assert result.data["deleted"] == dry.data["would_delete"]
    assert names(on_tiny("list", "-q")) == ["bland", "raw", "safety"]


@pytest.mark.parametrize(("flags", "left"), [((), ["calm", "safety"]), (("--traits",), ["safety"])])
def test_clear_personas_leaves_the_axes(
    flags: tuple[str, ...], left: list[str], stored: VectorStore, on_tiny: Cli, tiny_model: ModelIdentity
) -> None:
    alien = tiny_model.model_copy(update={"id": "hf:o/m", "fingerprint": "f" * 16})
    stored.save(make_vector(alien, "alien"))
    assert on_tiny("clear-personas", *flags, stdin=Terminal("n\n")).code == 130
    result = on_tiny("clear-personas", *flags, stdin=Terminal("y\n"))
    assert result.code == 0 and f"of {tiny_model.id}?" in result.err
    assert sorted(names(on_tiny("list", "-q"))) == left
    assert stored.exists("persona", "alien", alien)
    again = on_tiny("clear-personas", *flags, "--json")
    assert again.code == 0 and again.data == {"deleted": []}
