"""`config`: showing, changing, checking. What is written is read back, and comments survive."""

from __future__ import annotations

import errno
import os
import re
import sys
from pathlib import Path

import pytest
import yaml
from tests.cli.conftest import Cli, Terminal

from persona_steering.config import Config, config_keys
from persona_steering.config.edit import template

# For every key the text of a command line that is not the default, and the value that it means.
VALUES: dict[str, tuple[str, object]] = {
    "model.name": ("hf:Qwen/Qwen2.5-7B-Instruct", "hf:Qwen/Qwen2.5-7B-Instruct"),
    "model.device": ("cuda:1", "cuda:1"),
    "model.dtype": ("bfloat16", "bfloat16"),
    "model.quantization": ("4bit", "4bit"),
    "model.revision": ("2024", "2024"),  # a text that looks like a number
    "model.trust_remote_code": ("true", True),
    "extraction.target_layers": ("8-10,3", [3, 8, 9, 10]),
    "extraction.num_questions": ("33", 33),
    "extraction.num_samples_per_prompt": ("2", 2),
    "extraction.max_new_tokens": ("64", 64),
    "extraction.temperature": ("0", 0.0),
    "extraction.batch_size": ("8", 8),
    "extraction.seed": ("11", 11),
    "steering.default_strength": ("-0.5", -0.5),
    "steering.steering_scale": ("0.8", 0.8),
    "steering.steering_layers": ("12", [12]),
    "steering.safety": ("false", False),
    "steering.safety_floor_percentile": ("25", 25.0),
    "steering.capping_layers": ("[20, 21]", [20, 21]),
    "generation.temperature": ("0.9", 0.9),
    "generation.top_p": ("0.5", 0.5),
    "generation.max_new_tokens": ("99", 99),
    "generation.seed": ("7", 7),
    "generator.base_url": ("http://127.0.0.1:11434/v1", "http://127.0.0.1:11434/v1"),
    "generator.model": ("qwen2.5:14b", "qwen2.5:14b"),
    "generator.api_key_env": ("yes", "yes"),  # a text that old YAML takes for a truth value
    "judge.base_url": ("https://judge.example/v1", "https://judge.example/v1"),
    "judge.model": ("12:30", "12:30"),  # a text that old YAML takes for 750
    "judge.api_key_env": ("# not a comment", "# not a comment"),
    "judge.concurrency": ("4", 4),
    "judge.samples": ("3", 3),
    "judge.max_calls": ("100", 100),
    "judge.max_tokens": ("5000", 5000),
    "paths.datasets": ("/data/sets", "/data/sets"),
    "paths.vectors": ("/data/vectors", "/data/vectors"),
    "paths.runs": ("/data/runs", "/data/runs"),
    "paths.cache": ("/data/cache", "/data/cache"),
    "server.host": ("0.0.0.0", "0.0.0.0"),
    "server.port": ("9000", 9000),
}


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with a fresh config.yaml, and the current folder inside it."""
    folder = tmp_path / "work"
    (folder / "vectors").mkdir(parents=True)
    (folder / "config.yaml").write_text(template())
    monkeypatch.chdir(folder)
    return folder


def test_every_key_has_a_value_to_try() -> None:
    assert set(VALUES) == set(config_keys())


@pytest.mark.parametrize("key", config_keys())
@pytest.mark.parametrize("place", ["workspace", "user"])
def test_set_then_show_round_trips_every_key(key: str, place: str, workspace: Path, home: Path, cli: Cli) -> None:
    text, value = VALUES[key]
    file = workspace / "config.yaml" if place == "workspace" else home / "config" / "config.yaml"
    before = cli("config", "show", "--origin", "--json").data
    assert before[key]["origin"] == "built-in" and before[key]["value"] != value
    assert cli("config", "set", f"--{place}", key, text).code == 0
    after = cli("config", "show", "--origin", "--json").data
    assert after.pop(key) == {"value": value, "origin": str(file)}
    before.pop(key)
    assert after == before
    assert cli("config", "validate", str(file)).code == 0
    printed = cli("config", "get", key).out.strip()
    assert cli("config", "set", f"--{place}", key, printed).code == 0  # what is printed can be given back
    assert cli("config", "show", "--json").data[key] == value


def test_a_fresh_file_shows_every_key_with_its_default_and_meaning(workspace: Path) -> None:
    assert yaml.safe_load(template())["persona_steering"] == 1
    sections = yaml.safe_load(re.sub(r"^  # ", "  ", template(), flags=re.MULTILINE))
    del sections["persona_steering"]
    assert sections == Config().model_dump(mode="json")
    meanings = re.findall(r"^  # (\w+): .+?  # \S", template(), re.MULTILINE)
    assert meanings == [key.partition(".")[2] for key in config_keys()]


def test_a_fresh_file_changes_nothing(workspace: Path, cli: Cli) -> None:
    fresh = cli("config", "show", "--json").data
    (workspace / "config.yaml").write_text("")
    assert cli("config", "show", "--json").data == fresh


def test_comments_and_order_survive(workspace: Path, cli: Cli) -> None:
    text = (
        "# mine\npersona_steering: 1\n\nserver:  # where\n  port: 80  # a low one\n  # about the host\n"
        "  host: 'localhost'\n\n# the model\nmodel:\n  # name: embedded\n"
    )
    file = workspace / "config.yaml"
    file.write_text(text)
    cli("config", "set", "server.port", "81")
    assert file.read_text() == text.replace("port: 80", "port: 81")
    cli("config", "set", "model.dtype", "float32")
    assert file.read_text() == text.replace("port: 80", "port: 81").replace("model:\n", "model:\n  dtype: float32\n")
    cli("config", "set", "judge.model", "m")
    lines = file.read_text().splitlines()
    assert (
        lines[: len(text.splitlines()) + 1]
        == text.replace("port: 80", "port: 81").replace("model:\n", "model:\n  dtype: float32\n").splitlines()
    )
    assert cli("config", "unset", "model.dtype").code == 0
    assert "# name: embedded" in file.read_text() and "dtype" not in file.read_text()
    assert cli("config", "show", "--origin", "--json").data["model.dtype"] == {"value": "auto", "origin": "built-in"}


def test_a_file_of_comments_only_keeps_them(workspace: Path, cli: Cli) -> None:
    (workspace / "config.yaml").write_text("# mine\n")
    assert cli("config", "set", "server.port", "81").code == 0
    assert (workspace / "config.yaml").read_text() == "# mine\npersona_steering: 1\nserver:\n  port: 81\n"


def test_outside_a_workspace_the_users_file_is_written(home: Path, cli: Cli) -> None:
    result = cli("config", "set", "server.port", "81")
    assert result.code == 0 and str(home / "config" / "config.yaml") in result.err
    assert cli("config", "get", "server.port").out == "81\n"
    refused = cli("config", "set", "server.port", "82", "--workspace")
    assert refused.code == 2 and "persona-steer init" in refused.err


def test_a_value_that_does_not_come_to_hold_is_said_to(
    workspace: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERSONA_STEER_SERVER__PORT", "9")
    result = cli("config", "set", "server.port", "81")
    assert "server.port is 9 all the same" in result.err and "PERSONA_STEER_SERVER__PORT" in result.err


def test_a_path_inside_the_workspace_is_written_relative_to_it(
    workspace: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workspace / "deep").mkdir()
    monkeypatch.chdir(workspace / "deep")
    assert cli("config", "set", "paths.vectors", "mine").code == 0
    assert "  vectors: deep/mine\n" in (workspace / "config.yaml").read_text()
    assert cli("config", "get", "paths.vectors").out.strip() == str(workspace / "deep" / "mine")


@pytest.mark.parametrize(
    ("arguments", "code", "message", "hint"),
    [
        (["set", "model.nam", "x"], 3, "unknown setting 'model.nam'", "'model.name'"),
        (["set", "port", "1"], 3, "unknown setting 'port'", "server.port"),
        (["set", "server.port", "many"], 3, "server.port is 'many'", "0 to 65535"),
        (["set", "server.port", "99999"], 3, "server.port is '99999'", "0 to 65535"),
        (["set", "steering.default_strength", "-3"], 3, "greater than or equal to -2", "coherent"),
        (["set", "model.quantization", "3bit"], 3, "'4bit' or '8bit'", "8bit"),
        (["set", "server.port"], 2, "missing argument 'VALUE'", "--help"),
        (["set", "server.port", "1", "--config", "x.yaml", "--user"], 2, "--config and --user", "one of them"),
        (["set", "model.name", "--usr"], 2, "no such option '--usr'", "config set --help"),
        (["get", "model.nam"], 3, "unknown setting 'model.nam'", "'model.name'"),
        (["unset", "model.nam"], 3, "unknown setting 'model.nam'", "'model.name'"),
        (["unset", "model.name"], 3, "model.name is not set in", "--origin"),
        (["validate", "gone.yaml"], 3, "no configuration file gone.yaml", "persona-steer init"),
        (["shwo"], 2, "no such command 'shwo'", "config --help"),
        (["edit"], 2, "not a terminal", "terminal"),
    ],
)
def test_bad_input_changes_nothing(
    arguments: list[str], code: int, message: str, hint: str, workspace: Path, cli: Cli
) -> None:
    before = (workspace / "config.yaml").read_text()
    result = cli("config", *arguments)
    assert result.code == code and result.out == ""
    error, advice = result.err.splitlines()
    assert error.startswith("error: ") and message.lower() in error.lower()
    assert advice.startswith("hint: ") and hint in advice
    assert (workspace / "config.yaml").read_text() == before


def test_a_broken_file_is_not_written_to(workspace: Path, cli: Cli) -> None:
    for broken in ("model: [", "modle:\n  name: x\n", "model: embedded\n"):
        (workspace / "config.yaml").write_text(broken)
        assert cli("config", "set", "server.port", "1").code == 3
        assert (workspace / "config.yaml").read_text() == broken


def test_a_write_that_fails_leaves_the_file_as_it_was(
    workspace: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "replace", fail)
    result = cli("config", "set", "server.port", "1")
    assert result.code == 9 and "not writable" in result.err
    assert (workspace / "config.yaml").read_text() == template()
    assert [path.name for path in workspace.iterdir()] == ["vectors", "config.yaml"]


def test_validate_shows_everything_that_is_wrong(workspace: Path, cli: Cli) -> None:
    file = workspace / "config.yaml"
    file.write_text("modle: {name: x}\nserver: {port: many, hots: x}\nmodel: {dtype: float8}\njudge: 3\n")
    result = cli("config", "validate")
    assert result.code == 3
    for part in ("'modle'", "'model'", "server.port is 'many'", "server.hots", "model.dtype", "'judge'"):
        assert part in result.err
    data = cli("config", "validate", "--json").data
    assert not data["valid"] and len(data["problems"]) == 5 and data["path"] == str(file)


def test_show_lists_keys_with_values_and_origins(workspace: Path, cli: Cli) -> None:
    cli("config", "set", "generation.seed", "3")
    lines = {line.split()[0]: line.split(maxsplit=2)[1:] for line in cli("config", "show", "--origin").out.splitlines()}
    assert list(lines)[1:] == list(config_keys())
    assert lines["generation.seed"] == ["3", str(workspace / "config.yaml")]
    assert lines["model.revision"] == ["null", "built-in"]
    shown = cli("config", "show", "--origin", "--json", "--set", "server.port=5").data
    assert shown["server.port"] == {"value": 5, "origin": "override"}


def test_path_prints_both_files(workspace: Path, home: Path, cli: Cli) -> None:
    data = cli("config", "path", "--json").data
    assert data == {
        "workspace": {"path": str(workspace / "config.yaml"), "exists": True},
        "user": {"path": str(home / "config" / "config.yaml"), "exists": False},
    }
    assert "not there" in cli("config", "path").out


def test_edit_opens_the_editor_and_checks_what_it_leaves(
    workspace: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = tmp_path / "editor.py"
    script.write_text("import sys; open(sys.argv[1], 'a').write('zzz: 1\\n')")
    monkeypatch.setenv("EDITOR", f"{sys.executable} {script}")
    monkeypatch.delenv("VISUAL", raising=False)
    result = cli("config", "edit", stdin=Terminal())
    assert result.code == 3 and "unknown section 'zzz'" in result.err
    made = cli("config", "edit", "--user", stdin=Terminal())
    assert made.code == 3 and "config.yaml is not valid" in made.err
