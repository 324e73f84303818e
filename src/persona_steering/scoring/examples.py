"""Answers before and after steering, side by side."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from persona_steering.scoring.effects import EffectMeter
from persona_steering.scoring.likelihood import Answer, Probe
from persona_steering.vectors.values import Closed


class Example(Closed):
    """One question with the model's own answer and the steered one, and what was measured on the latter."""

    question: str
    before: str
    after: str
    gain: float = Field(description="over the model's own answer, nats per token")
    coherence: float = Field(description="0-100; 100 is the model's own level")


def side_by_side(meter: EffectMeter, row: Sequence[Answer | None], probes: Sequence[Probe]) -> tuple[Example, ...]:
    """The steered answers to `probes` in a row that the meter measured, each beside the model's own."""
    own = {answer.probe: answer.text for answer in meter.reference.base}
    measured = zip(probes, row, meter.effects(row, probes), meter.coherences(row), strict=True)
    return tuple(
        Example(
            question=probe.question,
            before=own[probe].strip(),
            after=answer.text.strip() if answer else "",
            gain=gain,
            coherence=coherence,
        )
        for probe, answer, gain, coherence in measured
    )
