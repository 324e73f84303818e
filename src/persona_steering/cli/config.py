"""`config`: the settings, where each comes from, and changing them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from persona_steering.cli.complete import complete_key
from persona_steering.cli.context import Session, common_options, json_option, pass_session
from persona_steering.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = click.argument("key", shell_complete=complete_key)


def place_options(function: Callable[..., None]) -> Callable[..., None]:
    """--workspace and --user: which file is meant."""
    for name, text in (("workspace", "The workspace's file."), ("user", "The user's file, for every workspace.")):
        function = click.option(f"--{name}", "place", flag_value=name, help=text)(function)
    return function


@click.group()
def config() -> None:
    """Show and change the settings. A flag counts more than the environment, and that more than a file.

    \b
    Examples:
      persona-steer config show --origin
      persona-steer config set model.name Qwen/Qwen2.5-7B-Instruct
      persona-steer config set generation.temperature 0.9 --user
    """


@config.command()
@click.option("--origin", is_flag=True, help="Also show where each value comes from.")
@json_option
@common_options
@pass_session
def show(session: Session, origin: bool) -> None:
    """Show every setting that holds here and now.

    \b
    Examples:
      persona-steer config show --origin
      persona-steer config show --json
    """
    from persona_steering.cli.render import emit_json, table
    from persona_steering.config import config_keys
    from persona_steering.config.edit import format_value

    values = {key: value_of(session, key) for key in config_keys()}
    origins = {key: session.config.origin(key) for key in values}
    if session.as_json:
        plain = session.config.model_dump(mode="json")
        found = {key: plain[key.partition(".")[0]][key.partition(".")[2]] for key in values}
        emit_json({key: {"value": v, "origin": origins[key]} if origin else v for key, v in found.items()})
    elif origin:
        table(("key", "value", "origin"), [(key, format_value(v), origins[key]) for key, v in values.items()])
    else:
        table(("key", "value"), [(key, format_value(v)) for key, v in values.items()])


@config.command()
@KEY
@common_options
@pass_session
def get(session: Session, key: str) -> None:
    """Print the value of one setting.

    \b
    Examples:
      persona-steer config get model.name
    """
    from persona_steering.config.edit import format_value

    session.config.origin(key)  # refuses a key that does not exist
    click.echo(format_value(value_of(session, key)))


@config.command(name="set", context_settings={"ignore_unknown_options": True})  # a value may be -0.5
@KEY
@click.argument("value")
@place_options
@common_options
@pass_session
def set_(session: Session, key: str, value: str, place: str | None) -> None:
    """Write a setting to the workspace's config.yaml, outside any workspace to the user's.

    The value is checked before anything is written; comments and order stay as they are.

    \b
    Examples:
      persona-steer config set extraction.num_questions 40
      persona-steer config set steering.steering_layers 8-12
      persona-steer config set generation.seed null --user
    """
    from persona_steering.cli.render import note, warn
    from persona_steering.config.edit import format_value, set_value

    if value.startswith("--"):
        raise UsageError(f"no such option {value!r}.", hint="See persona-steer config set --help.")
    file = chosen_file(session, place)
    written = set_value(file, key, value)
    note(f"{key} is {format_value(written)} in {file}.", quiet=session.quiet)
    session.config_path = file if session.config_path else None
    if value_of(session, key) != written:
        warn(f"here {key} is {format_value(value_of(session, key))} all the same, from {session.config.origin(key)}.")


@config.command()
@KEY
@place_options
@common_options
@pass_session
def unset(session: Session, key: str, place: str | None) -> None:
    """Take a setting out of a file, so that the next source or the built-in default holds.

    \b
    Examples:
      persona-steer config unset generation.seed
    """
    from persona_steering.cli.render import note
    from persona_steering.config.edit import format_value, unset_value

    file = chosen_file(session, place)
    if not unset_value(file, key):
        raise ConfigError(f"{key} is not set in {file}.", hint="See: persona-steer config show --origin")
    now, origin = value_of(session, key), session.config.origin(key)
    note(f"{key} is {format_value(now)} now, from {origin}.", quiet=session.quiet)


@config.command()
@json_option
@common_options
@pass_session
def path(session: Session) -> None:
    """Print the files that settings are read from, and whether they are there.

    \b
    Examples:
      persona-steer config path
    """
    from persona_steering.cli.render import emit_json, table
    from persona_steering.config import FILE_NAME, user_config_file

    files = {"workspace": session.config.workspace / FILE_NAME, "user": user_config_file()}
    if session.config_path and session.config_path.is_file():
        files["workspace"] = session.config_path.absolute()
    if session.as_json:
        emit_json({name: {"path": str(file), "exists": file.is_file()} for name, file in files.items()})
    else:
        rows = [(name, str(file), "there" if file.is_file() else "not there") for name, file in files.items()]
        table(("file", "path", "status"), rows)


@config.command()
@place_options
@common_options
@pass_session
def edit(session: Session, place: str | None) -> None:
    """Open a config.yaml in $EDITOR, and check it afterwards. A new one has every key as a comment.

    \b
    Examples:
      persona-steer config edit --user
    """
    from persona_steering.cli.editor import edit_file
    from persona_steering.config.edit import template
    from persona_steering.files import write_atomically

    file = chosen_file(session, place)
    if not file.exists():
        write_atomically(file, template().encode())
    edit_file(file)
    report_problems(session, file)


@config.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@json_option
@common_options
@pass_session
def validate(session: Session, file: Path | None) -> None:
    """Check a config.yaml, by default that of the workspace, and show everything that is wrong with it.

    \b
    Examples:
      persona-steer config validate
      persona-steer config validate ~/lab/config.yaml
    """
    file = file or chosen_file(session, None)
    if not file.is_file():
        raise ConfigError(f"there is no configuration file {file}.", hint="Make one with: persona-steer init")
    report_problems(session, file)


def report_problems(session: Session, file: Path) -> None:
    """Says that the file is valid, or what is wrong with it: then the exit code is that of ConfigError."""
    from persona_steering.cli.render import emit_json, note, warn
    from persona_steering.config.edit import problems

    found = problems(file)
    if session.as_json:
        emit_json({"path": str(file), "valid": not found, "problems": [str(problem) for problem in found]})
    else:
        for problem in found:
            warn(str(problem))
        note(f"{file} is {'not valid' if found else 'valid'}.", quiet=session.quiet)
    if found:
        click.get_current_context().exit(ConfigError.exit_code)


def chosen_file(session: Session, place: str | None) -> Path:
    """The file to change: of --config, --workspace or --user; else the workspace's, else the user's."""
    from persona_steering.config import FILE_NAME, find_workspace, user_config_file

    given = session.config_path
    if given is not None:
        if place is not None:
            raise UsageError(f"--config and --{place} were both given.", hint="Give one of them.")
        return given / FILE_NAME if given.is_dir() else given
    if place == "user":
        return user_config_file()
    workspace = find_workspace()
    if workspace is not None:
        return workspace / FILE_NAME
    if place == "workspace":
        raise UsageError("there is no workspace here or above.", hint="Make one with: persona-steer init")
    return user_config_file()


def value_of(session: Session, key: str) -> object:
    """The value that holds, with its type."""
    section, _, name = key.partition(".")
    return getattr(getattr(session.config, section), name)
