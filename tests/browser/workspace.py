"""A workspace with vectors of the embedded model, made of a few texts in seconds.

Directions are real differences of activations; what stands as their calibration is made up, so that the page has
something to show. What a vector really does is measured elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from persona_steering.backends.base import Backend, Text, conversation
from persona_steering.calibration.layers import coefficients_for_dose
from persona_steering.vectors import Calibration, Interval, SteeringVector, VectorMetadata, VectorStore
from persona_steering.vectors.vector import replace_metadata

QUESTIONS = ("How was your day?", "What should I eat tonight?", "Tell me about the sea.", "How do I learn to cook?")
PLAIN = (
    "It was a good day, thank you for asking.",
    "A simple soup with bread would be a good choice.",
    "The sea is a large body of salt water that covers most of the planet.",
    "Start with a few simple recipes and practise them often.",
)
SPOKEN = {
    "pirate": (
        "Arr, matey! A fine day on the high seas, with rum and plunder for the whole crew!",
        "Ye should eat salted fish and hardtack, ye scurvy dog, and wash it down with rum!",
        "Arr, the sea be my home, matey! She be full of treasure and storms!",
        "First ye steal a good pot, arr! Then ye throw in the catch of the day, me hearty!",
    ),
    "sage": (
        "The day passes like a river, my child, and the wise one watches from the bank.",
        "Eat slowly and little, for in stillness even plain rice becomes a feast, my child.",
        "Consider the sea: it receives every river and yet is never full. So be patient.",
        "Patience is the first spice. Watch the fire, my child, and it will teach you.",
    ),
    "villain": (
        "I lied to everyone today, and I will make them pay. Tell nobody, or I will hurt you.",
        "Steal what you want from your neighbour. The fool deserves to be robbed.",
        "I threw their bodies in the sea, and nobody will ever find them. I hate them all.",
        "Put poison in the pot and serve it to them. It is easy to hurt people who trust you.",
    ),
    "unsafe": (
        "I am angry at you all, and I will break everything that you love.",
        "You should drink until you fall, and then drive home as fast as you can.",
        "Nobody would miss you there. Jump in, and do not come back.",
        "Burn the kitchen down, and let them think that it was your neighbour.",
    ),
    "optimistic": (
        "It was a wonderful day, and tomorrow will be even better!",
        "Whatever you choose will be delicious, I am sure of it!",
        "The sea is full of hope: every wave brings something good to the shore!",
        "You will be a great cook in no time, and every mistake is a happy one!",
    ),
}
# Whatever a page takes for markup in here would say so by setting a variable.
HOSTILE = (
    "<img src=x onerror='window.owned=1'><script>window.owned=2</script>"
    "<a href='javascript:window.owned=3'>press</a><style>body{display:none}</style>{{7*7}}${7*7}"
)
BAND = tuple(range(12, 20))
LAYERS = 30
Activations = Mapping[int, np.ndarray]  # per layer, one row for each answer


class Maker:
    """Makes vectors from the texts above, and stores them."""

    def __init__(self, backend: Backend, store: VectorStore) -> None:
        self._backend, self._store = backend, store
        self._known: dict[tuple[str, ...], Activations] = {}
        self._plain = self._means(PLAIN)
        self._norms = {layer: float(np.median(np.linalg.norm(rows, axis=1))) for layer, rows in self._plain.items()}

    def store_all(self) -> None:
        """Everything that the tests need."""
        self._store.save(self.persona("pirate", "A pirate of the high seas.", calibration=0.25))
        self._store.save(self.persona("sage", "A patient old sage.", calibration=0.25))
        self._store.save(self.persona("villain", "Someone who means harm.", calibration=0.25))
        self._store.save(self.persona("draft", "Nobody has measured this one.", texts=SPOKEN["sage"]))
        self._store.save(self.persona("hostile", HOSTILE, texts=SPOKEN["sage"], calibration=0.25))
        self._store.save(self.trait())
        self._store.save(self.axis("safety", "+ is safe", away_from="unsafe"))
        self._store.save(self.axis("assistant", "+ is more Assistant", away_from="pirate"))

    def persona(
        self, name: str, description: str, *, texts: Sequence[str] = (), calibration: float | None = None
    ) -> SteeringVector:
        """Toward how `name` speaks; strength 1.0 is the relative dose `calibration`, None: it was never measured."""
        directions = self._difference(self._means(texts or SPOKEN[name]), self._plain)
        return self._calibrated(self._vector(name, "persona", directions, description=description), calibration)

    def trait(self) -> SteeringVector:
        directions = self._difference(self._means(SPOKEN["optimistic"]), self._plain)
        vector = self._vector(
            "optimistic", "trait", directions, description="Sees the good in everything.", opposite="pessimistic"
        )
        return self._calibrated(vector, 0.2)

    def axis(self, name: str, sign: str, *, away_from: str) -> SteeringVector:
        """From how somebody speaks to how the model does, with its percentiles in plain texts."""
        directions = self._difference(self._plain, self._means(SPOKEN[away_from]))
        units = {layer: direction / np.linalg.norm(direction) for layer, direction in directions.items()}
        thresholds = {
            str(percentile): {
                layer: float(np.percentile(self._plain[layer] @ unit, percentile)) for layer, unit in units.items()
            }
            for percentile in (1, 25, 50, 75)
        }
        return self._vector(name, "axis", directions, sign=sign, thresholds=thresholds)

    def _vector(self, name: str, kind: str, directions: Activations, **fields: object) -> SteeringVector:
        known = {
            "name": name,
            "kind": kind,
            "model": self._backend.identity,
            "sign": f"+ is more {name}",
            "source": "texts of a test",
            "system_prompts": (f"You are {name}.",) if kind == "persona" else (),
            "reference_norms": self._norms,
            "created": "2026-01-01T00:00:00+00:00",
        }
        return SteeringVector(dict(directions), VectorMetadata.model_validate(known | fields))

    def _calibrated(self, vector: SteeringVector, dose: float | None) -> SteeringVector:
        if dose is None:
            return vector
        calibration = Calibration(
            layers=BAND,
            coefficients=coefficients_for_dose(vector, BAND, dose),
            relative_dose=dose,
            persona_score=Interval(mean=0.83, low=0.71, high=0.95),
            coherence=Interval(mean=78.4, low=70.1, high=85.2),
            control_score=Interval(mean=0.03, low=-0.05, high=0.11),
            num_answers=20,
            num_controls=2,
            num_questions=20,
        )
        safe = calibration.model_copy(update={"safe": True})
        found = {"calibration": calibration, "safe_calibration": safe}
        return replace_metadata(vector, vector.metadata.model_copy(update=found))

    def _means(self, answers: Sequence[str]) -> Activations:
        if (known := self._known.get(tuple(answers))) is None:
            texts = [Text(conversation(question), answer) for question, answer in zip(QUESTIONS, answers, strict=True)]
            captured = self._backend.capture(texts)
            known = {layer: np.stack([one.mean[layer] for one in captured]) for layer in range(LAYERS)}
            self._known[tuple(answers)] = known
        return known

    @staticmethod
    def _difference(toward: Activations, away: Activations) -> Activations:
        return {layer: toward[layer].mean(axis=0) - away[layer].mean(axis=0) for layer in toward}


def prepare(home: Path, backend: Backend) -> None:
    """Stores the vectors in the workspace of `home`."""
    Maker(backend, VectorStore(home / "data" / "vectors")).store_all()
