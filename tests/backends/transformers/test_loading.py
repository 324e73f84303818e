"""Loading: number formats, identity, padding, and what cannot be loaded."""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.backends.tiny import (
    CONTEXT,
    HIDDEN,
    LAYERS,
    make_tokenizer,
    make_vector,
    open_tiny,
    save_tiny,
    without_stops,
)

from persona_steering.backends import load
from persona_steering.backends.base import Request, Sampling, Text, conversation
from persona_steering.backends.transformers.batching import run_in_batches
from persona_steering.backends.transformers.loading import load_model, pick_device, pick_dtype
from persona_steering.errors import DeviceError, ModelError, NotFoundError, UsageError
from persona_steering.interventions import Floor, Recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("llama", tmp_path_factory.mktemp("llama"))


def test_a_loaded_model_says_what_it_is(folder: Path) -> None:
    info = open_tiny(folder).info
    assert (info.backend, info.device, info.dtype, info.quantization) == ("transformers", "cpu", "float32", None)
    assert (info.context_length, info.has_chat_template, info.layer_path) == (CONTEXT, True, "model.layers")
    identity = info.identity
    assert (identity.num_layers, identity.hidden_size, identity.model_type) == (LAYERS, HIDDEN, "llama")
    assert identity.id == str(folder)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "gemma3_vision", "opt"])
def test_one_model_has_one_fingerprint_in_every_number_format(family: str, tmp_path: Path) -> None:
    save_tiny(family, tmp_path)
    found = {
        load_model(str(tmp_path), device="cpu", dtype=dtype, cache=tmp_path).identity.fingerprint
        for dtype in ("float32", "bfloat16", "float16")
    }
    assert len(found) == 1


def test_other_weights_have_another_fingerprint(folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    first = load_model(str(folder), device="cpu", cache=tmp_path)
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.model.layers[2].input_layernorm.weight[3] += 0.1
    model.save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    assert load_model(str(tmp_path), device="cpu", cache=tmp_path).identity.fingerprint != first.identity.fingerprint


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_generates_captures_in_float32_and_reaches_its_bound(folder: Path, dtype: str) -> None:
    backend = without_stops(open_tiny(folder, dtype=dtype))
    assert backend.info.dtype == dtype
    vector = make_vector(backend.info.identity)
    recipe = Recipe((Floor(vector=vector, values={2: 50.0}),))
    (row,) = backend.generate([Request(conversation("hello"), recipe, Sampling(max_new_tokens=8), capture=(2,))])
    assert row.activations is not None
    mean = row.activations.mean[2]
    assert mean.dtype == np.float32
    assert abs(float(mean @ vector.unit(2)) - 50) < 0.3  # rounding of half precision
    assert row.caps_engaged == 8
    (scores,) = backend.score([Text(conversation("hello"), "well then")])
    assert scores.logprobs.dtype == np.float32 and (scores.logprobs < 0).all()


def test_padding_without_an_embedding_is_replaced(folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    model.save_pretrained(tmp_path)
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.add_tokens([f"[{i}]" for i in range(8)])
    tokenizer.add_special_tokens({"pad_token": "[NEWPAD]"})
    tokenizer.save_pretrained(tmp_path)
    backend = open_tiny(tmp_path)
    assert backend.loaded.pad_id == 2
    jobs = [Request(conversation(p), sampling=Sampling(max_new_tokens=3)) for p in ("hi", "a longer one")]
    assert [row.token_ids for row in backend.generate(jobs)] == [backend.generate([job])[0].token_ids for job in jobs]


def test_end_of_turn_tokens_come_from_tokenizer_and_generation_settings(folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    model.generation_config.eos_token_id = [2, 7]
    model.save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    assert open_tiny(tmp_path).loaded.stop_ids == {2, 7}


def test_a_name_with_and_without_scheme_is_one_model(folder: Path, tmp_path: Path) -> None:
    plain, schemed = (load(name, device="cpu", cache=tmp_path).info.identity for name in (str(folder), f"hf:{folder}"))
    assert plain == schemed


def test_an_unknown_engine_is_named_with_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="unknown engine 'gguff'") as caught:
        load("gguff:model", cache=tmp_path)
    assert "embedded, hf" in caught.value.hint


def test_a_model_that_is_nowhere_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot load the model 'nobody/nothing'") as caught:
        load("nobody/nothing", device="cpu", cache=tmp_path)
    assert "hub id" in caught.value.hint


def test_a_folder_without_weights_says_so(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(ModelError, match="cannot load the model"):
        load(str(tmp_path), device="cpu", cache=tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "fp16"}, "'fp16' is not a number format"),
        ({"quantization": "int8"}, "'int8' is not a quantisation"),
        ({"quantization": "3bit"}, "'3bit' is not a quantisation"),
    ],
)
def test_an_unknown_number_format_or_quantisation_is_refused(
    folder: Path, tmp_path: Path, options: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        load(str(folder), device="cpu", cache=tmp_path, **options)  # type: ignore[arg-type]
    assert caught.value.hint


def test_a_device_that_is_none_or_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeviceError, match="not a device"):
        pick_device("gpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(DeviceError, match="0 CUDA devices"):
        pick_device("cuda")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="no Mac"):
        pick_device("mps")


def test_numbers_are_float32_on_a_cpu_and_half_on_mps() -> None:
    assert pick_dtype("auto", torch.device("cpu")) is torch.float32
    assert pick_dtype("auto", torch.device("mps")) is torch.float16
    assert pick_dtype("bfloat16", torch.device("cpu")) is torch.bfloat16


# Batches, without a model


def test_batches_run_longest_first_and_answers_keep_their_order() -> None:
    seen: list[list[int]] = []

    def work(batch: Any) -> list[int]:
        seen.append(list(batch))
        return [10 * item for item in batch]

    items = [3, 9, 1, 7, 5]
    assert run_in_batches(items, work, length=lambda i: i, batch_size=lambda waiting: 2) == [30, 90, 10, 70, 50]
    assert seen == [[9, 7], [5, 3], [1]]


def test_a_failed_batch_is_freed_before_the_cache_is_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    """The traceback holds the tensors of the failed batch as long as the error is being handled."""

    class Big:
        pass

    failed: list[weakref.ref[Big]] = []
    emptied: list[bool] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(failed[-1]() is None))

    def work(batch: Any) -> list[int]:
        big = Big()
        failed.append(weakref.ref(big))
        if len(batch) > 1:
            raise torch.OutOfMemoryError("out of memory")
        return list(batch)

    assert run_in_batches([1, 2, 3], work, length=lambda i: i, batch_size=lambda waiting: 3) == [1, 2, 3]
    assert emptied == [True]


# bitsandbytes


@pytest.fixture(scope="module")
def wide_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Block-wise quantisation wants widths that are multiples of 64."""
    return save_tiny("llama", tmp_path_factory.mktemp("wide"), hidden_size=64, intermediate_size=128, head_dim=16)


@pytest.fixture(params=["8bit", "4bit"])
def quantised(request: pytest.FixtureRequest, wide_folder: Path) -> Iterator[Any]:
    pytest.importorskip(
        "bitsandbytes", reason="bitsandbytes is not installed: pip install 'persona-steering[quantized]'"
    )
    with load(str(wide_folder), device="cpu", quantization=request.param, cache=wide_folder) as backend:
        assert backend.info.quantization == request.param
        yield without_stops(backend)  # type: ignore[arg-type]


def test_a_quantised_model_is_steered_captured_and_the_same_model(quantised: Any, wide_folder: Path) -> None:
    plain = without_stops(open_tiny(wide_folder))
    assert quantised.info.identity == plain.info.identity
    kinds = {type(module).__name__ for module in quantised.loaded.model.modules()}
    assert kinds & {"Linear8bitLt", "Linear4bit"}
    vector = make_vector(plain.info.identity)
    recipe = Recipe((Floor(vector=vector, values={2: 40.0}),))
    jobs = [
        Request(conversation(prompt), r, Sampling(max_new_tokens=5, seed=1), capture=(2,))
        for prompt, r in (("hello", recipe), ("a longer prompt", Recipe()))
    ]
    steered, unsteered = quantised.generate(jobs)
    assert abs(float(steered.activations.mean[2] @ vector.unit(2)) - 40) < 0.3
    assert float(unsteered.activations.mean[2] @ vector.unit(2)) < 39
    (expected,) = plain.capture([Text(jobs[1].messages, "well then")])
    (found,) = quantised.capture([Text(jobs[1].messages, "well then")])
    a, b = found.mean[2], expected.mean[2]
    assert float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) > 0.9
