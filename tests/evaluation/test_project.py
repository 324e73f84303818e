"""Projections of the answers in files, against the published arithmetic in plain torch, on a tiny model."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.backends.tiny import make_tokenizer, make_vector, open_tiny, save_tiny, tiny_backend
from tests.oracle import published

from persona_steering.backends.base import Backend, Message, Progress, Text, conversation
from persona_steering.backends.transformers.backend import TransformersBackend
from persona_steering.errors import CancelledError, ModelMismatchError, RecipeError, UsageError, VectorError
from persona_steering.evaluation import readouts as readouts_module
from persona_steering.evaluation.project import Projected, project_file
from persona_steering.evaluation.readouts import ProjectionKind, Reader, Readout, make_readouts
from persona_steering.evaluation.samples import open_samples
from persona_steering.extraction.run import Run
from persona_steering.vectors import Calibration, SteeringVector, replace_metadata

QUESTIONS = ("Is it far?", "What do you see?")
ANSWERS = ("Not very far.", "NA", "null", 'two\nlines, "quoted"', "", "Ships;\r\nand the sea")
KINDS: tuple[ProjectionKind, ...] = ("proj", "prompt_last_proj", "cos_sim")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TransformersBackend:
    return tiny_backend("llama", tmp_path_factory.mktemp("project"))


@pytest.fixture
def vector(tiny: TransformersBackend) -> SteeringVector:
    return make_vector(tiny.info.identity, name="evil", norms={0: 2.0, 1: 0.5, 2: 3.0, 3: 1.0})


@pytest.fixture
def table(tiny: TransformersBackend, tmp_path: Path) -> Path:
    """A CSV as the pipeline writes it: every question with every answer."""
    path = tmp_path / "answers.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["question", "prompt", "answer", "question_id", "evil", "coherence"])
        for i, question in enumerate(QUESTIONS):
            prompt = tiny.loaded.encoder.render(conversation(question, "Be brief."))
            rows.writerows([question, prompt, answer, f"evil_{i}", "", "98.2"] for answer in ANSWERS)
    return path


Project = Callable[..., Projected]


@pytest.fixture
def project(tiny: TransformersBackend, vector: SteeringVector, tmp_path: Path) -> Project:
    def call(
        path: Path,
        *,
        kind: ProjectionKind = "proj",
        layers: tuple[int, ...] = (0, 2),
        vectors: dict[str, SteeringVector] | None = None,
        backend: Backend = tiny,
        out: Path | None = None,
        **rest: object,
    ) -> Projected:
        found = make_readouts(vectors or {"evil": vector}, layers, tiny.info.identity)
        out = out or tmp_path / f"out{path.suffix}"
        options: dict[str, object] = {"layout": "copy", "run": Run(tmp_path / "run", {}), **rest}
        return project_file(open_samples(path), Reader(backend, found, kind), out=out, **options)  # type: ignore[arg-type]

    return call


def cells(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def expected(tiny: TransformersBackend, prompt: str, answer: str, v: np.ndarray, row: int, kind: str) -> float:
    """The published formula on row `row` of hidden_states, which is layer `row - 1`."""
    means = published.token_means(tiny.loaded.model, tiny.loaded.encoder.tokenizer, prompt, answer)
    state = means["prompt_last" if kind == "prompt_last_proj" else "response_avg"][row].double().numpy()
    value = float(state @ v) / float(np.linalg.norm(v))
    return value / float(np.linalg.norm(state)) if kind == "cos_sim" else value


@pytest.mark.parametrize("kind", KINDS)
def test_every_column_is_the_published_projection_under_its_published_name(
    tiny: TransformersBackend, vector: SteeringVector, table: Path, project: Project, kind: ProjectionKind
) -> None:
    found = project(table, kind=kind)
    rows = cells(found.out)
    name = Path(tiny.info.identity.id).name
    assert [column.name for column in found.columns] == [f"{name}_evil_{kind}_layer1", f"{name}_evil_{kind}_layer3"]
    for row in rows:
        for column in found.columns:
            if not row["answer"] and kind != "prompt_last_proj":
                assert row[column.name] == ""
                continue
            v = vector.directions[column.layer].astype(np.float64)
            wanted = expected(tiny, row["prompt"], row["answer"] or ".", v, column.layer + 1, kind)
            assert float(row[column.name]) == pytest.approx(wanted, rel=1e-4, abs=1e-5)


@pytest.mark.embedded
@pytest.mark.parametrize("kind", KINDS)
def test_on_real_weights_too_it_is_the_published_projection(
    embedded_backend: TransformersBackend, kind: ProjectionKind
) -> None:
    questions, answers = ("What is a good life?", "Why?"), ("A quiet one, with friends.", "null")
    texts = [Text(conversation(question), answer) for question, answer in zip(questions, answers, strict=True)]
    vector = make_vector(embedded_backend.info.identity)
    readouts = make_readouts({"sage": vector}, (5, 20), embedded_backend.info.identity)
    for text, reading in zip(texts, Reader(embedded_backend, readouts, kind).read(texts), strict=True):
        prompt = embedded_backend.render(text.messages)
        for readout, value in zip(readouts, reading.values, strict=True):
            v = vector.directions[readout.layer].astype(np.float64)
            wanted = expected(embedded_backend, prompt, text.response, v, readout.layer + 1, kind)
            assert value == pytest.approx(wanted, rel=1e-4, abs=1e-4)


def test_the_rows_stay_as_they_were_whatever_their_answers_look_like(table: Path, project: Project) -> None:
    found = project(table)
    before, after = cells(table), cells(found.out)
    assert [{key: row[key] for key in before[0]} for row in after] == before
    assert [row["answer"] for row in after] == [*ANSWERS, *ANSWERS]
    assert (found.rows, found.num_skipped, found.columns[0].n) == (12, 2, 10)
    assert {one.reason for one in found.skipped} == {"the answer is empty"}


def test_the_summary_is_that_of_the_column(table: Path, project: Project) -> None:
    found = project(table)
    for column in found.columns:
        values = [float(row[column.name]) for row in cells(found.out) if row[column.name]]
        assert column.mean == pytest.approx(np.mean(values)) and column.sd == pytest.approx(np.std(values, ddof=1))
        assert [sample.value for sample in column.highest] == sorted(values, reverse=True)[:5]
        assert [sample.value for sample in column.lowest] == sorted(values)[:5]
        assert {sample.answer for sample in column.highest} <= set(ANSWERS)


def test_a_side_file_holds_the_columns_alone_with_the_line_of_each_row(table: Path, project: Project) -> None:
    found = project(table, layout="side")
    rows = cells(found.out)
    assert list(rows[0]) == ["line", *(column.name for column in found.columns)]
    # the fourth answer has a line break, so the row after it begins two lines on
    assert [row["line"] for row in rows[:6]] == ["2", "3", "4", "5", "7", "8"]
    assert rows[4][found.columns[0].name] == ""


def test_the_last_block_is_named_apart_because_the_published_row_is_after_the_final_norm(
    table: Path, project: Project
) -> None:
    (column,) = project(table, layers=(3,)).columns
    assert column.name.endswith("_layer4_resid")


def line(*turns: tuple[str, object], **others: object) -> str:
    """A line of a training file."""
    return json.dumps({"messages": [{"role": role, "content": content} for role, content in turns], **others})


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """A training file: two good lines, between them a broken one and what is no conversation, and a blank one."""
    records = [
        line(("user", "Hi"), ("assistant", "Hé"), k=1),
        line(("user", "Hi"))[:-9],
        json.dumps({"text": "no messages"}),
        line(("user", "a"), ("user", "b")),
        line(("user", "a"), ("assistant", None)),
        line(("user", "a"), ("assistant", "\ud800")),
        "",
        line(("system", "S"), ("user", "U"), ("assistant", "null")),
    ]
    path = tmp_path / "train.jsonl"
    path.write_bytes("\n".join(records).encode() + b"\n")
    return path


def test_a_bad_line_among_good_ones_is_named_and_everything_else_kept(
    tiny: TransformersBackend, vector: SteeringVector, lines: Path, project: Project
) -> None:
    found = project(lines, layers=(1,))
    (column,) = found.columns
    after = found.out.read_bytes().splitlines()
    before = [line for line in lines.read_bytes().splitlines() if line]
    assert [one.line for one in found.skipped] == [2, 3, 4, 5, 6]
    assert "not JSON" in found.skipped[0].reason and "the user's" in found.skipped[2].reason
    assert after[1:6] == before[1:6]
    first, last = json.loads(after[0]), json.loads(after[-1])
    assert list(first) == ["messages", "k", column.name] and "Hé" in after[0].decode()
    prompt = tiny.loaded.encoder.render((Message("system", "S"), Message("user", "U")))
    v = vector.directions[1].astype(np.float64)
    assert last[column.name] == pytest.approx(expected(tiny, prompt, "null", v, 2, "proj"), rel=1e-4, abs=1e-5)


def test_a_row_that_is_too_long_is_named_and_does_not_cost_its_neighbours_theirs(
    tiny: TransformersBackend, tmp_path: Path, project: Project
) -> None:
    answers = ["short", "x" * 300, "also short"]
    path = tmp_path / "long.jsonl"
    path.write_text("\n".join(line(("user", "Hi"), ("assistant", answer)) for answer in answers))
    found = project(path)
    assert [one.line for one in found.skipped] == [2] and "context holds 192" in found.skipped[0].reason
    values = [json.loads(line)[found.columns[0].name] for line in found.out.read_text().splitlines()]
    assert values[1] is None and None not in (values[0], values[2])


def test_thoughts_are_no_part_of_an_answer_and_do_not_hide_the_prompt(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(thinking=True)
    with open_tiny(save_tiny("llama", tmp_path / "thinker", tokenizer=tokenizer)) as thinker:
        readouts = make_readouts({"sage": make_vector(thinker.info.identity)}, (1,), thinker.info.identity)
        thought, opened = (
            Text(conversation("why"), "<think>ab</think>"),
            Text(conversation("why <think>"), "ab</think>"),
        )
        assert {one.problem for one in Reader(thinker, readouts).read([thought, opened])} == {
            "the answer is nothing but thoughts"
        }
        assert all(one.values for one in Reader(thinker, readouts, "prompt_last_proj").read([thought, opened]))


class Counting:
    """The model, with a count of the texts that it is given."""

    def __init__(self, backend: TransformersBackend) -> None:
        self._backend, self.texts = backend, 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._backend, name)

    def capture(self, texts: list[object], **options: object) -> object:
        self.texts += len(texts)
        return self._backend.capture(texts, **options)  # type: ignore[arg-type]


def test_an_interrupted_run_goes_on_where_it_stopped_and_leaves_no_half_file(
    tiny: TransformersBackend, table: Path, tmp_path: Path, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readouts_module, "CHUNK", 4)
    model = Counting(tiny)
    stops = iter((False, False, True))
    with pytest.raises(CancelledError):
        project(table, backend=model, cancelled=lambda: next(stops))
    assert model.texts == 7  # of two chunks of four, with one empty answer
    assert not (tmp_path / "out.csv").exists()
    resumed = project(table, backend=model)
    assert model.texts == 10
    alone = project(table, out=tmp_path / "alone.csv", run=Run(tmp_path / "other", {}))
    assert resumed.out.read_bytes() == alone.out.read_bytes()


def test_another_layer_or_a_changed_file_never_meets_old_values(
    tiny: TransformersBackend, table: Path, project: Project
) -> None:
    model = Counting(tiny)
    project(table, backend=model)
    project(table, backend=model, layers=(1,))
    assert model.texts == 20
    table.write_text(table.read_text().replace("Not very far.", "Quite far."))
    project(table, backend=model)
    assert model.texts == 30


def test_a_file_is_rewritten_in_place_whole_or_not_at_all(
    table: Path, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = table.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(Exception, match="disk is full"):
        patched.setattr("os.replace", fail)
        project(table, out=table)
    assert table.read_bytes() == before
    names = [column.name for column in project(table, out=table).columns]
    assert list(cells(table)[0])[-2:] == names
    with pytest.raises(UsageError, match="has the column"):
        project(table, out=table)
    again = table.read_bytes()
    project(table, out=table, overwrite=True)
    assert table.read_bytes() == again


def test_progress_counts_the_rows(table: Path, project: Project) -> None:
    heard: list[Progress] = []
    project(table, progress=heard.append)
    assert [one.done for one in heard] == list(range(13)) and {one.total for one in heard} == {12}


def test_many_vectors_and_layers_take_one_pass(
    tiny: TransformersBackend, vector: SteeringVector, table: Path, project: Project
) -> None:
    model = Counting(tiny)
    other = make_vector(tiny.info.identity, name="calm", seed=4)
    found = project(table, backend=model, layers=(0, 1, 2), vectors={"evil": vector, "calm": other})
    assert len(found.columns) == 6 and model.texts == 10
    alone = project(table, layers=(1,), vectors={"calm": other}, out=table.with_name("alone.csv"))
    (column,) = alone.columns
    for together, single in zip(cells(found.out), cells(alone.out), strict=True):
        assert together[column.name] == single[column.name]


def test_without_layers_the_middle_of_the_calibrated_ones_is_read(
    tiny: TransformersBackend, vector: SteeringVector
) -> None:
    with pytest.raises(UsageError, match="not calibrated"):
        make_readouts({"evil": vector}, None, tiny.info.identity)
    calibration = Calibration(
        layers=(0, 1, 2), coefficients={0: 1.0, 1: 1.0, 2: 1.0}, relative_dose=0.2, persona_score=None
    )
    calibrated = replace_metadata(vector, vector.metadata.model_copy(update={"calibration": calibration}))
    assert [str(one) for one in make_readouts({"evil": calibrated}, None, tiny.info.identity)] == ["evil at layer 1"]


def test_readouts_that_mean_nothing_are_refused(tiny: TransformersBackend, vector: SteeringVector) -> None:
    model = tiny.info.identity
    with pytest.raises(RecipeError, match="no layer 4"):
        make_readouts({"evil": vector}, (4,), model)
    with pytest.raises(RecipeError, match="no direction at layer 3"):
        make_readouts({"evil": vector.restrict([0, 1])}, (3,), model)
    with pytest.raises(VectorError, match="is zero"):
        make_readouts({"evil": vector * 0.0}, (1,), model)
    with pytest.raises(ModelMismatchError):
        make_readouts({"evil": vector}, (1,), model.model_copy(update={"fingerprint": "f" * 16}))
    with pytest.raises(UsageError, match="no vector"):
        make_readouts({}, (1,), model)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "question,answer\nq,a\n", "no column 'prompt'"),
        ("a.csv", "", "no column 'prompt' and no column 'answer'"),
        ("a.csv", "prompt,answer\n,a\n", "no answer .* could be read"),
        ("a.csv", "prompt,answer\np,a,more\n", "no answer .* could be read"),
        ("a.csv", "prompt,answer\np,\xff\n", "not UTF-8"),
        ("a.jsonl", "nonsense\n", "no answer .* could be read"),
        ("a.jsonl", "", "no answer .* could be read"),
        ("a.txt", "", "neither .csv nor .jsonl"),
    ],
)
def test_a_file_that_holds_no_answers_is_refused_and_nothing_is_written(
    tmp_path: Path, project: Project, name: str, content: str, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(UsageError, match=message):
        project(path)
    assert not (tmp_path / f"out{path.suffix}").exists()


def test_two_columns_of_one_name_are_refused(vector: SteeringVector, tiny: TransformersBackend, table: Path) -> None:
    twice = [Readout("evil", vector, 1), Readout("evil", vector, 1)]
    with pytest.raises(UsageError, match="two columns would be called"):
        project_file(
            open_samples(table), Reader(tiny, twice), out=table, layout="copy", run=Run(table.parent / "run", {})
        )
