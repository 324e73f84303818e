"""`generate`: what it answers, and every kind of bad input."""

from __future__ import annotations

import io
import pickle
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.cli.conftest import Cli, Result, make_vector

from persona_steering.interventions import Recipe
from persona_steering.vectors import ModelIdentity, VectorStore
from persona_steering.vectors.formats import safetensors

SHORT = ("--max-new-tokens", "8", "--seed", "3")


def refused(result: Result, code: int, message: str, hint: str = "") -> None:
    """One sentence, one hint, the exit code, and nothing on stdout."""
    assert result.code == code, result.err
    assert result.out == "" and "Traceback" not in result.err
    error, *advice = result.err.splitlines()
    assert error.startswith("error: ") and message in error
    assert len(advice) == 1 and advice[0].startswith("hint: ") and hint in advice[0]


def test_the_answer_alone_is_on_stdout_and_notes_on_stderr(stored: VectorStore, on_tiny: Cli) -> None:
    result = on_tiny("generate", "hello", "--persona", "sage", *SHORT)
    data = on_tiny("generate", "hello", "--persona", "sage", *SHORT, "--json").data
    assert result.code == 0
    assert result.out == data["text"] + "\n"
    assert "sage:1 · " in result.err and "seed 3" in result.err


def test_quiet_says_nothing_but_the_answer(stored: VectorStore, on_tiny: Cli) -> None:
    result = on_tiny("generate", "hello", "-q", *SHORT)
    assert result.code == 0 and result.err == "" and result.out.strip()


def test_json_holds_the_recipe_its_hash_and_what_is_needed_to_repeat_it(
    stored: VectorStore, on_tiny: Cli, tiny_model: ModelIdentity
) -> None:
    data = on_tiny("generate", "hello", "--blend", "sage:0.5,bland:-0.3", *SHORT, "--json").data
    vectors = {vector.digest: vector for vector in map(safetensors.read, stored.root.rglob("*.safetensors"))}
    digests = [item["vector"]["sha256"] for item in data["recipe"]]
    assert data["blend"] == {"sage": 0.5, "bland": -0.3}
    assert [item["op"] for item in data["recipe"]] == ["add", "add", "floor"]
    assert digests[2] in vectors  # the axis as stored; the personas without their part along it
    assert re.fullmatch("[0-9a-f]{16}", data["recipe_hash"])
    assert data["recipe_hash"] != Recipe().hash
    assert data["warnings"] == ["'bland' is weak on this model: persona score 0.12."]
    assert data["finish_reason"] in ("length", "stop") and 0 < data["tokens"] <= 8
    assert data["sampling"]["seed"] == 3 and data["model"]["fingerprint"] == tiny_model.fingerprint


def test_steering_changes_the_answer_and_a_seed_repeats_it(stored: VectorStore, on_tiny: Cli) -> None:
    texts = [
        on_tiny("generate", "hello", *SHORT, "--json", *more).data["text"]
        for more in ([], [], ["--persona", "sage"], ["--persona", "sage", "--strength", "-2"])
    ]
    assert texts[0] == texts[1]
    assert len(set(texts)) == 3


def test_no_safety_leaves_the_floor_out(stored: VectorStore, on_tiny: Cli) -> None:
    data = on_tiny("generate", "hello", "--persona", "sage", "--no-safety", *SHORT, "--json").data
    assert [item["op"] for item in data["recipe"]] == ["add"]
    assert data["safety"] is False


def test_a_dash_reads_the_prompt_from_stdin(on_tiny: Cli) -> None:
    given = on_tiny("generate", "hello there", *SHORT)
    read = on_tiny("generate", "-", *SHORT, stdin="hello there\n")
    assert read.code == 0 and read.out == given.out


def test_stdin_that_is_endless_or_not_text_is_refused(on_tiny: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("persona_steering.cli.generate.MAX_PROMPT", 100)
    refused(on_tiny("generate", "-", stdin="y\n" * 1000), 2, "more than 100 characters", "shorter")
    refused(on_tiny("generate", "-", stdin=io.TextIOWrapper(io.BytesIO(b"\xff\xfe"), "utf-8")), 2, "not UTF-8")


def test_warnings_go_to_stderr_also_when_quiet(stored: VectorStore, on_tiny: Cli) -> None:
    result = on_tiny("generate", "hello", "--persona", "raw", *SHORT, "-q")
    assert result.code == 0
    assert result.err == "warning: 'raw' is not calibrated, so its strength is not a measured one.\n"


@pytest.mark.parametrize(
    ("arguments", "code", "message", "hint"),
    [
        (["", "--persona", "sage"], 2, "the prompt is empty", "Write"),
        (["hi", "--persona", "sgae"], 4, "unknown persona or trait 'sgae'", "'sage'"),
        (["hi", "--blend", "sage:0.5,clam:1"], 4, "unknown persona or trait 'clam'", "'calm'"),
        (["hi", "--blend", "sage:0.5,sage:0.3"], 2, "names 'sage' twice", "once"),
        (["hi", "--blend", "sage:much"], 2, "'much' is not a strength", "-2 to 2"),
        (["hi", "--blend", ","], 2, "is not a blend", "name:strength"),
        (["hi", "--persona", "sage", "--strength", "strong"], 2, "'strong' is not a strength", "-2 to 2"),
        (["hi", "--persona", "sage", "--strength", "nan"], 2, "out of range", "-2 to 2"),
        (["hi", "--persona", "sage", "--strength", "3"], 2, "out of range", "-2 to 2"),
        (["hi", "--persona", "../sage"], 2, "not a valid name", "for instance"),
        (["hi", "--strength", "1"], 2, "without --persona", "name:strength"),
        (["hi", "--persona", "sage", "--blend", "sage:1"], 2, "both", "--blend"),
        (["hi", "--set", "generation.temprature=1"], 3, "unknown setting", "generation.temperature"),
        (["hi", "--set", "quick"], 2, "gives no value", "--set"),
        (["hi", "--temperature", "hot"], 3, "generation.temperature is 'hot'", "greedy"),
        (["hi", "--config", "none.yaml"], 3, "none.yaml", "path"),
        (["hi", "--persona", "sage", "--set", "steering.steering_layers=99"], 2, "99", ""),
        (["hi", "--persona", "sage", "--set", "steering.capping_layers=99"], 2, "99", ""),
        (["hi " * 2000, "--persona", "sage"], 2, "context", ""),
    ],
)
def test_bad_input_is_refused_in_one_sentence(
    arguments: list[str], code: int, message: str, hint: str, stored: VectorStore, on_tiny: Cli
) -> None:
    refused(on_tiny("generate", *arguments), code, message, hint)


@pytest.mark.parametrize("arguments", [["--persona", "sage"], ["--persona", "nobody"], ["--strength", "1"], []])
def test_what_needs_no_model_is_refused_before_one_is_loaded(
    arguments: list[str], stored: VectorStore, on_tiny: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persona_steering.backends.wrapper.load", lambda *a, **k: pytest.fail("loaded"))
    empty = arguments in (["--persona", "sage"], [])
    assert on_tiny("generate", "" if empty else "hi", *arguments).code in (2, 4)


def test_a_vector_of_another_model_is_refused_by_name(
    store: VectorStore, on_tiny: Cli, tiny_model: ModelIdentity
) -> None:
    other = tiny_model.model_copy(update={"id": "hf:other/model", "fingerprint": "f" * 16})
    store.save(make_vector(other, "sage"))
    refused(on_tiny("generate", "hi", "--persona", "sage"), 8, "was made for 'hf:other/model'", "Extract it again")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def cut_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


def not_finite(path: Path) -> None:
    vector = safetensors.read(path)
    row = vector.directions[0].tobytes()
    data = path.read_bytes()
    path.write_bytes(data.replace(row, struct.pack("<f", np.nan) * (len(row) // 4)))


def wrong_shape(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"layer.1":{"dtype":"F32","shape":[32]', b'"layer.1":{"dtype":"F32","shape":[16]'))


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps({"directions": [1.0, 2.0]}))


@pytest.mark.parametrize("damage", [truncated, cut_header, not_finite, wrong_shape, pickled])
def test_a_damaged_vector_file_is_refused_and_named(
    damage: Callable[[Path], None], stored: VectorStore, on_tiny: Cli, tiny_model: ModelIdentity
) -> None:
    path = stored.path("persona", "sage", tiny_model)
    before = path.read_bytes()
    damage(path)
    assert path.read_bytes() != before
    refused(on_tiny("generate", "hi", "--persona", "sage"), 8, "sage")
    assert on_tiny("info", "sage").code == 8


def test_a_device_that_is_not_there_is_refused(on_tiny: Cli) -> None:
    if torch.cuda.device_count() > 8:
        pytest.skip("this machine has it")
    refused(on_tiny("generate", "hi", "--device", "cuda:8"), 6, "'cuda:8'", "--device cpu")


def test_a_model_that_is_not_in_the_cache_is_refused_without_a_network(cli: Cli) -> None:
    refused(cli("generate", "hi", "--model", "nobody/nothing"), 6, "'nobody/nothing'", "cache")


def test_an_unknown_engine_is_refused(cli: Cli) -> None:
    refused(cli("generate", "hi", "--model", "hff:nobody/nothing"), 4, "unknown engine 'hff'", "'hf'")


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("no"), RuntimeError("DefaultCPUAllocator: out of memory")])
def test_out_of_memory_while_loading_is_said(
    error: RuntimeError, on_tiny: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", fail)
    refused(on_tiny("generate", "hi"), 6, "not enough memory", "--quantization")


def test_out_of_memory_while_answering_is_said(on_tiny: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise torch.OutOfMemoryError("no")

    monkeypatch.setattr("transformers.models.llama.modeling_llama.LlamaModel.forward", fail)
    monkeypatch.setattr("persona_steering.backends.transformers.loading.check_layers", lambda *a: None)
    result = on_tiny("generate", "hi")
    assert result.code == 6 and "memory" in result.err and "Traceback" not in result.err
