"""Guided creation: it asks what to make, shows the prompts for editing, and says what it takes before it starts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from persona_steering.errors import CancelledError, NotFoundError, PersonaSteeringError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from persona_steering.cli.context import Session
    from persona_steering.cli.create import Sources
    from persona_steering.personas import Persona, Trait

Answer = TypeVar("Answer")
KINDS = {
    "archetype": ("Which", "a persona that ships with the package"),
    "description": ("Who is it", "a persona that you describe; a model writes its prompts"),
    "trait": ("Which adjective", "a trait: one adjective, and its opposite"),
    "file": ("Which file", "a file of your own prompts"),
}  # what is asked, and what it means
REVIEW = "Enter keeps them · NUMBER writes one anew · d NUMBER drops one · a adds one · e opens an editor"


def ask_subject(session: Session, name: str | None, sources: Sources) -> Persona | Trait:
    """Asks for what the options leave open, has the prompts reviewed, and shows what the creation takes.

    Raises CancelledError where the user does not go on; nothing but edited prompts is kept then.
    """
    from persona_steering.cli.create import show_estimate

    name = ask_name(session, name)
    subject = review(session, ask_source(session, name, sources))
    if session.effort_name == "standard":
        session.effort_name = _choice("How thoroughly is it measured?", ["quick", "standard", "thorough"], "standard")
    show_estimate(session, subject)
    if not click.confirm("Make it?", default=True, err=True):
        raise CancelledError("nothing was made.", hint="Edited prompts are kept.")
    return subject


def ask_name(session: Session, name: str | None) -> str:
    """A valid name that the model does not have yet; asks until there is one."""
    from persona_steering.vectors import check_name

    def free(text: str) -> str:
        check_name(text)
        model = session.stored_model()
        if model is not None:
            session.manager.bind(model)
            session.manager.check_new(text)
        return text

    return _ask("Its name", free) if name is None else free(name)


def ask_source(session: Session, name: str, sources: Sources) -> Persona | Trait:
    """The persona or trait of the options; without any, asks what it is."""
    from persona_steering.cli.create import Sources, chosen
    from persona_steering.cli.render import note
    from persona_steering.personas import list_archetypes, list_traits

    if sources.given:
        return chosen(session, name, sources)
    for kind, (_, meaning) in KINDS.items():
        note(f"  {kind:<12}{meaning}")
    kind = _choice("What is it?", list(KINDS), "archetype")
    if kind == "archetype":
        note(f"  {', '.join(list_archetypes())}")
    elif kind == "trait":
        note(f"  In the library: {', '.join(list_traits())}. Any other adjective will do, too.")

    def take(text: str) -> Persona | Trait:
        if kind == "trait":
            opposite = click.prompt("Its opposite (Enter: its absence)", default="", show_default=False, err=True)
            return chosen(session, name, Sources(trait=text, opposite=opposite or None))
        if kind == "file":
            return chosen(session, name, Sources(prompts=Path(text).expanduser()))
        return chosen(session, name, Sources(archetype=text) if kind == "archetype" else Sources(description=text))

    return _ask(KINDS[kind][0], take)


def review(session: Session, subject: Persona | Trait) -> Persona | Trait:
    """Shows the prompts, and changes them until the user keeps them. What was changed is saved in the workspace."""
    changed = False
    while True:
        _show_prompts(subject)
        word, _, rest = click.prompt(REVIEW, default="", show_default=False, err=True).strip().partition(" ")
        if not word:
            break
        try:
            if word == "e":
                return edited(session, _saved(session, subject))
            subject, changed = _changed(subject, word, rest), True
        except PersonaSteeringError as error:
            _complain(error)
    return _saved(session, subject) if changed else subject


def edited(session: Session, subject: Persona | Trait) -> Persona | Trait:
    """The prompts as the user leaves them in their editor. They stay in the workspace: the next run begins with them.

    Raises UsageError without a terminal, or where what they wrote cannot be read.
    """
    from persona_steering.cli.editor import check_terminal, edit_file
    from persona_steering.cli.render import note
    from persona_steering.personas import Persona, load_prompts, load_trait
    from persona_steering.personas.datasets import Datasets

    check_terminal()
    datasets = Datasets(session.config.datasets_dir)
    is_persona = isinstance(subject, Persona)
    path = datasets.persona_path(subject.name) if is_persona else datasets.trait_path(subject.name)
    if path.exists():
        note(f"Going on from {path}.", quiet=session.quiet)
    else:
        _saved(session, subject)
    edit_file(path)
    found: Persona | Trait = load_prompts(path) if is_persona else load_trait(path)
    note(f"The prompts are in {path}.", quiet=session.quiet)
    return found.model_copy(update={"name": subject.name})


def _saved(session: Session, subject: Persona | Trait) -> Persona | Trait:
    from persona_steering.personas import Persona, load_prompts, load_trait
    from persona_steering.personas.datasets import Datasets

    datasets = Datasets(session.config.datasets_dir)
    if isinstance(subject, Persona):
        return load_prompts(datasets.save_persona(subject))
    return load_trait(datasets.save_trait(subject))


def _show_prompts(subject: Persona | Trait) -> None:
    from rich.text import Text

    from persona_steering.cli.render import err, printable
    from persona_steering.personas import Persona

    console = err()
    console.print(Text(f"\n{subject.name}: what the model is told", style="bold"))
    if isinstance(subject, Persona):
        lines = list(subject.system_prompts)
    else:
        lines = [f"+ {pair.pos}\n   - {pair.neg}" for pair in subject.pairs]
    for number, line in enumerate(lines, start=1):
        console.print(Text(f"{number:>2} {printable(line)}"))
    console.print()


def _changed(subject: Persona | Trait, word: str, rest: str) -> Persona | Trait:
    """The subject with one prompt (or pair) written anew, dropped or added. Raises UsageError for anything else."""
    from persona_steering.personas import Persona
    from persona_steering.personas._files import parse_model

    key = "system_prompts" if isinstance(subject, Persona) else "pairs"
    items = list(subject.model_dump()[key])
    if word == "a":
        items.append(_new_item(subject))
    elif word == "d":
        del items[_place(rest, items)]
        if not items:
            raise UsageError("that is the last one.", hint="Write it anew instead.")
    else:
        place = _place(word, items)
        items[place] = _new_item(subject)
    return parse_model(type(subject), {**subject.model_dump(), key: items}, "the change")


def _new_item(subject: Persona | Trait) -> Any:
    from persona_steering.personas import Persona

    if isinstance(subject, Persona):
        return click.prompt("New prompt", err=True)
    return {"pos": click.prompt("With the trait", err=True), "neg": click.prompt("Without it", err=True)}


def _place(text: str, items: list[Any]) -> int:
    if not text.strip().isdecimal() or not 1 <= int(text) <= len(items):
        raise UsageError(f"{text or 'nothing'!r} is none of them.", hint=f"Write a number from 1 to {len(items)}.")
    return int(text) - 1


def _ask(question: str, take: Callable[[str], Answer]) -> Answer:
    """Asks until `take` accepts the answer."""
    while True:
        try:
            return take(click.prompt(question, err=True).strip())
        except (UsageError, NotFoundError) as error:
            _complain(error)


def _complain(error: PersonaSteeringError) -> None:
    from persona_steering.cli.render import warn

    warn(str(error))


def _choice(question: str, options: list[str], default: str) -> str:
    return str(click.prompt(question, type=click.Choice(options), default=default, err=True))
