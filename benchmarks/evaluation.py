"""What measuring costs: a sweep of strengths, the capture behind a built vector, and projections of many answers.

    python benchmarks/evaluation.py
    python benchmarks/evaluation.py --random-weights llama-7b --device cuda --dtype bfloat16 --tokens 128

The sweep stands against one separate run for each strength, which asks and scores one question at a time. Those runs
are alike, so each turn times one of them, and the figure compares answers per second.
"""

from __future__ import annotations

import csv
import itertools
import os
import statistics
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from steering import Recipes
from timing import (
    Figure,
    describe,
    model_parser,
    open_backend,
    peak_memory,
    positive,
    ratio,
    report,
    take_turns,
    timed,
)

from extraction import ROLLOUTS, answers, published_means, smallest_cosine
from persona_steering.backends.base import Text
from persona_steering.backends.transformers.backend import TransformersBackend
from persona_steering.evaluation.answers_file import AnswerRow
from persona_steering.evaluation.build import Pair, build_vectors
from persona_steering.evaluation.project import Projected, project_file
from persona_steering.evaluation.readouts import Reader, Readout
from persona_steering.evaluation.samples import open_samples
from persona_steering.extraction.run import Run
from persona_steering.interventions import Add, Recipe
from persona_steering.personas import load_archetype, load_questions
from persona_steering.scoring.effects import EffectMeter
from persona_steering.scoring.likelihood import Answer, Probe, make_probes

STRENGTHS = 9
QUESTIONS = 20
LAYERS = 3  # that answers are projected at, on two vectors each
SMALLER = 10  # the file of the memory figure has a tenth of the answers


def main(arguments: Sequence[str] | None = None) -> None:
    parser = model_parser(__doc__)
    parser.add_argument("--answers", type=positive, default=1000, help="answers of the file that is projected")
    parser.add_argument("--strengths", type=positive, default=STRENGTHS, help="of the sweep")
    parser.add_argument("--questions", type=positive, default=QUESTIONS, help="of the sweep")
    options = parser.parse_args(arguments)
    with open_backend(options) as backend:
        figures = [
            # memory first: what the other parts leave behind would hide it
            *projections(backend, count=options.answers, tokens=options.tokens),
            sweep(
                backend,
                strengths=options.strengths,
                questions=options.questions,
                tokens=options.tokens,
                repeats=options.repeats,
            ),
            building(backend, batch=options.batch, tokens=options.tokens, repeats=options.repeats),
        ]
        report("evaluation", figures, device=backend.loaded.device.type, options=options, about=describe(backend))


def sweep(backend: TransformersBackend, *, strengths: int, questions: int, tokens: int, repeats: int) -> Figure:
    """Answers measured per second by a sweep that shares batches, over those of separate runs one by one."""
    steering = Recipes(backend).vector(0)
    levels = np.linspace(-2, 2, strengths)
    middle = len(steering.layers) // 2
    recipes = [
        Recipe((Add(vector=steering, values={middle: float(level)}),)) if level else Recipe() for level in levels
    ]
    probes = make_probes(
        [question.question for question in load_questions(questions)], load_archetype("pirate").system_prompts
    )
    alone = TransformersBackend(backend.loaded, batch_size=1)
    together, apart = (meter(one, probes, tokens) for one in (backend, alone))
    turn = itertools.count()

    def run_all() -> tuple[float, list[list[Answer | None]]]:
        return timed(backend.loaded.device, lambda: together.measure(recipes, probes, "sweep"))

    def run_one() -> tuple[float, list[list[Answer | None]]]:
        recipe = recipes[next(turn) % len(recipes)]
        return timed(backend.loaded.device, lambda: apart.measure([recipe], probes, "run"))

    found = take_turns({"sweep": run_all, "one run": run_one}, repeats=repeats)
    shared, single = ([turn[0] for turn in found[name]] for name in ("sweep", "one run"))
    swept = [texts(row) for row in found["sweep"][0][1]]
    same = [texts(turn[1][0]) in swept for turn in found["one run"]]
    return ratio(
        f"sweep of {strengths} strengths x {questions} questions: shared batches / {strengths} runs one by one",
        [seconds * strengths for seconds in single],
        shared,
        target=4.0,
        details={
            "sweep_answers_per_s": strengths * questions / statistics.median(shared),
            "one_by_one_answers_per_s": questions / statistics.median(single),
            "runs_with_the_same_texts": statistics.mean(same),
        },
    )


def meter(backend: TransformersBackend, probes: Sequence[Probe], tokens: int) -> EffectMeter:
    """What a sweep measures with."""
    return EffectMeter(
        backend,
        probes,
        ask=lambda requests, phase: [done.text for done in backend.generate(requests)],
        max_new_tokens=tokens,
        temperature=0.7,
    )


def texts(row: Sequence[Answer | None]) -> list[str]:
    """What the answers of a row say."""
    return ["" if answer is None else answer.text for answer in row]


def building(backend: TransformersBackend, *, batch: int, tokens: int, repeats: int) -> Figure:
    """The vectors of `vectors build` out of given answers, over the published way of one sample at a time."""
    given = answers(backend, 2 * batch, tokens, per_prompt=ROLLOUTS)
    sides = given[:batch], given[batch:]
    rows = ([AnswerRow("", text.rendered, text.response, "") for text in as_rendered(backend, side)] for side in sides)
    pairs = [Pair(positive, negative) for positive, negative in zip(*rows, strict=True)]
    device = backend.loaded.device
    sized = TransformersBackend(backend.loaded)  # batches of the size that suits the device

    def published() -> np.ndarray:
        positive, negative = (published_means(backend, side) for side in sides)
        return np.asarray(positive - negative)

    def ours() -> np.ndarray:
        return build_vectors(sized, pairs).differences["response_avg"][1:-1]

    found = take_turns(
        {"published": lambda: timed(device, published), "ours": lambda: timed(device, ours)}, repeats=repeats
    )
    one_by_one, batched = ([turn[0] for turn in found[name]] for name in ("published", "ours"))
    return ratio(
        f"vectors built from {2 * batch} answers, {ROLLOUTS} a prompt: in batches / the published way",
        one_by_one,
        batched,
        target=1.7 if device.type == "cpu" else 5.0,
        details={
            "published_answers_per_s": 2 * batch / statistics.median(one_by_one),
            "batched_answers_per_s": 2 * batch / statistics.median(batched),
            "smallest_cosine": smallest_cosine(found["ours"][0][1], found["published"][0][1]),
        },
    )


def projections(backend: TransformersBackend, *, count: int, tokens: int) -> list[Figure]:
    """Answers projected per second, file to file, and the peak memory of the whole file over that of a tenth of it."""
    sized = TransformersBackend(backend.loaded)
    random = Recipes(backend)
    middle = backend.info.identity.num_layers // 2
    readouts = [
        Readout(f"random-{seed}", random.vector(seed), layer)
        for seed in (0, 1)
        for layer in range(middle, middle + LAYERS)
    ]
    device = backend.loaded.device
    with tempfile.TemporaryDirectory() as folder:
        few, many = (write_csv(backend, Path(folder), size, tokens) for size in (max(2, count // SMALLER), count))
        read = partial(read_file, sized, readouts)
        read(few)
        base, smaller = (peak_memory(device, work) for work in (lambda: None, lambda: read(few)))
        peaks: list[float] = []

        def whole() -> Projected:
            done: list[Projected] = []
            peak = peak_memory(device, lambda: done.append(read(many)))
            peaks.append(0 if peak is None else peak)
            return done[0]

        seconds, found = timed(device, whole)
    speed = Figure(
        f"projection of {count} answers on 2 vectors x {LAYERS} layers",
        found.columns[0].n / seconds,
        unit="answers/s",
        details={"seconds": seconds, "answers": found.columns[0].n},
    )
    if base is None or smaller is None:
        return [speed]
    flat = Figure(
        f"peak memory of a projection: {count} answers / {max(2, count // SMALLER)} answers",
        peaks[0] / smaller,
        target=1.05,
        at_most=True,
        details={"before_mb": base / 2**20, "few_mb": smaller / 2**20, "many_mb": peaks[0] / 2**20},
    )
    return [speed, flat]


def read_file(backend: TransformersBackend, readouts: Sequence[Readout], file: Path) -> Projected:
    """The projections of a file in a fresh run, so that nothing is found on disk."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder), {})
        out = Path(folder) / "out.csv"
        return project_file(open_samples(file), Reader(backend, readouts), out=out, layout="copy", run=run)


def write_csv(backend: TransformersBackend, folder: Path, count: int, tokens: int) -> Path:
    """A file of given answers as the pipeline writes it, the longest in every chunk, however many there are."""
    longest = answers(backend, 16, tokens, per_prompt=ROLLOUTS)
    given = as_rendered(backend, list(itertools.islice(itertools.cycle(longest), count)))
    path = folder / f"{count}.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["prompt", "answer"])
        rows.writerows([text.rendered, text.response] for text in given)
    return path


def as_rendered(backend: TransformersBackend, given: Sequence[Text]) -> list[Text]:
    """The same texts with their prompts as the files hold them."""
    return [Text((), text.response, rendered=backend.render(text.messages)) for text in given]


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
