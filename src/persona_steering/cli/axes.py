"""`extract-axes`: the directions of a model itself, toward the default Assistant and toward safe answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast

import click

from persona_steering.cli.context import (
    Session,
    effort_options,
    joining_options,
    json_option,
    model_options,
    pass_session,
)
from persona_steering.cli.there import check_detached, detach_option, made_there, run_there
from persona_steering.errors import UsageError

if TYPE_CHECKING:
    from persona_steering.cli.joining import Joined
    from persona_steering.engine.create import Creator
    from persona_steering.vectors import SteeringVector

AxisName = Literal["assistant", "safety"]


@click.command(name="extract-axes")
@click.argument("which", type=click.Choice(["assistant", "safety"]), required=False)
@effort_options
@detach_option
@json_option
@joining_options
@model_options
@pass_session
def extract_axes(session: Session, which: str | None, detach: bool) -> None:
    """Make the assistant axis, the safety axis, or both.

    The assistant axis needs two personas of this model. The safety axis comes with its floors.

    \b
    Examples:
      persona-steer extract-axes
      persona-steer extract-axes safety --thorough
    """
    from persona_steering.cli.progress import resumable_progress
    from persona_steering.cli.render import warn
    from persona_steering.engine.create import Creator

    check_detached(session, detach=detach)
    if session.joined is not None:
        extract_there(session, session.joined, which, detach=detach)
        return

    wanted: list[AxisName] = [cast(AxisName, which)] if which else ["safety", "assistant"]
    with resumable_progress(quiet=session.quiet) as progress:
        creator = Creator(session.model, session.manager, session.config, effort=session.effort, progress=progress)
        missing = missing_personas(session) if "assistant" in wanted else ""
        if missing and which:
            raise UsageError(missing, hint="Make more: persona-steer create NAME --from-archetype A")
        axes = [extract(creator, name) for name in wanted if not (missing and name == "assistant")]
    show_axes(session, axes)
    if missing:
        warn(f"{missing} Make more (persona-steer create NAME --from-archetype A), then run this again.")


def extract_there(session: Session, joined: Joined, which: str | None, *, detach: bool) -> None:
    """Has the running server make them. What it could not make its job says."""
    from persona_steering.cli.render import emit_json

    job = run_there(
        session, joined, "/api/v1/axes", {"which": which or "both", "effort": session.effort_name}, detach=detach
    )
    if job is None:
        return
    told = (job.result or {}).get("axes")
    names = [str(one["name"]) for one in told if isinstance(one, dict)] if isinstance(told, list) else []
    axes = [axis for name in names if (axis := made_there(session, joined, "axis", name)) is not None]
    if len(axes) == len(names):
        show_axes(session, axes)
    elif session.as_json:
        emit_json(told)
    else:
        click.echo("".join(f"{name}\n" for name in names), nl=False)


def extract(creator: Creator, name: AxisName) -> SteeringVector:
    """One axis, stored."""
    return creator.extract_safety_axis() if name == "safety" else creator.extract_assistant_axis()


def missing_personas(session: Session) -> str:
    """A sentence on why there can be no assistant axis yet; empty when there can."""
    from persona_steering.extraction.axes import MIN_PERSONAS

    found = [entry for entry in session.manager.entries() if entry.metadata and entry.metadata.kind == "persona"]
    if len(found) >= MIN_PERSONAS:
        return ""
    return f"the assistant axis needs {MIN_PERSONAS} personas of this model, and there are {len(found)}."


def show_axes(session: Session, axes: list[SteeringVector]) -> None:
    """What was made, from how much, and where it is."""
    from persona_steering.cli.personas import describe
    from persona_steering.cli.render import card, emit_json

    identity = session.manager.model
    entries = [
        describe(
            axis.metadata,
            session.manager.store.locate("axis", axis.name, identity),
            own=identity,
            safety=session.config.steering.safety,
        )
        for axis in axes
    ]
    if session.as_json:
        emit_json([entry.to_json(full=True) for entry in entries])
        return
    for axis, entry in zip(axes, entries, strict=True):
        counts = ", ".join(f"{count} {kind}" for kind, count in axis.metadata.counts.items())
        if session.quiet:
            click.echo(axis.name)
        else:
            card(
                f"{axis.name} axis of {entry.card.model_name}",
                {"means": axis.metadata.sign, "from": counts, "saved": str(entry.path)},
            )
