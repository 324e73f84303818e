"""The sweep in the documentation: one archetype on one model, effect and coherence against strength.

    python benchmarks/sweep.py --workspace runs-archetypes --archetype creator

writes `results/sweep.json`, `docs/sweep-effect.svg`, `docs/sweep-coherence.svg` and the table of
`docs/evaluation.md`. A vector that is in the workspace already is taken as it is; answers on disk are not asked again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from machine import describe_machine

from persona_steering import ModelWrapper, PersonaManager, get_config
from persona_steering.backends.base import Progress
from persona_steering.engine.create import Creator
from persona_steering.engine.measuring import Scale, SweepMeasurement, Unit, described
from persona_steering.evaluation.pages import coherence_sentence, sweep_charts
from persona_steering.evaluation.report import chart_svg
from persona_steering.evaluation.sweep import Sweep, effect_of, spread_strengths
from persona_steering.personas import load_archetype
from persona_steering.vectors import Interval

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
MARKS = ("<!-- sweep:begin -->", "<!-- sweep:end -->")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, required=True, help="where vectors and runs are kept")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--archetype", default="creator")
    parser.add_argument("--questions", type=int, default=20)
    parser.add_argument("--controls", type=int, default=2)
    parser.add_argument("--points", type=int, default=9)
    parser.add_argument("--max-new-tokens", type=int, default=32)
    options = parser.parse_args()
    folders = {"paths.vectors": options.workspace / "vectors", "paths.runs": options.workspace / "runs"}
    config = get_config(overrides={"model.name": options.model, **folders})
    model, manager = ModelWrapper(config), PersonaManager(config)
    Creator(model, manager, config, progress=show).create(load_archetype(options.archetype), reuse=True)
    measurement = SweepMeasurement(
        model,
        manager,
        config,
        options.archetype,
        spread_strengths(-2, 2, options.points),
        controls=options.controls,
        unit=Unit(safe=False),
        scale=Scale(options.questions, options.max_new_tokens),
    )
    found = measurement.run(progress=show).value
    result = {
        "model": model.identity.model_dump(mode="json"),
        "machine": describe_machine(),
        "archetype": options.archetype,
        "strength_1": described(measurement.dose, measurement.safe),
        "max_new_tokens": options.max_new_tokens,
        **found.model_dump(mode="json", exclude={"points": {"__all__": {"answers", "control_answers"}}}),
    }
    (HERE / "results" / "sweep.json").write_text(json.dumps(result, indent=1) + "\n")
    for kind, chart in zip(("effect", "coherence"), sweep_charts(options.archetype, found), strict=True):
        (DOCS / f"sweep-{kind}.svg").write_text(chart_svg(chart).strip() + "\n")
    write_table(DOCS / "evaluation.md", table(found, result))


def show(progress: Progress) -> None:
    if progress.done == progress.total:
        print(f"  {progress.phase} {progress.done}/{progress.total}", file=sys.stderr)


def table(found: Sweep, result: dict[str, object]) -> str:
    """The sweep as Markdown."""

    def span(value: Interval | None, digits: int = 2) -> str:
        if value is None:
            return "not measurable"
        return f"{value.mean:.{digits}f} [{value.low:.{digits}f}, {value.high:.{digits}f}]"

    effect = "persona score" if found.has_score else "gain, nats per token"
    lines = [
        f"| strength | {effect} | {found.controls} random directions | coherence | coherence, random |",
        "| --- | --- | --- | --- | --- |",
    ]
    for point in found.points:
        values = [effect_of(one, score=found.has_score) for one in (point.steered, point.control)]
        lines.append(
            f"| {point.strength:g} | {span(values[0])} | {span(values[1])} "
            f"| {span(point.steered.coherence, 0)} | {span(point.control.coherence, 0)} |"
        )
    lines += [
        "",
        f"`{result['archetype']}`; strength 1.0 is {result['strength_1']}. {found.questions} held-out "
        f"questions a point, answers of {result['max_new_tokens']} tokens at most, 95 % intervals over questions. "
        f"{coherence_sentence(found)}",
        "",
        f"Machine: {result['machine']}. Model: {result['model']['id']}.",  # type: ignore[index]
    ]
    return "\n".join(lines)


def write_table(page: Path, text: str) -> None:
    """Replaces what stands between the marks of the page."""
    before, rest = page.read_text().split(MARKS[0])
    _, after = rest.split(MARKS[1])
    page.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}")


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
