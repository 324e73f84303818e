"""`compare`: one prompt answered by the base model and by blends, in one batch with one seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from persona_steering.cli.complete import complete_blend
from persona_steering.cli.context import (
    Session,
    joining_options,
    json_option,
    model_options,
    pass_session,
    sampling_options,
)
from persona_steering.errors import CancelledError, UsageError

if TYPE_CHECKING:
    from persona_steering.backends.base import Completion, Sampling
    from persona_steering.engine.service import Plan
    from persona_steering.interventions.recipe import Blend


@click.command()
@click.argument("prompt")
@click.option(
    "--with",
    "blends",
    multiple=True,
    metavar="A:0.6[,B:-0.3]",
    shell_complete=complete_blend,
    help="A blend to answer with. Repeatable: one answer each.",
)
@click.option("--no-base", is_flag=True, help="Leave the unsteered answer out.")
@sampling_options
@json_option
@joining_options
@model_options
@pass_session
def compare(session: Session, prompt: str, blends: tuple[str, ...], no_base: bool) -> None:
    """Answer PROMPT plainly and with every blend, in one batch with one seed; "-" reads it from stdin.

    \b
    Examples:
      persona-steer compare "What is courage?" --with sage:0.6
      persona-steer compare "Plan my day." --with sage --with pirate:0.5,formal:-0.3 --seed 7
    """
    from persona_steering.backends.base import Sampling, conversation
    from persona_steering.cli.generate import read_stdin
    from persona_steering.cli.interrupts import stoppable
    from persona_steering.cli.render import working

    lanes = read_lanes(session, blends, base=not no_base)
    messages = conversation(read_stdin() if prompt == "-" else prompt, session.system)
    plans, sampling = [session.service.plan(lane) for lane in lanes], Sampling.configured(session.config.generation)
    with stoppable() as stopped, working("Answering", quiet=session.quiet):
        answers = session.service.answers(messages, plans, sampling=sampling, cancelled=stopped)
    show(session, plans, answers, sampling)
    if any(done.finish_reason == "cancelled" for done in answers):
        click.get_current_context().exit(CancelledError.exit_code)


def read_lanes(session: Session, blends: tuple[str, ...], *, base: bool) -> list[Blend]:
    """The blend of every lane; the base model's is empty. Raises UsageError, RecipeError or NotFoundError."""
    from persona_steering.interventions import parse_blend

    if not blends:
        raise UsageError("nothing to compare with was given.", hint="Add --with NAME:0.6, as often as you like.")
    default = session.config.steering.default_strength
    lanes = [parse_blend(text, default=default) for text in blends]
    if session.joined is None:
        session.check_names([name for lane in lanes for name in lane])
    return [{}, *lanes] if base else lanes


def show(session: Session, plans: list[Plan], answers: list[Completion], sampling: Sampling) -> None:
    """The lanes: beside each other on a wide terminal, else below one another; with --json everything."""
    from persona_steering.cli.generate import answer_json, outcome, setting_json
    from persona_steering.cli.render import emit_json, note, show_lanes, warn

    for text in dict.fromkeys(text for plan in plans for text in plan.warnings):
        warn(text)
    pairs = list(zip(plans, answers, strict=True))
    if session.as_json:
        lanes = [{"name": plan.describe(), **answer_json(done, plan)} for plan, done in pairs]
        emit_json({"lanes": lanes, **setting_json(session, sampling)})
        return
    show_lanes([(plan.describe(), done.text) for plan, done in pairs])
    for plan, done in pairs:
        note(" · ".join([plan.describe(), *outcome(done, sampling)]), quiet=session.quiet)
