"""`delete` and `clear-personas`: what goes is shown first, and needs a yes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from persona_steering.cli.complete import complete_steerable
from persona_steering.cli.context import Session, pass_session, same_model_name, store_options
from persona_steering.errors import CancelledError, ModelMismatchError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from persona_steering.cli.personas import Entry

AXIS_IS_GONE = "The assistant axis was made with them and is deleted too. Make it again: persona-steer extract-axes"


def removal_options(function: Callable[..., None]) -> Callable[..., None]:
    """--yes and --dry-run."""
    function = click.option("--dry-run", is_flag=True, help="Show what would go; delete nothing.")(function)
    return click.option("--yes", is_flag=True, help="Do not ask.")(function)


@click.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete_steerable)
@removal_options
@store_options
@pass_session
def delete(session: Session, names: tuple[str, ...], yes: bool, dry_run: bool) -> None:
    """Delete personas or traits of the model: all that are named, or none when one of them is unknown.

    \b
    Examples:
      persona-steer delete pirate
      persona-steer delete pirate sage --dry-run
      persona-steer delete pirate --model Qwen/Qwen2.5-7B-Instruct --yes
    """
    from persona_steering.cli.personas import find_entry

    entries = [find_entry(session, name) for name in dict.fromkeys(names)]
    for entry in entries:
        check_deletable(session, entry)
    remove_all(session, entries, yes=yes, dry_run=dry_run)


@click.command(name="clear-personas")
@click.option("--traits", is_flag=True, help="The traits too.")
@removal_options
@store_options
@pass_session
def clear_personas(session: Session, traits: bool, yes: bool, dry_run: bool) -> None:
    """Delete all personas of the model. Its baseline and safety axis stay.

    \b
    Examples:
      persona-steer clear-personas --dry-run
      persona-steer clear-personas --traits --yes
    """
    from persona_steering.cli.personas import all_entries
    from persona_steering.cli.render import emit_json, note

    kinds = ("persona", "trait") if traits else ("persona",)
    entries = [entry for entry in all_entries(session) if entry.card.kind in kinds and entry.card.fits]
    if entries:
        remove_all(session, entries, yes=yes, dry_run=dry_run)
        return
    if session.as_json:
        emit_json({"deleted": []})
    note(f"There is nothing to delete for {session.config.model.name!r}.", quiet=session.quiet)


def remove_all(session: Session, entries: Sequence[Entry], *, yes: bool, dry_run: bool) -> None:
    """Shows what goes, asks, and deletes it. Raises as `confirm`, and StorageError."""
    from persona_steering.cli.render import emit_json, note

    going = [path for entry in entries for path in files_of(session, entry)]
    going = list(dict.fromkeys(going))
    if not session.as_json:
        for path in going:
            note(f"{'Would delete' if dry_run else 'To delete'}: {path}", quiet=session.quiet)
    if dry_run:
        if session.as_json:
            emit_json({"deleted": [], "would_delete": [str(path) for path in going]})
        return
    first = entries[0]
    what = f"the {first.card.kind} {first.name!r}" if len(entries) == 1 else f"these {len(entries)}"
    confirm(f"Delete {what} of {first.card.model_name}?", yes=yes)
    for entry in entries:
        remove(session, entry)
    if session.as_json:
        emit_json({"deleted": [str(path) for path in going]})
    note(f"Deleted {', '.join(repr(entry.name) for entry in entries)}.", quiet=session.quiet)
    if len(going) > len(entries):
        note(AXIS_IS_GONE)


def check_deletable(session: Session, entry: Entry) -> None:
    """Raises unless the entry is a persona or trait of the configured model, or a broken file."""
    model = session.config.model.name
    made_for = entry.card.model_name
    if entry.card.status == "other model" and not same_model_name(made_for, model.removeprefix("hf:")):
        raise ModelMismatchError(
            f"{entry.name!r} was made for {made_for!r}, and the model is {model!r}.",
            hint=f"To delete it, add: --model {made_for}",
        )
    if entry.card.kind in ("axis", "baseline"):
        raise UsageError(
            f"{entry.name!r} is the model's own {entry.card.kind}, not a persona or trait.",
            hint="Make it again with: persona-steer extract-axes",
        )


def confirm(question: str, *, yes: bool) -> None:
    """Asks on a terminal, unless `yes`. Raises CancelledError on a no, and UsageError without a terminal."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("nobody can be asked: stdin is not a terminal.", hint="Add --yes to delete it.")
    if not click.confirm(question, err=True):
        raise CancelledError("nothing was deleted.")


def files_of(session: Session, entry: Entry) -> list[Path]:
    """The file, and the assistant axis that a persona was part of."""
    from persona_steering.engine import library

    return list(library.files_of(session.manager.store, entry.card, entry.path))


def remove(session: Session, entry: Entry) -> None:
    """Deletes the files of an entry, and takes its name off the preload list. Raises StorageError."""
    from persona_steering.engine.library import remove_vector
    from persona_steering.personas.preload import PreloadList

    remove_vector(session.manager.store, PreloadList(session.config.workspace), entry.card, entry.path)
