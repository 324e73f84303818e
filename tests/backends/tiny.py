"""Tiny models of many decoder families: random weights, real code, saved to a folder and loaded like any model."""

from __future__ import annotations

import dataclasses
import functools
import string
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from persona_steering.backends import load
from persona_steering.backends.transformers.backend import TransformersBackend
from persona_steering.vectors import ModelIdentity, SteeringVector, VectorMetadata

HIDDEN = 32
LAYERS = 4
CONTEXT = 192
WINDOW = 8  # shorter than every prompt of the tests

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
NO_SYSTEM_TEMPLATE = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + TEMPLATE
)
DROPS_SYSTEM_TEMPLATE = (
    "{{ bos_token }}{% for message in messages if message.role != 'system' %}"
    "<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}<|assistant|>"
)
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")


def make_tokenizer(
    *, template: str | None = TEMPLATE, thinking: bool = False, byte_level: bool = False, bos: bool = True
) -> Any:
    """One token per character (or byte), with marks for turns. Adds a BOS by itself, as Llama's does."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet()) if byte_level else list(string.printable[:95])
    vocabulary = {token: i for i, token in enumerate((*SPECIAL, *letters))}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    inner.decoder = decoders.Fuse()
    if byte_level:
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(list(SPECIAL))
    if thinking:
        inner.add_tokens(["<think>", "</think>"])
    if bos:
        inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    tokenizer.chat_template = template
    return tokenizer


COMMON: dict[str, Any] = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": CONTEXT,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GROUPED = {**COMMON, "num_key_value_heads": 2}
HEADS = {**GROUPED, "head_dim": 8}
ALTERNATING = ["sliding_attention", "full_attention"] * (LAYERS // 2)
EXPERTS: dict[str, Any] = {"num_experts_per_tok": 2}


def _gemma3_vision(vocabulary: int) -> Any:
    from transformers import Gemma3Config

    return Gemma3Config(
        text_config={
            **HEADS,
            "vocab_size": vocabulary,
            "sliding_window": WINDOW,
            "layer_types": ALTERNATING,
            "query_pre_attn_scalar": 8,
        },
        # as many blocks as the language model, so that only the name tells the towers apart
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 14,
        },
        mm_tokens_per_image=4,
        boi_token_index=vocabulary - 3,
        eoi_token_index=vocabulary - 2,
        image_token_index=vocabulary - 1,
    )


def _config(name: str, **options: Any) -> Callable[[int], Any]:
    def make(vocabulary: int) -> Any:
        import transformers

        return getattr(transformers, name)(vocab_size=vocabulary, **options)

    return make


_gemma2 = {**HEADS, "sliding_window": WINDOW, "layer_types": ALTERNATING, "query_pre_attn_scalar": 8}

FAMILIES: dict[str, Callable[[int], Any]] = {
    "llama": _config("LlamaConfig", **GROUPED),
    "qwen2": _config("Qwen2Config", **GROUPED),
    "qwen3": _config("Qwen3Config", **HEADS),
    "qwen3_moe": _config("Qwen3MoeConfig", **HEADS, **EXPERTS, num_experts=LAYERS, moe_intermediate_size=24),
    "gemma2": _config("Gemma2Config", **_gemma2),
    "gemma3_text": _config("Gemma3TextConfig", **_gemma2),
    "gemma3_vision": _gemma3_vision,
    "mistral": _config("MistralConfig", **GROUPED, sliding_window=WINDOW),
    "mixtral": _config("MixtralConfig", **GROUPED, **EXPERTS, num_local_experts=LAYERS),
    "phi3": _config("Phi3Config", **GROUPED),
    "gpt2": _config(
        "GPT2Config", n_embd=HIDDEN, n_layer=LAYERS, n_head=4, n_positions=CONTEXT, bos_token_id=1, eos_token_id=2
    ),
    "gpt_neox": _config("GPTNeoXConfig", **COMMON),
    "gpt_oss": _config(
        "GptOssConfig",
        **HEADS,
        **EXPERTS,
        num_local_experts=LAYERS,
        sliding_window=WINDOW,
        layer_types=ALTERNATING,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    ),
    "olmo2": _config("Olmo2Config", **GROUPED),
    "opt": _config(
        "OPTConfig",
        **{k: v for k, v in COMMON.items() if k != "intermediate_size"},
        ffn_dim=48,
        word_embed_proj_dim=HIDDEN,
    ),
    "falcon": _config(
        "FalconConfig",
        **{k: v for k, v in COMMON.items() if k != "intermediate_size"},
        ffn_hidden_size=48,
    ),
}
# Experts work on the tokens of all rows at once, so a neighbour's routing changes the shape of their products.
MIXTURES = ("qwen3_moe", "mixtral", "gpt_oss")


def save_tiny(family: str, folder: Path, *, tokenizer: Any = None, **changes: Any) -> Path:
    """Writes a model of `family` with random weights to `folder`; `changes` go into its configuration."""
    import transformers

    # AutoTokenizer gives Qwen2 a tokenizer of its own class, which is byte-level
    tokenizer = tokenizer or make_tokenizer(byte_level=family == "qwen2")
    vocabulary = len(tokenizer) + 4
    config = FAMILIES[family](vocabulary)
    for key, value in changes.items():
        setattr(config, key, value)
    kind: Any = transformers.AutoModelForCausalLM
    if family == "gemma3_vision":
        kind = transformers.AutoModelForImageTextToText
    model = kind.from_config(config)
    _randomise(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _randomise(model: Any) -> None:
    """Weights large enough that logits differ clearly, biases and norms included."""
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim >= 2:
                parameter.copy_(0.25 * noise)
            else:
                parameter.add_(0.2 * noise)


@functools.cache
def tiny_backend(family: str, root: Path, **changes: Any) -> TransformersBackend:
    """The tiny model, loaded once a session. It never writes an end-of-turn token."""
    folder = root / "-".join([family, *(f"{key}-{value}" for key, value in changes.items())])
    return without_stops(open_tiny(save_tiny(family, folder, **changes)))


def open_tiny(folder: Path, *, batch_size: int | None = None, dtype: str = "float32") -> TransformersBackend:
    """Loads a folder the way users do."""
    backend = load(str(folder), device="cpu", dtype=dtype, batch_size=batch_size, cache=folder.parent / "cache")
    assert isinstance(backend, TransformersBackend)
    return backend


def without_stops(backend: TransformersBackend, *, batch_size: int | None = None) -> TransformersBackend:
    """The same model with no end-of-turn token, so that a random one cannot end an answer early."""
    loaded = dataclasses.replace(backend.loaded, stop_ids=frozenset())
    return TransformersBackend(loaded, batch_size=batch_size)


def make_vector(
    identity: ModelIdentity, *, name: str = "sage", seed: int = 0, norms: Mapping[int, float] | None = None
) -> SteeringVector:
    """Random directions of the given norms (of norm 1 at every layer) for a model."""
    rng = np.random.default_rng(seed)
    directions = {}
    for layer, norm in (norms or dict.fromkeys(range(identity.num_layers), 1.0)).items():
        raw = rng.normal(size=identity.hidden_size)
        directions[layer] = (norm * raw / np.linalg.norm(raw)).astype(np.float32)
    fields = {"name": name, "kind": "persona", "model": identity, "sign": "+ is more", "source": "test"}
    return SteeringVector(directions, VectorMetadata.model_validate(fields))
