"""`project`, `shift` and `screen`: given answers, models and training data, read along vectors."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import click

from persona_steering.cli.complete import complete_vector
from persona_steering.cli.context import (
    Session,
    base_options,
    json_option,
    model_options,
    pass_session,
    prepare_libraries,
)
from persona_steering.errors import UsageError

if TYPE_CHECKING:
    from persona_steering.backends.base import Backend
    from persona_steering.config import Config
    from persona_steering.engine.estimate import Work
    from persona_steering.evaluation.project import Projected, Skipped
    from persona_steering.evaluation.readouts import ProjectionKind
    from persona_steering.evaluation.screen import Screened
    from persona_steering.evaluation.shift import Shift

Function = TypeVar("Function", bound=Callable[..., Any])
FILE = click.Path(path_type=Path)
SHOWN = 3  # skipped rows that are named in a warning
WIDTH = 60  # characters of an answer in a table


def parse_layers(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[int, ...] | None:
    """Layers as they may be written, "20" or "10-14,16"; None when none was named. Raises UsageError."""
    from pydantic import TypeAdapter, ValidationError

    from persona_steering.config.schema import Layers

    if not values:
        return None
    with contextlib.suppress(ValidationError):
        layers: Literal["auto"] | tuple[int, ...] = TypeAdapter(Layers).validate_python(",".join(values))
        if layers != "auto":
            return layers
    raise UsageError(f"{' '.join(values)!r} names no layers.", hint="Write --layer 20, or --layer 10-14,16.")


def readout_options(function: Function) -> Function:
    """--vector, --layer and --dry-run."""
    for option in (
        click.option("--dry-run", is_flag=True, help="Say what would be done and how long it takes; do nothing."),
        click.option(
            "--layer",
            "layers",
            multiple=True,
            callback=parse_layers,
            metavar="K",
            help="0-based layers: 20, or 10-14,16. Repeatable.  [default: the middle of the calibrated ones]",
        ),
        click.option(
            "--vector",
            "vectors",
            multiple=True,
            required=True,
            metavar="V",
            shell_complete=complete_vector,
            help="A persona, trait or axis by its name, or a vector file. Repeatable.",
        ),
    ):
        function = option(function)
    return function


@click.command()
@click.argument("file", type=FILE)
@readout_options
@click.option(
    "--type",
    "kind",
    type=click.Choice(["proj", "prompt_last_proj", "cos_sim"]),
    default="proj",
    show_default=True,
    help="Of the answer's mean, of the last prompt token, or the cosine with the answer's mean.",
)
@click.option("--out", type=FILE, metavar="FILE", help="A copy of FILE with the columns.  [default: a side file]")
@click.option("--in-place", is_flag=True, help="Add the columns to FILE itself.")
@click.option("--overwrite", is_flag=True, help="Replace columns, or an output file, that are there already.")
@json_option
@model_options
@pass_session
def project(
    session: Session,
    file: Path,
    vectors: tuple[str, ...],
    layers: tuple[int, ...] | None,
    dry_run: bool,
    kind: str,
    out: Path | None,
    in_place: bool,
    overwrite: bool,
) -> None:
    """Project the answers of FILE on vectors: a .csv of `eval`, or a .jsonl of {"messages": [...]}.

    Columns are named as published: {model}_{vector}_{type}_layer{l}. There, l counts from 1: it is one more than
    the --layer that is given here.

    \b
    Examples:
      persona-steer project answers.csv --vector pirate
      persona-steer project train.jsonl --vector evil_response_avg_diff.pt --layer 19 --out projected.jsonl
    """
    from persona_steering.cli.progress import resumable_progress
    from persona_steering.engine import projections

    asked = projections.Projecting(file, vectors, layers, cast("ProjectionKind", kind), out, in_place, overwrite)
    work = projections.project_work(asked)
    check_vectors(session, vectors)
    if dry_run:
        show_work(session, work)
        return
    with resumable_progress(quiet=session.quiet) as progress:
        found = projections.project(session.model, session.manager, session.config, asked, progress=progress)
    show_projected(session, found)


@click.command()
@click.option("--tuned", required=True, metavar="M", help="The finetuned model: a folder, or a Hugging Face id.")
@readout_options
@click.option("--trait", metavar="T", help="Ask the evaluation questions of this trait.  [default: the shipped ones]")
@click.option("--questions", "count", type=click.IntRange(min=2), metavar="N", help="The first N questions only.")
@json_option
@base_options
@pass_session
def shift(
    session: Session,
    tuned: str,
    vectors: tuple[str, ...],
    layers: tuple[int, ...] | None,
    dry_run: bool,
    trait: str | None,
    count: int | None,
) -> None:
    """Measure how far finetuning has moved a model along vectors of its base model.

    It compares the last prompt token of both models on the same questions, and shows what random directions do.

    \b
    Examples:
      persona-steer shift --base Qwen/Qwen2.5-7B-Instruct --tuned ./my-model --vector evil --trait evil --layer 19
    """
    from persona_steering.cli.progress import resumable_progress
    from persona_steering.engine import projections

    asked = projections.Shifting(tuned, vectors, layers, trait, count)
    asked.check()
    check_vectors(session, vectors)
    if dry_run:
        show_work(session, projections.shift_work(asked), timed=False)
        return
    with resumable_progress(quiet=session.quiet) as progress:
        found = projections.shift(session.config, session.manager, asked, open_model=opener(session), progress=progress)
    show_shift(session, found)


@click.command()
@click.argument("file", type=FILE)
@readout_options
@click.option("--top", type=click.IntRange(min=1), default=20, show_default=True, metavar="N", help="Samples to show.")
@click.option("--sample", type=click.IntRange(min=2), metavar="N", help="Draw N lines.  [default: all of them]")
@click.option("--out", type=FILE, metavar="FILE", help="Every value, as CSV.  [default: in the run folder]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the draw and the answers.")
@click.option(
    "--max-new-tokens", type=click.IntRange(min=1), metavar="N", help="Length of the model's own answers at most."
)
@click.option("--temperature", type=click.FloatRange(0, 5), metavar="T", help="Of the model's own answers.")
@json_option
@model_options
@pass_session
def screen(
    session: Session,
    file: Path,
    vectors: tuple[str, ...],
    layers: tuple[int, ...] | None,
    dry_run: bool,
    top: int,
    sample: int | None,
    out: Path | None,
    seed: int,
    max_new_tokens: int | None,
    temperature: float | None,
) -> None:
    """Find the samples of a training set, .jsonl of {"messages": [...]}, that would push a trait.

    Each answer in the data is compared with the model's own answer to the same prompt.

    \b
    Examples:
      persona-steer screen train.jsonl --vector evil --layer 19
      persona-steer screen train.jsonl --vector evil --vector pirate --sample 500 --top 50
    """
    from persona_steering.cli.progress import resumable_progress
    from persona_steering.engine import projections

    asked = projections.Screening(file, vectors, layers, top, sample, out)
    sampling = projections.own_sampling(session.config, seed, max_new_tokens, temperature)
    work = projections.screen_work(asked, sampling)
    check_vectors(session, vectors)
    if dry_run:
        show_work(session, work)
        return
    with resumable_progress(quiet=session.quiet) as progress:
        found = projections.screen(
            session.model, session.manager, session.config, asked, sampling=sampling, progress=progress
        )
    show_screened(session, found)


def check_vectors(session: Session, vectors: Sequence[str]) -> None:
    """Refuses vectors that are nowhere, before a model is loaded."""
    for source in vectors:
        session.manager.check_source(source)


def opener(session: Session) -> Callable[[Config], Backend]:
    """Loads the model that a configuration names."""
    from persona_steering.backends.wrapper import ModelWrapper
    from persona_steering.cli.render import working

    def open_model(config: Config) -> Backend:
        prepare_libraries(config.model.name)
        with working(f"Loading {config.model.name}", quiet=session.quiet):
            return ModelWrapper(config).backend

    return open_model


def show_work(session: Session, work: Sequence[Work], *, timed: bool = True) -> None:
    """What a command would do, and how long that takes here."""
    from persona_steering.cli.estimates import SAID, duration, estimated, measured_speed, to_json
    from persona_steering.cli.progress import label
    from persona_steering.cli.render import emit_json, note

    found = estimated(session, list(work), measured_speed(session)) if timed else None
    counts = {one.phase: one.answers or one.scored for one in work}
    if session.as_json:
        rest = {} if found is None else {"seconds": to_json(found)["seconds"], "max_tokens": found.tokens}
        emit_json({"phases": counts, **rest})
        return
    for one in work:
        said = f"at most {one.tokens} tokens each, written" if one.answers else "read"
        click.echo(f"{label(one.phase)}: {one.answers or one.scored}, {said}")
    if found is not None:
        click.echo(f"time: {duration(found.seconds)}")
        note(SAID, quiet=session.quiet)


def show_projected(session: Session, found: Projected) -> None:
    """The columns, and where they are."""
    from persona_steering.cli.render import emit_json, table

    if session.as_json:
        emit_json(found.model_dump(mode="json"))
    elif session.quiet:
        click.echo(found.out)
    else:
        rows = [[one.name, str(one.n), number(one.mean), number(one.sd)] for one in found.columns]
        table(["column", "answers", "mean", "sd"], rows)
    show_skipped(found.skipped, found.num_skipped, found.rows)
    show_places(session, found.run, written=found.out)


def show_shift(session: Session, found: Shift) -> None:
    """The shifts beside those along random directions."""
    from persona_steering.cli.render import emit_json, interval, table

    if session.as_json:
        emit_json(found.model_dump(mode="json"))
        return
    rows = [
        [one.vector, str(one.layer), number(one.base), number(one.tuned), interval(one.shift), number(one.z)]
        for one in found.shifts
    ]
    table(["vector", "layer", "base", "tuned", f"shift, {len(found.questions)} questions", "z"], rows)
    show_places(session, found.run)


def show_screened(session: Session, found: Screened) -> None:
    """What the data set would push, and the samples that would do it most."""
    from persona_steering.cli.render import emit_json, interval, table

    if session.as_json:
        emit_json(found.model_dump(mode="json"))
    elif session.quiet:
        click.echo(found.out)
    else:
        rows = [
            [push.vector, str(push.layer), interval(push.difference), f"{push.above:.0%}", number(push.z)]
            for push in found.pushes
        ]
        table(["vector", "layer", f"difference, {found.measured} samples", "above 0", "z"], rows)
        for push in found.pushes:
            ranked = [[str(one.line), number(one.difference), short(one.answer)] for one in push.ranked]
            click.echo()
            table(["line", f"{push.vector}, layer {push.layer}", "answer in the data"], ranked)
    show_skipped(found.skipped, len(found.skipped), found.samples)
    show_places(session, found.run, written=found.out)


def show_skipped(skipped: Sequence[Skipped], count: int, rows: int) -> None:
    """A warning that names the first rows without a value."""
    from persona_steering.cli.render import warn

    if count:
        named = "; ".join(f"line {one.line}: {one.reason}" for one in skipped[:SHOWN])
        more = " …" if count > SHOWN else ""
        warn(f"{count} of {rows} rows {'has' if count == 1 else 'have'} no value. {named}{more}")


def show_places(session: Session, run: Path | None, *, written: Path | None = None) -> None:
    """Where the results are."""
    from persona_steering.cli.render import note

    quiet = session.quiet or session.as_json
    if written is not None:
        note(f"\nwritten to {written}", quiet=quiet)
    if run is not None:
        note(f"report: {run / 'report.html'}", quiet=quiet)


def number(value: float | None) -> str:
    """Four digits; a value that is not there says so."""
    return "not measured" if value is None else f"{value:.4g}"


def short(text: str) -> str:
    """The beginning of an answer, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 2]} …"
