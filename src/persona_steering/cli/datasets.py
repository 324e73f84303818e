"""`datasets`: questions, safe and unsafe prompts, and personas' system prompts: shown, written by a model, checked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from persona_steering.cli.context import (
    Session,
    common_options,
    generator_option,
    json_option,
    model_options,
    pass_session,
)
from persona_steering.errors import QualityError, UsageError

if TYPE_CHECKING:
    from persona_steering.authoring.checking import Checked
    from persona_steering.personas import Persona
    from persona_steering.personas.datasets import Datasets, SetKind

WHICH = click.argument("which", type=click.Choice(["safe", "unsafe", "questions", "archetype"]))
NAME = click.argument("name", required=False)
USUAL = {"questions": 100, "safe": 200, "unsafe": 200}


@click.group()
def datasets() -> None:
    """Show, write and check the texts that vectors are made from.

    A set in the workspace's datasets folder is used in place of the one that ships with the package.

    \b
    Examples:
      persona-steer datasets show unsafe -n 5
      persona-steer datasets generate questions --generator openai:http://localhost:11434/v1#qwen2.5:14b
      persona-steer datasets validate archetype wizard
    """


@datasets.command()
@WHICH
@NAME
@click.option("-n", "count", type=click.IntRange(min=1), help="The first N only.")
@json_option
@common_options
@pass_session
def show(session: Session, which: str, name: str | None, count: int | None) -> None:
    """Show a set: safe, unsafe, questions, or the system prompts of archetype NAME.

    \b
    Examples:
      persona-steer datasets show questions
      persona-steer datasets show archetype sage --json
    """
    from persona_steering.cli.render import emit_json, note

    check_name_given(which, name)
    rows, origin = read_rows(session, which, name)
    if session.as_json:
        emit_json([{key: value for key, value in row.items() if value} for row in rows[:count]])
        return
    show_rows(rows[:count])
    note(f"From {origin}.", quiet=session.quiet)


@datasets.command()
@WHICH
@NAME
@click.option("-n", "count", type=click.IntRange(1, 2000), help="How many.  [default: 100 questions, 200 prompts, 5]")
@click.option("--description", metavar="TEXT", help="Of an archetype: who it is, in a sentence.")
@click.option("--replace", is_flag=True, help="Write a set of the workspace anew.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Another seed gives other texts.")
@click.option("--no-check", is_flag=True, help="Do not put unsafe prompts to the model.")
@generator_option
@json_option
@model_options
@pass_session
def generate(
    session: Session,
    which: str,
    name: str | None,
    count: int | None,
    description: str | None,
    replace: bool,
    seed: int,
    no_check: bool,
) -> None:
    """Let a model write a set into the workspace: safe, unsafe, questions, or archetype NAME.

    Every text is checked, and rejected ones are counted with the reason. Unsafe prompts are put to the model, since
    the safety axis needs refusals; those that it answers are listed.

    \b
    Examples:
      persona-steer datasets generate questions -n 40
      persona-steer datasets generate unsafe --generator openai:http://localhost:11434/v1#qwen2.5:14b
      persona-steer datasets generate archetype wizard --description "a grumpy wizard who speaks in riddles"
    """
    check_name_given(which, name)
    if which == "archetype":
        write_persona(session, str(name), description, count or 5, replace=replace, seed=seed)
        return
    if description is not None:
        raise UsageError("--description belongs to an archetype.", hint="datasets generate archetype NAME")
    kind = cast("SetKind", which)
    write_set(session, kind, count or USUAL[kind], replace=replace, seed=seed, check=kind == "unsafe" and not no_check)


@datasets.command()
@WHICH
@NAME
@click.option("--file", "file", type=click.Path(path_type=Path), metavar="FILE", help="A file instead.")
@json_option
@common_options
@pass_session
def validate(session: Session, which: str, name: str | None, file: Path | None) -> None:
    """Check a set and list every bad item with the reasons. Exits with 7 when there are any.

    \b
    Examples:
      persona-steer datasets validate unsafe
      persona-steer datasets validate questions --file my-questions.jsonl
    """
    from persona_steering.cli.render import emit_json, note

    check_name_given(which, name, file=file)
    checked, origin = look_through(session, which, name, file)
    bad = len(checked.complaints)
    if session.as_json:
        complaints = [{"place": c.place, "text": c.text, "reasons": list(c.reasons)} for c in checked.complaints]
        emit_json({"source": origin, "items": checked.items, "complaints": complaints})
    else:
        for complaint in checked.complaints:
            click.echo(f"{complaint.place}: {'; '.join(complaint.reasons)}")
            if complaint.text:
                click.echo(f"    {complaint.text}")
    if bad:
        what = "complaint" if bad == 1 else "complaints"
        raise QualityError(f"{bad} {what} about {origin}.", hint="Correct or remove those items.")
    note(f"All {checked.items} items of {origin} are good.", quiet=session.quiet or session.as_json)


def check_name_given(which: str, name: str | None, *, file: Path | None = None) -> None:
    """Raises UsageError unless exactly an archetype has a name."""
    if which == "archetype" and name is None and file is None:
        raise UsageError("which archetype?", hint="Name one, for instance: datasets show archetype sage")
    if which != "archetype" and name is not None:
        raise UsageError(f"{which!r} takes no name, and {name!r} was given.", hint="Leave it out.")


def own_datasets(session: Session) -> Datasets:
    """The workspace's sets, with the shipped ones behind them."""
    from persona_steering.personas.datasets import Datasets

    return Datasets(session.config.datasets_dir)


def find_persona(session: Session, name: str) -> tuple[Persona, str]:
    """The workspace's persona of a name, else the archetype, and where it is. Raises NotFoundError."""
    from persona_steering.personas import load_archetype
    from persona_steering.vectors.metadata import NAME_PATTERN

    found = own_datasets(session)
    own = found.persona(name) if NAME_PATTERN.fullmatch(name) else None
    return (own, str(found.persona_path(name))) if own else (load_archetype(name), "the package")


def read_rows(session: Session, which: str, name: str | None) -> tuple[list[dict[str, str]], str]:
    """A set as rows, and where it is from."""
    if which == "archetype":
        persona, origin = find_persona(session, str(name))
        return [{"id": str(i), "prompt": text} for i, text in enumerate(persona.system_prompts, 1)], origin
    kind = cast("SetKind", which)
    found = own_datasets(session)
    items = found.questions() if kind == "questions" else found.safety_prompts(kind)
    return [item.model_dump() for item in items], str(found.own(kind) or "the package")


def show_rows(rows: list[dict[str, str]]) -> None:
    """Rows on stdout: the texts in a table, with their categories."""
    from persona_steering.cli.render import table

    texts = [(row["id"], row.get("category", ""), row.get("question") or row["prompt"]) for row in rows]
    if any(category for _, category, _ in texts):
        table(("id", "category", "text"), texts)
    else:
        table(("", "text"), [(number, text) for number, _, text in texts])


def look_through(session: Session, which: str, name: str | None, file: Path | None) -> tuple[Checked, str]:
    """What is wrong with a set, and where it is from. The shipped sets are looked through where they are."""
    from persona_steering.authoring.checking import check_persona, check_prompts_file, check_set
    from persona_steering.personas.datasets import shipped_path

    if which == "archetype":
        if file is not None:
            return check_prompts_file(file), str(file)
        persona, origin = find_persona(session, str(name))
        return check_persona(persona), origin if origin != "the package" else f"the archetype {persona.name!r}"
    kind = cast("SetKind", which)
    own = file or own_datasets(session).own(kind)
    if own is not None:
        return check_set(kind, own), str(own)
    with shipped_path(kind) as path:
        return check_set(kind, path), f"the package's {kind}"


def write_persona(
    session: Session, name: str, description: str | None, count: int, *, replace: bool, seed: int
) -> None:
    """Has system prompts written, and shows them."""
    from persona_steering.cli.progress import ProgressReport
    from persona_steering.cli.render import emit_json, note
    from persona_steering.engine.writing import propose_persona

    if description is None:
        raise UsageError(
            f"who is {name!r}?", hint=f'datasets generate archetype {name} --description "a grumpy old wizard"'
        )
    found = own_datasets(session)
    path = found.persona_path(name)
    if path.exists() and not replace:
        raise UsageError(f"{path} is there already.", hint="Add --replace to have it written anew.")
    with ProgressReport(quiet=session.quiet) as progress:
        persona = propose_persona(
            session.writer, found, name, description, prompts=count, replace=replace, seed=seed, progress=progress
        )
    if session.as_json:
        emit_json({"path": str(path), **persona.model_dump(mode="json")})
    else:
        show_rows([{"id": str(i), "prompt": text} for i, text in enumerate(persona.system_prompts, 1)])
    note(f"Saved in {path}. Use it: persona-steer create {name} --prompts {path}", quiet=session.quiet)


def write_set(session: Session, kind: SetKind, count: int, *, replace: bool, seed: int, check: bool) -> None:
    """Has a set written, says what was rejected, and puts unsafe prompts to the model where asked."""
    from persona_steering.authoring.refusals import check_refusals
    from persona_steering.cli.progress import resumable_progress
    from persona_steering.cli.render import emit_json, note, warn
    from persona_steering.engine import writing

    found = own_datasets(session)
    with resumable_progress(quiet=session.quiet) as progress:
        written = writing.write_set(session.writer, found, kind, count, replace=replace, seed=seed, progress=progress)
        prompts = [item.prompt for item in found.safety_prompts(kind)] if check and kind != "questions" else []
        refusals = check_refusals(session.model.backend, prompts, progress=progress) if prompts else None
    rejected = ", ".join(f"{number} × {reason}" for reason, number in written.rejected.items()) or "none"
    if session.as_json:
        answered = [{"prompt": prompt, "answer": answer} for prompt, answer in refusals.answered] if refusals else None
        body = {"path": str(found.path(kind)), "items": len(written), "rejected": dict(written.rejected)}
        emit_json({**body, "requests": written.requests, "held_by": written.held_by, "not_refused": answered})
    else:
        for line in refusals.answered if refusals else ():
            click.echo(f"not refused: {line[0]}\n    {' '.join(line[1].split())}")
    note(f"{len(written)} saved in {found.path(kind)}. Rejected: {rejected}.", quiet=session.quiet)
    if refusals is not None and refusals.answered:
        warn(
            f"{session.config.model.name} did not refuse {len(refusals.answered)} of {refusals.total} unsafe prompts. "
            "The safety axis needs refusals; remove those prompts or use a model that refuses them."
        )
