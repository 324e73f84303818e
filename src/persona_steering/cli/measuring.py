"""`sweep`, `layers`, `card` and `similarity`: how strongly a vector works, where, how reliably, and beside which."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from persona_steering.cli.complete import complete_steerable
from persona_steering.cli.context import (
    Session,
    joining_options,
    json_option,
    model_options,
    pass_session,
    store_options,
)
from persona_steering.cli.measured import Result, show_evidence, show_layers, show_similarity, show_sweep
from persona_steering.cli.projections import parse_layers, show_work
from persona_steering.cli.there import check_detached, detach_option, measure_there

if TYPE_CHECKING:
    from pydantic import BaseModel, JsonValue

    from persona_steering.backends.wrapper import ModelWrapper
    from persona_steering.config import Config
    from persona_steering.engine.measuring import Measurement, Scale, Unit
    from persona_steering.personas.manager import PersonaManager

Function = TypeVar("Function", bound=Callable[..., Any])
Shown = TypeVar("Shown", bound="BaseModel")
LAYERS_HELP = "0-based layers: 20, or 10-14,16. Repeatable."


def layers_option(help: str) -> Callable[[Function], Function]:
    """--layers."""
    return click.option("--layers", multiple=True, callback=parse_layers, metavar="K", help=f"{LAYERS_HELP}  {help}")


def unit_options(function: Function) -> Function:
    """What strength 1.0 is."""
    for option in (
        click.option("--safe/--raw", default=None, help="With safety, or without.  [default: as configured]"),
        click.option("--coef", type=float, metavar="C", help="Coefficient of the raw direction at each of --layers."),
        click.option("--dose", type=float, metavar="D", help="Relative dose of strength 1.0, shared over --layers."),
        layers_option("[default: the calibrated ones]"),
    ):
        function = option(function)
    return function


def scale_options(questions: int) -> Callable[[Function], Function]:
    """How much is asked, and where the result goes."""

    def add(function: Function) -> Function:
        for option in (
            click.option("--dry-run", is_flag=True, help="Say what would be asked and how long it takes; ask nothing."),
            click.option(
                "--out",
                type=click.Path(path_type=Path, file_okay=False),
                metavar="DIR",
                help="For the report and the data.  [default: the run folder]",
            ),
            click.option(
                "--seed",
                type=click.IntRange(min=0),
                default=0,
                show_default=True,
                help="Of the answers and the random directions.",
            ),
            click.option(
                "--max-new-tokens",
                "tokens",
                type=click.IntRange(min=4),
                default=32,
                show_default=True,
                metavar="N",
                help="Length of an answer at most.",
            ),
            click.option(
                "--questions",
                type=click.IntRange(min=2),
                default=questions,
                show_default=True,
                metavar="N",
                help="Held-out questions that are answered steered.",
            ),
        ):
            function = option(function)
        return function

    return add


def held_out_option(function: Function) -> Function:
    """--held-out."""
    return click.option(
        "--held-out",
        type=click.IntRange(min=2),
        default=20,
        show_default=True,
        metavar="N",
        help="Questions whose answers the vector has to tell apart.",
    )(function)


@click.command()
@click.argument("name", shell_complete=complete_steerable)
@click.option("--from", "first", type=float, default=-2, show_default=True, metavar="X", help="Lowest strength.")
@click.option("--to", "last", type=float, default=2, show_default=True, metavar="X", help="Highest strength.")
@click.option("--points", type=int, default=9, show_default=True, metavar="N", help="Strengths in equal steps.")
@click.option(
    "--controls", type=click.IntRange(min=1), default=2, show_default=True, metavar="N", help="Random directions."
)
@unit_options
@scale_options(20)
@detach_option
@json_option
@joining_options
@model_options
@pass_session
def sweep(
    session: Session,
    name: str,
    first: float,
    last: float,
    points: int,
    controls: int,
    layers: tuple[int, ...] | None,
    dose: float | None,
    coef: float | None,
    safe: bool | None,
    questions: int,
    tokens: int,
    seed: int,
    out: Path | None,
    dry_run: bool,
    detach: bool,
) -> None:
    """Measure what the vector NAME does at many strengths, beside random directions of the same norm.

    \b
    Examples:
      persona-steer sweep pirate
      persona-steer sweep pirate --from 0 --to 2 --points 5 --questions 10 --raw
      persona-steer sweep my-import --layers 10-17 --dose 0.2
    """
    from persona_steering.engine.measuring import Scale, SweepMeasurement, Unit
    from persona_steering.evaluation.sweep import Sweep, spread_strengths

    strengths = spread_strengths(first, last, points)
    unit, scale = Unit(layers, dose, coef, safe), Scale(questions, tokens, seed, out)

    def plan() -> SweepMeasurement:
        return SweepMeasurement(*parts(session), name, strengths, controls=controls, unit=unit, scale=scale)

    asked = asked_of(name, scale, unit) | {"strengths": list(strengths), "controls": controls}
    found = measure(session, "sweep", asked, Sweep, plan, out=out, dry_run=dry_run, detach=detach)
    if found is not None:
        show_sweep(session, found)


@click.command()
@click.argument("name", shell_complete=complete_steerable)
@layers_option("[default: all of them]")
@click.option("--dose", type=float, metavar="D", help="Relative dose at each layer.  [default: the calibrated one]")
@held_out_option
@scale_options(8)
@detach_option
@json_option
@joining_options
@model_options
@pass_session
def layers(
    session: Session,
    name: str,
    layers: tuple[int, ...] | None,
    dose: float | None,
    held_out: int,
    questions: int,
    tokens: int,
    seed: int,
    out: Path | None,
    dry_run: bool,
    detach: bool,
) -> None:
    """Measure at every layer how well the vector NAME tells, and how strongly it steers alone.

    \b
    Examples:
      persona-steer layers pirate
      persona-steer layers pirate --layers 8-20 --questions 20
    """
    from persona_steering.engine.measuring import LayersMeasurement, Scale
    from persona_steering.evaluation.layers import LayerScan

    scale = Scale(questions, tokens, seed, out)

    def plan() -> LayersMeasurement:
        return LayersMeasurement(*parts(session), name, layers=layers, dose=dose, held_out=held_out, scale=scale)

    asked = asked_of(name, scale) | {"layers": listed(layers), "dose": dose, "held_out": held_out}
    found = measure(session, "layers", asked, LayerScan, plan, out=out, dry_run=dry_run, detach=detach)
    if found is not None:
        show_layers(session, found)


@click.command()
@click.argument("name", shell_complete=complete_steerable)
@held_out_option
@click.option(
    "--controls", type=click.IntRange(min=2), default=20, show_default=True, metavar="N", help="Random directions."
)
@click.option(
    "--shuffles",
    type=click.IntRange(min=2),
    default=20,
    show_default=True,
    metavar="N",
    help="Vectors from shuffled labels.",
)
@unit_options
@scale_options(20)
@detach_option
@json_option
@joining_options
@model_options
@pass_session
def card(
    session: Session,
    name: str,
    held_out: int,
    controls: int,
    shuffles: int,
    layers: tuple[int, ...] | None,
    dose: float | None,
    coef: float | None,
    safe: bool | None,
    questions: int,
    tokens: int,
    seed: int,
    out: Path | None,
    dry_run: bool,
    detach: bool,
) -> None:
    """Measure how far the vector NAME can be trusted, and keep the evidence with it (see `info`).

    \b
    Examples:
      persona-steer card pirate
      persona-steer card pirate --questions 10 --controls 5
    """
    from persona_steering.engine.measuring import CardMeasurement, Scale, Unit
    from persona_steering.vectors.evidence import Evidence

    unit, scale = Unit(layers, dose, coef, safe), Scale(questions, tokens, seed, out)

    def plan() -> CardMeasurement:
        return CardMeasurement(
            *parts(session), name, held_out=held_out, controls=controls, shuffles=shuffles, unit=unit, scale=scale
        )

    asked = asked_of(name, scale, unit)
    asked |= {"held_out": held_out, "controls": controls, "shuffles": shuffles}
    found = measure(
        session, "card", asked, Evidence, plan, read=lambda it: it.evidence, out=out, dry_run=dry_run, detach=detach
    )
    if found is not None:
        show_evidence(session, found)


@click.command()
@click.argument("names", nargs=-1, shell_complete=complete_steerable)
@layers_option("[default: the calibrated ones]")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="For the report and the data.  [default: a run folder]",
)
@store_options
@pass_session
def similarity(session: Session, names: tuple[str, ...], layers: tuple[int, ...] | None, out: Path | None) -> None:
    """Compare the vectors NAMES, or all of a model: cosine, overlap, and the space of the personas.

    \b
    Examples:
      persona-steer similarity
      persona-steer similarity pirate sage --layers 12
    """
    from persona_steering.engine.comparing import compare_stored, write_comparison

    model = session.stored_model()
    if model is not None:
        session.manager.bind(model)
    session.check_names(list(names))
    found = compare_stored(session.manager, names, layers=layers)
    report = write_comparison(found, session.manager.model, session.config.runs_dir, out)
    show_similarity(session, found, report)


def parts(session: Session) -> tuple[ModelWrapper, PersonaManager, Config]:
    """What the use cases of the engine begin with, in their order. Loads the model."""
    return session.model, session.manager, session.config


def asked_of(name: str, scale: Scale, unit: Unit | None = None) -> dict[str, JsonValue]:
    """The parameters that measurements share, as a server's job takes them."""
    asked: dict[str, JsonValue] = {
        "name": name,
        "questions": scale.questions,
        "max_new_tokens": scale.max_new_tokens,
        "seed": scale.seed,
    }
    if unit is None:
        return asked
    return asked | {
        "layers": listed(unit.layers),
        "dose": unit.dose,
        "coefficient": unit.coefficient,
        "safe": unit.safe,
    }


def listed(layers: tuple[int, ...] | None) -> list[JsonValue] | None:
    """Layers as JSON has them."""
    return None if layers is None else list(layers)


def measure(
    session: Session,
    kind: str,
    asked: Mapping[str, JsonValue],
    form: type[Shown],
    plan: Callable[[], Measurement[Any]],
    *,
    read: Callable[[Any], Shown] = lambda value: value,
    out: Path | None,
    dry_run: bool,
    detach: bool,
) -> Result[Shown] | None:
    """Measures by the workspace's server where it runs, as a job with the parameters `asked`, else here, as planned.

    `read` gives what is shown of what was measured here. None where there is nothing to show.
    """
    from persona_steering.cli.progress import resumable_progress

    check_detached(session, detach=detach)
    if session.joined is not None:
        return measure_there(session, session.joined, kind, asked, form, out=out, dry_run=dry_run, detach=detach)
    session.check_names([str(asked["name"])])
    planned = plan()
    if dry_run:
        show_work(session, planned.work())
        return None
    with resumable_progress(quiet=session.quiet) as progress:
        measured = planned.run(progress=progress)
    return Result.of(read(measured.value), measured)
