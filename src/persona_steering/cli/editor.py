"""The user's own editor: $VISUAL, $EDITOR, or what the system has."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from persona_steering.errors import DependencyError, UsageError


def edit_file(file: Path) -> None:
    """Opens a file and waits until the editor is closed. Raises UsageError without a terminal."""
    check_terminal()
    try:
        click.edit(filename=str(file))
    except click.ClickException as error:
        raise _no_editor(error) from error


def edit_text(text: str, *, suffix: str = ".txt") -> str | None:
    """The text as the user leaves it; None when they close the editor without saving. Raises as `edit_file`."""
    check_terminal()
    try:
        return click.edit(text, extension=suffix)
    except click.ClickException as error:
        raise _no_editor(error) from error


def check_terminal() -> None:
    """Raises UsageError where nobody can be asked."""
    if not sys.stdin.isatty():
        raise UsageError("no editor can be opened: stdin is not a terminal.", hint="Run this in a terminal.")


def _no_editor(error: click.ClickException) -> DependencyError:
    return DependencyError(
        f"the editor did not work: {error.format_message()}.", hint="Set EDITOR, for instance to nano."
    )
