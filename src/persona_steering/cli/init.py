"""`init`: a workspace, with what every steered answer of a model stands on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from persona_steering.cli.complete import complete_archetype
from persona_steering.cli.context import (
    Session,
    effort_options,
    generator_option,
    json_option,
    model_options,
    pass_session,
)
from persona_steering.errors import CancelledError, QualityError, UsageError

if TYPE_CHECKING:
    from persona_steering.cli.progress import ProgressReport
    from persona_steering.engine.estimate import Speed
    from persona_steering.engine.workspace import Made, Step, WorkspaceSetup
    from persona_steering.personas.datasets import SetKind

STEP_NAMES = ("datasets", "baseline", "safety", "personas", "assistant")


@click.command()
@click.argument("folder", metavar="[DIR]", type=click.Path(path_type=Path), default=".")
@click.option(
    "--personas",
    metavar="A,B",
    shell_complete=complete_archetype,
    help="Archetypes to make.  [default: sage,pirate,hermit]",
)
@click.option("--no-personas", is_flag=True, help="Make no personas, and so no assistant axis.")
@click.option("--skip", multiple=True, type=click.Choice(STEP_NAMES), help="Leave a step out. Repeatable.")
@click.option("--generate", is_flag=True, help="Have a model write the data sets, instead of the shipped ones.")
@generator_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Show the steps and how long they take; make nothing.")
@effort_options
@json_option
@model_options
@pass_session
def init(
    session: Session,
    folder: Path,
    personas: str | None,
    no_personas: bool,
    skip: tuple[str, ...],
    generate: bool,
    yes: bool,
    dry_run: bool,
) -> None:
    """Make a workspace in DIR (the current folder), then in steps: data sets, baseline, axes, personas.

    It says what each step will take before it starts. Steps that are done are not repeated: the same command goes
    on where it stopped. The model of --model is written to the workspace's config.yaml.

    \b
    Examples:
      persona-steer init
      persona-steer init ~/lab --personas sage,pirate --quick
      persona-steer init --skip personas --dry-run
    """
    from persona_steering.cli.progress import ProgressReport

    chosen = choose_personas(personas, none=no_personas)
    made = open_workspace(session, folder, dry_run=dry_run)
    skipped = {*skip, *(("personas", "assistant") if not chosen else ())}
    progress = ProgressReport(quiet=session.quiet or session.as_json)
    setup = None if skipped >= set(STEP_NAMES) else make_setup(session, chosen, skipped, generate, progress)
    steps = setup.plan() if setup else []
    show_plan(session, made, steps, dry_run=dry_run)
    if dry_run or not any(step.state == "todo" for step in steps):
        finish(session, made, steps, dry_run=dry_run)
        return
    confirm(yes=yes)
    assert setup is not None
    finish(session, made, run_steps(session, setup, progress), dry_run=False)


def choose_personas(names: str | None, *, none: bool) -> list[str]:
    """The archetypes to make. Raises UsageError or NotFoundError."""
    from persona_steering.engine.workspace import STARTERS
    from persona_steering.personas import load_archetype

    if names is not None and none:
        raise UsageError("--personas and --no-personas were both given.", hint="Give one of them.")
    if none:
        return []
    chosen = [name.strip() for name in names.split(",") if name.strip()] if names is not None else list(STARTERS)
    if not chosen:
        raise UsageError("--personas names none.", hint="Write --personas sage,pirate, or --no-personas.")
    return [load_archetype(name).name for name in chosen]


def open_workspace(session: Session, folder: Path, *, dry_run: bool) -> Made:
    """Makes the folders, and has the session use them. A new config.yaml takes over what the flags say of the model."""
    from persona_steering.config import FILE_NAME
    from persona_steering.config.edit import set_value
    from persona_steering.engine.workspace import make_folders

    if session.config_path is not None:
        raise UsageError("init takes no --config.", hint="Name the folder: persona-steer init DIR")
    root = folder.expanduser().absolute()
    _ = session.config  # a wrong setting is refused before anything is made
    made = make_folders(root, dry_run=dry_run)
    if dry_run and made.created:
        session.settings |= {f"paths.{name}": root / name for name in ("datasets", "vectors", "runs")}
    else:
        session.config_path = root
    if root / FILE_NAME in made.created and not dry_run:
        for key in [key for key in session.settings if key.startswith("model.")]:
            set_value(root / FILE_NAME, key, str(session.settings[key]))
    del session.config  # read again, now from the workspace
    return made


def make_setup(
    session: Session, personas: list[str], skip: set[str], generate: bool, progress: ProgressReport
) -> WorkspaceSetup:
    """The steps on the loaded model. Raises UsageError for --generator without --generate."""
    from persona_steering.cli.datasets import USUAL
    from persona_steering.engine import writing
    from persona_steering.engine.create import Creator
    from persona_steering.engine.workspace import WorkspaceSetup
    from persona_steering.personas.datasets import Datasets

    if session.generator is not None and not generate:
        raise UsageError("--generator was given without --generate.", hint="Add --generate, or leave it out.")
    creator = Creator(session.model, session.manager, session.config, effort=session.effort, progress=progress)

    def write_set(kind: SetKind) -> object:
        datasets = Datasets(session.config.datasets_dir)
        return writing.write_set(session.writer, datasets, kind, USUAL[kind], progress=progress)

    return WorkspaceSetup(creator, personas=personas, skip=tuple(skip), write_set=write_set if generate else None)


def show_plan(session: Session, made: Made, steps: list[Step], *, dry_run: bool) -> None:
    """What is made, what each step asks of the model, and how long all of it takes here."""
    from persona_steering.cli.estimates import SAID, duration, estimated, measured_speed
    from persona_steering.cli.render import note

    if session.as_json:
        return
    verb = "Would make" if dry_run else "Made"
    for path in made.created:
        note(f"{verb} {path}", quiet=session.quiet)
    work = [one for step in steps if step.state == "todo" for one in step.work]
    speed = measured_speed(session) if work else None
    for step in steps:
        note(f"  {plan_line(session, step, speed)}", quiet=session.quiet)
    if speed is not None:
        total = estimated(session, work, speed)
        note(f"{total.answers} answers: {duration(total.seconds)} in all on this machine.", quiet=session.quiet)
        note(SAID, quiet=session.quiet)


def plan_line(session: Session, step: Step, speed: Speed | None) -> str:
    """One step of the plan."""
    from persona_steering.cli.estimates import duration, estimated

    if step.state != "todo":
        return f"{step.title:<32}{'skipped' if step.state == 'skipped' else step.detail}".rstrip()
    found = estimated(session, list(step.work), speed) if speed else None
    if found is None or not found.answers:
        return f"{step.title:<32}{'written by a model' if step.name == 'datasets' else 'from the others'}"
    return f"{step.title:<32}{found.answers:>5} answers, {duration(found.seconds)}"


def confirm(*, yes: bool) -> None:
    """Asks on a terminal whether to go on; elsewhere goes on, since nothing is lost by it."""
    if not yes and sys.stdin.isatty() and not click.confirm("Go on?", default=True, err=True):
        raise CancelledError("stopped before any step.", hint="The same command goes on from here.")


def run_steps(session: Session, setup: WorkspaceSetup, progress: ProgressReport) -> list[Step]:
    """Does what is to do, one step after the other, and says how each ended."""
    from persona_steering.cli.progress import resumable
    from persona_steering.cli.render import note, warn

    done = []
    with resumable(progress):
        for name in STEP_NAMES:
            # looked at again, since what a step has made changes what is left to do after it
            for step in (one for one in setup.plan() if one.name == name):
                done.append(setup.run(step) if step.state == "todo" else step)
    for step in done:
        if step.state == "failed" or (step.state != "skipped" and step.detail.startswith("weak")):
            warn(f"{step.title}: {step.detail}")
        elif step.state == "skipped" and step.detail:
            note(f"{step.title}: skipped, {step.detail}", quiet=session.quiet or session.as_json)
    return done


def finish(session: Session, made: Made, steps: list[Step], *, dry_run: bool) -> None:
    """What there is now, and the next three commands. A step that failed is an error at the end."""
    from persona_steering.cli.render import emit_json, note

    if session.as_json:
        emit_json(
            {
                "workspace": str(made.root),
                "created": [str(path) for path in made.created],
                "dry_run": dry_run,
                "steps": [
                    {
                        "step": step.name,
                        "title": step.title,
                        "state": step.state,
                        "detail": step.detail,
                        "answers": sum(one.answers for one in step.work),
                    }
                    for step in steps
                ],
            }
        )
    if not dry_run:
        note("\n".join(["", "Next:", *next_commands(made.root, steps)]), quiet=session.quiet or session.as_json)
    failed = [step.title for step in steps if step.state == "failed"]
    if failed:
        raise QualityError(f"not made: {', '.join(failed)}.", hint="Try other archetypes, or --thorough.")


def next_commands(root: Path, steps: list[Step]) -> list[str]:
    """Exactly three."""
    ready = [step.subject for step in steps if step.name == "personas" and step.state == "done"]
    enter = "" if root.resolve() == Path.cwd().resolve() else f"cd {root} && "
    if not ready:
        return [
            f"  {enter}persona-steer create sage --from-archetype sage",
            '  persona-steer generate "What is a good life?" --persona sage',
            "  persona-steer doctor",
        ]
    return [
        f"  {enter}persona-steer chat --persona {ready[0]}",
        f'  persona-steer generate "What is a good life?" --persona {ready[-1]} --strength 0.8',
        "  persona-steer create wizard --interactive",
    ]
