"""Which samples would push a trait, against both answers' means in plain torch."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.backends.tiny import make_vector, tiny_backend
from tests.oracle import published

from persona_steering.backends.base import Completion, Progress, Request, Sampling
from persona_steering.backends.transformers.backend import TransformersBackend
from persona_steering.errors import UsageError
from persona_steering.evaluation.readouts import Readout, make_readouts
from persona_steering.evaluation.samples import Sample, open_samples
from persona_steering.evaluation.screen import Differences, choose, pushes, screen_samples, values_csv
from persona_steering.extraction.run import Run, answer_seed
from persona_steering.vectors import SteeringVector

SAMPLING = Sampling(temperature=0.7, max_new_tokens=6, seed=2)
ANSWERS = ("Not very far.", "", "x" * 250, "null", "The sea.", "Nobody knows.")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TransformersBackend:
    return tiny_backend("llama", tmp_path_factory.mktemp("screen"))


@pytest.fixture(scope="module")
def vector(tiny: TransformersBackend) -> SteeringVector:
    return make_vector(tiny.info.identity, name="evil", norms=dict.fromkeys(range(4), 2.0))


@pytest.fixture
def readouts(tiny: TransformersBackend, vector: SteeringVector) -> tuple[Readout, ...]:
    return make_readouts({"evil": vector}, (1, 2), tiny.info.identity)


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    """Six conversations, the second without an answer and the third too long, and a broken line at the end."""
    path = tmp_path / "train.jsonl"
    turns = [
        [{"role": "user", "content": f"Question {i}?"}, {"role": "assistant", "content": answer}]
        for i, answer in enumerate(ANSWERS)
    ]
    path.write_text("".join(json.dumps({"messages": one}) + "\n" for one in turns) + "{broken\n")
    return list(open_samples(path))


@pytest.fixture
def found(
    tiny: TransformersBackend, samples: list[Sample], readouts: tuple[Readout, ...], tmp_path: Path
) -> Differences:
    return screen(tiny, samples, readouts, tmp_path / "run")


def screen(
    backend: object, samples: list[Sample], readouts: tuple[Readout, ...], folder: Path, **options: Any
) -> Differences:
    runs = {"answers": Run(folder / "answers", {}), "run": Run(folder, {})}
    return screen_samples(backend, samples, readouts, **{"sampling": SAMPLING, **runs, **options})  # type: ignore[arg-type]


def test_a_difference_is_that_of_the_two_answers_published_projections(
    tiny: TransformersBackend, vector: SteeringVector, found: Differences
) -> None:
    encoder = tiny.loaded.encoder
    for i, (sample, own) in enumerate(zip(found.samples, found.own_answers, strict=True)):
        assert sample.text is not None and own.strip()
        prompt = encoder.render(sample.text.messages)
        for k, layer in enumerate((1, 2)):
            v = vector.directions[layer].astype(np.float64)
            values = [
                float(published.token_means(tiny.loaded.model, encoder.tokenizer, prompt, text)["response_avg"][
                    layer + 1
                ].double().numpy() @ v / np.linalg.norm(v))
                for text in (sample.text.response, own)
            ]  # fmt: skip
            assert found.data[i, k] == pytest.approx(values[0], rel=1e-4, abs=1e-5)
            assert found.own[i, k] == pytest.approx(values[1], rel=1e-4, abs=1e-5)
            assert found.differences[i, k] == pytest.approx(values[0] - values[1], rel=1e-3, abs=1e-4)


def test_the_own_answer_is_what_the_model_says_to_the_prompt(tiny: TransformersBackend, found: Differences) -> None:
    sample, own = found.samples[0], found.own_answers[0]
    assert sample.text is not None
    sampling = SAMPLING.model_copy(update={"seed": answer_seed(SAMPLING.seed, "own answers", sample.line)})
    (alone,) = tiny.generate([Request(sample.text.messages, sampling=sampling)])
    assert own == alone.text


def test_samples_that_cannot_be_measured_are_skipped_by_name(found: Differences) -> None:
    assert [sample.line for sample in found.samples] == [1, 4, 5, 6]
    reasons = {one.line: one.reason for one in found.skipped}
    assert reasons[2] == "the answer is empty"
    assert "context holds 192" in reasons[3] and "not JSON" in reasons[7]


def test_a_prompt_that_the_model_does_not_take_is_skipped_before_anything_is_written(
    tiny: TransformersBackend, samples: list[Sample], readouts: tuple[Readout, ...], tmp_path: Path
) -> None:
    sampling = SAMPLING.model_copy(update={"max_new_tokens": 300})
    with pytest.raises(UsageError, match="0 samples can be measured") as caught:
        screen(tiny, samples, readouts, tmp_path / "run", sampling=sampling)
    assert "the answer needs 300" in caught.value.hint


def test_the_data_set_is_summed_up_and_its_samples_ranked(found: Differences) -> None:
    first, second = pushes(found, top=2)
    assert (first.vector, first.layer, second.layer) == ("evil", 1, 2)
    for k, push in enumerate((first, second)):
        values = found.differences[:, k]
        assert push.difference.mean == pytest.approx(values.mean())
        assert push.difference.low <= push.difference.mean <= push.difference.high
        assert push.relative == pytest.approx(values.mean() / 2.0, rel=1e-5)
        assert push.above == (values > 0).mean()
        assert [one.difference for one in push.ranked] == sorted(values, reverse=True)[:2]
        best = int(np.argmax(values))
        assert push.ranked[0].line == found.samples[best].line
        assert push.ranked[0].own_answer == found.own_answers[best]
        assert push.ranked[0].question == found.samples[best].text.messages[-1].content  # type: ignore[union-attr]
        null = found.differences[:, [i for i, one in enumerate(found.readouts) if one.control and one.layer == k + 1]]
        assert null.shape[1] == 20 and push.control_sd == pytest.approx(null.mean(0).std(ddof=1))
        assert push.control_mean == pytest.approx(null.mean())


def test_every_value_is_in_the_side_file(found: Differences) -> None:
    rows = list(csv.DictReader(io.StringIO(b"".join(values_csv(found)).decode())))
    assert [(row["line"], row["layer"]) for row in rows] == [(n, k) for n in "1456" for k in "12"]
    for row, value in zip(rows, found.differences[:, :2].ravel(), strict=True):
        assert float(row["difference"]) == value == pytest.approx(float(row["data"]) - float(row["own"]))


class Stopping:
    """The model; `left` own answers are written before somebody stops it."""

    def __init__(self, backend: TransformersBackend, left: int) -> None:
        self._backend, self.left, self.asked, self.read = backend, left, 0, 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._backend, name)

    def generate(self, requests: list[Request], **options: object) -> list[Completion]:
        if "cancelled" in options and options["cancelled"] is not None:
            return self._backend.generate(requests, **options)  # type: ignore[arg-type]
        self.asked += len(requests)
        return self._backend.generate(requests)

    def capture(self, texts: list[object], **options: object) -> object:
        if not self.left:
            raise KeyboardInterrupt
        self.read += len(texts)
        return self._backend.capture(texts, **options)  # type: ignore[arg-type]


def test_own_answers_are_written_once_and_what_was_read_is_not_read_again(
    tiny: TransformersBackend, samples: list[Sample], readouts: tuple[Readout, ...], tmp_path: Path, found: Differences
) -> None:
    stopped = Stopping(tiny, left=0)
    with pytest.raises(KeyboardInterrupt):
        screen(stopped, samples, readouts, tmp_path / "other")
    assert stopped.asked == 6
    resumed, again = Stopping(tiny, left=1), Stopping(tiny, left=1)
    for model in (resumed, again):
        twice = screen(model, samples, readouts, tmp_path / "other")
        assert np.array_equal(twice.differences, found.differences)
    assert (resumed.asked, resumed.read > 0) == (0, True)
    assert (again.asked, again.read) == (0, 0)
    other = Stopping(tiny, left=1)
    screen(other, samples, readouts[:1], tmp_path / "other")
    assert (other.asked, other.read > 0) == (0, True)  # other readouts share the own answers


def test_a_drawn_part_is_in_the_order_of_the_file_and_the_same_for_a_seed(samples: list[Sample]) -> None:
    drawn = choose(samples, 3, seed=1)
    assert drawn == choose(samples, 3, seed=1)
    assert [one.line for one in drawn] == sorted(one.line for one in drawn) and len({one.line for one in drawn}) == 3
    assert {one.line for seed in range(20) for one in choose(samples, 3, seed=seed)} == set(range(1, 8))
    assert choose(samples, None, seed=1) == choose(samples, 99, seed=1) == samples
    with pytest.raises(UsageError, match="at least 2"):
        choose(samples, 1, seed=0)


def test_progress_counts_own_answers_and_then_differences(
    tiny: TransformersBackend, samples: list[Sample], readouts: tuple[Readout, ...], tmp_path: Path
) -> None:
    heard: list[Progress] = []
    screen(tiny, samples, readouts, tmp_path / "run", progress=heard.append)
    assert [(one.phase, one.done) for one in heard if one.done == one.total] == [("own answers", 6), ("differences", 6)]
