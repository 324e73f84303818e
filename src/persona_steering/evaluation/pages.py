"""Measurements as reports: what is drawn, what is tabled, and the answers behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from persona_steering.evaluation.card import MeasuredCard
from persona_steering.evaluation.dosing import COLLAPSED, MIN_COHERENCE, AnswerRecord
from persona_steering.evaluation.layers import LayerScan
from persona_steering.evaluation.report import (
    AnswerGroup,
    Answers,
    Chart,
    Note,
    Point,
    Report,
    Section,
    Series,
    ShownAnswer,
    Span,
    Table,
)
from persona_steering.evaluation.report.plot import number
from persona_steering.evaluation.report.sections import Cell
from persona_steering.evaluation.similarity import Similarity
from persona_steering.evaluation.sweep import Sweep, effect_of
from persona_steering.vectors import SteeringVector
from persona_steering.vectors.evidence import Evidence, Null

T = TypeVar("T")
JUDGE = "likelihood of the answers under the unsteered model, no LLM judge"
GAIN = "gain, nats per token"


def sweep_charts(name: str, sweep: Sweep) -> list[Chart]:
    """Effect and coherence against strength. The effect is the persona score where this model has one."""
    spans = [] if sweep.coherent is None else [Span(*sweep.coherent, f"coherence {MIN_COHERENCE:.0f} or more")]
    random = f"random directions ({sweep.controls})"

    def effects(control: bool) -> list[Point]:
        found = []
        for i, point in enumerate(sweep.points):
            value = effect_of(point.control if control else point.steered, score=sweep.has_score)
            if value is not None:
                found.append(Point.of(point.strength, value, answers=_key(i, control)))
        return found

    def coherences(control: bool) -> list[Point]:
        return [
            Point.of(
                point.strength,
                (point.control if control else point.steered).coherence,
                answers=_key(i, control),
            )
            for i, point in enumerate(sweep.points)
        ]

    effect = "persona score" if sweep.has_score else GAIN
    return [
        Chart(
            "Effect",
            "strength",
            effect,
            [Series(name, effects(False)), Series(random, effects(True), "control")],
            spans,
            baseline=0,
            note=_EFFECT_NOTE[sweep.has_score],
        ),
        Chart(
            "Coherence",
            "strength",
            "coherence",
            [Series(name, coherences(False)), Series(random, coherences(True), "control")],
            spans,
            y_range=(0, 100),
            note=coherence_sentence(sweep),
        ),
    ]


_EFFECT_NOTE = {
    True: "0 is the base model, 1 is as in character as the system prompt makes it. Ribbons are 95 % intervals over "
    "questions.",
    False: "This model does not take this persona from a prompt, so there is no score to divide by; the raw gain over "
    "the base model is shown. Ribbons are 95 % intervals over questions.",
}


def coherence_sentence(sweep: Sweep) -> str:
    """Up to where answers stay coherent and where they collapse, in words."""
    if sweep.coherent is None:
        first = f"No measured strength reaches a mean coherence of {MIN_COHERENCE:.0f}."
    else:
        low, high = sweep.coherent
        first = f"Mean coherence stays at {MIN_COHERENCE:.0f} or more from strength {low:g} to {high:g}."
    ends = [f"{end:g}" for end in (sweep.collapse_below, sweep.collapse_above) if end is not None]
    if not ends:
        return f"{first} It does not fall below {COLLAPSED:.0f} in this range."
    return f"{first} It falls below {COLLAPSED:.0f}, which is garbage, at {' and at '.join(ends)}."


def sweep_report(name: str, sweep: Sweep, facts: Mapping[str, str]) -> Report:
    """The page of a sweep."""
    groups = []
    for i, point in enumerate(sweep.points):
        groups.append(_group(_key(i, False), f"{name} at strength {number(point.strength)}", point.answers))
        groups.append(
            _group(_key(i, True), f"a random direction at strength {number(point.strength)}", point.control_answers)
        )
    rows: list[list[Cell]] = [
        [point.strength, point.anti_steered, point.steered.gain, point.control.gain]
        for point in sweep.points
        if point.strength
    ]
    moved = Table(
        "Moved the wrong way",
        ["strength", "share of questions", f"{name}: {GAIN}", "random: gain"],
        rows,
        note="The share of questions whose answers gained less than the base answer (at negative strengths: more).",
    )
    n = f"{sweep.questions} questions a point, {_count(sweep.controls, 'random direction')}"
    return Report(f"Sweep of {name}", [*sweep_charts(name, sweep), moved, Answers("Answers", groups)], JUDGE, n, facts)


def layers_report(name: str, scan: LayerScan, facts: Mapping[str, str]) -> Report:
    """The page of a layer scan."""
    spans = [Span(scan.band[0] - 0.5, scan.band[-1] + 0.5, "chosen band")] if scan.band else []

    def chart(title: str, label: str, series: Sequence[Series], **more: object) -> Chart:
        return Chart(title, "layer", label, series, spans, discrete=True, **more)  # type: ignore[arg-type]

    tells = Series(name, [Point.of(row.layer, row.auroc) for row in scan.rows])
    distance = Series(name, [Point.of(row.layer, row.d_prime) for row in scan.rows if row.d_prime], "second")
    steers = [
        Series(name, [Point.of(row.layer, row.steered.gain, answers=f"layer-{row.layer}") for row in scan.rows]),
        Series("a random direction", [Point.of(row.layer, row.control.gain) for row in scan.rows], "control"),
    ]
    damage = [
        Series(name, [Point.of(row.layer, row.steered.coherence) for row in scan.rows]),
        Series("a random direction", [Point.of(row.layer, row.control.coherence) for row in scan.rows], "control"),
    ]
    sections: list[Section] = [
        Note(
            f"Layer {scan.best_telling} tells best, layer {scan.best_steering} steers most. A layer that tells well "
            "does not always steer well, so both are measured."
        ),
        chart("Tells: AUROC of held-out answers", "AUROC", [tells], note="0.5 is chance.", baseline=0.5),
        chart("Tells: d′ of held-out answers", "d′", [distance]),
        chart("Steers: gain of one layer alone", GAIN, steers, baseline=0),
        chart("Steers: coherence", "coherence", damage, y_range=(0, 100)),
        Answers(
            "Answers", [_group(f"layer-{row.layer}", f"layer {row.layer} alone", row.answers) for row in scan.rows]
        ),
    ]
    n = (
        f"{scan.positives} + {scan.negatives} answers to {scan.held_out_questions} held-out questions; "
        f"{scan.questions} questions a layer steered"
    )
    return Report(f"Layers of {name}", sections, JUDGE, n, facts)


def card_report(vector: SteeringVector, card: MeasuredCard, facts: Mapping[str, str]) -> Report:
    """The page of a card."""
    found = card.evidence
    sections: list[Section] = [
        Table("Evidence", ["", "value", "meaning"], evidence_rows(found)),
        _selectivity_table(found),
        Table(
            "Logit lens",
            ["end", "tokens"],
            [["+", "  ".join(map(repr, found.lens.positive))], ["−", "  ".join(map(repr, found.lens.negative))]]
            if found.lens
            else [],
            note=f"What the final norm and the unembedding read out of layer {found.lens.layer}."
            if found.lens
            else found.not_measured.get("lens", ""),
        ),
        Table("Not measured", ["part", "why"], [[part, why] for part, why in found.not_measured.items()])
        if found.not_measured
        else Note("Every part was measured."),
    ]
    if card.answers:
        sections.append(Answers("Answers", [_group("steered", "strength 1.0", card.answers)]))
    parts = [
        _read(found.steered, lambda part: f"{part.questions} questions at strength 1.0"),
        _read(found.discrimination, lambda part: f"{part.positives} + {part.negatives} held-out answers"),
        _read(found.stability, lambda part: f"{part.questions} questions that it was made from"),
    ]
    n = "; ".join(str(part) for part in parts if part is not None) or "not measured"
    counts = ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in vector.metadata.counts.items())
    return Report(f"Card of {vector.name}", sections, JUDGE, n, {**facts, "made from": counts or "not known"})


def evidence_rows(found: Evidence) -> list[list[Cell]]:
    """Every measured value with what it means; None where it was not measured."""
    stable, tells, steers = found.stability, found.discrimination, found.steered
    return [
        [
            "split-half cosine",
            _read(stable, lambda part: part.split_half),
            "of the vectors of two halves of the questions",
        ],
        ["reliability", _read(stable, lambda part: part.reliability), "Spearman-Brown, of the whole"],
        [
            "bootstrap cosine",
            _read(stable, lambda part: part.bootstrap_mean),
            "mean, to the vectors of resampled questions",
        ],
        ["bootstrap, 5th percentile", _read(stable, lambda part: part.bootstrap_low), "0.9 or more is stable"],
        ["agreement", _read(stable, lambda part: part.agreement), "mean cosine between single questions' differences"],
        ["AUROC", _read(tells, lambda part: part.auroc), "of held-out answers by their projection; 0.5 is chance"],
        [
            "AUROC without length",
            _read(tells, lambda part: part.auroc_without_length),
            "the same after removing the answers' length",
        ],
        ["d′", _read(tells, lambda part: part.d_prime), "distance of the two sides in standard deviations"],
        _null_row(
            "d′ against shuffled labels, z", found.shuffled_labels, "vectors of the same answers, labels shuffled"
        ),
        ["persona score at 1.0", _read(steers, lambda part: part.score), "1 is as in character as the prompt makes it"],
        ["gain at 1.0, nats per token", _read(steers, lambda part: part.gain), "over the base model"],
        _null_row("gain against random directions, z", found.random_directions, "of equal norm, layers and dose"),
        ["coherence at 1.0", _read(steers, lambda part: part.coherence), "100 is the model's own level"],
        ["moved the wrong way", _read(steers, lambda part: part.anti_steered), "share of the questions"],
    ]


def _read(part: T | None, value: Callable[[T], Cell]) -> Cell:
    return None if part is None else value(part)


def _null_row(name: str, null: Null | None, meaning: str) -> list[Cell]:
    if null is None:
        return [name, None, meaning]
    own, low, high = number(null.value), number(null.low), number(null.high)
    return [
        name,
        "no spread" if null.z is None else null.z,
        f"{own}, against {low} to {high} of {null.count} {meaning}",
    ]


def _selectivity_table(found: Evidence) -> Table:
    """What steering does to the other personas and traits, strongest first."""
    others = sorted((found.selectivity or {}).items(), key=lambda item: -item[1].mean)
    rows: list[list[Cell]] = [[name, value] for name, value in others]
    if rows and found.steered:
        rows.insert(0, ["(itself)", found.steered.gain])
    return Table(
        "Selectivity",
        ["persona or trait", GAIN],
        rows,
        note="What strength 1.0 gains under the others' system prompts: a selective vector gains most for itself.",
    )


def _group(key: str, label: str, answers: Sequence[AnswerRecord]) -> AnswerGroup:
    return AnswerGroup(
        key,
        label,
        [
            ShownAnswer(one.question, one.text, {"gain": one.gain, "coherence": one.coherence}, one.system_prompt)
            for one in answers
        ],
    )


def _key(place: int, control: bool) -> str:
    return f"{'random' if control else 'point'}-{place}"


def _count(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def similarity_report(found: Similarity, facts: Mapping[str, str]) -> Report:
    """The page of a comparison."""
    matrix: list[list[Cell]] = [[name, *(found.cosine(name, other) for other in found.names)] for name in found.names]
    pairs: list[list[Cell]] = [
        [pair.first, pair.second, pair.cosine, pair.overlap] for pair in sorted(found.pairs, key=lambda p: -p.cosine)
    ]
    by_layer = [
        Series(f"{pair.first} · {pair.second}", [Point(layer, value) for layer, value in pair.cosines.items()])
        for pair in found.pairs
    ]
    sections: list[Section] = [
        Table("Cosine", ["", *found.names], matrix, note="The mean over the layers."),
        Table(
            "Pairs",
            ["vector", "vector", "cosine", "overlap"],
            pairs,
            note="Overlap is the share of dimensions among the largest tenth of both; "
            f"{found.chance_overlap:.2f} is chance.",
        ),
    ]
    if len(by_layer) == 1:
        sections.append(Chart("Cosine by layer", "layer", "cosine", by_layer, y_range=(-1, 1), baseline=0))
    sections += _space_sections(found)
    n = f"{_count(len(found.names), 'vector')}, {_count(len(found.layers), 'layer')}"
    return Report("Similarity of vectors", sections, "none, the directions alone", n, facts)


def _space_sections(found: Similarity) -> list[Section]:
    space = found.space
    if space is None:
        return [Table("Persona space", ["persona"], [], note="It takes three personas or more.")]
    heads = [f"PC{i + 1} ({share:.0%})" for i, share in enumerate(space.explained)]
    rows: list[list[Cell]] = [["the Assistant", *space.assistant]]
    rows += [
        [name, *place] for name, place in sorted(space.positions.items(), key=lambda item: item[1][0], reverse=True)
    ]
    said = (
        f"{space.assistant_rank:.0%} of the personas lie below the Assistant on the first component, which explains "
        f"{space.explained[0]:.0%} of their variance."
    )
    if space.axis_cosine is not None:
        said += f" Its cosine with the assistant axis is {space.axis_cosine:.2f}."
    chart: list[Section] = []
    if len(space.explained) > 1:
        chart.append(
            Chart(
                "Persona space",
                heads[0],
                heads[1],
                [
                    Series(
                        "personas", [Point(place[0], place[1], name=name) for name, place in space.positions.items()]
                    ),
                    Series(
                        "the Assistant", [Point(space.assistant[0], space.assistant[1], name="the Assistant")], "second"
                    ),
                ],
                discrete=True,
            )
        )
    return [*chart, Table("Positions", ["", *heads], rows, note=said)]
