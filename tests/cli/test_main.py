"""Start-up, help, exit codes and streams of the real command."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from tests.cli.conftest import Cli

import persona_steering
from persona_steering import errors
from persona_steering.cli.main import COMMANDS, GROUPS, root
from persona_steering.errors import PersonaSteeringError

SOURCE = str(Path(persona_steering.__file__).parents[1])
HEAVY = ("torch", "transformers", "pydantic", "pydantic_settings", "numpy", "rich", "safetensors", "yaml")


def process(*arguments: str, home: Path, **streams: int) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": SOURCE, "PERSONA_STEER_HOME": str(home)}
    command = [sys.executable, "-m", "persona_steering.cli.main", *arguments]
    kinds = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    return subprocess.run(command, env=environment, text=True, check=False, timeout=60, **kinds)  # type: ignore[call-overload, no-any-return]


def imported_by(*arguments: str, home: Path) -> set[str]:
    """Which of HEAVY a command line imports."""
    program = f"import sys; from persona_steering.cli.main import run; run({list(arguments)!r}); " + (
        f"print('\\n', *(set({HEAVY!r}) & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": SOURCE, "PERSONA_STEER_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("arguments", [[], ["--help"], ["create", "--help"], ["generate", "-h"], ["list", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str], home: Path) -> None:
    assert imported_by(*arguments, home=home) == set()


def test_list_loads_no_model_library(home: Path) -> None:
    assert not imported_by("list", home=home) & {"torch", "transformers"}


def test_without_arguments_a_short_help_with_three_examples_is_shown(cli: Cli) -> None:
    result = cli()
    assert result.code == 0
    assert result.out.count("\n  persona-steer ") == 3
    assert len(result.out.splitlines()) < 10


def test_root_help_lists_every_command_and_every_exit_code(cli: Cli) -> None:
    text = cli("--help").out
    for name, (_, _, summary) in COMMANDS.items():
        assert re.search(rf"^  {name}\s+{re.escape(summary)}", text, re.MULTILINE)
    codes = {
        kind.exit_code
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, PersonaSteeringError)
    }
    assert {int(code) for code in re.findall(r"^ +(\d+)  \w", text, re.MULTILINE)} == codes | {0}


def test_every_command_stands_in_one_group() -> None:
    grouped = [name for names in GROUPS.values() for name in names if name in COMMANDS]
    assert sorted(grouped) == sorted(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str, cli: Cli) -> None:
    module = f"persona_steering.cli.{COMMANDS[name][0]}"
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not there")
    result = cli(name, "--help")
    assert result.code == 0
    assert f"persona-steer {name}" in result.out.split("Examples:")[1]
    command = root.get_command(click.Context(root), name)
    assert command is not None and command.name == name


def test_the_version_is_shown(cli: Cli) -> None:
    result = cli("--version")
    assert (result.code, result.out.split()[0]) == (0, "persona-steer")


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["creat"], "unknown command 'creat'", "'create'"),
        (["generate"], "missing argument 'PROMPT'", "generate --help"),
        (["generate", "hi", "--persnoa", "x"], "no such option", "--help"),
        (["generate", "hi", "--persona"], "requires an argument", "--help"),
        (["generate", "hi", "--quantization", "3bit"], "3bit", "--help"),
        (["extract-axes", "danger"], "danger", "--help"),
    ],
)
def test_a_wrong_command_line_is_one_sentence_and_a_hint(
    arguments: list[str], message: str, hint: str, cli: Cli
) -> None:
    result = cli(*arguments)
    assert result.code == 2 and result.out == ""
    error, advice = result.err.splitlines()
    assert error.startswith("error: ") and message in error
    assert advice.startswith("hint: ") and hint in advice


def test_errors_of_a_process_go_to_stderr_and_with_json_to_stdout_too(home: Path) -> None:
    done = process("info", "sage", "--json", home=home)
    assert done.returncode == 4
    assert json.loads(done.stdout)["error"] == {
        "type": "NotFoundError",
        "message": "unknown persona or trait 'sage'.",
        "hint": "See: persona-steer list",
        "exit_code": 4,
    }
    assert done.stderr.startswith("error: unknown persona or trait 'sage'.\n")
    assert "Traceback" not in done.stderr


def test_json_after_two_dashes_is_a_prompt(cli: Cli) -> None:
    assert cli("delete", "--", "--json").out == ""


@pytest.mark.parametrize("variable", [False, True])
def test_a_traceback_is_shown_only_when_asked_for(variable: bool, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Traceback" not in cli("info", "sage").err
    if variable:
        monkeypatch.setenv("PERSONA_STEER_DEBUG", "1")
    result = cli("info", "sage", *([] if variable else ["--debug"]))
    assert result.code == 4
    assert "Traceback" in result.err and "error: unknown persona" in result.err


def test_an_unexpected_exception_is_called_a_bug(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: object = None, **options: object) -> None:
        raise KeyError("surprise")

    monkeypatch.setattr("persona_steering.config.get_config", broken)
    result = cli("list", "--json")
    assert result.code == 1
    assert result.data["error"]["message"] == "unexpected KeyError: 'surprise'"
    assert "bug" in result.err and "--debug" in result.err and "Traceback" not in result.err


@pytest.mark.parametrize(
    ("raised", "code", "word"),
    [(KeyboardInterrupt(), 130, "stopped"), (MemoryError(), 6, "memory"), (OSError(28, "full"), 9, "disk")],
)
def test_what_the_system_raises_has_an_exit_code_of_its_own(
    raised: BaseException, code: int, word: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: object = None, **options: object) -> None:
        raise raised

    monkeypatch.setattr("persona_steering.config.get_config", fail)
    result = cli("list")
    assert result.code == code
    assert word in result.err.strip().splitlines()[0]


def test_a_pipe_that_closes_early_is_quiet(home: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = process("list", "--json", home=home, stdout=writer)
    finally:
        os.close(writer)
    assert done.stderr == "" and done.returncode not in (0, -signal.SIGPIPE)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_stdout_is_an_error(home: Path) -> None:
    with open("/dev/full", "w") as full:
        done = process("list", "--json", home=home, stdout=full.fileno())
    assert done.returncode == 9
    assert done.stderr.startswith("error: nothing more can be written: the disk is full.\nhint: ")
