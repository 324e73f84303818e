"""`vectors`: vectors out of answers that are there already."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from persona_steering.cli.context import Session, json_option, model_options, pass_session

if TYPE_CHECKING:
    from persona_steering.engine.building import Built

FILE = click.Path(path_type=Path)
SCORE = click.FloatRange(0, 100)


@click.group()
def vectors() -> None:
    """Make vectors out of answers that are there already.

    \b
    Examples:
      persona-steer vectors build --pos evil_pos.csv --neg evil_neg.csv --trait evil
    """


@vectors.command()
@click.option("--pos", "positive", type=FILE, required=True, metavar="P.csv", help="Of eval --instruction pos.")
@click.option("--neg", "negative", type=FILE, required=True, metavar="N.csv", help="Of eval --instruction neg.")
@click.option("--trait", required=True, metavar="T", help="The column with its scores.")
@click.option("--threshold", type=SCORE, default=50, show_default=True, help="pos at least this, neg below 100 - this.")
@click.option("--min-coherence", type=SCORE, default=50, show_default=True, help="Of both answers of a pair.")
@click.option("--save-dir", type=FILE, metavar="D", help="Write all three vectors there, native and as .pt.")
@click.option("--name", metavar="NAME", help="Its name in the store.  [default: the trait; none with --save-dir]")
@click.option("--dry-run", is_flag=True, help="Say how many pairs pass and what reading them takes; read nothing.")
@json_option
@model_options
@pass_session
def build(
    session: Session,
    positive: Path,
    negative: Path,
    trait: str,
    threshold: float,
    min_coherence: float,
    save_dir: Path | None,
    name: str | None,
    dry_run: bool,
) -> None:
    """Make a trait's vectors from judged answers under its positive and negative instructions.

    Answers are paired by question id and repetition; a pair counts where both show what they should and are
    coherent. The response vector is stored for steering; --save-dir also writes those of the prompt.

    \b
    Examples:
      persona-steer vectors build --pos evil_pos.csv --neg evil_neg.csv --trait evil
      persona-steer vectors build --pos p.csv --neg n.csv --trait evil --threshold 60 --save-dir vectors/
    """
    from persona_steering.cli.progress import ProgressReport
    from persona_steering.engine import building

    asked = building.Building(positive, negative, trait, threshold, min_coherence, save_dir, name)
    kept = len(asked.pairs().kept)
    if dry_run:
        show_pairs(session, kept)
        return
    with ProgressReport(quiet=session.quiet) as progress:
        built = building.build(session.model, session.manager, asked, progress=progress)
    show_built(session, built)


def show_pairs(session: Session, kept: int) -> None:
    """What would be read."""
    from persona_steering.cli.projections import show_work
    from persona_steering.engine.estimate import Work
    from persona_steering.evaluation.build import PHASE

    show_work(session, [Work(PHASE, 0, 0, 2 * kept, captured=False)])


def show_built(session: Session, built: Built) -> None:
    """How many pairs passed, what the others failed, and where the vectors are."""
    from persona_steering.cli.render import card, emit_json, note, warn

    if session.as_json:
        emit_json(built.model_dump(mode="json"))
        return
    rows = {"kept": f"{built.kept} of {built.pairs} pairs"}
    rows |= {f"  {reason}": str(count) for reason, count in built.failed.items()}
    if built.stored is not None:
        rows["stored as"] = built.stored
    card(f"{built.trait} on {built.model}", rows)
    if built.unpaired:
        warn(f"{built.unpaired} rows have no partner in the other file, and were left out.")
    if built.left_out:
        warn(f"{built.left_out} pairs exceed the model's context or are nothing but thoughts, and were left out.")
    note("\n".join(["", *map(str, built.files)]), quiet=session.quiet or not built.files)
    if built.stored is not None:
        note(f"\nNext:\n  persona-steer layers {built.stored}", quiet=session.quiet)
