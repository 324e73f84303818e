"""`quickstart`: the first run, from nothing to a model that answers in character, with measured numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from persona_steering.cli.context import Session, json_option, model_options, pass_session

if TYPE_CHECKING:
    from persona_steering.engine.quickstart import Lane, QuickstartResult


@click.command()
@click.option("--archetype", default="sage", show_default=True, metavar="A", help="The persona to meet.")
@json_option
@model_options
@pass_session
def quickstart(session: Session, archetype: str) -> None:
    """Meet a model plainly and in character: extract a persona, measure it, and compare answers.

    Exit code 7 when the measured persona score or coherence is too low. A second run reuses what exists.

    \b
    Examples:
      persona-steer quickstart
      persona-steer quickstart --archetype surfer_dude
    """
    from persona_steering.cli.progress import resumable_progress
    from persona_steering.cli.render import emit_json, note
    from persona_steering.engine.quickstart import run_quickstart

    show = not (session.quiet or session.as_json)
    note(f"A small model learns to be a {archetype.replace('_', ' ')}: about two minutes on a laptop.", quiet=not show)
    with resumable_progress(quiet=session.quiet) as progress:
        result = run_quickstart(session.model, session.manager, session.config, archetype=archetype, progress=progress)
    if session.as_json:
        emit_json(to_json(result))
        click.get_current_context().exit(result.failure.exit_code if result.failure else 0)
    if show:
        render(result)
    if result.failure:
        raise result.failure


def render(result: QuickstartResult) -> None:
    """The answers beside each other, the evidence, where the vector is, and what to do next."""
    from persona_steering.cli.render import calibration_rows, card, note, out, side_by_side

    name = result.vector.name
    out().print()
    for question, base, steered in zip(result.questions, result.base, result.steered, strict=True):
        lanes = [(f"base · {numbers(base)}", base.text), (f"{name} 1.0 · {numbers(steered)}", steered.text)]
        side_by_side(question, lanes)
    card(name, calibration_rows(result.calibration) | {"vector": str(result.path)})
    note("persona score: 0 is the base model, 1 is what the persona's system prompt does; coherence is of 100.")
    note("Measured on held-out questions, with the model itself as the judge. The answers above are single samples.")
    note(
        f'\nNext:\n  persona-steer chat --persona {name}\n  persona-steer generate "Tell me a story" '
        f"--persona {name} --strength 0.6\n  persona-steer create pirate --from-archetype pirate --quick"
    )


def numbers(lane: Lane) -> str:
    """The measured numbers of one answer."""
    score = "score not measurable" if lane.score is None else f"score {lane.score:.2f}"
    return f"{score} · coherence {lane.coherence:.0f}"


def to_json(result: QuickstartResult) -> dict[str, object]:
    """The result for scripts."""

    def lanes(side: tuple[Lane, ...]) -> list[dict[str, object]]:
        return [{"text": lane.text, "persona_score": lane.score, "coherence": lane.coherence} for lane in side]

    return {
        "passed": result.failure is None,
        "persona": result.vector.name,
        "reused": result.reused,
        "vector": str(result.path),
        "calibration": result.calibration.model_dump(mode="json"),
        "questions": list(result.questions),
        "base": lanes(result.base),
        "steered": lanes(result.steered),
    }
