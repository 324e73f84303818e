"""GGUF to safetensors, once, in the cache: reading a GGUF on every start costs ten times as much."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from persona_steering.backends.embedded import find_gguf, locked, packaged_model
from persona_steering.errors import StorageError

REVISION = 2  # of this conversion; a checkpoint of another revision is left alone and made anew


def embedded_checkpoint(name: str, cache: Path) -> Path:
    """The folder of the embedded model's safetensors checkpoint; converted on the first call.

    Two processes may call at once: one converts, the other waits. An interrupted conversion leaves nothing.
    Raises DependencyError, ModelError (wrong hash) or StorageError.
    """
    model = packaged_model(name)
    folder = cache / "models" / f"{model.module}-{model.version}-r{REVISION}"
    marker = folder / "source.json"
    if _is_complete(marker, model.sha256):
        return folder
    gguf = find_gguf(model, cache)
    with locked(folder):
        if not _is_complete(marker, model.sha256):
            try:
                _convert(gguf, folder, model.sha256)
            except OSError as error:
                raise StorageError(f"cannot write the converted model to {folder}: {error}.") from error
    return folder


def _is_complete(marker: Path, sha256: str) -> bool:
    try:
        return bool(json.loads(marker.read_text())["sha256"] == sha256)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _convert(gguf: Path, folder: Path, sha256: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    quiet: Any = logging
    quiet.disable_progress_bar()
    prefix = f".{folder.name}-"
    for left_over in folder.parent.glob(f"{prefix}*"):  # by a process that was killed; this one holds the lock
        shutil.rmtree(left_over, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=prefix))
    try:
        # transformers draws a bar of its own here that none of its settings turns off
        with contextlib.redirect_stderr(io.StringIO()):
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
            model: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        _add_bos_as_told(tokenizer, gguf)
        # The weights are plain float32 now; saving would otherwise mark the checkpoint as quantised.
        model.hf_quantizer = None
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)
        (scratch / "source.json").write_text(json.dumps({"sha256": sha256, "gguf": gguf.name}))
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _add_bos_as_told(tokenizer: Any, gguf: Path) -> None:
    """Makes the tokenizer begin with BOS where the GGUF says so: transformers before 5.20 drops it in silence."""
    from gguf import GGUFReader
    from tokenizers.processors import TemplateProcessing

    bos, number = tokenizer.bos_token, tokenizer.bos_token_id
    if number is None or tokenizer("a")["input_ids"][:1] == [number]:
        return
    told = GGUFReader(gguf).fields.get("tokenizer.ggml.add_bos_token")
    if told is None or not told.contents():
        return
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, number)]
    )
