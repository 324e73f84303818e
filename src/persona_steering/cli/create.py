"""`create`: a persona or trait vector from an archetype, a file of prompts or a word, with what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from persona_steering.cli.context import (
    Session,
    effort_options,
    generator_option,
    json_option,
    model_options,
    pass_session,
)
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
@click.option("--description", metavar="TEXT", help="Who it is, in a sentence; a model writes the system prompts.")
@generator_option
@effort_options
@json_option
@model_options
@pass_session
def create(
    session: Session,
    name: str,
    archetype: str | None,
    description: str | None,
    prompts: Path | None,
    trait: str | None,
    opposite: str | None,
) -> None:
    """Make the vector NAME for a model, choose its layers and dose, and measure what it does.

    \b
    Examples:
      persona-steer create pirate --from-archetype pirate --quick
      persona-steer create wizard --prompts wizard.txt
      persona-steer create wizard --description "a grumpy old wizard who speaks in riddles"
      persona-steer create silly --trait silly
      persona-steer create confident --trait confident --opposite insecure
    """
    check_sources(session, name, (archetype, prompts, trait, description), opposite=opposite)
    if description is not None:
        subject: Persona | Trait = propose_prompts(session, name, description)
    else:
        subject = read_subject(name, archetype=archetype, prompts=prompts, trait=trait, opposite=opposite)
    from persona_steering.cli.progress import resumable_progress
    from persona_steering.engine.create import Creator

    with resumable_progress(quiet=session.quiet) as progress:
        creator = Creator(session.model, session.manager, session.config, effort=session.effort, progress=progress)
        vector = creator.create(subject).vector
    show_created(session, vector)


def check_sources(
    session: Session, name: str, sources: tuple[object, object, object, object], *, opposite: str | None
) -> None:
    """Raises UsageError unless the name is valid, one source is given, and the other options fit it.

    sources: of --from-archetype, --prompts, --trait and --description, None where it was not given.
    """
    from persona_steering.vectors import check_name

    check_name(name)
    *_, trait, description = sources
    given = sum(source is not None for source in sources)
    if given != 1:
        raise UsageError(
            f"{given or 'no'} sources were given for {name!r}, and exactly one is needed.",
            hint="Give --from-archetype A, --description TEXT, --prompts FILE or --trait WORD.",
        )
    if opposite is not None and trait is None:
        raise UsageError("--opposite was given without --trait.", hint="Give --trait WORD --opposite WORD.")
    if session.generator is not None and description is None:
        raise UsageError("--generator was given without --description.", hint="Nothing else is written by a model.")


def read_subject(
    name: str, *, archetype: str | None, prompts: Path | None, trait: str | None, opposite: str | None
) -> Persona | Trait:
    """The persona or trait that a source describes, called `name`. Raises UsageError or NotFoundError."""
    from persona_steering.personas import find_trait, load_archetype, load_prompts

    if archetype is not None:
        subject: Persona | Trait = load_archetype(archetype)
    elif prompts is not None:
        subject = load_prompts(prompts)
    else:
        subject = find_trait(str(trait), opposite)
    return subject.model_copy(update={"name": name})


def propose_prompts(session: Session, name: str, description: str) -> Persona:
    """The persona of a description, with the system prompts that the workspace keeps or a model writes now.

    Raises: as `engine.writing.propose_persona`, and UsageError where the vector exists, before anything is written.
    """
    from persona_steering.authoring.characters import describe
    from persona_steering.cli.progress import resumable_progress
    from persona_steering.cli.render import note
    from persona_steering.engine.writing import propose_persona
    from persona_steering.personas.datasets import Datasets

    describe(description)  # refuses an empty or endless one before a model is loaded
    session.manager.bind(session.model.identity)
    session.manager.check_new(name)
    datasets = Datasets(session.config.datasets_dir)
    path = datasets.persona_path(name)
    kept = path.exists()
    with resumable_progress(quiet=session.quiet) as progress:
        persona = propose_persona(session.writer, datasets, name, description, progress=progress)
    note(
        f"{'Using the system prompts of' if kept else 'The system prompts are in'} {path}. Edit them as you like: "
        "the same command then uses them.",
        quiet=session.quiet,
    )
    return persona


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
