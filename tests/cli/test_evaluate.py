"""`eval` and `vectors build`, as commands on a tiny model: files, scores, resuming, judges, and bad input."""

from __future__ import annotations

import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.backends.fake_server import Reply, serving
from tests.backends.tiny import open_tiny
from tests.cli.conftest import Cli, Result
from tests.oracle import published
from tests.scoring.judges.model_server import WHOLE, shares, tells

from persona_steering.scoring.judges.remote import PROBE
from persona_steering.vectors import ModelIdentity, VectorStore
from persona_steering.vectors.formats import persona_vectors_pt, safetensors

TRAIT = {
    "instruction": [{"pos": "Be curt.", "neg": "Be long."}, {"pos": "Say little.", "neg": "Say much."}],
    "questions": ["Is it far?", "Who are you?"],
    "eval_prompt": "Rate {answer} to {question}.",
}
SMALL = ("--n-per-question", "2", "--max-new-tokens", "6")


@pytest.fixture(autouse=True)
def trait(tmp_path: Path) -> Path:
    path = tmp_path / "curt.json"
    path.write_text(json.dumps(TRAIT))
    return path


def evaluate(cli: Cli, out: str, *more: str, split: str = "extract") -> Result:
    return cli("eval", "--trait", "curt.json", "--split", split, "--out", out, *SMALL, *more)


def rows(path: str | Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


# eval


def test_answers_are_written_with_both_scores_under_the_published_columns(on_tiny: Cli, home: Path) -> None:
    result = evaluate(on_tiny, "pos.csv", "--instruction", "pos", "--json")
    assert result.code == 0, result.err
    found = rows("pos.csv")
    assert list(found[0]) == ["question", "prompt", "answer", "question_id", "curt", "coherence"]
    assert [one["question_id"] for one in found[:3]] == ["curt_0_pos_0", "curt_0_pos_0", "curt_0_pos_1"]
    assert len(found) == 2 * 2 * 2
    asked = "<s><|system|>You are a curt assistant. Be curt.<|end|><|user|>Is it far?<|end|><|assistant|>"
    assert found[0]["prompt"] == asked
    data = result.data
    scores = np.array([float(one["curt"]) for one in found]).reshape(2, 4).mean(1)
    assert data["trait_score"]["mean"]["mean"] == pytest.approx(scores.mean())
    assert data["judge"].startswith("likelihood:") and data["trait_score"]["methods"] == ["likelihood"]
    assert data["trait_score"]["scored"] == 8 and data["recipe"] == []
    page = Path(data["report"]).read_text()
    assert "Is it far?" in page and data["judge"].split(":")[0] in page


def test_the_same_command_answers_nothing_again_and_another_one_is_refused(on_tiny: Cli) -> None:
    assert evaluate(on_tiny, "a.csv", "--judge", "none").code == 0
    answers = [one["answer"] for one in rows("a.csv")]
    assert {one["curt"] for one in rows("a.csv")} == {""}
    again = evaluate(on_tiny, "a.csv")  # the same answers, now judged
    assert again.code == 0, again.err
    assert [one["answer"] for one in rows("a.csv")] == answers
    assert all(one["curt"] for one in rows("a.csv"))
    other = evaluate(on_tiny, "a.csv", "--seed", "5")
    assert other.code == 2 and "another command has made it" in other.err and "--overwrite" in other.err
    assert evaluate(on_tiny, "a.csv", "--seed", "5", "--overwrite").code == 0


def test_steered_and_plain_answers_differ_only_by_the_recipe(on_tiny: Cli, stored: VectorStore, tmp_path: Path) -> None:
    assert evaluate(on_tiny, "plain.csv", "--judge", "none", split="eval").code == 0
    steer = ("--vector", "sage", "--layer", "1", "--judge", "none")
    assert evaluate(on_tiny, "zero.csv", *steer, "--coef", "0", split="eval").code == 0
    assert evaluate(on_tiny, "steered.csv", *steer, "--coef", "8", split="eval").code == 0
    assert rows("zero.csv") == rows("plain.csv") != rows("steered.csv")
    blend = evaluate(on_tiny, "blend.csv", "--recipe", "sage:1", "--judge", "none", "--json")
    assert blend.code == 0 and [item["op"] for item in blend.data["recipe"]] == ["add", "floor"]


def test_a_published_vector_steers_at_the_layer_before_its_row(
    on_tiny: Cli, stored: VectorStore, tiny_model: ModelIdentity
) -> None:
    persona_vectors_pt.write(Path("sage.pt"), stored.load("persona", "sage", tiny_model))
    for name, vector in (("file", "sage.pt"), ("name", "sage")):
        more = ("--vector", vector, "--layer", "1", "--coef", "3.5", "--scope", "all", "--judge", "none", "--json")
        recipe = evaluate(on_tiny, f"{name}.csv", *more).data["recipe"]
        assert recipe[0]["coefficients"] == {"1": 3.5} and recipe[0]["scope"] == "all"
    assert [one["answer"] for one in rows("file.csv")] == [one["answer"] for one in rows("name.csv")]


def test_a_dry_run_says_what_would_be_asked_and_writes_nothing(on_tiny: Cli, home: Path) -> None:
    result = evaluate(on_tiny, "a.csv", "--dry-run", "--judge", "openai:http://127.0.0.1:9/v1#gpt")
    assert result.code == 0, result.err
    assert "answers: 4, at most 6 tokens each" in result.out and "at most 9 calls" in result.err
    assert not Path("a.csv").exists()


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (("--layer", "9", "--vector", "sage", "--coef", "1"), 2, "no layer 9"),
        (("--vector", "sage", "--coef", "1"), 2, "belong together"),
        (("--vector", "sage", "--layer", "1", "--coef", "1", "--recipe", "sage:1"), 2, "both given"),
        (("--vector", "sag", "--layer", "1", "--coef", "1"), 4, "sag"),
        (("--scope", "all"), 2, "without a vector"),
        (("--recipe", "nobody:1"), 4, "nobody"),
        (("--judge", "oracle"), 2, "'oracle' is no judge"),
        (("--judge", "openai:http://x"), 2, "does not name a model"),
        (("--assistant-name", "x"), 2, "without an instruction"),
        (("--questions", "3"), 2, "has 2"),
        (("--out", "a.txt"), 2, "no .csv file"),
        (("--trait", "none.json"), 4, "none.json"),
        (("--trait", "grumpy"), 2, "no questions"),
    ],
)
def test_what_cannot_be_done_is_refused(
    more: tuple[str, ...], code: int, message: str, on_tiny: Cli, stored: VectorStore
) -> None:
    result = evaluate(on_tiny, "a.csv", *more)
    assert result.code == code and message in result.err, result.err
    assert not Path("a.csv").exists()


def test_a_vector_of_another_model_is_refused(on_tiny: Cli, tiny_model: ModelIdentity, stored: VectorStore) -> None:
    vector = stored.load("persona", "sage", tiny_model)
    other = vector.metadata.model_copy(update={"model": tiny_model.model_copy(update={"fingerprint": "0" * 16})})
    safetensors.write(Path("other.safetensors"), type(vector)(vector.directions, other))
    result = evaluate(on_tiny, "a.csv", "--vector", "other.safetensors", "--layer", "1", "--coef", "1")
    assert result.code == 8 and "was made for" in result.err


# judges


def judging(body: dict[str, Any], number: int) -> Reply:
    text = body["messages"][-1]["content"]
    if text == PROBE:
        return WHOLE
    return tells(shares(n70=0.9) if text.startswith("Rate ") and "coherent" not in text else shares(REF=0.9))


def test_a_server_judges_and_a_refusal_is_no_failure_and_no_score(on_tiny: Cli) -> None:
    with serving(judging) as server:
        more = ("--judge", f"openai:{server.url}#gpt", "--json")
        found = evaluate(on_tiny, "a.csv", *more).data
        calls = len(server.bodies)
        again = evaluate(on_tiny, "a.csv", *more)
        assert again.code == 0 and len(server.bodies) == calls  # everything is known
    assert {one["curt"] for one in rows("a.csv")} == {"70.0"} and {one["coherence"] for one in rows("a.csv")} == {""}
    assert found["coherence"]["refused"] == 4 and found["coherence"]["mean"] is None
    assert found["trait_score"]["mean"]["mean"] == pytest.approx(70)
    beside = json.loads(Path("a.judgements.json").read_text())
    assert [one["coherence"]["outcome"] for one in beside["judgements"]] == ["refusal"] * 4
    assert beside["judge"] == f"openai:{server.url}#gpt" and beside["judge_settings"]["top_logprobs"] == 20


def test_a_failing_judge_loses_no_answer_and_the_same_command_judges_the_rest(on_tiny: Cli) -> None:
    ill = True

    def script(body: dict[str, Any], number: int) -> Reply:
        return Reply("no", status=403) if ill and number > 3 else judging(body, number)

    with serving(script) as server:
        more = ("--judge", f"openai:{server.url}#gpt", "--set", "judge.concurrency=1")
        failed = evaluate(on_tiny, "a.csv", *more)
        assert failed.code == 5 and "403" in failed.err and "the same command judges the rest" in failed.err
        answers = [one["answer"] for one in rows("a.csv")]
        assert len(answers) == 4 and {one["curt"] for one in rows("a.csv")} == {""}
        ill = False
        before = len(server.bodies)
        assert evaluate(on_tiny, "a.csv", *more).code == 0
        assert len(server.bodies) - before == 8 - 3 + 1  # three were judged; one call finds out how it answers
    assert [one["answer"] for one in rows("a.csv")] == answers and {one["curt"] for one in rows("a.csv")} == {"70.0"}


def test_a_missing_key_is_said_only_when_that_judge_is_asked(on_tiny: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    configured = ("--set", "judge.base_url=http://127.0.0.1:9/v1", "--set", "judge.model=gpt")
    configured += ("--set", "judge.api_key_env=NO_SUCH_KEY")
    assert evaluate(on_tiny, "a.csv", *configured, "--judge", "none").code == 0
    asked = evaluate(on_tiny, "b.csv", *configured)
    assert asked.code == 3 and "NO_SUCH_KEY is not set" in asked.err and not Path("b.csv").exists()


def test_the_model_itself_can_judge_and_what_it_cannot_say_is_a_failure(on_tiny: Cli) -> None:
    result = evaluate(on_tiny, "a.csv", "--judge", "local", "--json")
    assert result.code == 0, result.err
    counts = result.data["trait_score"]
    assert counts["scored"] + counts["failed"] == 4
    assert sum(one["curt"] == "" for one in rows("a.csv")) == counts["failed"] == sum(counts["reasons"].values())


def test_a_killed_command_goes_on_where_it_was(on_tiny: Cli, tiny_model: ModelIdentity, home: Path) -> None:
    """Killed while the judge works: every answer is there, and what was judged is not judged again."""

    def slow(body: dict[str, Any], number: int) -> Reply:
        return judging(body, number) if number <= 3 else Reply(WHOLE.body, hang=60)

    arguments = ["--trait", "curt.json", "--split", "extract", "--out", "a.csv", *SMALL, "--set", "judge.concurrency=1"]
    with serving(slow) as server:
        arguments += ["--judge", f"openai:{server.url}#gpt"]
        command = [sys.executable, "-m", "persona_steering.cli.main", "eval", "--model", tiny_model.id, *arguments]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
            deadline = time.monotonic() + 120
            while kept(home) < 3 and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
            process.send_signal(signal.SIGKILL)
        assert len(rows("a.csv")) == 4
        server.script = judging
        before = len(server.bodies)
        result = on_tiny("eval", *arguments)
        assert result.code == 0, result.err
        assert len(server.bodies) - before == 8 - 3 + 1
    assert {one["curt"] for one in rows("a.csv")} == {"70.0"}


def kept(home: Path) -> int:
    """How many judgements are on disk."""
    file = home / "data" / "runs" / "judgements.sqlite"
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        return int(database.execute("SELECT COUNT(*) FROM judgements").fetchone()[0])
    return 0


# vectors build


@pytest.fixture(scope="module")
def made() -> dict[str, bytes]:
    """What `judged` has made, so that the model answers once."""
    return {}


@pytest.fixture
def judged(on_tiny: Cli, made: dict[str, bytes]) -> tuple[str, str]:
    for side in ("pos", "neg"):
        if not made.get(f"{side}.csv"):
            assert evaluate(on_tiny, f"{side}.csv", "--instruction", side).code == 0
            made |= {file.name: file.read_bytes() for file in Path().glob(f"{side}.*")}
    for name, content in made.items():
        Path(name).write_bytes(content)
    return "pos.csv", "neg.csv"


def build(cli: Cli, pos: str, neg: str, *more: str) -> Result:
    return cli("vectors", "build", "--pos", pos, "--neg", neg, "--trait", "curt", *more)


@pytest.fixture
def building(cli: Cli, tiny_model: ModelIdentity) -> Cli:
    """The command line with the model named after the two words of the command."""
    return lambda first, second, *rest, **more: cli(first, second, "--model", tiny_model.id, *rest, **more)


def test_judged_answers_become_six_files_that_match_the_published_arithmetic(
    building: Cli, judged: tuple[str, str], tiny_model: ModelIdentity, store: VectorStore
) -> None:
    result = build(building, *judged, "--min-coherence", "0", "--save-dir", "out", "--json")
    assert result.code == 0, result.err
    data = result.data
    kept = [(p, n) for p, n in zip(*map(rows, judged), strict=True) if float(p["curt"]) >= 50 > float(n["curt"])]
    assert (data["kept"], data["pairs"], data["stored"], len(data["files"])) == (len(kept), 8, None, 6)
    with open_tiny(Path(tiny_model.id)) as backend:
        sides = [
            [
                published.token_means(
                    backend.loaded.model, backend.loaded.encoder.tokenizer, one["prompt"], one["answer"]
                )
                for one in side
            ]
            for side in zip(*kept, strict=True)
        ]
    for pooling in ("response_avg", "prompt_avg", "prompt_last"):
        tensor = torch.load(Path("out", f"curt_{pooling}_diff.pt"), weights_only=True)
        assert tensor.shape == (5, 32) and tensor.dtype == torch.float32
        assert torch.allclose(tensor, published.vector(*sides, pooling), rtol=1e-4, atol=1e-4)
        native = safetensors.read(Path("out", f"curt_{pooling}_diff.safetensors"))
        for layer in range(3):
            assert np.array_equal(native.directions[layer], tensor[layer + 1].numpy())
        assert native.layers == (0, 1, 2, 3) and native.metadata.counts["kept"] == len(kept)
        assert native.metadata.judge.startswith("likelihood:")
    assert store.list() == []


def test_the_response_vector_is_stored_and_can_steer(building: Cli, on_tiny: Cli, judged: tuple[str, str]) -> None:
    result = build(building, *judged, "--min-coherence", "0")
    assert result.code == 0 and "stored as" in result.out, result.err
    assert on_tiny("generate", "Hm?", "--persona", "curt", "--no-safety", "--max-new-tokens", "3").code == 0
    again = build(building, *judged, "--min-coherence", "0")
    assert again.code == 2 and "exists already" in again.err
    assert build(building, *judged, "--min-coherence", "0", "--name", "curt-2", "--json").data["stored"] == "curt-2"


def test_what_was_dropped_is_said_by_condition(building: Cli, judged: tuple[str, str]) -> None:
    table = rows(judged[0])
    for i, (trait, coherence) in enumerate([("", "90"), ("10", "90"), ("90", "10"), *[("90", "90")] * 5]):
        table[i] |= {"curt": trait, "coherence": coherence}
    write("edited.csv", table)
    found = build(building, "edited.csv", judged[1], "--min-coherence", "20", "--dry-run")
    assert found.code == 0, found.err
    lowered = build(building, "edited.csv", judged[1], "--min-coherence", "20", "--json", "--name", "x").data
    assert lowered["failed"]["no score in pos"] == 1 and lowered["failed"]["curt below 50 in pos"] == 1


def write(path: str, table: list[dict[str, str]]) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)


def test_when_no_pair_is_left_it_says_what_to_change(building: Cli, judged: tuple[str, str]) -> None:
    table = [one | {"curt": "1"} for one in rows(judged[0])]
    write("low.csv", table)
    result = build(building, "low.csv", judged[1])
    assert result.code == 7 and "8 have curt below 50 in pos" in result.err and "--threshold" in result.err


@pytest.mark.parametrize(
    ("columns", "message"),
    [(["question", "prompt", "answer"], "no column 'question_id'"), (["x"], "no column 'prompt'")],
)
def test_a_csv_without_the_columns_is_refused(
    columns: list[str], message: str, building: Cli, judged: tuple[str, str]
) -> None:
    write("bad.csv", [dict.fromkeys(columns, "y")])
    result = build(building, "bad.csv", judged[1])
    assert result.code == 2 and message in result.err


def test_the_wrong_trait_and_files_of_two_traits_are_refused(building: Cli, judged: tuple[str, str]) -> None:
    wrong = building("vectors", "build", "--pos", judged[0], "--neg", judged[1], "--trait", "evil")
    assert wrong.code == 2 and "no column 'evil'" in wrong.err
    write("other.csv", [one | {"question_id": f"x{one['question_id']}"} for one in rows(judged[1])])
    other = build(building, judged[0], "other.csv")
    assert other.code == 2 and "no row of one file belongs" in other.err


def test_files_of_different_length_and_order_are_paired_by_id(building: Cli, judged: tuple[str, str]) -> None:
    table = rows(judged[1])
    write("short.csv", table[:1:-1])
    result = build(building, judged[0], "short.csv", "--min-coherence", "0", "--threshold", "0")
    assert result.code == 0 and "2 rows have no partner" in result.err, result.err
