"""`create`: a persona or trait vector from an archetype, a file of prompts or a word, with what was measured."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from persona_steering.cli.complete import complete_archetype, complete_trait
from persona_steering.cli.context import (
    Session,
    effort_options,
    generator_option,
    joining_options,
    json_option,
    model_options,
    pass_session,
)
from persona_steering.cli.there import check_detached, detach_option
from persona_steering.errors import UsageError

if TYPE_CHECKING:
    from persona_steering.personas import Persona, Trait
    from persona_steering.vectors import SteeringVector


PROMPTS = 5  # that a model writes for a description


@dataclass(frozen=True)
class Sources:
    """What the options say of the persona or trait to make."""

    archetype: str | None = None
    prompts: Path | None = None
    trait: str | None = None
    opposite: str | None = None
    description: str | None = None

    @property
    def given(self) -> int:
        """How many of them, where one is needed. The opposite belongs to the trait."""
        return sum(one is not None for one in (self.archetype, self.prompts, self.trait, self.description))


@click.command()
@click.argument("name", required=False)
@click.option(
    "--from-archetype",
    "archetype",
    metavar="A",
    shell_complete=complete_archetype,
    help="A persona that ships with the package.",
)
@click.option("--prompts", type=click.Path(path_type=Path), metavar="FILE", help="System prompts: toml, json, txt.")
@click.option(
    "--trait",
    metavar="WORD",
    shell_complete=complete_trait,
    help="A trait of the library, another adjective, or a file: toml, json.",
)
@click.option("--opposite", metavar="WORD", help="The trait's opposite.  [default: the library's, else its absence]")
@click.option("--description", metavar="TEXT", help="Who it is, in a sentence; a model writes the system prompts.")
@generator_option
@click.option(
    "-i", "--interactive", is_flag=True, help="Ask for everything, and show the prompts before they are used."
)
@click.option("--edit", is_flag=True, help="Open the prompts in $EDITOR before they are used.")
@click.option("--dry-run", is_flag=True, help="Show what it would take here; make nothing.")
@effort_options
@detach_option
@json_option
@joining_options
@model_options
@pass_session
def create(
    session: Session,
    name: str | None,
    archetype: str | None,
    prompts: Path | None,
    trait: str | None,
    opposite: str | None,
    description: str | None,
    interactive: bool,
    edit: bool,
    dry_run: bool,
    detach: bool,
) -> None:
    """Make the vector NAME for a model, choose its layers and dose, and measure what it does.

    \b
    Examples:
      persona-steer create pirate --from-archetype pirate --quick
      persona-steer create wizard --prompts wizard.txt
      persona-steer create wizard --description "a grumpy old wizard who speaks in riddles"
      persona-steer create silly --trait silly
      persona-steer create confident --trait confident --opposite insecure
      persona-steer create --interactive
      persona-steer create sage --from-archetype sage --dry-run
    """
    sources = Sources(archetype, prompts, trait, opposite, description)
    check_flags(name, interactive=interactive, edit=edit, dry_run=dry_run)
    check_detached(session, detach=detach)
    if session.joined is not None:
        from persona_steering.cli.create_there import create_there

        create_there(
            session,
            session.joined,
            name,
            sources,
            interactive=interactive,
            edit=edit,
            dry_run=dry_run,
            detach=detach,
        )
        return
    if dry_run:
        show_estimate(session, planned(session, str(name), sources))
        return
    if interactive:
        from persona_steering.cli.guided import ask_subject

        subject = ask_subject(session, name, sources)
    else:
        subject = chosen(session, str(name), sources)
    if edit:
        from persona_steering.cli.guided import edited

        subject = edited(session, subject)
    show_created(session, make(session, subject))


def make(session: Session, subject: Persona | Trait) -> SteeringVector:
    """Extracts, measures and stores it, with progress."""
    from persona_steering.cli.progress import resumable_progress
    from persona_steering.engine.create import Creator

    with resumable_progress(quiet=session.quiet) as progress:
        creator = Creator(session.model, session.manager, session.config, effort=session.effort, progress=progress)
        return creator.create(subject).vector


def check_flags(name: str | None, *, interactive: bool, edit: bool, dry_run: bool) -> None:
    """Raises UsageError where the options do not go together."""
    if dry_run and (interactive or edit):
        raise UsageError("--dry-run asks and edits nothing.", hint="Leave out --interactive and --edit.")
    if interactive and not sys.stdin.isatty():
        raise UsageError("nobody can be asked: stdin is not a terminal.", hint="Give the options instead.")
    if name is None and not interactive:
        raise UsageError("missing argument 'NAME'.", hint="Give a name, or --interactive.")


def chosen(session: Session, name: str, sources: Sources) -> Persona | Trait:
    """The persona or trait that the options describe; a description has its prompts written. Raises as its parts."""
    check_sources(session, name, sources)
    if sources.description is not None:
        return propose_prompts(session, name, sources.description)
    return read_subject(name, sources)


def check_sources(session: Session, name: str, sources: Sources) -> None:
    """Raises UsageError unless the name is valid, one source is given, and the other options fit it."""
    from persona_steering.vectors import check_name

    check_name(name)
    if sources.given != 1:
        raise UsageError(
            f"{sources.given or 'no'} sources were given for {name!r}, and exactly one is needed.",
            hint="Give --from-archetype A, --description TEXT, --prompts FILE or --trait WORD.",
        )
    if sources.opposite is not None and sources.trait is None:
        raise UsageError("--opposite was given without --trait.", hint="Give --trait WORD --opposite WORD.")
    if session.generator is not None and sources.description is None:
        raise UsageError("--generator was given without --description.", hint="Nothing else is written by a model.")


def read_subject(name: str, sources: Sources) -> Persona | Trait:
    """The persona or trait that a source describes, called `name`. Raises UsageError or NotFoundError."""
    from persona_steering.personas import find_trait, load_archetype, load_prompts

    if sources.archetype is not None:
        subject: Persona | Trait = load_archetype(sources.archetype)
    elif sources.prompts is not None:
        subject = load_prompts(sources.prompts)
    else:
        subject = find_trait(str(sources.trait), sources.opposite)
    return subject.model_copy(update={"name": name})


def planned(session: Session, name: str, sources: Sources) -> Persona | Trait:
    """As `chosen`, for counting: where a model would first write the prompts, as many stand in for them."""
    from persona_steering.personas import Persona
    from persona_steering.personas.datasets import Datasets

    check_sources(session, name, sources)
    if sources.description is None:
        return read_subject(name, sources)
    kept = Datasets(session.config.datasets_dir).persona(name)
    prompts = tuple(f"Prompt {i}, yet to be written." for i in range(1, PROMPTS + 1))
    return kept or Persona(name=name, description=sources.description, system_prompts=prompts)


def show_estimate(session: Session, subject: Persona | Trait) -> None:
    """How many answers, how long and how much disk a creation takes on the loaded model."""
    from persona_steering.cli.estimates import SAID, duration, estimated, measured_speed, size, to_json
    from persona_steering.cli.progress import label
    from persona_steering.cli.render import card, emit_json, note
    from persona_steering.engine.create import Creator
    from persona_steering.engine.estimate import creation_work

    if session.joined is not None:
        from persona_steering.cli.create_there import asked_of
        from persona_steering.cli.there import estimate_there

        asked = asked_of(session, subject)
        estimate_there(session, session.joined, asked.path, asked.params)
        return
    creator = Creator(session.model, session.manager, session.config, effort=session.effort)
    session.manager.check_new(subject.name)
    found = estimated(session, creation_work(creator, subject), measured_speed(session))
    if session.as_json:
        emit_json(to_json(found))
        return
    rows = {label(one.phase): f"{one.answers} answers" for one in found.work}
    rows["in all"] = f"{found.answers} answers of {found.tokens} tokens at most"
    rows |= {"time here": duration(found.seconds), "disk": size(found.disk)}
    card(f"{subject.name} on {session.config.model.name}, {session.effort_name} effort", rows)
    note(SAID, quiet=session.quiet)


def propose_prompts(session: Session, name: str, description: str) -> Persona:
    """The persona of a description, with the system prompts that the workspace keeps or a model writes now.

    Raises: as `engine.writing.propose_persona`, and UsageError where the vector exists, before anything is written.
    """
    from persona_steering.authoring.characters import describe
    from persona_steering.cli.progress import ProgressReport
    from persona_steering.cli.render import note
    from persona_steering.engine.writing import propose_persona
    from persona_steering.personas.datasets import Datasets

    describe(description)  # refuses an empty or endless one before a model is loaded
    if session.joined is not None:
        from persona_steering.cli.create_there import propose_there

        return propose_there(session, session.joined, name, description)
    session.manager.bind(session.model.identity)
    session.manager.check_new(name)
    datasets = Datasets(session.config.datasets_dir)
    path = datasets.persona_path(name)
    kept = path.exists()
    with ProgressReport(quiet=session.quiet) as progress:
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

    identity = session.manager.model
    path = session.manager.store.locate(vector.metadata.kind, vector.name, identity)
    entry = describe(vector.metadata, path, own=identity, safety=session.config.steering.safety)
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
