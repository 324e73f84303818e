"""The results of measurements, read from the folder of runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from pydantic import ValidationError

from persona_steering.errors import NotFoundError, UsageError
from persona_steering.evaluation.dosing import AnswerRecord
from persona_steering.evaluation.layers import LayerScan
from persona_steering.evaluation.similarity import Similarity
from persona_steering.evaluation.sweep import Sweep
from persona_steering.server.paging import Page, PageQuery
from persona_steering.server.schemas.runs import (
    CardData,
    LayersData,
    RunAnswer,
    RunData,
    SimilarityData,
    SweepData,
)
from persona_steering.server.stores.runs import RunRecord
from persona_steering.vectors import VectorMetadata


def read_data(record: RunRecord, runs: Path) -> RunData:
    """The numbers of a run. Raises NotFoundError where it has none, or they are no longer there."""
    content = _read(record, record.data, runs, "numbers")
    try:
        return RunData(_PARSERS[record.kind](content))
    except (KeyError, ValidationError) as error:
        raise NotFoundError(
            f"the numbers of {record.id} cannot be read by this version.", hint="Measure it again."
        ) from error


def read_report(record: RunRecord, runs: Path) -> bytes:
    """The page of a run. Raises as `read_data`."""
    return _read(record, record.report, runs, "report")


def read_answers(record: RunRecord, runs: Path, query: PageQuery, *, point: int | None) -> Page[RunAnswer]:
    """A page of the answers of a sweep or a scan of layers, of one point where given, in their order.

    Raises NotFoundError as `read_data`, and for a point that is not there; UsageError for a run that kept no answers.
    """
    data = read_data(record, runs).root
    if isinstance(data, SweepData):
        groups = list(_of_sweep(data.result))
    elif isinstance(data, LayersData):
        groups = list(_of_layers(data.result))
    else:
        raise UsageError(f"a {record.kind} has no points with answers.", hint="Sweeps and scans of layers have them.")
    if point is not None and point >= len(groups):
        raise NotFoundError(f"there is no point {point}.", hint=f"They are 0 to {len(groups) - 1}.")
    answers = [answer for group in (groups if point is None else groups[point : point + 1]) for answer in group]
    return _page(answers, query)


def _page(answers: list[RunAnswer], query: PageQuery) -> Page[RunAnswer]:
    start = 0
    if query.after is not None:
        places = [answer.id for answer in answers]
        if query.after not in places:
            raise UsageError(f"there is no answer {query.after[:64]!r}.", hint="Give the last_id of the page before.")
        start = places.index(query.after) + 1
    shown = list(islice(answers, start, start + query.limit))
    return Page[RunAnswer](
        data=shown,
        first_id=shown[0].id if shown else None,
        last_id=shown[-1].id if shown else None,
        has_more=start + query.limit < len(answers),
    )


def _of_sweep(found: Sweep) -> Iterator[list[RunAnswer]]:
    for place, point in enumerate(found.points):
        own = [_answer(place, i, one, strength=point.strength) for i, one in enumerate(point.answers)]
        controls = [
            _answer(place, i, one, strength=point.strength, control=True) for i, one in enumerate(point.control_answers)
        ]
        yield own + controls


def _of_layers(found: LayerScan) -> Iterator[list[RunAnswer]]:
    for place, row in enumerate(found.rows):
        yield [_answer(place, i, one, layer=row.layer) for i, one in enumerate(row.answers)]


def _answer(
    point: int,
    place: int,
    record: AnswerRecord,
    *,
    strength: float | None = None,
    layer: int | None = None,
    control: bool = False,
) -> RunAnswer:
    return RunAnswer(
        id=f"{point}-{'c' if control else 'a'}{place}",
        point=point,
        strength=strength,
        layer=layer,
        control=control,
        question=record.question,
        system_prompt=record.system_prompt,
        text=record.text,
        gain=record.gain,
        coherence=record.coherence,
    )


def _evidence(content: bytes) -> CardData:
    evidence = VectorMetadata.model_validate_json(content).evidence
    if evidence is None:
        raise KeyError("evidence")
    return CardData(result=evidence)


_PARSERS: dict[str, Callable[[bytes], SweepData | LayersData | CardData | SimilarityData]] = {
    "sweep": lambda content: SweepData(result=Sweep.model_validate_json(content)),
    "layers": lambda content: LayersData(result=LayerScan.model_validate_json(content)),
    "card": _evidence,
    "similarity": lambda content: SimilarityData(result=Similarity.model_validate_json(content)),
}


def _read(record: RunRecord, name: str | None, runs: Path, what: str) -> bytes:
    if name is None:
        raise NotFoundError(f"{record.id} has no {what}.", hint="Measurements have them: sweeps, layers, cards.")
    try:
        return (runs / record.folder / name).read_bytes()
    except OSError as error:
        raise NotFoundError(
            f"the {what} of {record.id} are no longer on the disk.", hint="Measure it again; its job can be repeated."
        ) from error
