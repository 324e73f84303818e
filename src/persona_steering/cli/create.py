"""`create`: a persona or trait vector from an archetype, a file of prompts or a word, with what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from persona_steering.cli.context import Session, effort_options, json_option, model_options, pass_session
from persona_steering.errors import UsageError

if TYPE_CHECKING:
    from persona_steering.personas import Persona, Trait
    from persona_steering.vectors import SteeringVector


@click.command()
@click.argument("name")
@click.option("--from-archetype", "archetype", metavar="A", help="A persona that ships with the package.")
@click.option("--prompts", type=click.Path(path_type=Path), metavar="FILE", help="System prompts: toml, json, txt.")
@click.option("--trait", metavar="WORD", help="A trait of the library, another adjective, or a file: toml, json.")
@click.option("--opposite", metavar="WORD", help="The trait's opposite.  [default: the library's, else its absence]")
@effort_options
@json_option
@model_options
@pass_session
def create(
    session: Session,
    name: str,
    archetype: str | None,
    prompts: Path | None,
    trait: str | None,
    opposite: str | None,
) -> None:
    """Make the vector NAME for a model, choose its layers and dose, and measure what it does.

    \b
    Examples:
      persona-steer create pirate --from-archetype pirate --quick
      persona-steer create wizard --prompts wizard.txt
      persona-steer create silly --trait silly
      persona-steer create confident --trait confident --opposite insecure
    """
    subject = read_subject(name, archetype=archetype, prompts=prompts, trait=trait, opposite=opposite)
    from persona_steering.cli.progress import resumable_progress
    from persona_steering.engine.create import Creator

    with resumable_progress(quiet=session.quiet) as progress:
        creator = Creator(session.model, session.manager, session.config, effort=session.effort, progress=progress)
        vector = creator.create(subject).vector
    show_created(session, vector)


def read_subject(
    name: str, *, archetype: str | None, prompts: Path | None, trait: str | None, opposite: str | None
) -> Persona | Trait:
    """The persona or trait that exactly one source describes, called `name`. Raises UsageError or NotFoundError."""
    from persona_steering.personas import find_trait, load_archetype, load_prompts
    from persona_steering.vectors import check_name

    check_name(name)
    sources = [source for source in (archetype, prompts, trait) if source is not None]
    if len(sources) != 1:
        raise UsageError(
            f"{len(sources) or 'no'} sources were given for {name!r}, and exactly one is needed.",
            hint="Give --from-archetype A, --prompts FILE or --trait WORD.",
        )
    if opposite is not None and trait is None:
        raise UsageError("--opposite was given without --trait.", hint="Give --trait WORD --opposite WORD.")
    if archetype is not None:
        subject: Persona | Trait = load_archetype(archetype)
    elif prompts is not None:
        subject = load_prompts(prompts)
    else:
        subject = find_trait(str(trait), opposite)
    return subject.model_copy(update={"name": name})


def show_created(session: Session, vector: SteeringVector) -> None:
    """The measured card, and what to do next."""
    from persona_steering.cli.personas import active_calibration, describe, show_card
    from persona_steering.cli.render import emit_json, note, warn

    path = session.manager.store.path(vector.metadata.kind, vector.name, session.model.identity)
    entry = describe(vector.metadata, path, own=session.model.identity, safety=session.config.steering.safety)
    calibration = active_calibration(vector.metadata, safety=session.config.steering.safety)
    if session.as_json:
        emit_json(entry.to_json(full=True))
    elif session.quiet:
        click.echo(vector.name)
    else:
        show_card(entry)
    if session.is_nested:
        return
    if calibration is not None and calibration.weak:
        warn(f"{vector.name!r} is weak on this model: {calibration.weak_reason}.")
    question = "What should I do today?"
    note(
        f'\nNext:\n  persona-steer generate "{question}" --persona {vector.name}\n'
        f"  persona-steer chat --persona {vector.name} --strength 0.8\n  persona-steer info {vector.name}",
        quiet=session.quiet or session.as_json,
    )
