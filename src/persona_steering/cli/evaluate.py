"""`eval`: a trait's questions answered, steered or not, and rated, into one CSV file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from persona_steering.cli.complete import complete_vector
from persona_steering.cli.context import Session, json_option, model_options, pass_session

if TYPE_CHECKING:
    from persona_steering.engine.evaluating import Evaluation, Steered
    from persona_steering.evaluation.evaluated import Evaluated, Summary

FILE = click.Path(path_type=Path)
COUNT = click.IntRange(min=1)
REASONS = 3  # shown of those for which a score has failed; the file of judgements has them all


def steering_options(function: Any) -> Any:
    """What steers: --recipe, or --vector with --layer, --coef and --scope."""
    for option in (
        click.option("--scope", default="response", show_default=True, help="response, prompt, all, or tokens[a:b]."),
        click.option("--coef", type=float, metavar="C", help="Multiplies the raw vector, as published."),
        click.option("--layer", type=int, metavar="K", help="0-based; row k of a persona_vectors file is layer k-1."),
        click.option(
            "--vector", metavar="V", shell_complete=complete_vector, help="One vector, by name or file, unscaled."
        ),
        click.option("--recipe", "blend", metavar="A:0.5,B:-0.3", help="Stored names, each with its strength."),
    ):
        function = option(function)
    return function


@click.command(name="eval")
@click.option("--trait", required=True, metavar="T", help="A trait of the library, or a trait file: toml, json.")
@click.option("--split", type=click.Choice(["extract", "eval"]), required=True, help="Which of its questions.")
@click.option("--instruction", "side", type=click.Choice(["pos", "neg"]), help="Under its instructions of that side.")
@click.option("--assistant-name", metavar="N", help="You are a N assistant.  [default: the trait; helpful for neg]")
@steering_options
@click.option("--out", type=FILE, required=True, metavar="X.csv", help="The answers with their scores.")
@click.option("--n-per-question", "rollouts", type=COUNT, default=10, show_default=True, metavar="N")
@click.option("--questions", type=COUNT, metavar="N", help="The first N questions only.")
@click.option("--max-new-tokens", "tokens", type=COUNT, default=1000, show_default=True, metavar="N")
@click.option("--temperature", type=click.FloatRange(0, 10), metavar="T", help="[default: 1; 0 for one rollout]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the answers.")
@click.option(
    "--judge",
    metavar="J",
    help="none, likelihood, local (the model itself), or openai:URL#MODEL.  [default: the configured one, else "
    "likelihood]",
)
@click.option("--overwrite", is_flag=True, help="Replace a file of another command.")
@click.option("--dry-run", is_flag=True, help="Say what would be asked and how long it takes; ask nothing.")
@json_option
@model_options
@pass_session
def eval_(session: Session, /, dry_run: bool, **asked: Any) -> None:
    """Have the questions of a trait answered, and rate every answer by the trait and by its coherence.

    The same command goes on where it was stopped, and judges what has no judgement yet.

    \b
    Examples:
      persona-steer eval --trait evil --split extract --instruction pos --out evil_pos.csv
      persona-steer eval --trait evil --split eval --recipe evil:0.8 --out evil_steered.csv --n-per-question 2
      persona-steer eval --trait evil --split eval --vector evil_response_avg_diff.pt --layer 19 --coef 2 --out e.csv
    """
    from persona_steering.cli.progress import resumable_progress

    planned = plan(session, **asked)
    if dry_run:
        show_plan(session, planned)
        return
    with resumable_progress(quiet=session.quiet) as progress:
        found = planned.run(session.model, session.manager, progress=progress)
    show_evaluated(session, found)


def plan(session: Session, **asked: Any) -> Evaluation:
    """The evaluation that was asked for. Whatever can be refused without a model is refused here."""
    from persona_steering.engine.evaluating import Evaluating, Evaluation
    from persona_steering.evaluation.rollouts import RolloutSettings

    settings = RolloutSettings(
        split=asked["split"],
        side=asked["side"],
        assistant_name=asked["assistant_name"],
        n_per_question=asked["rollouts"],
        questions=asked["questions"],
        max_new_tokens=asked["tokens"],
        temperature=asked["temperature"],
        seed=asked["seed"],
    )
    return Evaluation(
        Evaluating(
            trait=asked["trait"],
            out=asked["out"],
            settings=settings,
            steered=steered(session, asked),
            judge=asked["judge"],
            overwrite=asked["overwrite"],
        ),
        session.config,
    )


def steered(session: Session, asked: dict[str, Any]) -> Steered:
    """What --recipe or --vector mean. Names that no model has are refused before a model is loaded."""
    from persona_steering.engine.evaluating import Steered
    from persona_steering.interventions import Scope

    session.blend_text = asked["blend"]
    scope = str(Scope.parse(asked["scope"]))
    return Steered(tuple(session.blend().items()), asked["vector"], asked["layer"], asked["coef"], scope)


def show_plan(session: Session, planned: Evaluation) -> None:
    """How many answers, how long, and how many calls of a judge."""
    from persona_steering.cli.projections import show_work
    from persona_steering.cli.render import note

    show_work(session, planned.work())
    if planned.judge_calls:
        note(f"judge: at most {planned.judge_calls + 1} calls to {planned.judge}", quiet=session.quiet)


def show_evaluated(session: Session, found: Evaluated) -> None:
    """Both scores, and what has none."""
    from persona_steering.cli.render import emit_json, note, table, warn

    if session.as_json:
        emit_json(found.model_dump(mode="json"))
        return
    scores = {found.trait: found.trait_score, "coherence": found.coherence}
    known = {name: score for name, score in scores.items() if score is not None}
    if known:
        heads = ["score of", "mean, 0 to 100", "scored", "refusals", "failures"]
        table(heads, [score_row(name, score) for name, score in known.items()])
    for remark in found.remarks:
        warn(remark)
    for name, score in known.items():
        for reason, count in list(score.reasons.items())[:REASONS]:
            warn(f"{count} of {found.answers} answers have no score of {name}: {reason}.")
    judged = f"judged by {found.judge}" if found.judge else "not judged"
    note(f"{found.answers} answers to {found.questions} questions, {judged}.", quiet=session.quiet)
    note(f"\nanswers: {found.file}\njudgements: {found.judgements}\nreport: {found.report}", quiet=session.quiet)


def score_row(name: str, score: Summary) -> list[str]:
    """A row of the table; a mean that is not there says so."""
    from persona_steering.cli.measured import span

    return [name, span(score.mean, 1), str(score.scored), str(score.refused), str(score.failed)]
