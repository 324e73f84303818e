"""Runs as clients see them: what was measured, its numbers, and the answers behind them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Discriminator, Field, RootModel

from persona_steering.evaluation.layers import LayerScan
from persona_steering.evaluation.similarity import Similarity
from persona_steering.evaluation.sweep import Sweep
from persona_steering.server.paging import Page
from persona_steering.server.stores.runs import RunRecord
from persona_steering.vectors.evidence import Evidence
from persona_steering.vectors.values import Closed


class Run(Closed):
    """One result."""

    id: str
    object: Literal["run"] = "run"
    kind: str = Field(description="sweep, layers, card, similarity; or what was made: persona or trait")
    name: str = Field(description="of the vector; several are joined by commas")
    model: str = Field(description="the model's fingerprint")
    has_data: bool = Field(description="whether there are numbers: see /data")
    has_report: bool = Field(description="whether there is a page: see /report")
    job_id: str | None = Field(description="null once the job is forgotten")
    created_at: float = Field(description="seconds since 1970")

    @classmethod
    def of(cls, record: RunRecord) -> Run:
        """A record, without where it lies."""
        return cls(
            id=record.id,
            kind=record.kind,
            name=record.name,
            model=record.model,
            has_data=record.data is not None,
            has_report=record.report is not None,
            job_id=record.job_id,
            created_at=record.created_at,
        )


def shown_page(page: Page[RunRecord]) -> Page[Run]:
    """A page of runs as clients see it."""
    return Page[Run](
        data=[Run.of(record) for record in page.data],
        first_id=page.first_id,
        last_id=page.last_id,
        has_more=page.has_more,
    )


class SweepData(Closed):
    """What a sweep measured."""

    kind: Literal["sweep"] = "sweep"
    result: Sweep


class LayersData(Closed):
    """What a scan of layers measured."""

    kind: Literal["layers"] = "layers"
    result: LayerScan


class CardData(Closed):
    """The evidence of a vector."""

    kind: Literal["card"] = "card"
    result: Evidence


class SimilarityData(Closed):
    """How vectors lie to each other."""

    kind: Literal["similarity"] = "similarity"
    result: Similarity


class RunData(RootModel[Annotated[SweepData | LayersData | CardData | SimilarityData, Discriminator("kind")]]):
    """The numbers of a run."""


class RunAnswer(BaseModel):
    """One answer that was measured."""

    id: str = Field(description="its place: the point or row, and the answer in it")
    point: int = Field(ge=0, description="which point of a sweep, or row of a scan, from 0")
    strength: float | None = Field(description="of that point of a sweep")
    layer: int | None = Field(description="of that row of a scan")
    control: bool = Field(description="whether a random direction steered it")
    question: str
    system_prompt: str = Field(description="which evokes the persona, and against which the answer was scored")
    text: str
    gain: float = Field(description="over the base answer to the same question, nats per token")
    coherence: float = Field(description="100 is the model's own level")
