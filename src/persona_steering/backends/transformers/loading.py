"""Loading a model through transformers: device, dtype, quantisation, and errors that say what to do."""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Conversion and hub bars of the libraries would draw over our own progress; they must be off before the import.
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import torch
from torch import nn

from persona_steering.backends.transformers.convert import embedded_checkpoint
from persona_steering.backends.transformers.layers import (
    DecoderLayers,
    check_layers,
    find_layers,
    text_config,
)
from persona_steering.backends.transformers.products import turn_few_rows
from persona_steering.backends.transformers.prompts import PromptEncoder
from persona_steering.errors import DependencyError, DeviceError, ModelError, ModelMemoryError, UsageError
from persona_steering.vectors.vector import ModelIdentity

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_QUANTIZATIONS = ("8bit", "4bit")
OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "not enough memory")


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to run, with all that the engine asks about it."""

    model: Any
    encoder: PromptEncoder
    layers: DecoderLayers
    identity: ModelIdentity
    device: torch.device
    dtype: torch.dtype
    quantization: str | None
    hidden_size: int
    context_length: int
    stop_ids: frozenset[int]
    pad_id: int
    takes_positions: bool

    @property
    def kv_bytes_per_token(self) -> int:
        """Upper bound of the key-value cache's size per token and row, in bytes."""
        config: Any = text_config(self.model)
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return int(2 * len(self.layers.blocks) * heads * size * self.dtype.itemsize)


def pick_device(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda[:N]` or `mps`. Raises DeviceError when it is not there."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"{name!r} is not a device.", hint="Use auto, cpu, cuda, cuda:N or mps.") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"device {name!r} was asked for, but {torch.cuda.device_count()} CUDA devices are visible.",
            hint="Use --device cpu, or install a CUDA build of torch and its driver.",
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("device 'mps' was asked for, but this is no Mac with MPS.", hint="Use --device cpu.")
    return device


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 where the device computes it fast, float16 on MPS, float32 on a CPU.

    Raises UsageError for a name that is none.
    """
    if name != "auto":
        if name not in _DTYPES:
            raise UsageError(f"{name!r} is not a number format.", hint=f"Use auto, {', '.join(_DTYPES)}.")
        return _DTYPES[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.float16 if device.type == "mps" else torch.float32


def load_model(
    name: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    quantization: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    cache: Path,
    layer_path: str | None = None,
) -> LoadedModel:
    """Loads `embedded`, `embedded:…`, a local folder or a hub id, and checks its decoder blocks.

    Raises ModelError (not found, no network), DeviceError, ModelMemoryError, DependencyError, UsageError or
    LayerDiscoveryError.
    """
    place = pick_device(device)
    number = pick_dtype(dtype, place)
    if quantization is not None and quantization not in _QUANTIZATIONS:
        raise UsageError(f"{quantization!r} is not a quantisation.", hint=f"Use {' or '.join(_QUANTIZATIONS)}.")
    with translated_errors(name):
        from transformers import AutoTokenizer

        source = str(embedded_checkpoint(name, cache)) if name.split(":")[0] == "embedded" else name
        options: dict[str, Any] = {
            "revision": revision,
            "trust_remote_code": trust_remote_code,
            "local_files_only": Path(source).is_dir(),
        }
        tokenizer = AutoTokenizer.from_pretrained(source, padding_side="left", **options)
        model, mark = _from_pretrained(source, place, number, quantization, options)
    layers = find_layers(model, layer_path)
    check_layers(model, layers)
    context = _context_length(model, tokenizer)
    return LoadedModel(
        model=model,
        encoder=PromptEncoder(tokenizer, context),
        layers=layers,
        identity=_identity(name, model, layers, mark),
        device=place,
        dtype=number,
        quantization=quantization,
        hidden_size=_hidden_size(model),
        context_length=context,
        stop_ids=_stop_ids(model, tokenizer),
        pad_id=_pad_id(model, tokenizer),
        takes_positions="position_ids" in inspect.signature(model.forward).parameters,
    )


def _from_pretrained(
    source: str, device: torch.device, dtype: torch.dtype, quantization: str | None, options: dict[str, Any]
) -> tuple[Any, str]:
    """The model and its fingerprint."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    extra: dict[str, Any] = {}
    if quantization is not None:
        extra = {"quantization_config": _quantization(quantization, dtype), "device_map": {"": device}}
    config = AutoConfig.from_pretrained(source, **options)
    causal = type(config) in AutoModelForCausalLM._model_mapping
    kind: Any = AutoModelForCausalLM if causal else AutoModelForImageTextToText
    # A weight rounded to float16 and then to bfloat16 can differ from one rounded to bfloat16 at once, so the
    # fingerprint is taken before the model becomes float16.
    late = dtype == torch.float16 and quantization is None
    model = kind.from_pretrained(source, dtype="auto" if late else dtype, **options, **extra)
    mark = fingerprint(model)
    if quantization is None:
        model.to(device, dtype)
        turn_few_rows(model, device, dtype)
    model.eval()
    model.requires_grad_(False)
    return model, mark


def _quantization(name: str, dtype: torch.dtype) -> Any:
    import transformers

    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise DependencyError(
            f"{name} quantisation needs bitsandbytes.", hint="Run: pip install 'persona-steering[quantized]'"
        ) from error
    make: Any = transformers.BitsAndBytesConfig
    if name == "8bit":
        return make(load_in_8bit=True)
    return make(load_in_4bit=True, bnb_4bit_compute_dtype=dtype, bnb_4bit_quant_type="nf4")


@contextmanager
def translated_errors(name: str) -> Iterator[None]:
    """Turns what loading raises into this package's errors."""
    try:
        yield
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"cannot load the model {name!r}: {first}",
            hint="Give 'embedded', a folder, or a hub id that is in the cache or reachable; "
            "a gated model needs `hf auth login`.",
        ) from error
    except ImportError as error:
        raise DependencyError(f"the model {name!r} needs a package that is not installed: {error}.") from error
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise ModelMemoryError(
                f"not enough memory to load {name!r}.",
                hint="Use --quantization 4bit, --dtype bfloat16, --device cpu or a smaller model.",
            ) from error
        raise


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a RuntimeError says that memory ran out, on any device."""
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in OUT_OF_MEMORY)


def _identity(name: str, model: Any, layers: DecoderLayers, mark: str) -> ModelIdentity:
    config: Any = text_config(model)
    return ModelIdentity(
        id=name,
        revision=str(getattr(model.config, "_commit_hash", None) or ""),
        fingerprint=mark,
        model_type=str(config.model_type),
        num_layers=len(layers.blocks),
        hidden_size=_hidden_size(model),
    )


def fingerprint(model: nn.Module) -> str:
    """16 hex digits that tell models apart: the shape of the network and a sample of its weights.

    The sample is taken from normalisation weights and rounded to bfloat16, so that one model has one fingerprint
    in every dtype and quantisation.
    """
    digest = hashlib.sha256()
    config: Any = text_config(model)
    digest.update(f"{config.model_type} {config.num_hidden_layers} {config.hidden_size} {config.vocab_size}".encode())
    for name, weight in model.named_parameters():
        if (weight.ndim == 1 and "norm" in name.lower()) or name.endswith(("ln_1.weight", "ln_2.weight")):
            digest.update(weight.detach().to(torch.bfloat16).float().cpu().numpy().tobytes())
    embedding: Any = model.get_input_embeddings()  # type: ignore[operator]
    digest.update(embedding.weight[:64].detach().to(torch.bfloat16).float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _hidden_size(model: nn.Module) -> int:
    return int(text_config(model).hidden_size)  # type: ignore[attr-defined]


def _context_length(model: nn.Module, tokenizer: Any) -> int:
    config: Any = text_config(model)
    limit = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    return int(limit or min(tokenizer.model_max_length, 2**20))


def _pad_id(model: Any, tokenizer: Any) -> int:
    # Padding is masked, so any token does; but one added to the tokenizer alone has no embedding.
    rows = int(model.get_input_embeddings().weight.shape[0])
    known = [i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None and i < rows]
    return int(known[0]) if known else 0


def _stop_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    ids: set[int] = set()
    for source in (tokenizer.eos_token_id, model.generation_config.eos_token_id):
        ids.update(source if isinstance(source, (list, tuple)) else [] if source is None else [source])
    return frozenset(ids)
