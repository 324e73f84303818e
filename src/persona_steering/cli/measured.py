"""What `sweep`, `layers`, `card` and `similarity` show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from persona_steering.cli.context import Session

if TYPE_CHECKING:
    from persona_steering.engine.measuring import Finished
    from persona_steering.evaluation.layers import LayerScan
    from persona_steering.evaluation.similarity import Similarity
    from persona_steering.evaluation.sweep import Sweep
    from persona_steering.vectors import Interval
    from persona_steering.vectors.evidence import Evidence

NOT_MEASURED = "not measured"
Value = TypeVar("Value")


@dataclass(frozen=True)
class Result(Generic[Value]):
    """A measurement to be shown, and where it can be read: a path, or a server's address."""

    value: Value
    data: str
    report: str

    @classmethod
    def of(cls, value: Value, measured: Finished[Any]) -> Result[Value]:
        """One that was written here."""
        return cls(value, str(measured.data), str(measured.report))


def show_sweep(session: Session, measured: Result[Sweep]) -> None:
    """A row a strength, and up to where the vector holds."""
    from persona_steering.cli.render import note, table
    from persona_steering.evaluation.pages import coherence_sentence
    from persona_steering.evaluation.sweep import effect_of

    found = measured.value
    if session.as_json:
        emit_result(measured)
        return
    effect = "persona score" if found.has_score else "gain, nats per token"
    rows = [
        [
            f"{point.strength:g}",
            span(effect_of(point.steered, score=found.has_score)),
            span(effect_of(point.control, score=found.has_score)),
            span(point.steered.coherence, 0),
            "-" if point.anti_steered is None else f"{point.anti_steered:.0%}",
        ]
        for point in found.points
    ]
    random = f"{found.controls} random direction{'' if found.controls == 1 else 's'}"
    table(["strength", effect, random, "coherence", "wrong way"], rows)
    if not found.has_score:
        note("This model does not take this persona from a prompt, so the raw gain is shown.", quiet=session.quiet)
    note(coherence_sentence(found), quiet=session.quiet)
    show_places(session, measured)


def show_layers(session: Session, measured: Result[LayerScan]) -> None:
    """A row a layer; the calibrated ones are marked."""
    from persona_steering.cli.render import note, table

    found = measured.value
    if session.as_json:
        emit_result(measured)
        return
    rows = [
        [
            str(row.layer),
            span(row.auroc),
            span(row.d_prime),
            span(row.steered.gain),
            span(row.control.gain),
            span(row.steered.coherence, 0),
            "chosen" if row.chosen else "",
        ]
        for row in found.rows
    ]
    table(["layer", "AUROC", "d'", "gain", "random gain", "coherence", "band"], rows)
    note(
        f"Layer {found.best_telling} tells best, layer {found.best_steering} steers most, alone at a dose of "
        f"{found.dose:.2g} of the hidden state.",
        quiet=session.quiet,
    )
    show_places(session, measured)


def show_evidence(session: Session, measured: Result[Evidence]) -> None:
    """All evidence; what was not measured says so, and why."""
    from persona_steering.cli.render import card, emit_json, note

    found = measured.value
    if session.as_json:
        emit_json(found.model_dump(mode="json"))
        return
    card("evidence", evidence_lines(found))
    for part, why in found.not_measured.items():
        note(f"{part.replace('_', ' ')}: not measured, {why}.", quiet=session.quiet)
    show_places(session, measured)


def evidence_lines(found: Evidence) -> dict[str, str]:
    """Evidence as names and values."""
    from persona_steering.evaluation.pages import evidence_rows
    from persona_steering.evaluation.report.page import shown

    rows = {str(name): shown(value) for name, value, _ in evidence_rows(found)}
    if found.lens is not None:
        rows["+ tokens"] = " ".join(map(repr, found.lens.positive[:8]))
        rows["- tokens"] = " ".join(map(repr, found.lens.negative[:8]))
    if found.selectivity:
        most = sorted(found.selectivity.items(), key=lambda item: -item[1].mean)[:3]
        rows["most gained beside it"] = ", ".join(f"{name} {span(value)}" for name, value in most)
    return rows


def show_similarity(session: Session, found: Similarity, report: Path) -> None:
    """Cosines as a matrix, the closest pairs, and the persona space."""
    from persona_steering.cli.render import emit_json, layer_ranges, note, table

    if session.as_json:
        emit_json({**found.model_dump(mode="json"), "report": str(report)})
        return
    table(
        ["cosine", *found.names],
        [[name, *(f"{found.cosine(name, other):.2f}" for other in found.names)] for name in found.names],
    )
    note(f"Mean over layers {layer_ranges(found.layers)}.", quiet=session.quiet)
    if found.space is not None:
        space = found.space
        heads = [f"PC{i + 1} {share:.0%}" for i, share in enumerate(space.explained)]
        places: list[tuple[str, Sequence[float]]] = [("the Assistant", space.assistant), *space.positions.items()]
        places.sort(key=lambda item: -item[1][0])
        table(["persona space", *heads], [[name, *(f"{x:.3f}" for x in place)] for name, place in places])
    note(f"\nreport: {report}", quiet=session.quiet)


def show_places(session: Session, measured: Result[Any]) -> None:
    """Where the results are."""
    from persona_steering.cli.render import note

    note(f"\ndata: {measured.data}\nreport: {measured.report}", quiet=session.quiet)


def emit_result(measured: Result[Sweep] | Result[LayerScan]) -> None:
    """The data on stdout, with the places of both files."""
    from persona_steering.cli.render import emit_json

    emit_json({**measured.value.model_dump(mode="json"), "data": measured.data, "report": measured.report})


def span(value: Interval | None, digits: int = 2) -> str:
    """A mean with its interval in brackets."""
    if value is None:
        return NOT_MEASURED
    return f"{value.mean:.{digits}f} [{value.low:.{digits}f}, {value.high:.{digits}f}]"
