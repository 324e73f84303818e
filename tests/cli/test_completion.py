"""`completion`: scripts for three shells, and names without a model library."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import Cli

import persona_steering
from persona_steering.config import config_keys
from persona_steering.vectors import VectorStore

SOURCE = str(Path(persona_steering.__file__).parents[1])


def complete(*words: str, home: Path) -> dict[str, str]:
    """What a shell is offered for the last word, with the meanings, by the command in a process of its own."""
    environment = {
        **os.environ,
        "PYTHONPATH": SOURCE,
        "PERSONA_STEER_HOME": str(home),
        "_PERSONA_STEER_COMPLETE": "zsh_complete",
        "COMP_WORDS": " ".join(["persona-steer", *words]),
        "COMP_CWORD": str(len(words)),
    }
    program = (
        "import sys; from persona_steering.cli.main import run; code = run([]); "
        "sys.stderr.write(' '.join({'torch', 'transformers', 'prompt_toolkit', 'rich'} & set(sys.modules)));"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr == "", "nothing heavy is imported and nothing is complained about"
    lines = done.stdout.strip().splitlines()
    return {lines[i + 1].replace("\\:", ":"): lines[i + 2] for i in range(0, len(lines), 3)}  # zsh quotes the colon


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_is_printed(shell: str, cli: Cli, tmp_path: Path) -> None:
    result = cli("completion", shell)
    assert result.code == 0 and "_PERSONA_STEER_COMPLETE" in result.out
    assert f"completion {shell}" in result.out.splitlines()[0]  # how to use it
    program = shutil.which(shell)
    if program is None:
        return
    file = tmp_path / "script"
    file.write_text(result.out)
    assert subprocess.run([program, "-n", str(file)], check=False).returncode == 0


@pytest.mark.parametrize("shell", ["tcsh", ""])
def test_another_shell_is_refused(shell: str, cli: Cli) -> None:
    result = cli("completion", shell)
    assert result.code == 2 and "'bash', 'zsh', 'fish'" in result.err


def test_commands_are_completed_with_what_they_do(home: Path) -> None:
    offered = complete("cre", home=home)
    assert list(offered) == ["create"] and "measure" in offered["create"]
    assert {"set", "show", "get"} <= set(complete("config", "", home=home))


def test_names_are_completed_from_the_store(stored: VectorStore, home: Path) -> None:
    assert complete("generate", "--persona", "", home=home) == {
        "bland": "persona",
        "raw": "persona",
        "sage": "persona",
        "calm": "trait",
    }
    assert list(complete("delete", "s", home=home)) == ["sage"]
    assert list(complete("load", "sage", "b", home=home)) == ["bland"]
    assert list(complete("info", "sa", home=home)) == ["safety", "sage"]
    assert list(complete("chat", "--blend", "sage:0.5,ca", home=home)) == ["sage:0.5,calm:"]


def test_archetypes_traits_and_settings_are_completed(home: Path) -> None:
    assert list(complete("create", "x", "--from-archetype", "pir", home=home)) == ["pirate"]
    assert "evil" in complete("create", "x", "--trait", "ev", home=home)
    assert list(complete("config", "get", "", home=home)) == list(config_keys())
    assert list(complete("list", "--set", "model.n", home=home)) == ["model.name="]


def test_where_nothing_can_be_read_nothing_is_offered(home: Path) -> None:
    (home / "data").mkdir(parents=True)
    (home / "data" / "config.yaml").write_text("model: [")
    assert complete("generate", "--persona", "", home=home) == {}
