"""`create` with a running server: what the options describe becomes a job of that server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from persona_steering.errors import UsageError

if TYPE_CHECKING:
    from pydantic import JsonValue

    from persona_steering.cli.context import Session
    from persona_steering.cli.create import Sources
    from persona_steering.cli.joining import Joined
    from persona_steering.personas import Persona, Trait

TRAIT_FILES = (".toml", ".json")


@dataclass(frozen=True)
class Asked:
    """What a server is asked to make."""

    kind: Literal["persona", "trait"]
    name: str
    params: dict[str, JsonValue]

    @property
    def path(self) -> str:
        return f"/api/v1/{self.kind}s"


def create_there(
    session: Session,
    joined: Joined,
    name: str | None,
    sources: Sources,
    *,
    interactive: bool,
    edit: bool,
    dry_run: bool,
    detach: bool,
) -> None:
    """Makes it there, and shows what was measured; with `dry_run` what it would take. Raises as `run_there`."""
    from persona_steering.cli.there import estimate_there, run_there

    if interactive or edit:
        asked = asked_of(session, _reviewed(session, name, sources, interactive=interactive, edit=edit))
    else:
        asked = asked_for(session, str(name), sources)
    if dry_run:
        estimate_there(session, joined, asked.path, asked.params)
        return
    if run_there(session, joined, asked.path, asked.params, detach=detach) is not None:
        show_made(session, joined, asked)


def asked_for(session: Session, name: str, sources: Sources) -> Asked:
    """The request that the options come to. Raises UsageError or NotFoundError."""
    from persona_steering.cli.create import check_sources, read_subject

    check_sources(session, name, sources)
    effort: dict[str, JsonValue] = {"effort": session.effort_name}
    if sources.archetype is not None:
        read_subject(name, sources)  # an unknown one is refused with the nearest
        return Asked("persona", name, {"name": name, "archetype": sources.archetype, **effort})
    if sources.description is not None:
        return Asked("persona", name, {"name": name, "description": sources.description, **effort})
    if sources.trait is not None and Path(sources.trait).suffix.lower() not in TRAIT_FILES:
        read_subject(name, sources)
        trait: dict[str, JsonValue] = {"word": sources.trait, "opposite": sources.opposite, "name": name}
        return Asked("trait", name, trait | effort)
    return asked_of(session, read_subject(name, sources))


def asked_of(session: Session, subject: Persona | Trait) -> Asked:
    """The request for a persona or trait with prompts of its own. Raises UsageError for what no request carries."""
    from persona_steering.personas import Persona

    params: dict[str, JsonValue] = {"name": subject.name, "effort": session.effort_name}
    if isinstance(subject, Persona):
        params |= {"system_prompts": list(subject.system_prompts), "description": subject.description or None}
        return Asked("persona", subject.name, params)
    params |= {"word": _word_of(subject), "opposite": subject.opposite or None}
    params["pairs"] = [{"positive": pair.pos, "negative": pair.neg} for pair in subject.pairs]
    params["questions"] = list(subject.questions) or None
    return Asked("trait", subject.name, params)


def _word_of(trait: Trait) -> str:
    """The adjective by which a server knows a trait: one of the library brings its way of measuring along."""
    from persona_steering.personas import list_traits, load_library_trait

    measured = (trait.evaluation_questions, trait.eval_prompt)
    if not any(measured):
        return trait.name.replace("_", " ").replace("-", " ")
    for name in list_traits():
        shipped = load_library_trait(name)
        if (shipped.evaluation_questions, shipped.eval_prompt) == measured:
            return name
    raise UsageError(
        f"{trait.name!r} has evaluation questions or a rubric of its own, which a running server is not told.",
        hint="Add --local to have it made here.",
    )


def propose_there(session: Session, joined: Joined, name: str, description: str) -> Persona:
    """The prompts that the server's model writes for a description, kept in this workspace for editing."""
    from persona_steering.cli.render import working
    from persona_steering.engine.remote.refusals import strange
    from persona_steering.personas import Persona
    from persona_steering.personas.datasets import Datasets

    datasets = Datasets(session.config.datasets_dir)
    if (kept := datasets.persona(name)) is not None:
        return kept
    asked = {"name": name, "description": description}
    with working("Writing system prompts", quiet=session.quiet):
        found = joined.api.send("POST", "/api/v1/personas/preview", asked, timeout=600)
    try:
        prompts = tuple(found["system_prompts"])
    except (KeyError, TypeError) as error:
        raise strange("without system prompts", joined.api.url) from error
    datasets.save_persona(Persona(name=name, description=description, system_prompts=prompts))
    return datasets.persona(name) or Persona(name=name, description=description, system_prompts=prompts)


def show_made(session: Session, joined: Joined, asked: Asked) -> None:
    """The measured card: out of the store where the server shares it, else as the server tells it."""
    import click

    from persona_steering.cli.create import show_created
    from persona_steering.cli.render import card, emit_json
    from persona_steering.cli.there import made_there

    vector = made_there(session, joined, asked.kind, asked.name)
    if vector is not None:
        show_created(session, vector)
        return
    found = joined.api.get(f"{asked.path}/{asked.name}")
    if session.as_json:
        emit_json(found)
    elif session.quiet:
        click.echo(asked.name)
    else:
        rows = {key: str(found[key]) for key in ("status", "status_reason", "description") if found.get(key)}
        card(f"{asked.name} ({asked.kind}) on {joined.api.url}", rows, status=str(found.get("status", "")))


def _reviewed(
    session: Session, name: str | None, sources: Sources, *, interactive: bool, edit: bool
) -> Persona | Trait:
    from persona_steering.cli.create import chosen
    from persona_steering.cli.guided import ask_subject, edited

    subject = ask_subject(session, name, sources) if interactive else chosen(session, str(name), sources)
    return edited(session, subject) if edit else subject
