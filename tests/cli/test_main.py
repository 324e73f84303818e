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
HEAVY = {
    "torch",
    "transformers",
    "fastapi",
    "uvicorn",
    "pydantic",
    "pydantic_settings",
    "prompt_toolkit",
    "numpy",
    "rich",
    "safetensors",
    "ruamel",
    "yaml",
}


def process(*arguments: str, home: Path, **streams: int) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": SOURCE, "PERSONA_STEER_HOME": str(home)}
    command = [sys.executable, "-m", "persona_steering.cli.main", *arguments]
    kinds = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    return subprocess.run(command, env=environment, text=True, check=False, timeout=60, **kinds)  # type: ignore[call-overload, no-any-return]


def imported_by(*arguments: str, home: Path) -> set[str]:
    """Which of HEAVY a command line imports."""
    program = f"import sys; from persona_steering.cli.main import run; run({list(arguments)!r}); " + (
        f"print('\\n', *({HEAVY!r} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": SOURCE, "PERSONA_STEER_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("arguments", [[], ["--help"], ["generate", "-h"]])
def test_help_imports_nothing_heavy(arguments: list[str], home: Path) -> None:
    assert imported_by(*arguments, home=home) == set()


def test_the_help_of_every_command_imports_nothing_heavy(home: Path) -> None:
    program = f"""
import sys
import click
from persona_steering.cli.main import run, root

def walk(command, words):
    code = run([*words, "--help"])
    print(*words, code, *({HEAVY!r} & set(sys.modules)), file=sys.stderr)
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            walk(command.get_command(context, name), [*words, name])

walk(root, [])
"""
    environment = {**os.environ, "PYTHONPATH": SOURCE, "PERSONA_STEER_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    lines = done.stderr.splitlines()
    assert len(lines) > len(COMMANDS)
    assert [line for line in lines if line.split()[-1] != "0"] == []


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


def test_the_first_ctrl_c_says_how_to_go_on_and_the_second_quits_now(home: Path) -> None:
    """The command is stopped twice while it is busy; its own tidying up never ends."""
    program = """
import os, signal, sys, time, threading
from persona_steering import config
from persona_steering.cli import main

signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may have it ignored

def busy(path=None, **options):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)

def press_again():
    while signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # until the first has been answered
        time.sleep(0.05)
    while True:  # one that comes just before the interpreter begins to wait is only seen with the next
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)

config.get_config = busy
threading.Thread(target=time.sleep, args=(60,)).start()  # the interpreter waits for it at the end
threading.Thread(target=press_again, daemon=True).start()
sys.argv[1:] = ["list"]
main.main()
"""
    environment = {**os.environ, "PYTHONPATH": SOURCE, "PERSONA_STEER_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 130
    assert done.stderr.strip() == "error: stopped."


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour_and_no_cursor_movement_where_they_are_not_wanted(variables: dict[str, str], home: Path) -> None:
    """On a terminal, which a pseudo-terminal is."""
    import pty

    environment = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "TERM")}
    environment |= {"PYTHONPATH": SOURCE, "PERSONA_STEER_HOME": str(home), "TERM": "xterm", **variables}
    shown = {}
    for name, extra in (("plain", {}), ("coloured", {"TERM": "xterm-256color", "NO_COLOR": ""})):
        master, slave = pty.openpty()
        command = [sys.executable, "-m", "persona_steering.cli.main", "info", "sage"]
        done = subprocess.run(
            command, env={**environment, **extra}, stdin=slave, stdout=slave, stderr=slave, check=False
        )
        os.close(slave)
        shown[name] = os.read(master, 65536).decode()
        os.close(master)
        assert done.returncode == 4
    colour = re.compile(r"\x1b\[[\d;]*3\dm")
    assert colour.search(shown["coloured"]) and not colour.search(shown["plain"]) and "error: " in shown["plain"]


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
