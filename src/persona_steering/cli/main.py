"""The command `persona-steer`: finds the subcommand, and turns every error into one sentence and an exit code.

A subcommand is imported when it is used, so that help is instant and loads no model library.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import itertools
import os
import re
import signal
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import NoReturn

import click
from click.shell_completion import CompletionItem

from persona_steering import errors
from persona_steering.errors import (
    CancelledError,
    ModelMemoryError,
    PersonaSteeringError,
    StorageError,
    UsageError,
    nearest,
)

PROGRAM = "persona-steer"
DEBUG_VARIABLE = "PERSONA_STEER_DEBUG"
COMPLETION_VARIABLE = "_PERSONA_STEER_COMPLETE"  # a shell asks for completions with it

# Each command's module has the command under the same name ("-" becomes "_"), except where a builtin is in the way.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "quickstart": (
        "quickstart",
        "quickstart",
        "See a model answer plainly and in character, measured.",
    ),
    "init": ("init", "init", "Make a workspace: data sets, axes and first personas."),
    "create": ("create", "create", "Make a persona or trait vector, and measure what it does."),
    "extract-axes": ("axes", "extract_axes", "Make the assistant axis and the safety axis of a model."),
    "datasets": ("datasets", "datasets", "Show, write and check questions and prompts."),
    "generate": ("generate", "generate", "Answer one prompt, steered or not."),
    "compare": ("compare", "compare", "Answer one prompt several ways, side by side."),
    "chat": ("chat", "chat", "Talk with the model, steered or not."),
    "serve": ("serve", "serve", "Serve the model to any OpenAI client."),
    "list": ("personas", "list_", "Show the vectors there are."),
    "info": ("personas", "info", "Show what is known and measured about a vector."),
    "load": ("loaded", "load", "Take personas into memory, or have chats do so."),
    "unload": ("loaded", "unload", "Drop personas from memory, or off the list."),
    "delete": ("removal", "delete", "Delete personas or traits."),
    "clear-personas": ("removal", "clear_personas", "Delete all personas of a model."),
    "export": ("exchange", "export", "Write a vector to a file, also of another tool."),
    "import": ("exchange", "import_", "Store the vector of a file, also of another tool."),
    "eval": ("evaluate", "eval_", "Answer a trait's questions, and rate the answers."),
    "vectors": ("vectors", "vectors", "Make vectors out of judged answers."),
    "sweep": ("measuring", "sweep", "Measure effect and damage at many strengths."),
    "layers": ("measuring", "layers", "Measure which layers tell, and which steer."),
    "card": ("measuring", "card", "Measure how far a vector can be trusted."),
    "similarity": ("measuring", "similarity", "Compare vectors, and show the space of the personas."),
    "project": ("projections", "project", "Project the answers of a file on vectors."),
    "shift": ("projections", "shift", "Measure how far finetuning has moved a model."),
    "screen": ("projections", "screen", "Find the training samples that would push a trait."),
    "jobs": ("jobs", "jobs", "Show and steer the long work of a server."),
    "config": ("config", "config", "Show and change the settings."),
    "doctor": ("doctor", "doctor", "Check that everything works here, and say what to do."),
    "completion": ("completion", "completion", "Print the completion script of a shell."),
}

# The order and the headings of the help.
GROUPS: dict[str, tuple[str, ...]] = {
    "Start": ("quickstart", "init"),
    "Make": ("create", "extract-axes", "datasets"),
    "Use": ("generate", "compare", "chat", "serve", "jobs"),
    "Measure": ("eval", "vectors", "layers", "sweep", "card", "similarity", "project", "shift", "screen"),
    "Look after": ("list", "info", "load", "unload", "delete", "clear-personas"),
    "Share": ("export", "import"),
    "Set up": ("config", "doctor", "completion"),
}

SHORT_HELP = f"""\
persona-steer finds persona and trait directions in a language model, and steers the model with them.

  {PROGRAM} quickstart                                     see it work on a small model, in minutes
  {PROGRAM} create pirate --from-archetype pirate          make a persona, measured
  {PROGRAM} generate "How was your day?" --persona pirate  use it

{PROGRAM} --help lists all commands."""


def exit_code_lines() -> list[str]:
    """The exit codes as lines of help, read from the drawing of the error tree."""
    rows = [(0, "success"), (1, "any other failure, also a bug")]
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"\s*[├└]── \w+\s+(\d+)\s+(\S.*)", line)
        if found:
            rows.append((int(found[1]), found[2]))
    return [f"{code:>5}  {meaning}" for code, meaning in rows]


EPILOG = "\n".join(["\b", "Exit codes:", *exit_code_lines()])


class LazyGroup(click.Group):
    """A group that knows its commands' names and summaries, and imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for names in command_groups().values() for name in names]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(f"persona_steering.cli.{module}"), attribute)
        return command

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.format_commands(ctx, formatter)
        click.Command.format_options(self, ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, COMMANDS))
        for title, names in command_groups().items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), COMMANDS[name][2]) for name in names])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        commands = [
            CompletionItem(name, help=COMMANDS[name][2])
            for name in self.list_commands(ctx)
            if name.startswith(incomplete)
        ]
        return commands + click.Command.shell_complete(self, ctx, incomplete)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            raise UsageError(f"unknown command {name!r}.", hint=f"{nearest(name, COMMANDS)} See {PROGRAM} --help.")
        return super().resolve_command(ctx, args)


def command_groups() -> dict[str, list[str]]:
    """The commands there are under their headings."""
    return {title: found for title, names in GROUPS.items() if (found := [name for name in names if name in COMMANDS])}


def _show_version(ctx: click.Context, parameter: click.Parameter, asked: bool) -> None:
    if not asked or ctx.resilient_parsing:
        return
    from importlib.metadata import PackageNotFoundError, version

    try:
        number = version("persona-steering")
    except PackageNotFoundError:
        number = "(not installed)"
    click.echo(f"{PROGRAM} {number}")
    ctx.exit()


@click.group(
    cls=LazyGroup,
    name=PROGRAM,
    epilog=EPILOG,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version."
)
@click.option(
    "--debug", is_flag=True, expose_value=False, help=f"Show tracebacks of errors.  [env var: {DEBUG_VARIABLE}]"
)
@click.pass_context
def root(ctx: click.Context) -> None:
    """Find persona and trait directions in a language model, and steer the model with them.

    \b
    Examples:
      persona-steer quickstart
      persona-steer create sage --from-archetype sage
      persona-steer generate "What is a good life?" --persona sage --strength 0.8
      persona-steer chat --blend sage:0.5,pirate:0.4
    """
    if ctx.invoked_subcommand is None:
        click.echo(SHORT_HELP)


def run(arguments: Sequence[str]) -> int:
    """The exit code of a command line. Every error is written, none is raised."""
    words = list(itertools.takewhile(lambda word: word != "--", arguments))
    debug = "--debug" in words or os.environ.get(DEBUG_VARIABLE, "") not in ("", "0")
    try:
        code = root.main(list(arguments), prog_name=PROGRAM, complete_var=COMPLETION_VARIABLE, standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except BrokenPipeError:
        _stop_writing()
        return 1
    except SystemExit as stop:  # click and rich leave this way when a pipe breaks
        return stop.code if isinstance(stop.code, int) else 1
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            traceback.print_exc()
        return _report(translated(error), as_json="--json" in words)


def translated(error: BaseException) -> PersonaSteeringError:
    """Anything that was raised, as an error that says what to do."""
    if isinstance(error, PersonaSteeringError):
        return error
    if isinstance(error, (click.Abort, KeyboardInterrupt)):
        return CancelledError("stopped.")
    if isinstance(error, click.ClickException):
        context = error.ctx if isinstance(error, click.UsageError) else None
        path = context.command_path if context else PROGRAM
        text = error.format_message()
        return UsageError(text[:1].lower() + text[1:], hint=f"See {path} --help.")
    if isinstance(error, MemoryError):
        return ModelMemoryError("out of memory.", hint="Use a smaller model, --quantization 4bit or fewer tokens.")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError("nothing more can be written: the disk is full.", hint="Free some space and try again.")
    return PersonaSteeringError(
        f"unexpected {type(error).__name__}: {str(error).strip() or 'without a message'}",
        hint="This is a bug. Please report it with what the same command prints with --debug.",
    )


def _report(error: PersonaSteeringError, *, as_json: bool) -> int:
    """Says what happened on stderr, with --json also as an object on stdout. Returns the exit code."""
    from persona_steering.cli.render import emit_json, show_error

    show_error(error)
    if as_json:
        body = {
            "type": type(error).__name__,
            "message": error.message,
            "hint": error.hint,
            "exit_code": error.exit_code,
        }
        with contextlib.suppress(OSError):
            emit_json({"error": body})
    with contextlib.suppress(OSError):  # a full disk is not reported twice, at exit
        sys.stdout.flush()
    return error.exit_code


def _stop_writing() -> None:
    """Nobody reads stdout any more; what Python still holds for it must not raise at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> NoReturn:
    """The entry point."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # the libraries' warnings address programmers
    try:
        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # a second Ctrl-C, while the first was being answered
        code = CancelledError.exit_code
    if code == CancelledError.exit_code:
        signal.signal(signal.SIGINT, lambda number, frame: os._exit(code))  # nor does tidying up hold anybody back
    sys.exit(code)


if __name__ == "__main__":
    main()
