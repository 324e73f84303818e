"""An estimate as a person reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from persona_steering.cli.context import Session
    from persona_steering.engine.estimate import Estimate, Speed, Work

SAID = "This is an estimate, from a small batch that was timed just now."


def measured_speed(session: Session) -> Speed:
    """How fast the loaded model is here."""
    from persona_steering.cli.render import working
    from persona_steering.engine.estimate import measure_speed

    backend = session.model.backend
    with working("Timing a small batch", quiet=session.quiet):
        return measure_speed(backend)


def estimated(session: Session, work: list[Work], speed: Speed) -> Estimate:
    """What some phases come to on the loaded model."""
    from persona_steering.engine.estimate import estimate

    layers = session.config.extraction.target_layers
    count = session.model.identity.num_layers if layers == "auto" else len(layers)
    return estimate(work, speed, layers=count, hidden=session.model.identity.hidden_size)


def duration(seconds: float) -> str:
    """Seconds in words, as exact as an estimate is."""
    if seconds < 1:
        return "a moment"
    if seconds < 90:
        return f"about {max(5, round(seconds / 5) * 5)} s"
    if seconds < 90 * 60:
        return f"about {round(seconds / 60)} min"
    return f"about {seconds / 3600:.1f} h"


def size(count: int) -> str:
    """Bytes in words."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def to_json(found: Estimate) -> dict[str, object]:
    """The estimate for scripts."""
    return {
        "answers": found.answers,
        "max_tokens": found.tokens,
        "seconds": round(found.seconds, 1),
        "disk_bytes": found.disk,
        "phases": {one.phase: one.answers for one in found.work},
    }
