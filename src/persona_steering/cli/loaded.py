"""`load` and `unload`: which personas and traits are in the memory of the running server.

Without one nothing stays in memory between two commands, so the names are kept in the workspace's preload list;
`chat` loads what it names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from persona_steering.cli.complete import complete_steerable
from persona_steering.cli.context import Session, joining_options, pass_session, store_options
from persona_steering.errors import ModelMismatchError, UsageError

if TYPE_CHECKING:
    from persona_steering.personas.preload import PreloadList
    from persona_steering.vectors import ModelIdentity


@click.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete_steerable)
@joining_options
@store_options
@pass_session
def load(session: Session, names: tuple[str, ...]) -> None:
    """Take personas or traits into the memory of the running server. Their files are checked now.

    Where none runs, or with --local, the names are kept in the workspace's preload list: chats load what it names.

    \b
    Examples:
      persona-steer load sage pirate
      persona-steer list --loaded
    """
    from persona_steering.cli.render import note

    if session.joined is not None:
        for name in names:
            session.service.load(name)
        show_memory(session)
        note(f"In memory there: {', '.join(names)}.", quiet=session.quiet)
        return
    session.check_names(list(names))
    loaded, model = preload_list(session)
    for name in names:
        session.manager.load(name)  # a damaged file is refused here, and not in the middle of a chat
    new = loaded.add(model, names)
    show_names(session, loaded, model)
    known = sorted(set(names) - set(new))
    if new:
        note(f"Kept in {loaded.path}: chats on {model.id} load {', '.join(new)}.", quiet=session.quiet)
    if known:
        note(f"There already: {', '.join(known)}.", quiet=session.quiet)


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1, shell_complete=complete_steerable)
@click.option("--all", "everything", is_flag=True, help="All of the model.")
@joining_options
@store_options
@pass_session
def unload(session: Session, names: tuple[str, ...], everything: bool) -> None:
    """Drop personas or traits from the memory of the running server, else from the preload list. Their files stay.

    \b
    Examples:
      persona-steer unload pirate
      persona-steer unload --all
    """
    from persona_steering.cli.render import note

    if bool(names) == everything:
        raise UsageError("give names or --all, one of the two.", hint="For instance: persona-steer unload pirate")
    if session.joined is not None:
        there = session.service.loaded() if everything else list(names)
        for name in there:
            session.service.unload(name)
        show_memory(session)
        note(f"No longer in memory there: {', '.join(there) or 'nothing was'}.", quiet=session.quiet)
        return
    loaded, model = preload_list(session)
    gone = loaded.remove(model, loaded.names(model) if everything else names)
    show_names(session, loaded, model)
    note(f"No longer loaded: {', '.join(gone) or 'nothing was'}.", quiet=session.quiet)


def preload_list(session: Session) -> tuple[PreloadList, ModelIdentity]:
    """The workspace's list, and the configured model. Raises ModelMismatchError when the store has nothing of it."""
    from persona_steering.personas.preload import PreloadList

    model = session.stored_model()
    if model is None:
        raise ModelMismatchError(
            f"there are no vectors of the model {session.config.model.name!r}.",
            hint="Name the model with --model; see: persona-steer list --all-models",
        )
    return PreloadList(session.config.workspace), model


def show_memory(session: Session) -> None:
    """With --json, what the running server has in memory now."""
    from persona_steering.cli.render import emit_json

    if session.as_json:
        emit_json({"model": session.service.model.id, "loaded": session.service.loaded()})


def show_names(session: Session, loaded: PreloadList, model: ModelIdentity) -> None:
    """With --json, the list as it is now."""
    from persona_steering.cli.render import emit_json

    if session.as_json:
        emit_json({"model": model.id, "loaded": list(loaded.names(model)), "path": str(loaded.path)})
